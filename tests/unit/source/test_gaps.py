"""Gap records as a request for what is missing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streamer.model import Gap, GapReason, Target
from streamer.source.files import FileError, FileReader
from streamer.source.gaps import GapsError, Hole, parse_gaps
from streamer.transform.encode import TargetEncoder
from streamer.transform.stamp import LAST_NS
from tests.testbed.crilog import record
from tests.unit.transform.samples import FALCO, OTHER, SECOND_NS, START_NS, alert, stamped


def gap_record(target: Target, from_ns: int | None, to_ns: int | None, cluster: str = "prod") -> bytes:
    gap = Gap(GapReason.ROTATION_UNSEEN, certain=False, from_ns=from_ns, to_ns=to_ns)
    return TargetEncoder(cluster, target).gap(gap, 7, "falco.health", START_NS, START_NS).value


def test_a_gap_record_says_whose_log_and_what_is_missing() -> None:
    coverage = orjson.dumps({"health": "coverage", "cluster": "prod"})
    text = b"\n".join(
        [gap_record(FALCO, START_NS, START_NS + 9), coverage, b"", gap_record(OTHER, None, None)]
    )
    assert parse_gaps(text, "prod") == [Hole(FALCO, START_NS, START_NS + 9), Hole(OTHER, 0, LAST_NS)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "there is no gap record in it"),
        (b'{"rule":"r"}', "there is no gap record in it"),
        (b"gap", "line 1: expected gap records, one a line"),
        (b"[]", "line 1: expected gap records"),
        (b'{"health":"gap"}', "line 1: expected gap records"),
        (b'{"health":"gap","cluster":"prod","target":{"pod":"x"},"from":null,"to":null}', "line 1: expected"),
        (gap_record(FALCO, 0, 1, "test"), "line 1: the gap is in cluster test, and `cluster` is prod; give"),
    ],
)
def test_what_is_no_gap_record_is_one_line(text: bytes, said: str) -> None:
    with pytest.raises(GapsError, match=said):
        parse_gaps(text, "prod")


def test_of_a_gaps_log_only_what_is_missing_is_read_and_its_borders(tmp_path: Path) -> None:
    folder = tmp_path / f"{FALCO.namespace}_{FALCO.pod}_{FALCO.uid}" / FALCO.container
    other = tmp_path / f"{OTHER.namespace}_{OTHER.pod}_{OTHER.uid}" / OTHER.container
    times = [START_NS + n * SECOND_NS for n in range(10)]
    content = b"".join(record(alert(at), at=at) for at in times) + b"without a timestamp\n"
    for one in (folder, other):
        one.mkdir(parents=True)
        (one / "0.log").write_bytes(content)
    holes = parse_gaps(
        gap_record(FALCO, times[2], times[3]) + b"\n" + gap_record(FALCO, times[7], None), "prod"
    )
    reader = FileReader(786_432, holes=holes)
    names = reader.examine([str(other / "0.log"), str(folder / "0.log")])
    batches = [batch for name in names for batch in reader.read(name)]
    assert [line for batch in batches for line in batch.lines] == [
        stamped(alert(times[n]), times[n]) for n in (2, 3, 7, 8, 9)
    ]
    assert {batch.target for batch in batches} == {FALCO}


def test_where_a_path_does_not_say_whose_log_it_is_the_only_gap_does(tmp_path: Path) -> None:
    file = tmp_path / "copy.log"
    file.write_bytes(record(alert(), at=START_NS))
    (batch,) = FileReader(786_432, holes=[Hole(FALCO, 0, LAST_NS)]).read(str(file))
    assert batch.target == FALCO
    with pytest.raises(FileError, match=r"copy.log: the gaps are of 2 containers; .*: give --target"):
        FileReader(786_432, holes=[Hole(FALCO, 0, LAST_NS), Hole(OTHER, 0, 1)]).examine([str(file)])
