"""State as releases have written it, which this one must still read: one golden file for each format.

They are exports (`falco-streamer state export`), so that a person can read them too. A file is never changed once a
release has written its format. Where FORMAT is new: `GOLDEN=write pytest tests/unit/transform/test_stored_formats.py`
adds the file of the new one, and `load` must read the one before it (docs/upgrading.md has the rule).
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from streamer.model import PositionStatus
from streamer.shard.assign import shard_of
from streamer.transform.export import Export, export_lines, read_export
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.state import FORMAT, ShardState, StateUnreadableError
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert
from tests.unit.transform.stored import TREATED, batches, live, stored
from tests.unit.transform.test_state import of_format, saved

GOLDEN = Path(__file__).with_name("golden")
FORMATS = [1]
"""Those that this release reads."""
KINDS = {
    "ledger",
    "key",
    "position",
    "bucket",
    "limit",
    "shares",
    "kind",
    "window",
    "repeats",
    "sample",
    "variant",
}


def golden(version: int) -> Path:
    return GOLDEN / f"state-format-{version}.jsonl"


def read(version: int) -> Export:
    with golden(version).open() as lines:
        return read_export(lines)


def busy(version: int = FORMAT) -> tuple[int, dict[str, bytes]]:
    """The shard that holds all kinds of keys."""
    shard = shard_of(FALCO.uid, 2)
    return shard, dict(read(version).shards[shard])


def test_this_release_writes_what_the_golden_file_of_its_format_holds() -> None:
    if os.environ.get("GOLDEN") == "write":
        export = Export(PLAN.cluster, "falco-streamer.prod-eu-1.state", stored())
        lines = export_lines(export, "0.1.0", "2026-11-20T11:00:00Z")
        golden(FORMAT).write_text("".join(f"{line}\n" for line in lines))
    assert read(FORMAT).shards == stored()


def test_there_is_a_golden_file_for_every_format_and_it_holds_every_kind_of_key() -> None:
    assert sorted(GOLDEN.glob("state-*")) == [golden(version) for version in FORMATS]
    for version in FORMATS:
        assert {key.partition("/")[0] for key in busy(version)[1]} == KINDS


@pytest.mark.parametrize("version", FORMATS)
def test_every_format_is_read_and_says_what_it_said(version: int) -> None:
    states = {shard: load(PLAN.cluster, held.items()) for shard, held in read(version).shards.items()}
    tracked = {key: value for state in states.values() for key, value in state.tracked.items()}
    assert tracked.keys() == {FALCO.id, OTHER.id}
    position = tracked[FALCO.id].position
    assert (position.lines, position.ring.lines, position.status) == (33, 33, PositionStatus.ATTACHED)
    assert position.last_ns == START_NS + 70 * SECOND_NS
    assert tracked[OTHER.id].position.status is PositionStatus.DONE
    ledgers = [state.ledger for state in states.values()]
    total = sum(ledgers[1:], ledgers[0])
    assert total.balanced
    assert total.lines == 34
    for state in states.values():
        counted = sum(one.windows.counted for one in state.tracked.values())
        assert state.ledger.deduplicated == state.ledger.summarised + counted


@pytest.mark.parametrize("version", FORMATS)
def test_a_shard_goes_on_from_every_format_as_from_its_own(version: int) -> None:
    """The next lines are treated as if nothing had been stored and loaded between."""
    shard, held = busy(version)
    through = Processor(TREATED, ShardState(PLAN.cluster), bytes([shard]) * 16)
    for batch in batches():
        if batch.target == FALCO:
            through.process([batch], NOW_NS)
    loaded = Processor(TREATED, load(PLAN.cluster, held.items()))
    later = START_NS + 71 * SECOND_NS
    further = Feed(FALCO).batch(
        (later, alert(later, rule="Third")), (later, alert(later)), (later + 10**12, alert(later + 10**12))
    )
    expected, found = through.process([further], NOW_NS), loaded.process([further], NOW_NS)
    assert [record.value for record in found.records] == [record.value for record in expected.records]
    assert found.ledger.summarised == expected.ledger.summarised > 0
    assert found.ledger.balanced


def test_what_was_read_is_written_in_the_format_of_this_release() -> None:
    _, held = busy(FORMATS[0])
    state = load(PLAN.cluster, held.items())
    assert live([], saved(state)) == live([], saved(load(PLAN.cluster, saved(state).items())))
    for key, raw in saved(state).items():
        version = orjson.loads(raw)["v"] if raw[:1] == b"{" else raw[0]
        assert version == FORMAT, key


@pytest.mark.parametrize("key", sorted(stored()[shard_of(FALCO.uid, 2)]))
def test_a_newer_format_is_one_error_that_names_the_key_and_the_fix(key: str) -> None:
    _, held = busy()
    held[key] = of_format(held[key], FORMAT + 1)
    with pytest.raises(StateUnreadableError) as caught:
        load(PLAN.cluster, held.items())
    said = str(caught.value)
    assert repr(key) in said
    assert f"has format {FORMAT + 1}, this release reads format {FORMAT}" in said
    assert "run the release that wrote it, or a newer one" in said
    assert "\n" not in said
