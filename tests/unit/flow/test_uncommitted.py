"""The bound on uncommitted bytes: kept, fair among shards and streams, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.flow.inbox import Inbox
from streamer.flow.uncommitted import Share, Uncommitted
from streamer.model import LogBatch, Target
from tests.unit.flow.virtual_time import in_virtual_time


async def idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@in_virtual_time
async def test_a_shard_that_cannot_commit_leaves_room_for_all_others() -> None:
    room = Uncommitted(1000)
    stuck, well = room.share(), room.share()
    reading = [asyncio.create_task(stuck.take(10)) for _ in range(200)]
    await idle()
    assert stuck.held_bytes == 500  # a quarter for itself, and half of what is common
    for _ in range(1000):
        async with asyncio.timeout(0):
            await well.take(200)
        well.give(200)
    assert stuck.held_bytes == 500
    for task in reading:
        task.cancel()
    await asyncio.wait(reading)


@pytest.mark.parametrize("shards", [1, 2, 8, 64])
def test_however_many_cannot_commit_there_is_room_for_the_next(shards: int) -> None:
    @in_virtual_time
    async def play() -> None:
        room = Uncommitted(1_000_000)
        *stuck, well = [room.share() for _ in range(shards + 1)]
        reading = [
            asyncio.create_task(share.take(100)) for share in stuck for _ in range(400 + 7_200 // shards)
        ]
        await idle()
        assert all(share.held_bytes >= 500_000 // (shards + 1) - 100 for share in stuck)
        assert room.held_bytes <= 1_000_000 - 500_000 // (shards + 1)
        for _ in range(5_000 // (shards + 1)):
            assert well.take_at_once(100)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)

    play()


@in_virtual_time
async def test_streams_of_a_shard_have_their_turns_in_order() -> None:
    room = Uncommitted(40)
    share = room.share()
    order: list[int] = []

    async def stream(n: int) -> None:
        for _ in range(3):
            await share.take(10)
            order.append(n)
            await asyncio.sleep(0)

    reading = [asyncio.create_task(stream(n)) for n in range(4)]
    for _ in range(12):
        await idle()
        share.give(10)
    await asyncio.gather(*reading)
    assert order == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]


@in_virtual_time
async def test_what_is_larger_than_all_of_it_goes_and_keeps_the_others_waiting_until_it_is_given_back() -> (
    None
):
    room = Uncommitted(100)
    one, other = room.share(), room.share()
    await one.take(500)
    waiting = asyncio.create_task(other.take(1))
    await idle()
    assert not waiting.done()
    one.give(500)
    await waiting


@in_virtual_time
async def test_one_that_is_cancelled_when_its_turn_has_come_gives_it_to_the_next() -> None:
    room = Uncommitted(13)
    share = room.share()
    await share.take(10)
    first, second = (asyncio.create_task(share.take(10)) for _ in range(2))
    await idle()
    share.give(10)
    first.cancel()
    await asyncio.wait([first])
    await second
    assert room.held_bytes == 10


SIZES = st.integers(0, 120)


@settings(max_examples=150, deadline=None)
@given(
    most_bytes=st.integers(1, 300),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "give", "cancel", "close"]), st.integers(0, 3), SIZES), max_size=80
    ),
)
def test_the_bound_is_kept_but_for_one_batch_and_all_go_on_once_there_is_room(
    most_bytes: int, steps: list[tuple[str, int, int]]
) -> None:
    @in_virtual_time
    async def play() -> None:
        room = Uncommitted(most_bytes)
        shares = [room.share() for _ in range(4)]
        closed: set[Share] = set()
        taking: list[tuple[asyncio.Task[None], Share, int]] = []
        held: list[tuple[Share, int]] = []

        async def settle() -> None:
            await idle()
            for one in [one for one in taking if one[0].done()]:
                taking.remove(one)
                if not one[0].cancelled():
                    held.append((one[1], one[2]))
            assert not any(of in closed for _, of, _ in taking)
            held[:] = [(share, size) for share, size in held if share not in closed]
            assert room.held_bytes == sum(size for _, size in held)
            for share in shares:
                assert share.held_bytes == sum(size for of, size in held if of is share)
            largest = max((size for _, size in held), default=0)
            assert room.held_bytes < most_bytes + largest or not held or room.held_bytes <= most_bytes

        for what, which, number in steps:
            share = shares[which]
            match what:
                case "take" if share not in closed:
                    taking.append((asyncio.create_task(share.take(number)), share, number))
                case "give" if held:
                    of, size = held.pop(number % len(held))
                    of.give(size)
                case "cancel" if taking:
                    taking[number % len(taking)][0].cancel()
                case "close" if number < 5:
                    share.close()
                    closed.add(share)
            if number % 3:
                await settle()
        await settle()
        while any(
            of not in closed for _, of, _ in taking
        ):  # each commit makes room, so that nothing waits for ever
            assert held, "all wait, and nobody has anything to commit"
            of, size = held.pop()
            of.give(size)
            await settle()

    play()


@in_virtual_time
async def test_a_shard_that_waits_for_more_lines_is_woken_when_there_is_no_room_for_them() -> None:
    room = Uncommitted(1000)
    busy, quiet = Inbox(room.share(), 10_000), Inbox(room.share(), 10_000, many_lines=100)
    target = Target("falco", "falco-a", "uid", "falco", "node-1")
    gathering = asyncio.create_task(busy.wait_full())
    putting = [
        asyncio.create_task(busy.put(LogBatch(target, [b"x"], [0], size_bytes=100))) for _ in range(10)
    ]
    await gathering
    assert busy.pending_bytes == 500  # ten times as much would wait for more lines
    # A shard that holds next to nothing goes on gathering: its commits would make no room.
    await quiet.put(LogBatch(target, [b"x"], [0], size_bytes=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await quiet.wait_many()
    for task in putting:
        task.cancel()
    await asyncio.wait(putting)
