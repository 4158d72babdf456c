from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import RING_LINES, DigestRing, Oversize
from streamer.transform.align import advance, digest, digests, ends_with, find_in_whole_file, find_ring


def log(lines: int) -> list[bytes]:
    return [b"2026-11-20T10:00:00.%09dZ line" % number for number in range(lines)]


def ring_after(lines: list[bytes]) -> DigestRing:
    return advance(DigestRing(), lines)


def stands_at(ring: DigestRing, served: list[bytes], taken: int) -> bool:
    """Whether the lines up to `taken` end with the lines that the ring remembers, or with its end."""
    kept = min(taken, ring.lines)
    return digests(served[taken - kept : taken]) == ring[(ring.lines - kept) * DigestRing.WIDTH :]


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int]:
    """A log's length, how far it was read, and the first line that is served."""
    length = draw(st.integers(0, 150))
    return length, draw(st.integers(0, length)), draw(st.integers(0, length))


class TestOfDistinctLines:
    @given(cases())
    def test_a_tail_that_holds_the_ring_gives_exactly_the_unread_lines(
        self, case: tuple[int, int, int]
    ) -> None:
        length, read, first = case
        lines = log(length)
        taken = find_ring(ring_after(lines[:read]), digests(lines[first:]))
        if read == 0:
            assert taken == 0
        elif first <= max(0, read - RING_LINES):
            assert taken is not None
            assert lines[first:][taken:] == lines[read:]
        else:
            assert taken is None

    @given(cases())
    def test_a_rotated_file_gives_exactly_the_unread_lines(self, case: tuple[int, int, int]) -> None:
        length, read, first = case
        lines = log(length)
        taken = find_in_whole_file(ring_after(lines[:read]), digests(lines[first:]))
        if read == 0:
            assert taken == 0
        elif first < read:
            assert taken is not None
            assert lines[first:][taken:] == lines[read:]
        else:
            assert taken is None  # the last line taken is not there: all is new, and there may be a hole

    @given(cases(), st.integers(1, 36))
    def test_a_fragment_as_first_line_never_misleads(self, case: tuple[int, int, int], cut: int) -> None:
        length, read, first = case
        lines = log(length)
        served = lines[first:]
        if read and served:
            served[0] = served[0][cut:]
        taken = find_ring(ring_after(lines[:read]), digests(served))
        if read == 0:
            assert taken == 0
        elif first + 1 <= max(0, read - RING_LINES):
            assert taken is not None
            assert served[taken:] == lines[read:]
        else:
            assert taken is None


class TestOfLinesThatRepeat:
    @given(
        st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=150), st.integers(0, 150), st.integers(0, 150)
    )
    def test_no_unread_line_is_lost_where_the_ring_is_served(
        self, lines: list[bytes], read: int, first: int
    ) -> None:
        read = min(read, len(lines))
        first = min(first, max(0, read - RING_LINES))
        ring = ring_after(lines[:read])
        for find in find_ring, find_in_whole_file:
            taken = find(ring, digests(lines[first:]))
            assert taken is not None
            assert first + taken <= read

    @given(
        st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=40),
        st.integers(0, 40),
        st.integers(0, 40),
    )
    def test_what_counts_as_taken_ends_as_the_ring_does(
        self, lines: list[bytes], read: int, first: int
    ) -> None:
        ring = ring_after(lines[:read])
        taken = find_in_whole_file(ring, digests(lines[first:]))
        if taken is None or stands_at(ring, lines[first:], taken):
            return
        # The file's first line may be the end of one that was taken whole.
        assert taken > 1
        assert stands_at(ring, lines[first + 1 :], taken - 1)

    def test_a_file_that_begins_with_the_end_of_a_line_goes_on_behind_what_was_taken(self) -> None:
        taken = [b"before", b"the line as a whole", b"c", b"d"]
        assert find_in_whole_file(ring_after(taken), digests([b"as a whole", b"c", b"d", b"new"])) == 3

    def test_a_young_ring_counts_at_its_first_place(self) -> None:
        lines = [b"a", b"b", b"a", b"b", b"c"]
        assert find_ring(ring_after(lines[:1]), digests(lines)) == 1
        assert find_ring(ring_after(lines[:2]), digests(lines)) == 2

    def test_64_distinct_lines_among_repeats_are_one_place(self) -> None:
        lines = [b"same"] * 100 + log(3) + [b"same"] * 200
        assert find_ring(ring_after(lines[:165]), digests(lines)) == 165


@pytest.mark.parametrize("find", [find_ring, find_in_whole_file])
def test_a_ring_across_the_bounds_of_digests_is_no_place(find: object) -> None:
    ring = DigestRing(b"abcdefgh")
    served = b"1234abcdefgh5678"
    assert find_ring(ring, served) is None
    assert find_in_whole_file(ring, served) is None
    assert find_ring(ring, served + b"abcdefgh") == 3


def test_an_empty_log_holds_no_ring() -> None:
    ring = ring_after(log(3))
    assert find_ring(ring, b"") is None
    assert find_in_whole_file(ring, b"") is None
    assert find_ring(DigestRing(), b"") == 0


@given(st.integers(0, 200), st.lists(st.integers(0, 200), max_size=8))
def test_the_ring_does_not_depend_on_the_batches(length: int, at: list[int]) -> None:
    lines = log(length)
    ring = DigestRing()
    bounds = [0, *sorted(min(cut, length) for cut in at), length]
    for start, end in itertools.pairwise(bounds):
        ring = advance(ring, lines[start:end])
    assert ring == digests(lines[-RING_LINES:])
    assert ring.lines == min(length, RING_LINES)


@given(st.integers(1, 130), st.data())
def test_a_line_that_was_too_long_is_known_by_the_digest_of_the_whole(
    length: int, data: st.DataObject
) -> None:
    lines = log(length)
    index = data.draw(st.integers(0, length - 1))
    whole = lines[index] + b"x" * 100
    known = Oversize(len(whole), digest(whole))
    stored = advance(DigestRing(), lines, {index: known})
    assert stored == ring_after([*lines[:index], whole, *lines[index + 1 :]])


def test_a_digest_is_the_sha_256_of_the_line_with_its_timestamp() -> None:
    line = log(1)[0]
    assert digest(line) == hashlib.sha256(line).digest()
    assert digests([line]) == hashlib.sha256(line).digest()[:8]


@pytest.mark.parametrize(
    ("taken", "served", "ends"),
    [
        ([b"a", b"b", b"c"], [b"b", b"c"], True),
        ([b"a", b"long", b"c"], [b"ng", b"c"], True),
        ([b"a", b"b"], [b"b", b"c"], False),
        ([b"a", b"a"], [b"a", b"a", b"a"], False),
        ([b"b"], [b"a", b"b"], False),
        ([b"b"], [b"ng"], False),
    ],
)
def test_a_log_was_read_to_its_end_if_the_lines_there_are_the_last_ones_taken(
    taken: list[bytes], served: list[bytes], ends: bool
) -> None:
    assert ends_with(ring_after(taken), ring_after(served)) is ends
