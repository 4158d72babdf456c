"""`falco-streamer state show --file`: what an export tells, with no Kafka."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.cli.state_summary import summarize_state, summary_table
from streamer.sink.group import Member
from streamer.transform.export import Export, export_lines
from tests.unit.transform.samples import FALCO, OTHER, START_NS
from tests.unit.transform.stored import stored

NOW_NS = START_NS + 190 * 1_000_000_000
EXPORT = Export("prod-eu-1", "falco-streamer.prod-eu-1.state", stored())
FALCOS_SHARD = next(shard for shard, held in EXPORT.shards.items() if f"position/{FALCO.id}" in held)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "state.jsonl"
    made.write_text("".join(f"{line}\n" for line in export_lines(EXPORT, "0", "2026-11-20T10:00:00Z")))
    return made


def show(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["state", "show", "--file", str(file), *arguments])


def test_every_shard_and_target_is_shown(file: Path) -> None:
    done = show(file, "-o", "json")
    assert done.exit_code == 0, done.stderr
    shown = orjson.loads(done.stdout)
    assert shown["workers"] is None
    assert [shard["shard"] for shard in shown["shards"]] == [0, 1]
    assert all(shard["ledger"]["balanced"] for shard in shown["shards"])
    [busy] = shown["shards"][FALCOS_SHARD]["targets"]
    assert (busy["pod"], busy["uid"], busy["status"], busy["lines"]) == (
        FALCO.pod, FALCO.uid, "attached", 33,
    )  # fmt: skip
    assert busy["last_line"] == "2026-11-20T10:01:10.000000000Z"
    assert busy["restart_count"] == 1
    assert busy["windows"] > 0
    assert busy["counted"] > 0
    assert busy["limits"] == 3
    assert busy["dead_letters_held"] == 2


def test_the_table_is_for_people(file: Path) -> None:
    members = [Member("falco-streamer-0", "10.0.0.7", (0, 1))]
    lines = list(summary_table(summarize_state(EXPORT, members, NOW_NS, ()), members))
    text = "\n".join(lines)
    assert "falco-streamer-0  10.0.0.7  0-1" in text
    [row] = [line.split() for line in lines if FALCO.pod in line]
    assert row[:7] == [str(FALCOS_SHARD), f"falco/{FALCO.pod}", "falco", "attached", "33", "2m", "ago"]


def test_pods_and_shards_can_be_chosen(file: Path) -> None:
    assert FALCO.pod in (chosen := show(file, "--pod", "falco/*-x7*").stdout)
    assert OTHER.pod not in chosen
    assert FALCO.pod not in show(file, "--shard", str(1 - FALCOS_SHARD)).stdout
    refused = show(file, "--shard", "2")
    assert refused.exit_code == 2
    assert "there are 2 shards" in refused.stderr


def test_a_shard_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    damaged = {shard: dict(held) for shard, held in EXPORT.shards.items()}
    damaged[1 - FALCOS_SHARD]["pane/\x1b[2J"] = b"{}"
    file = tmp_path / "state.jsonl"
    export = Export("prod-eu-1", "t", damaged)
    file.write_text("".join(f"{line}\n" for line in export_lines(export, "0", "2026-11-20T10:00:00Z")))
    done = show(file)
    assert done.exit_code == 1
    assert FALCO.pod in done.stdout
    assert f"shard {1 - FALCOS_SHARD} cannot be processed: state keys of a kind" in done.stderr
    assert "\x1b[2J" not in done.stderr + done.stdout


def test_a_file_that_is_no_export_is_told(tmp_path: Path) -> None:
    for text, told in [("", "line 1"), ("hello\n", "line 1: it is not JSON"), ("é", "it is not text")]:
        file = tmp_path / "state.jsonl"
        file.write_text(text)
        done = show(file)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {file}: ")
        assert told in done.stderr
