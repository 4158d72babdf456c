from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.export import Export, ExportUnreadableError, export_lines, read_export
from tests.unit.transform.stored import stored

STORED = st.dictionaries(
    # Also what no release of ours writes: an export is for the worst night.
    st.binary(max_size=12).map(lambda raw: raw.decode(errors="surrogateescape")),
    st.binary(max_size=12),
    max_size=4,
)
EXPORTS = st.lists(STORED, min_size=1, max_size=4).map(
    lambda shards: Export("prod", "falco-streamer.prod.state", dict(enumerate(shards)))
)


def written(export: Export) -> list[str]:
    return list(export_lines(export, "0.1.0", "2026-11-20T10:00:00Z"))


@given(EXPORTS)
def test_what_is_exported_is_read_again_byte_for_byte(export: Export) -> None:
    lines = written(export)
    assert all(line.isascii() and "\n" not in line for line in lines)
    assert read_export(lines) == export


@given(EXPORTS, st.data())
def test_a_cut_export_is_not_taken_for_a_whole_one(export: Export, data: st.DataObject) -> None:
    lines = written(export)
    end = data.draw(st.integers(0, len(lines) - 1))
    with pytest.raises(ExportUnreadableError):
        read_export(lines[:end])


@given(EXPORTS, st.data())
def test_any_damage_is_told_or_harmless(export: Export, data: st.DataObject) -> None:
    lines = written(export)
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(st.text() | st.sampled_from(["[]", "{}", '{"shard":0}', '{"shard":99,"key":"a"}']))
    with pytest.raises(ExportUnreadableError):
        read_export(lines)


def test_packed_values_can_be_read_by_people() -> None:
    lines = [json.loads(line) for line in written(Export("prod-eu-1", "t", stored()))[1:]]
    by_kind = {line["key"].partition("/")[0]: line["value"] for line in lines}
    assert by_kind["window"]["length_ns"] == 60_000_000_000
    assert len(by_kind["window"]["shown"][0]) == 32
    assert by_kind["repeats"]["count"] == sum(
        variant["count"] for variant in by_kind["repeats"]["variants"].values()
    )
    assert by_kind["ledger"]["cluster"] == "prod-eu-1"
    assert all(line["value"]["v"] == 1 for line in lines)


def test_what_cannot_be_read_is_exported_all_the_same() -> None:
    export = Export("prod", "t", {0: {"window/a": b"\x02abc", "pane": b"{", "ledger": b'{"v":9}'}})
    lines = written(export)
    assert [json.loads(line)["value"] for line in lines[1:]] == [None, None, None]
    assert read_export(lines) == export
