"""One actor per target, in virtual time: its states, what a fault costs, and what is asked in vain."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from streamer.model import Gap, LogBatch, Position, PositionStatus, Target
from streamer.source.api import ApiError, LogAnswer, LogQuery
from streamer.source.fleet import Fleet
from streamer.source.pods import PodView, view
from tests.model.server import ModelServer, Weather
from tests.unit.flow.virtual_time import in_virtual_time

HOUR = 3600.0


class Api(ModelServer):
    """Counts what is asked, and answers for single pods as it is told to."""

    def __init__(self) -> None:
        super().__init__(Weather(), seed=1)
        self.asked: Counter[str] = Counter()
        self.about_pods: Callable[[str, str], dict[str, Any]] | None = None
        self.forbidden = False

    async def pod(self, namespace: str, name: str, **given: Any) -> dict[str, Any]:
        self.asked["pod"] += 1
        if self.about_pods is not None:
            return self.about_pods(namespace, name)
        return await super().pod(namespace, name, **given)

    async def log(self, namespace: str, pod: str, container: str, query: LogQuery, **given: Any) -> LogAnswer:
        self.asked["log"] += 1
        if self.forbidden:
            raise ApiError(403, '"pods/log" is forbidden')
        return await super().log(namespace, pod, container, query, **given)

    def found(self, name: str) -> PodView:
        found = view(self.cluster.object(self.cluster.pod("falco", name)), "falco")
        assert found is not None
        return found


@dataclass
class Owner:
    """A shard whose commits succeed at once; `refusals` of its batches fail with an internal error."""

    positions: dict[str, Position] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    lines: list[bytes] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    refusals: int = 0
    attached_at: list[float] = field(default_factory=list)

    async def attach(self, target: Target) -> Position | None:
        self.attached_at.append(asyncio.get_running_loop().time())
        return self.positions.get(target.id)

    async def put(self, batch: LogBatch) -> None:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("an internal error")
        before = self.positions.get(batch.target.id, Position())
        self.targets[batch.target.id] = batch.target
        self.positions[batch.target.id] = Position(
            batch.ring,
            before.lines + len(batch.lines),
            status=batch.status,
            instance=batch.instance or before.instance,
        )
        self.lines += [line.split(b" ", 1)[1] for line in batch.lines]
        if batch.gap is not None:
            self.gaps.append(batch.gap)

    def status(self, found: PodView) -> PositionStatus:
        return self.positions[found.target.id].status

    def stored(self) -> list[tuple[Target, Position]]:
        return [(self.targets[identity], position) for identity, position in self.positions.items()]


@dataclass
class Slow(Owner):
    """Whose `put` waits for ever, if told to, and takes its time to end when it is cancelled."""

    ends_after_seconds: float = 0

    async def put(self, batch: LogBatch) -> None:
        if seconds := self.ends_after_seconds:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(seconds)
        await super().put(batch)


@dataclass
class Blocked(Owner):
    """Takes batches while there is room."""

    room: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.room.set()

    async def put(self, batch: LogBatch) -> None:
        await self.room.wait()
        await super().put(batch)


@asynccontextmanager
async def fleet_of(api: Api, owner: Owner) -> AsyncIterator[Fleet]:
    async with Fleet(api, lambda _: owner, max_line_bytes=100_000, from_now=False) as fleet:
        yield fleet


def add(api: Api, name: str) -> PodView:
    pod = api.cluster.add_pod("falco", name)
    api.cluster.append(pod, b"1")
    api.publish()
    return api.found(name)


def delete(api: Api, name: str) -> None:
    api.cluster.remove_pod(api.cluster.pod("falco", name))
    api.publish()


async def followed(api: Api, owner: Owner, name: str) -> PodView:
    """A pod of which one line was read by a worker that is gone."""
    found = add(api, name)
    async with fleet_of(api, owner) as fleet:
        fleet.update(found)
        await asyncio.sleep(3)
    return found


class TestRelease:
    @in_virtual_time
    async def test_a_pod_that_is_deleted_without_its_label_leaves_no_gap_at_the_next_start(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            fleet.depart(found.target.id, found)  # the label is gone, the pod is there
            await asyncio.sleep(3)
            assert owner.status(found) is PositionStatus.RELEASED
            assert len(fleet) == 0
        delete(api, "falco-a")
        api.asked.clear()
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(3)
            assert len(fleet) == 0
        assert owner.status(found) is PositionStatus.DONE
        assert owner.gaps == []
        assert api.asked == {"pod": 1}  # whether it has only lost its label, which may come back

    @in_virtual_time
    async def test_a_label_that_returns_goes_on_from_the_position(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            fleet.depart(found.target.id, found)
            await asyncio.sleep(3)
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(3)
            assert len(fleet) == 0
            assert owner.status(found) is PositionStatus.RELEASED
            api.cluster.append(api.cluster.pod("falco", "falco-a"), b"2")
            fleet.update(found)
            await asyncio.sleep(3)
            assert owner.lines == [b"1", b"2"]
            assert owner.status(found) is PositionStatus.ATTACHED

    @in_virtual_time
    async def test_a_pod_that_was_followed_again_and_left_unseen_leaves_a_gap(self) -> None:
        """Also where it printed nothing since its label came back: it is not on record as released any more."""
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            fleet.depart(found.target.id, found)
            await asyncio.sleep(3)
            fleet.update(found)
            await asyncio.sleep(3)
        delete(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(30)
        assert [gap.certain for gap in owner.gaps] == [False]

    @in_virtual_time
    async def test_a_label_that_returns_and_a_pod_that_is_deleted_while_it_is_being_released_leave_a_gap(
        self,
    ) -> None:
        """What it printed in between is ours."""
        api, owner = Api(), Blocked()
        found = add(api, "falco-a")
        pod = api.cluster.pod("falco", "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            owner.room.clear()
            fleet.depart(found.target.id, found)
            await asyncio.sleep(1)
            fleet.update(found)
            api.cluster.append(pod, b"2")
            await asyncio.sleep(1)
            api.cluster.begin_deletion(pod)
            last = api.found("falco-a")
            delete(api, "falco-a")
            fleet.depart(found.target.id, last)
            owner.room.set()
            await asyncio.sleep(30)
        assert owner.lines == [b"1"]
        assert owner.status(found) is PositionStatus.DONE
        assert [gap.certain for gap in owner.gaps] == [False]

    @in_virtual_time
    async def test_what_lies_outside_the_namespaces_is_released_without_a_request(self) -> None:
        api, owner = Api(), Owner()
        found = await followed(api, owner, "falco-a")
        api.asked.clear()
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored(), ours=False)
            await asyncio.sleep(HOUR)
            assert len(fleet) == 0
        assert owner.status(found) is PositionStatus.RELEASED
        assert not api.asked

    @in_virtual_time
    async def test_a_pod_that_was_seen_to_be_deleted_is_not_asked_for(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        pod = api.cluster.pod("falco", "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            api.asked.clear()
            api.cluster.begin_deletion(pod)
            fleet.depart(found.target.id, api.found("falco-a"))
            await asyncio.sleep(3)
            assert api.asked["pod"] == 0
            assert len(fleet) == 1  # its stream is open, and is read on


def _answer(answer: dict[str, Any], namespace: str, name: str) -> dict[str, Any]:
    return answer


class TestFaults:
    @in_virtual_time
    async def test_an_internal_error_costs_one_target_a_pause_that_grows(self) -> None:
        api, owner, other = Api(), Owner(refusals=6), Owner()
        found, fine = add(api, "falco-a"), add(api, "falco-b")
        owners = {found.target.id: owner, fine.target.id: other}
        async with Fleet(
            api, lambda target: owners[target.id], max_line_bytes=100_000, from_now=False
        ) as fleet:
            fleet.update(found)
            fleet.update(fine)
            await asyncio.sleep(5)
            assert other.lines == [b"1"]
            await asyncio.sleep(120)
        assert owner.lines == [b"1"]
        tries = owner.attached_at
        assert len(tries) == 7
        assert tries[-1] - tries[0] > 3

    @in_virtual_time
    async def test_a_pause_counts_as_unread_from_its_beginning(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(HOUR)
            owner.refusals = 1
            api.cluster.append(api.cluster.pod("falco", "falco-a"), b"2")
            await asyncio.sleep(0.05)
            assert owner.refusals == 0
            (status,) = fleet.status(api.now_ns())
            assert 0 <= status.unread_seconds < 0.1
            await asyncio.sleep(5)
            (status,) = fleet.status(api.now_ns())
            assert status.unread_seconds == 0
        assert owner.lines == [b"1", b"2"]

    @in_virtual_time
    async def test_a_fault_in_what_the_watch_says_is_the_targets_and_not_the_watchs(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            fleet.update(cast(PodView, SimpleNamespace(target=found.target)))  # no view at all
            await asyncio.sleep(30)
            assert len(owner.attached_at) > 2
            fleet.update(found)
            api.cluster.append(api.cluster.pod("falco", "falco-a"), b"2")
            await asyncio.sleep(61)
        assert owner.lines == [b"1", b"2"]

    @in_virtual_time
    async def test_a_pod_that_is_none_ends_no_worker(self) -> None:
        api, owner = Api(), Owner()
        await followed(api, owner, "falco-a")
        api.asked.clear()
        async with fleet_of(api, owner) as fleet:
            answers: list[dict[str, Any]] = [{}, {"metadata": None}, {"metadata": {}}, {"metadata": []}]
            for answer in answers:
                api.about_pods = partial(_answer, answer)
                fleet.adopt(owner.stored())
                await asyncio.sleep(600)
            assert len(answers) * 10 < api.asked["pod"] < len(answers) * 50
            api.about_pods = None
            fleet.wake("")
            await asyncio.sleep(1)
            assert len(fleet) == 0  # it is there: it was released
        assert owner.gaps == []

    @in_virtual_time
    async def test_a_target_begins_again_only_once_its_former_actor_has_ended(self) -> None:
        api, owner = Api(), Slow()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            owner.ends_after_seconds = 7
            api.cluster.append(api.cluster.pod("falco", "falco-a"), b"2")
            await asyncio.sleep(3)
            fleet.restart(owner)
            owner.ends_after_seconds = 0
            await asyncio.sleep(30)
        first, second = owner.attached_at
        assert second - first == 3 + 3 + 7
        assert owner.lines == [b"1", b"2"]

    @in_virtual_time
    async def test_nothing_starts_once_the_fleet_is_left(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
        fleet.restart(owner)
        fleet.release(owner)
        fleet.adopt([(found.target, Position())])
        fleet.update(found)
        fleet.depart(found.target.id, None)
        fleet.wake("")
        await asyncio.sleep(3)
        assert len(fleet) == 0

    @in_virtual_time
    async def test_a_restart_while_the_fleet_is_being_left_starts_nothing(self) -> None:
        api, owner = Api(), Owner()
        found = add(api, "falco-a")
        async with fleet_of(api, owner) as fleet:
            fleet.update(found)
            await asyncio.sleep(3)
            leaving = asyncio.create_task(fleet.__aexit__(None, None, None))
            await asyncio.sleep(0)
            fleet.restart(owner)
            await leaving
            assert len(owner.attached_at) == 1


class TestForbidden:
    @in_virtual_time
    async def test_stored_targets_of_a_forbidden_namespace_share_one_request(self) -> None:
        api, owner = Api(), Owner()

        def refuse(namespace: str, name: str) -> dict[str, Any]:
            raise ApiError(403, f'pods "{name}" is forbidden', kind="pods")

        for number in range(100):
            target = Target("secret", f"falco-{number}", f"uid-{number}", "falco", "node-1")
            await owner.put(LogBatch(target, [], []))
        api.about_pods = refuse
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(HOUR)
            assert api.asked["log"] == 0
            assert 10 <= api.asked["pod"] <= 60

            def gone(namespace: str, name: str) -> dict[str, Any]:
                raise ApiError(404, f'pods "{name}" not found', kind="pods")

            before, api.about_pods = api.asked["pod"], gone
            fleet.wake("other")
            await asyncio.sleep(0.1)
            assert api.asked["pod"] == before
            fleet.wake("secret")
            await asyncio.sleep(30)
            assert len(fleet) == 0
        assert len(owner.gaps) == 100

    @in_virtual_time
    async def test_targets_whose_logs_are_forbidden_share_one_request(self) -> None:
        """With a request per target every 30 s, 5,000 of them would make 170 requests a second."""
        api, owner = Api(), Owner()
        founds = [add(api, f"falco-{number}") for number in range(100)]
        api.forbidden = True
        async with fleet_of(api, owner) as fleet:
            for found in founds:
                fleet.update(found)
            await asyncio.sleep(60)
            api.asked.clear()
            await asyncio.sleep(HOUR)
            assert 60 <= api.asked["log"] <= 480
            api.forbidden = False
            await asyncio.sleep(61)
        assert len(owner.lines) == 100

    @in_virtual_time
    async def test_one_that_the_watch_shows_again_waits_no_longer(self) -> None:
        api, owner = Api(), Owner()
        found = await followed(api, owner, "falco-a")

        def refuse(namespace: str, name: str) -> dict[str, Any]:
            raise ApiError(403, "forbidden", kind="pods")

        api.about_pods = refuse
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(HOUR)
            api.about_pods = None
            api.cluster.append(api.cluster.pod("falco", "falco-a"), b"2")
            fleet.update(found)
            await asyncio.sleep(1)
            assert owner.lines == [b"1", b"2"]

    @in_virtual_time
    async def test_whoever_gets_an_answer_wakes_the_others(self) -> None:
        api, owner = Api(), Owner()
        founds = [await followed(api, owner, f"falco-{number}") for number in range(5)]

        def refuse(namespace: str, name: str) -> dict[str, Any]:
            raise ApiError(403, "forbidden", kind="pods")

        api.about_pods = refuse
        async with fleet_of(api, owner) as fleet:
            fleet.adopt(owner.stored())
            await asyncio.sleep(HOUR)
            api.about_pods = None
            await asyncio.sleep(301)
            assert {owner.status(found) for found in founds} == {PositionStatus.RELEASED}
            assert len(fleet) == 0
