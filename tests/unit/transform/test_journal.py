"""The journal has one entry for each place, which brings the stored state to the one in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.transform.journal import Journal, Place

PLACES = [(kind, "a target", b"") for kind in "abc"]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "drop", "seal"]), st.sampled_from(PLACES), st.integers(0, 9))
)


@given(STEPS)
def test_stores_what_is_in_memory_and_deletes_only_what_is_stored(
    steps: list[tuple[str, Place, int]],
) -> None:
    journal, memory, stored = Journal(), dict[Place, int](), dict[Place, object]()
    fresh = set[Place]()

    def seal() -> None:
        for place, what in journal.take().items():
            if what is None:
                del stored[place]
            else:
                stored[place] = what
        fresh.clear()
        assert stored == memory

    for step, place, what in steps:
        match step:
            case "put":
                if place not in memory:
                    fresh.add(place)
                memory[place] = what
                journal.put(place, what)
            case "drop" if place in memory:
                del memory[place]
                (journal.cancel if place in fresh else journal.delete)(place)
            case "seal":
                seal()
    seal()
    assert not journal.entries
