"""The examples for consumers: each reads committed records only, and is told of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.schemas import HEADERS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "consumers"
PAGE = (ROOT / "docs" / "consuming.md").read_text()
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc")
READERS = [path for path in FILES if path.parent.name not in {"elasticsearch", "splunk"}]


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_each_reads_committed_records_only(path: Path) -> None:
    assert "read_committed" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_each_is_told_of_and_can_be_read(path: Path) -> None:
    assert f"(../{path.relative_to(ROOT)})" in PAGE
    if path.suffix == ".json":
        assert json.loads(path.read_text())
    elif path.suffix in {".yml", ".yaml"}:
        assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_each_takes_headers_that_there_are(path: Path) -> None:
    text = path.read_text()
    taken = set(re.findall(r"\bce_[a-z]+", text)) - {"ce_"}
    taken |= {name for names in re.findall(r'header\.custom": "([^"]*)"', text) for name in names.split(",")}
    assert taken <= {*HEADERS["alert"], *HEADERS["summary"]}
