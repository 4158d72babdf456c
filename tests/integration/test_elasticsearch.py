"""The index template and the documented queries, on a real Elasticsearch with what the core has published."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.model import Record
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.search import Elasticsearch
from tests.unit.transform.course import treated
from tests.unit.transform.samples import NOW_NS, START_NS, Feed, alert

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "consumers" / "elasticsearch"
INDEX = "falco-alerts"
DOCUMENTED = re.findall(
    r'`((?:summary\.variants\.fields|output_fields)\.proc\.cmdline: "curl -s x")`',
    (ROOT / "docs" / "consuming.md").read_text(),
)


def written() -> list[tuple[bytes, int]]:
    """A group of many variants, one of them without a command line, and one with a single variant."""
    commands: list[str | None] = [f"ls {n % 9}" for n in range(40)] + [None] * 2
    lines = [("sh", command) for command in commands] + [("id", "id")] * 5 + [("none", None)] * 3
    found = []
    for n, (name, command) in enumerate(lines):
        fields = {"proc.name": name, "proc.cmdline": command, "evt.time": START_NS + n}
        found.append((alert(START_NS + n, output_fields=fields), START_NS + n))
    return found


@pytest.fixture(scope="module")
def records() -> list[Record]:
    processor, feed = Processor(treated(), ShardState("prod-eu-1"), b"k" * 16), Feed()
    made = processor.process([feed.batch(*((at, body) for body, at in written()))], NOW_NS)
    rest = processor.publish_due(NOW_NS, everything=True)
    assert rest is not None
    return [*made.records, *rest.records]


@pytest.fixture(scope="module")
def search(records: list[Record]) -> Iterator[Elasticsearch]:
    """A node with the index template of the examples and all records."""
    with parts_or_skip(), Elasticsearch() as node:
        template = json.loads((EXAMPLES / "index-template.json").read_text())
        node.request("PUT", "/_index_template/falco", template)
        node.index(INDEX, [(record.id, record.value) for record in records])
        yield node


def hits(search: Elasticsearch, query: dict[str, Any]) -> set[str]:
    answer = search.request("POST", f"/{INDEX}/_search", {"size": 1000, "query": query})
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def text(query: str) -> dict[str, Any]:
    """What people type into a search box."""
    return {"query_string": {"query": query}}


def test_the_documented_query_counts_every_variants_command_line(search: Elasticsearch) -> None:
    query = json.loads((EXAMPLES / "variants.json").read_text())
    found = Counter[str]()
    for part in search.request("POST", f"/{INDEX}/_search", query)["aggregations"].values():
        for bucket in part["command"]["buckets"]:
            found[bucket["key"]] += int(bucket.get("alerts", {"value": bucket["doc_count"]})["value"])
    fields = [orjson.loads(body)["output_fields"] for body, _ in written()]
    assert found == Counter(each["proc.cmdline"] or "" for each in fields)


def test_the_documented_query_finds_the_records_of_one_command_line(
    search: Elasticsearch, records: list[Record]
) -> None:
    assert len(DOCUMENTED) == 2
    values = {record.id: orjson.loads(record.value) for record in records}
    for command in ["id", *(f"ls {n}" for n in range(9))]:
        expected = {
            name
            for name, value in values.items()
            for variant in value.get("summary", {"variants": [{"fields": {}}]})["variants"]
            if {**value["output_fields"], **variant["fields"]}.get("proc.cmdline") == command
        }
        assert expected
        queries = [query.replace("curl -s x", command) for query in DOCUMENTED]
        found = {query: hits(search, text(query)) for query in queries}
        # A summary's own `output_fields` are those of its first alert, which is one of its variants.
        assert set().union(*found.values()) == expected
    assert hits(search, text(DOCUMENTED[0])) == set()


def test_conditions_of_a_nested_query_are_met_by_one_variant(search: Elasticsearch) -> None:
    """`ls 0` was published at once; what is new in the summary are other variants of it."""
    fields = "summary.variants.fields.proc.cmdline"

    def nested(command: str) -> set[str]:
        conditions = [{"term": {fields: command}}, {"term": {"summary.variants.new": True}}]
        return hits(
            search, {"nested": {"path": "summary.variants", "query": {"bool": {"filter": conditions}}}}
        )

    assert not nested("ls 0")
    assert len(nested("ls 8")) == 1
    assert len(hits(search, text(f'{fields}: "ls 0" AND summary.variants.new: true'))) == 1


def test_integers_above_2_to_the_53_stay_exact(search: Elasticsearch) -> None:
    assert len(hits(search, text(f"output_fields.evt.time: {START_NS}"))) == 1
    assert not hits(search, text(f"output_fields.evt.time: {START_NS + 1000}"))
