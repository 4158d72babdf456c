"""The examples for consumers: each reads committed records only, and is told of."""

from __future__ import annotations

import json
import re
import runpy
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from streamer.config import Settings
from streamer.model import Priority, Record
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from tests.schemas import HEADERS
from tests.unit.transform.samples import DEDUPED, NOW_NS, START_NS, Feed, shell

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "consumers"
PAGE = (ROOT / "docs" / "consuming.md").read_text()
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc")
READERS = [
    path
    for path in FILES
    if path.parent.name not in {"elasticsearch", "splunk", "sql"}
    and path.name not in {"README.md", "worker.properties"}
]


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_each_reads_committed_records_only(path: Path) -> None:
    # A connector from a properties file reads as its worker does.
    reader = path.with_name("worker.properties") if path.suffix == ".properties" else path
    settings = [line for line in reader.read_text().splitlines() if not line.startswith("#")]
    assert "read_committed" in "\n".join(settings)


def topics_of(path: Path) -> list[str]:
    """The topics that an example reads, as regular expressions over whole names."""
    text = path.read_text()
    if path.suffix == ".json":
        return [json.loads(text)["config"]["topics.regex"]]
    if path.suffix == ".properties":
        return [each.replace(r"\\", "\\") for each in re.findall(r"^topics\.regex=(.*)", text, re.MULTILINE)]
    if path.parent.name == "filebeat":  # it takes names, not expressions
        return [re.escape(name) for name in yaml.safe_load(text)["filebeat.inputs"][0]["topics"]]
    if path.parent.name == "vector":
        (source,) = yaml.safe_load(text)["sources"].values()
        return [pattern.removeprefix("^").removesuffix("$") for pattern in source["topics"]]
    mark = r'topics_pattern => "(.*)"' if path.suffix == ".conf" else r'"--topics",\s+default=r"(.*)"'
    return re.findall(mark, text)


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_each_reads_all_topics_of_alerts_and_summaries_and_no_others(path: Path) -> None:
    specs = Settings.model_validate({"cluster": "prod-eu-1"}).topic_specs
    patterns = topics_of(path)
    read = {spec.name for spec in specs if any(re.fullmatch(pattern, spec.name) for pattern in patterns)}
    assert read == {spec.name for spec in specs if spec.kind in {"alerts", "summaries", "overflow"}}
    assert len(read) == len(Priority) + 2


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


@pytest.fixture
def records() -> list[Record]:
    """What is published of a group of many variants, one of them without a command line, and of others."""
    processor, feed = Processor(DEDUPED, ShardState("prod-eu-1"), b"k" * 16), Feed()
    commands: list[Any] = [f"ls {n % 9}" for n in range(40)] + [None]
    lines = [(START_NS + n, shell(START_NS + n, command)) for n, command in enumerate(commands)]
    lines += [(START_NS + n, shell(START_NS + n, "id", **{"proc.name": "id"})) for n in range(5)]
    made = processor.process([feed.batch(*lines)], NOW_NS)
    rest = processor.publish_due(NOW_NS, everything=True)
    assert rest is not None
    return [*made.records, *rest.records]


EXPECTED = Counter({f"ls {n}": 5 if n < 4 else 4 for n in range(9)}) + Counter({None: 1, "id": 5})


def test_the_sql_example_counts_every_variants_command_line(records: list[Record]) -> None:
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE records (id TEXT, kind TEXT, value TEXT)")
    rows = [(record.id, dict(record.headers)["kind"].decode(), record.value.decode()) for record in records]
    base.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
    found = Counter[str | None]()
    for _, _, command, count, _ in base.execute((EXAMPLES / "sql" / "variants.sql").read_text()):
        found[command] += count
    assert found == EXPECTED


def test_the_python_example_shows_every_variants_command_line(records: list[Record]) -> None:
    describe = runpy.run_path(str(EXAMPLES / "python" / "consumer.py"))["describe"]
    shown = set[str | None]()
    for record in records:
        headers = {name: value.decode() for name, value in record.headers}
        described = describe(record.key, record.value, headers)
        assert len(described["commands"]) == len(
            orjson.loads(record.value).get("summary", {"variants": [1]})["variants"]
        )
        shown |= set(described["commands"])
    assert shown == set(EXPECTED)


def test_the_index_template_maps_every_key_of_a_summary_that_queries_need() -> None:
    template = json.loads((EXAMPLES / "elasticsearch" / "index-template.json").read_text())
    schema = json.loads((ROOT / "docs" / "schemas" / "summary.v2.json").read_text())
    mapped = template["template"]["mappings"]["properties"]["summary"]["properties"]
    described = schema["properties"]["summary"]["properties"]
    assert mapped.keys() <= described.keys()
    assert mapped["variants"]["properties"].keys() == described["variants"]["items"]["properties"].keys()
    assert mapped["variants"]["type"] == "nested"
    assert mapped["variants"]["properties"]["fields"]["type"] == "flattened"
