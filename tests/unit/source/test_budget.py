"""The budget of requests: lanes that do not wait for each other, nodes that cost only themselves, no slot lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.source.budget import LIMITS, Budget, Lane, Limits, NoSlotError, Permit
from tests.unit.flow.virtual_time import in_virtual_time

FEW = {lane: Limits(2, 1000, 1000, wait_seconds=50, slow_at_once=2) for lane in Lane}


def now() -> float:
    return asyncio.get_running_loop().time()


def after(seconds: float) -> Callable[[], Awaitable[str]]:
    async def answer() -> str:
        await asyncio.sleep(seconds)
        return "headers"

    return answer


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def open_log(budget: Budget, node: str, seconds: float, status: int = 200) -> float:
    """Open a log on a node that takes so long; gives how long it took in all."""
    began = now()
    permit, _ = await budget.send(Lane.OPEN, node, after(seconds), 30)
    permit.answered(status)
    permit.free()
    return now() - began


def nothing_left(budget: Budget) -> bool:
    return not any(budget.busy(lane).total() for lane in Lane)


@in_virtual_time
async def test_slots_are_given_in_the_order_of_asking() -> None:
    budget = Budget(FEW)
    held = [await budget.acquire(Lane.POD), await budget.acquire(Lane.POD)]
    order: list[int] = []

    async def ask(n: int) -> None:
        permit = await budget.acquire(Lane.POD)
        order.append(n)
        permit.free()

    asking = [asyncio.create_task(ask(n)) for n in range(5)]
    await idle()
    assert (order, budget.busy(Lane.POD)["waiting"]) == ([], 5)
    for permit in held:
        permit.free()
        permit.free()  # as often as one likes
    await asyncio.gather(*asking)
    assert order == [0, 1, 2, 3, 4]
    assert nothing_left(budget)


@in_virtual_time
async def test_no_lane_waits_for_another() -> None:
    budget = Budget(FEW)
    held = [await budget.acquire(lane) for lane in (Lane.OPEN, Lane.PROBE, Lane.DISCOVERY) for _ in range(2)]
    began = now()
    (await budget.acquire(Lane.POD)).free()
    assert now() == began
    for permit in held:
        permit.free()


@in_virtual_time
async def test_who_waits_for_too_long_gives_up_and_leaves_the_line() -> None:
    budget = Budget(FEW)
    held = [await budget.acquire(Lane.POD) for _ in range(2)]
    with pytest.raises(NoSlotError, match="no free slot for a request \\(pod\\) within 50 s"):
        await budget.acquire(Lane.POD)
    assert budget.busy(Lane.POD)["waiting"] == 0
    for permit in held:
        permit.free()
    assert nothing_left(budget)


@pytest.mark.parametrize("at", range(4))
def test_a_cancelled_caller_has_no_slot(at: int) -> None:
    @in_virtual_time
    async def cancel() -> None:
        budget = Budget(FEW)
        held = [await budget.acquire(Lane.POD) for _ in range(2)]
        waiting = asyncio.create_task(budget.acquire(Lane.POD))
        behind = asyncio.create_task(budget.acquire(Lane.POD))
        await idle()
        # In line; cancelled and then given a slot; given one and then cancelled; both while it is about to go on.
        match at:
            case 0:
                waiting.cancel()
                await idle()
                held.pop().free()
            case 1:
                waiting.cancel()
                held.pop().free()
            case 2:
                held.pop().free()
                waiting.cancel()
            case 3:
                held.pop().free()
                await asyncio.sleep(0)
                waiting.cancel()
        done = await asyncio.gather(waiting, return_exceptions=True)
        if isinstance(done[0], Permit):
            done[0].free()
        permit = await behind
        permit.free()
        held.pop().free()
        assert nothing_left(budget)

    cancel()


@in_virtual_time
async def test_opens_have_a_rate() -> None:
    budget = Budget({**LIMITS, Lane.OPEN: Limits(1000, 10, 5, wait_seconds=300)})
    began = now()
    assert max(await asyncio.gather(*(open_log(budget, f"n{n}", 0) for n in range(105)))) == pytest.approx(10)
    assert now() - began == pytest.approx(10)
    await asyncio.sleep(60)  # a burst is saved up, and no more than one
    took = await asyncio.gather(*(open_log(budget, f"n{n}", 0) for n in range(15)))
    assert sorted(took)[4] == pytest.approx(0)
    assert max(took) == pytest.approx(1)


@pytest.mark.parametrize("hangs_seconds", [10, 29, 1e9])
@pytest.mark.parametrize(("healthy", "hanging"), [(200, 100), (2000, 1000)])
def test_hanging_nodes_cost_only_themselves(healthy: int, hanging: int, hangs_seconds: float) -> None:
    """After a start at which all requests to hanging nodes came first: the rate of opens is the only limit."""

    @in_virtual_time
    async def play() -> None:
        budget = Budget(LIMITS)

        async def retry(node: str) -> None:
            while True:
                try:
                    permit, _ = await budget.send(Lane.OPEN, node, after(hangs_seconds), 30)
                    permit.answered(500)
                    permit.free()
                except (TimeoutError, NoSlotError):
                    pass
                await asyncio.sleep(1)

        dead = [asyncio.create_task(retry(f"dead-{n}")) for n in range(hanging)]
        await idle()
        took = await asyncio.gather(*(open_log(budget, f"node-{n}", 0.01) for n in range(healthy)))
        allowed_seconds = (hanging + healthy - LIMITS[Lane.OPEN].burst) / LIMITS[Lane.OPEN].per_second
        assert max(took) < allowed_seconds + 1.1
        for _ in range(60):  # while the others are tried again and again
            assert await open_log(budget, "new", 0.01) < 0.1
            await asyncio.sleep(1)
        busy = budget.busy(Lane.OPEN)
        assert busy["quick"] == 0
        assert busy["slow"] <= LIMITS[Lane.OPEN].slow_at_once
        for task in dead:
            task.cancel()
        await asyncio.wait(dead)
        assert nothing_left(budget)

    play()


@in_virtual_time
async def test_nodes_that_refuse_at_once_do_not_use_up_the_rate_of_the_others() -> None:
    budget = Budget(LIMITS)

    async def retry(node: str) -> None:
        while True:
            await open_log(budget, node, 0.001, status=500)
            await asyncio.sleep(1)

    dead = [asyncio.create_task(retry(f"dead-{n}")) for n in range(1000)]
    await asyncio.sleep(30)
    for _ in range(30):
        assert await open_log(budget, "healthy", 0.01) < 0.1
        await asyncio.sleep(1)
    for task in dead:
        task.cancel()
    await asyncio.wait(dead)


@in_virtual_time
async def test_a_request_that_waits_for_long_makes_room_and_is_sent_again_only_where_there_is_none_for_it() -> (
    None
):
    budget = Budget(FEW)
    sent: Counter[str] = Counter()

    async def ask(node: str) -> None:
        async def request() -> str:
            sent[node] += 1
            await asyncio.sleep(5)
            return "headers"

        permit, _ = await budget.send(Lane.OPEN, node, request, 30)
        permit.answered(200)
        permit.free()

    asking = [asyncio.create_task(ask(f"node-{n}")) for n in range(4)]
    await asyncio.sleep(1.5)
    assert budget.busy(Lane.OPEN) == Counter(quick=2, slow=2)
    await asyncio.sleep(1)
    assert budget.busy(Lane.OPEN) == Counter(slow=2, waiting=2)  # the other two were sent for nothing
    await asyncio.gather(*asking)
    assert sent == {"node-0": 1, "node-1": 1, "node-2": 2, "node-3": 2}
    assert nothing_left(budget)


@in_virtual_time
async def test_one_node_has_two_slow_requests_at_the_most_and_all_go_on_once_it_answers_promptly() -> None:
    budget = Budget(replace_slow(20))
    budget.slow_nodes.mark("node")
    first = [asyncio.create_task(open_log(budget, "node", 0.5)) for _ in range(2)]
    others = [asyncio.create_task(open_log(budget, "node", 0.01)) for _ in range(10)]
    await asyncio.sleep(0.1)
    assert budget.busy(Lane.OPEN) == Counter(slow=2, waiting=10)
    await asyncio.gather(*first)
    assert max(await asyncio.gather(*others)) == pytest.approx(0.51)


def replace_slow(slow_at_once: int) -> dict[Lane, Limits]:
    return {lane: replace(limits, at_once=50, slow_at_once=slow_at_once) for lane, limits in FEW.items()}


@in_virtual_time
async def test_a_late_timer_blames_nobody() -> None:
    """The loop stood still: the answer may have come long ago."""
    budget = Budget(FEW)
    loop = asyncio.get_running_loop()

    async def request() -> str:
        await asyncio.sleep(0.5)
        loop._now += 3  # type: ignore[attr-defined]  # something was computed for so long
        await asyncio.sleep(0.01)
        return "headers"

    permit, _ = await budget.send(Lane.OPEN, "node", request, 30)
    assert budget.busy(Lane.OPEN) == Counter(quick=1)
    permit.free()


@in_virtual_time
async def test_a_silent_answer_holds_no_slot_and_one_that_brings_something_does() -> None:
    budget = Budget(FEW)
    received = 0
    permit = await budget.acquire(Lane.OPEN, "node")
    permit.watch(lambda: received)
    for _ in range(10):
        await asyncio.sleep(0.5)
        received += 1
        assert budget.busy(Lane.OPEN) == Counter(quick=1)
    await asyncio.sleep(2.1)
    assert nothing_left(budget)
    permit.free()
    assert nothing_left(budget)


@in_virtual_time
async def test_retry_after_holds_the_whole_lane_back_and_no_other() -> None:
    budget = Budget(LIMITS)
    permit = await budget.acquire(Lane.POD)
    permit.answered(429, 5)
    permit.free()
    began = now()
    (await budget.acquire(Lane.OPEN)).free()
    assert now() == began
    (await budget.acquire(Lane.POD)).free()
    assert 5 <= now() - began <= 6.001


@in_virtual_time
async def test_no_burst_follows_a_pause() -> None:
    budget = Budget({**LIMITS, Lane.OPEN: Limits(1000, 10, 100, wait_seconds=300)})
    permit = await budget.acquire(Lane.OPEN)
    permit.answered(503, 1)
    permit.free()
    took = sorted(await asyncio.gather(*(open_log(budget, f"n{n}", 0) for n in range(31))))
    assert took[-1] - took[0] == pytest.approx(3)


@in_virtual_time
async def test_without_retry_after_pauses_grow_and_shrink_and_are_bounded() -> None:
    budget = Budget(LIMITS)

    async def refused(status: int) -> float:
        began = now()
        permit = await budget.acquire(Lane.POD)
        permit.answered(status)
        permit.free()
        return now() - began

    waits = [await refused(429) for _ in range(10)][1:]
    assert 0.2 <= waits[0] <= 0.241
    assert waits[2] > 2 * waits[0]
    assert 10 <= max(waits) <= 12.001
    for _ in range(10):
        await refused(200)
    assert await refused(429) < 0.01
    assert await refused(200) <= 0.241


@in_virtual_time
async def test_what_was_under_way_when_a_pause_began_does_not_lengthen_it() -> None:
    budget = Budget(LIMITS)
    permits = [await budget.acquire(Lane.POD) for _ in range(20)]
    for permit in permits:
        permit.answered(429)
        permit.free()
    began = now()
    (await budget.acquire(Lane.POD)).free()
    assert now() - began <= 0.241


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "free", "cancel", "slow", "fast", "wait", "refuse"]),
        st.sampled_from(list(Lane)),
        st.sampled_from(["", "a", "b", "c"]),
        st.integers(0, 50),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_the_counts_balance_and_no_lane_waits_because_of_another(
    steps: list[tuple[str, Lane, str, int]],
) -> None:
    @in_virtual_time
    async def play() -> None:
        budget = Budget(FEW)
        tasks: list[asyncio.Task[None]] = []
        held: list[tuple[Lane, Permit]] = []
        paused: set[Lane] = set()

        async def send(lane: Lane, node: str, seconds: float) -> None:
            permit, _ = await budget.send(lane, node, after(seconds), 30)
            permit.answered(200)
            held.append((lane, permit))

        for what, lane, node, number in steps:
            match what:
                case "send":
                    tasks.append(asyncio.create_task(send(lane, node, number / 5)))
                case "free" if held:
                    held.pop(number % len(held))[1].free()
                case "cancel" if tasks:
                    tasks[number % len(tasks)].cancel()
                case "slow" if node:
                    budget.slow_nodes.mark(node)
                case "fast" if node:
                    budget.slow_nodes.clear(node)
                case "wait":
                    await asyncio.sleep(number / 10)
                case "refuse" if held:
                    of, permit = held[number % len(held)]
                    permit.answered(429)
                    paused.add(of)
            if number % 2:
                await idle()
            for each in Lane:
                busy = budget.busy(each)
                assert busy["quick"] <= 2
                assert busy["slow"] <= 2
                assert busy["quick"] + busy["slow"] >= sum(of is each for of, _ in held)
            await idle()
            for each in Lane:
                busy = budget.busy(each)
                # Who waits, waits for slots of this lane, or for this lane's pause.
                assert not busy["waiting"] or busy["quick"] == 2 or busy["slow"] == 2 or each in paused
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, permit in held:
            permit.free()
        assert nothing_left(budget)
        for lane in Lane:  # and all of it can be used again
            async with asyncio.timeout(20):
                for permit in [await budget.acquire(lane) for _ in range(2)]:
                    permit.free()

    play()
