"""The realistic day of docs/deduplication.md, lived through by the real core."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import orjson
import pytest

from bench.day import COUNTS, lines
from bench.day_report import DOCUMENT, blocks, live, written
from streamer.config.dedupe import Dedupe
from streamer.config.filters import FilterRule
from streamer.config.limits import Limits
from streamer.config.section import Section
from tests.schemas import check_records


def test_the_document_shows_what_the_core_makes_of_it() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert written(document, blocks()) == document, "python -m bench.day_report"


def test_it_has_as_many_alerts_of_each_rule_as_were_counted() -> None:
    assert Counter(orjson.loads(line.body)["rule"] for line in lines()) == COUNTS


def test_its_records_are_as_their_schemas_say() -> None:
    outcome = live(lines()[:3_000])
    assert {dict(record.headers)["kind"] for record in outcome.records} >= {b"alert", b"summary"}
    check_records(outcome.records)


@pytest.mark.parametrize(
    ("prefix", "section"), [("dedupe.", Dedupe), ("limits.", Limits), ("filters[].", FilterRule)]
)
def test_the_document_has_every_key(prefix: str, section: type[Section]) -> None:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for name, field in section.model_fields.items():
        [row] = [row for row in rows if row.startswith((f"| `{prefix}{name}`", f"| `{prefix}{name}[]`"))]
        [items] = [get_args(field.annotation)] if name == "overrides" else [()]
        assert all(f"`{key}`" in row for item in items[:1] for key in item.model_fields)
