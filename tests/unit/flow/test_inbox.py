"""The inbox: in order, bounded, and safe to be cancelled at."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.inbox import Inbox
from streamer.flow.uncommitted import Uncommitted
from streamer.model import LogBatch, Target
from tests.unit.flow.virtual_time import in_virtual_time

TARGET = Target("falco", "falco-a", "uid", "falco", "node-1")


def batch(number: int, size_bytes: int = 10, lines: int = 1) -> LogBatch:
    return LogBatch(TARGET, [b"%d" % number] * lines, [0] * lines, size_bytes=size_bytes)


def inbox_of(capacity_bytes: int, many_lines: int = 1) -> Inbox:
    """One whose share is so large: three quarters, where there is no other."""
    return Inbox(Uncommitted(-(-capacity_bytes * 4 // 3)).share(), capacity_bytes, many_lines)


def commit(inbox: Inbox, most_lines: int, most_bytes: int) -> list[int]:
    """Take batches, and have done with them."""
    taken = inbox.take(most_lines, most_bytes)
    inbox.settled(taken)
    return numbers(taken)


def numbers(taken: list[LogBatch]) -> list[int]:
    return [int(one.lines[0]) for one in taken]


async def idle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


@in_virtual_time
async def test_batches_come_out_in_the_order_they_went_in() -> None:
    inbox = inbox_of(1000)
    for n in range(5):
        await inbox.put(batch(n))
    assert commit(inbox, 1000, 1000) == [0, 1, 2, 3, 4]
    assert len(inbox) == 0


@in_virtual_time
async def test_whole_batches_are_taken_up_to_a_bound_of_lines() -> None:
    inbox = inbox_of(1000)
    for n in range(4):
        await inbox.put(batch(n, lines=3))
    assert commit(inbox, 7, 1000) == [0, 1]
    assert commit(inbox, 6, 1000) == [2, 3]


@in_virtual_time
async def test_whole_batches_are_taken_up_to_a_bound_of_bytes() -> None:
    inbox = inbox_of(1000)
    for n in range(4):
        await inbox.put(batch(n, size_bytes=30))
    assert commit(inbox, 1000, 89) == [0, 1]
    assert commit(inbox, 1000, 60) == [2, 3]


@in_virtual_time
async def test_one_batch_is_taken_whatever_its_size() -> None:
    inbox = inbox_of(1000)
    await inbox.put(batch(1, size_bytes=900, lines=50))
    await inbox.put(batch(2))
    assert commit(inbox, 1, 1) == [1]


@in_virtual_time
async def test_put_waits_while_it_is_full_and_goes_on_in_order() -> None:
    inbox = inbox_of(20)
    await inbox.put(batch(0))
    await inbox.put(batch(1))
    waiting = [asyncio.create_task(inbox.put(batch(n))) for n in (2, 3, 4)]
    await idle()
    assert not any(task.done() for task in waiting)
    assert commit(inbox, 1, 1000) == [0]
    await idle()
    assert [task.done() for task in waiting] == [True, False, False]  # one that fits, not all that wait
    assert commit(inbox, 100, 1000) == [1, 2]
    await asyncio.gather(*waiting)
    assert commit(inbox, 100, 1000) == [3, 4]


@in_virtual_time
async def test_a_batch_larger_than_the_inbox_goes_in_alone() -> None:
    inbox = inbox_of(20)
    await inbox.put(batch(0, size_bytes=500))
    blocked = asyncio.create_task(inbox.put(batch(1)))
    await idle()
    assert not blocked.done()
    assert commit(inbox, 100, 100) == [0]
    await blocked


@in_virtual_time
async def test_a_cancelled_put_has_put_nothing() -> None:
    inbox = inbox_of(10)
    await inbox.put(batch(0))
    blocked = asyncio.create_task(inbox.put(batch(1)))
    await idle()
    blocked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await blocked
    assert commit(inbox, 100, 100) == [0]
    assert commit(inbox, 100, 100) == []


@in_virtual_time
async def test_a_cancelled_wait_has_taken_nothing() -> None:
    inbox = inbox_of(10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await inbox.wait()
    await inbox.put(batch(0))
    await inbox.wait()
    assert commit(inbox, 100, 100) == [0]


@in_virtual_time
async def test_full_is_told_once_somebody_would_have_to_wait() -> None:
    inbox = inbox_of(20)
    full = asyncio.create_task(inbox.wait_full())
    await inbox.put(batch(0))
    await idle()
    assert not full.done()
    await inbox.put(batch(1))
    await full
    inbox.take(1, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await inbox.wait_full()


@in_virtual_time
async def test_it_is_full_with_less_or_more_from_now_on() -> None:
    inbox = inbox_of(1000)
    await inbox.put(batch(0))
    full = asyncio.create_task(inbox.wait_full())
    await idle()
    assert not full.done()
    inbox.full_from(10)
    await full
    inbox.full_from(11)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await inbox.wait_full()


@in_virtual_time
async def test_what_is_taken_counts_until_it_is_settled() -> None:
    inbox = inbox_of(20)
    await inbox.put(batch(0))
    await inbox.put(batch(1))
    blocked = asyncio.create_task(inbox.put(batch(2)))
    taken = inbox.take(100, 100)
    await idle()
    assert not blocked.done()
    assert (inbox.pending_bytes, inbox.uncommitted_bytes) == (0, 20)
    inbox.settled(taken)
    await blocked
    assert (inbox.pending_bytes, inbox.uncommitted_bytes) == (10, 10)


@in_virtual_time
async def test_an_inbox_that_is_abandoned_leaves_its_room_to_others_and_keeps_no_more() -> None:
    room = Uncommitted(30)
    one, other = Inbox(room.share(), 30), Inbox(room.share(), 30)
    await one.put(batch(0))
    one.take(1, 100)
    await one.put(batch(1, size_bytes=5))
    await other.put(batch(2, size_bytes=15))
    more = asyncio.create_task(other.put(batch(3, size_bytes=1)))
    late = asyncio.create_task(one.put(batch(4)))
    await idle()
    assert (more.done(), late.done(), room.held_bytes) == (False, False, 30)
    one.abandon()
    await more
    await late
    await one.put(batch(5))
    assert numbers(one.take(100, 100)) == [1]
    assert room.held_bytes == 16


@in_virtual_time
async def test_what_is_put_back_comes_first_again_and_counts() -> None:
    inbox = inbox_of(30)
    for number in range(3):
        await inbox.put(batch(number))
    taken = inbox.take(100, 20)
    assert numbers(taken) == [0, 1]
    inbox.put_back(taken)
    assert inbox.pending_bytes == 30
    waiting = asyncio.create_task(inbox.put(batch(3)))
    await idle()
    assert not waiting.done()
    assert commit(inbox, 100, 10) == [0]
    await waiting
    assert commit(inbox, 100, 100) == [1, 2, 3]


@in_virtual_time
async def test_lines_that_are_put_back_are_as_many_as_before() -> None:
    inbox = inbox_of(1000, many_lines=8)
    await inbox.put(batch(0, lines=8))
    inbox.put_back(inbox.take(100, 1000))
    async with asyncio.timeout(1):
        await inbox.wait_many()
    inbox.take(100, 1000)
    await inbox.put(batch(1, lines=8))
    async with asyncio.timeout(1):  # what was taken twice was not counted off twice
        await inbox.wait_many()


async def test_clearing_drops_all_and_makes_room() -> None:
    inbox = inbox_of(10)
    await inbox.put(batch(0))
    blocked = asyncio.create_task(inbox.put(batch(1)))
    inbox.clear()
    await blocked
    assert commit(inbox, 100, 100) == [1]


@in_virtual_time
async def test_after_closing_what_is_there_can_be_taken_and_nobody_waits() -> None:
    inbox = inbox_of(1000)
    await inbox.put(batch(0))
    inbox.close()
    assert inbox.closed
    await inbox.wait()
    await inbox.wait_full()
    assert commit(inbox, 100, 100) == [0]
    await inbox.wait()
    await inbox.wait_full()


@given(
    capacity=st.integers(1, 60),
    sizes=st.lists(st.integers(0, 30), max_size=30),
    takes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 60)), max_size=40),
    cancelled=st.sets(st.integers(0, 29)),
)
def test_whatever_is_put_is_taken_once_in_order_and_never_more_than_one_batch_over_the_bound(
    capacity: int, sizes: list[int], takes: list[tuple[int, int]], cancelled: set[int]
) -> None:
    @in_virtual_time
    async def play() -> None:
        inbox = inbox_of(capacity)
        puts = [asyncio.create_task(inbox.put(batch(n, size))) for n, size in enumerate(sizes)]
        await idle()
        for n in cancelled & set(range(len(puts))):
            puts[n].cancel()
        seen: list[int] = []
        for most_lines, most_bytes in [*takes, *[(1000, 1_000_000)] * (len(sizes) + 1)]:
            pending = inbox._pending_bytes
            assert pending <= capacity + 1 + max(sizes, default=0)
            seen += commit(inbox, most_lines, most_bytes)
            await idle()
        done = await asyncio.gather(*puts, return_exceptions=True)
        assert seen == [n for n, outcome in enumerate(done) if outcome is None]

    play()
