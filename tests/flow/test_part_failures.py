"""A fault in the core outside a line costs the window, record, target or shard that it is about, and no line."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streamer.model import PositionStatus
from streamer.shard.shard import CommitPolicy, Shard
from streamer.telemetry import facts
from streamer.telemetry.status import StreamState, TargetStatus
from streamer.transform import process, writer
from streamer.transform.context import Context
from streamer.transform.encode import TargetEncoder
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.limit import Rate
from streamer.transform.limiter import Limiter
from streamer.transform.summary import Part
from streamer.transform.treatment import DedupePlan, LimitPlan
from streamer.transform.windows import Windows
from streamer.transform.writer import Writer
from tests.flow.planting import SECRET, PlantedError, plant, said
from tests.flow.publishers import MemoryKafka
from tests.flow.test_shard import (
    GENEROUS,
    LETTERS,
    NOTICE,
    SUMMARIES,
    PodLog,
    alerts,
    check_commits,
    check_published,
    owning,
    pod_log,
    until,
)
from tests.schemas import check_records
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import FALCO, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert, shell

HEALTH = "falco.health"
HOUR_NS = 3600 * SECOND_NS
DEDUPED = replace(
    GENEROUS,
    dedupe=DedupePlan(
        fingerprint=FingerprintPlan({"syscall": KeyFields(("proc.name",))}, volatile=("evt.*",))
    ),
)


def repeats(count: int, *names: str, first: int = 0) -> list[bytes]:
    """So many equal alerts of each process."""
    return [
        shell(START_NS + n * SECOND_NS, "ls", **{"proc.name": name})
        for n in range(first, first + count)
        for name in names
    ]


def stand_ins(kafka: MemoryKafka) -> list[dict[str, Any]]:
    """The records in place of those that could not be made."""
    check_records(kafka.records)
    found = [orjson.loads(value) for value in kafka.values(HEALTH)]
    return [one for one in found if one["health"] == "internal_error"]


def is_bad_part(part: Part, *_: Any, **__: Any) -> bool:
    return bool(part.sample.fields["proc.name"] == "bad")


def counts(kafka: MemoryKafka) -> Counter[str]:
    """How many alerts the summaries count, by process."""
    found = Counter[str]()
    for value in map(orjson.loads, kafka.values(SUMMARIES)):
        found[value["output_fields"]["proc.name"]] += value["summary"]["count"]
    return found


class TestAWindow:
    @pytest.mark.parametrize("by", ["our clock", "its clock"])
    @in_virtual_time
    async def test_whose_summary_fails_costs_itself_and_is_accounted_for(
        self, monkeypatch: pytest.MonkeyPatch, by: str
    ) -> None:
        plant(monkeypatch, writer, "summary_values", is_bad_part)
        bodies = repeats(5, "good", "bad")
        log = pod_log(FALCO, *bodies)
        if by == "its clock":
            log = PodLog(FALCO, [*log.lines, (START_NS + HOUR_NS, alert(START_NS + HOUR_NS, n=99))])
        kafka = MemoryKafka()
        with capture_logs() as logs:
            async with owning(kafka, log, plan=DEDUPED, batch_lines=50):
                await until(lambda: len(kafka.values(HEALTH)) == 1, seconds=100)
                await asyncio.sleep(3600)
        assert counts(kafka) == {"good": 4}
        [found] = stand_ins(kafka)
        assert (found["part"], found["count"], found["target"]["pod"]) == ("summary", 4, FALCO.pod)
        assert found["sample"].encode() == bodies[3]
        assert sum(variant["count"] for variant in found["variants"]) == 4
        ledger = check_commits(kafka)
        assert ledger.deduplicated == ledger.summarised == 8
        assert (ledger.summaries, ledger.health_records, ledger.invalid) == (1, 1, 0)
        [message] = said(logs, "part_failed")
        assert message["error"] == "tests.flow.planting.PlantedError"
        assert "summary_values" in str(message["frames"]) or "planted" in message["frames"][-1]
        assert kafka.opened == 2

    @in_virtual_time
    async def test_is_reported_without_text_where_its_text_fails_as_well(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, writer, "summary_values", is_bad_part)
        plant(monkeypatch, TargetEncoder, "internal_error", lambda _, __, found, *___: found["sample"] != "")
        kafka = MemoryKafka()
        async with owning(kafka, pod_log(FALCO, *repeats(5, "good", "bad")), plan=DEDUPED, batch_lines=50):
            await until(lambda: len(kafka.values(HEALTH)) == 1, seconds=100)
        [found] = stand_ins(kafka)
        assert (found["count"], found["sample"]) == (4, "")
        assert check_commits(kafka).summarised == 8

    @in_virtual_time
    async def test_is_not_tried_any_more_where_many_have_failed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, writer, "summary_values", lambda *_, **__: True)
        names = [f"p{n}" for n in range(100)]
        kafka = MemoryKafka()
        log = PodLog(FALCO, [(START_NS, body) for body in repeats(2, *names)])
        async with owning(kafka, log, plan=DEDUPED, batch_lines=500):
            await until(lambda: len(kafka.values(HEALTH)) == 100, seconds=100)
        assert kafka.opened <= 10
        assert sum(one["count"] for one in stand_ins(kafka)) == 100
        assert check_commits(kafka).summarised == 100

    @pytest.mark.parametrize("reason", ["evicted", "memory", "variants"])
    @in_virtual_time
    async def test_that_is_reported_early_costs_itself(
        self, monkeypatch: pytest.MonkeyPatch, reason: str
    ) -> None:
        plant(monkeypatch, writer, "summary_values", lambda part, *_, **__: part.reason == reason)
        dedupe, bodies = DEDUPED.dedupe, repeats(2, *[f"p{n}" for n in range(6)])
        match reason:
            case "evicted":
                dedupe = replace(dedupe, max_windows=4)
                bodies = [body for n in range(6) for body in repeats(2, f"p{n}")]
            case "memory":
                dedupe = replace(dedupe, max_evidence_bytes=1000)
            case "variants":
                bodies = [shell(START_NS, f"ls {n}") for n in range(600)]
        kafka = MemoryKafka()
        log = PodLog(FALCO, [(START_NS, body) for body in bodies])
        async with owning(kafka, log, plan=replace(DEDUPED, dedupe=dedupe), batch_lines=1000) as owner:
            assert await owner.drain()
        assert stand_ins(kafka)
        ledger = check_commits(kafka)
        assert ledger.lines == len(bodies)
        assert ledger.invalid == 0
        assert sum(one["count"] for one in stand_ins(kafka)) + counts(kafka).total() == ledger.summarised

    @in_virtual_time
    async def test_fault_in_all_windows_of_a_target_costs_those_and_no_other_targets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, Windows, "next_ended", lambda windows, _: windows._name == FALCO.id)
        ends = [alert(START_NS + n * HOUR_NS, n=n) for n in range(1, 4)]
        lines = [(START_NS, body) for body in repeats(5, "a", "b")]
        lines += [(START_NS + n * HOUR_NS, body) for n, body in enumerate(ends, 1)]
        kafka = MemoryKafka()
        logs = PodLog(FALCO, lines), PodLog(OTHER, lines)
        async with owning(kafka, *logs, plan=DEDUPED, batch_lines=10, pause_seconds=1.0) as owner:
            assert await owner.drain()
        assert counts(kafka) == {"a": 4, "b": 4}
        assert [(one["target"]["pod"], one["count"]) for one in stand_ins(kafka)] == [(FALCO.pod, 4)] * 2
        ledger = check_commits(kafka)
        assert (ledger.lines, ledger.invalid) == (26, 0)
        published = Counter(record.key for record in kafka.records if record.topic == NOTICE)
        assert published[OTHER.pod_name.encode()] == published[FALCO.pod_name.encode()] == 5


class TestARecord:
    @in_virtual_time
    async def test_of_a_storm_that_fails_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plant(monkeypatch, TargetEncoder, "storm", lambda *_, **__: True)
        limits = LimitPlan(rate=Rate(per_minute=1, burst=1))
        log = pod_log(FALCO, *alerts(30))
        kafka = MemoryKafka()
        plan = replace(GENEROUS, limits=limits)
        async with owning(kafka, log, plan=plan, batch_lines=50):
            await until(lambda: len(kafka.values(HEALTH)) == 2, seconds=300)
        assert [one["part"] for one in stand_ins(kafka)] == ["storm", "storm"]
        ledger = check_commits(kafka)
        assert (ledger.lines, ledger.invalid, ledger.limited + ledger.published) == (30, 0, 30)
        assert stand_ins(kafka)[1]["count"] == ledger.limited

    @in_virtual_time
    async def test_of_dead_letters_kept_back_that_fails_is_replaced_and_has_their_number(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, TargetEncoder, "dead_letters_held", lambda *_: True)
        strict = replace(PLAN, dead_letters=Rate(per_minute=0.001, burst=3))
        kafka = MemoryKafka()
        async with owning(kafka, pod_log(FALCO, *[b'{"broken'] * 10), plan=strict, batch_lines=10):
            await until(lambda: len(kafka.values(HEALTH)) == 1, seconds=100)
            await asyncio.sleep(300)
        [found] = stand_ins(kafka)
        assert (found["part"], found["count"]) == ("dead_letters_limited", 7)

    @in_virtual_time
    async def test_of_coverage_that_fails_costs_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plant(monkeypatch, TargetEncoder, "coverage", lambda _, report, *__: report.target == FALCO)
        status = TargetStatus(
            FALCO, StreamState.FOLLOWING, running=True, unread_seconds=0, behind_seconds=0, quiet_seconds=0
        )
        kafka = MemoryKafka()
        async with owning(kafka, coverage_seconds=300) as owner:
            owner.shard.statuses = lambda: [status, replace(status, target=OTHER)]
            await until(lambda: len(kafka.records) == 2)
        assert [one["part"] for one in stand_ins(kafka)] == ["coverage"]
        assert {orjson.loads(record.value)["health"] for record in kafka.records} == {
            "coverage",
            "internal_error",
        }


class TestATarget:
    @in_virtual_time
    async def test_that_cannot_be_forgotten_is_kept_and_tried_again_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = True
        plant(monkeypatch, Context, "forget", lambda _, target: bad and target == FALCO)
        kafka = MemoryKafka()
        async with owning(kafka) as owner:
            for target in (FALCO, OTHER):
                batch = Feed(target).batch(*pod_log(target, *alerts(3)).lines)
                await owner.shard.put(replace(batch, status=PositionStatus.DONE))
            await until(lambda: f"position/{OTHER.id}" not in kafka.shard().state, seconds=700)
            await asyncio.sleep(2)
            opened = kafka.opened
            await asyncio.sleep(300)
            assert f"position/{FALCO.id}" in kafka.shard().state
            assert kafka.opened == opened
            bad = False
            await until(lambda: f"position/{FALCO.id}" not in kafka.shard().state, seconds=700)
        check_commits(kafka)


class TestTheClock:
    @in_virtual_time
    async def test_costs_no_line_where_it_fails_and_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = True
        plant(monkeypatch, Limiter, "calm", lambda *_: bad)
        kafka = MemoryKafka()
        log = pod_log(FALCO, *repeats(60, "a"))
        with capture_logs() as logs:
            async with owning(kafka, log, plan=DEDUPED, batch_lines=1, pause_seconds=1.0) as owner:
                await until(lambda: check_lines(kafka) == 60, seconds=100)
                assert owner.realigned == 0
                assert owner.shard.faults.keys() == {"summaries"}
                bad = False
                await until(lambda: not owner.shard.faults, seconds=100)
                await until(lambda: len(kafka.values(SUMMARIES)) == 1, seconds=100)
        assert counts(kafka) == {"a": 59}
        assert check_commits(kafka).summarised == 59
        assert 3 < len(said(logs, "work_failed")) < 20


def check_lines(kafka: MemoryKafka) -> int:
    return check_commits(kafka).lines if kafka.shard().commits else 0


class TestAReload:
    OTHER_PLAN = replace(DEDUPED, dedupe=replace(DEDUPED.dedupe, enabled=False))

    @pytest.mark.parametrize("place", ["redefine", "replan"])
    @in_virtual_time
    async def test_that_fails_leaves_the_shard_under_the_plan_before(
        self, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        plan = self.OTHER_PLAN
        if place == "redefine":
            plant(monkeypatch, Context, "__init__", lambda _, given, *__: given is plan)
        else:
            plant(monkeypatch, process.Processor, "replan", lambda _, given: given is plan)
        kafka, feed = MemoryKafka(), Feed()
        with capture_logs() as logs:
            async with owning(kafka, plan=DEDUPED) as owner:
                await owner.shard.put(feed.batch((START_NS, repeats(1, "a")[0])))
                await until(lambda: check_lines(kafka) == 1)
                owner.shard.replan(plan)
                await until(lambda: bool(owner.shard.faults))
                await owner.shard.put(feed.batch((START_NS + 1, repeats(1, "a")[0])))
                await until(lambda: check_lines(kafka) == 2)
                assert owner.shard.faults.keys() == {"the new configuration"}
                owner.shard.replan(replace(plan, annotate=True))
                await until(lambda: not owner.shard.faults)
                assert await owner.drain()
        ledger = check_commits(kafka)
        assert (ledger.published, ledger.deduplicated) == (1, 1)
        assert len(said(logs, "replan_failed")) == 1

    @in_virtual_time
    async def test_at_whose_window_the_core_fails_reports_what_it_has_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, process, "parse", lambda body, *_: b'"bad"' in body)
        kafka = MemoryKafka()
        log = pod_log(FALCO, *repeats(5, "good", "bad"))
        async with owning(kafka, log, plan=DEDUPED, batch_lines=50) as owner:
            await until(lambda: check_lines(kafka) == 10)
            owner.shard.replan(self.OTHER_PLAN)
            await until(lambda: check_commits(kafka).summarised == 8, seconds=5)
            assert not owner.shard.faults
        assert counts(kafka) == {"good": 4}
        assert [one["count"] for one in stand_ins(kafka)] == [4]


class TestAShard:
    @in_virtual_time
    async def test_in_which_nothing_can_be_left_out_waits_and_begins_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other shard never notices; nothing is lost or doubled in either."""
        bad = True
        plant(monkeypatch, process, "drain", lambda state, _: bad and FALCO.id in state.tracked)
        kafka = MemoryKafka()
        logs = pod_log(FALCO, *alerts(20)), pod_log(OTHER, *alerts(20, 100))
        sound = Shard(1, GENEROUS, kafka.publisher(1), CommitPolicy())
        with capture_logs() as messages:
            async with owning(kafka, logs[0]) as owner, asyncio.TaskGroup() as tasks:
                tasks.create_task(sound.run())
                await sound.attach(OTHER)
                await sound.put(Feed(OTHER).batch(*logs[1].lines))
                sound.drain()
                await asyncio.sleep(300)
                assert kafka.shard(1).commits
                assert not kafka.shard().commits
                assert not owner.shard.loaded
                assert owner.shard.condition == "failed"
                assert "everything" in owner.shard.faults
                assert 5 < kafka.opened < 60
                bad = False
                await until(lambda: owner.shard.loaded, seconds=100)
                await until(lambda: check_lines(kafka) == 20)
                assert not owner.shard.faults
                assert await owner.drain()
        check_published(kafka, *logs)
        assert said(messages, "shard_failed")

    @in_virtual_time
    async def test_ends_at_once_when_drained_while_it_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plant(monkeypatch, process, "drain", lambda *_: True)
        kafka = MemoryKafka()
        async with owning(kafka, pod_log(FALCO, *alerts(5))) as owner:
            await until(lambda: owner.shard.condition == "failed")
            await asyncio.sleep(500)
            began = asyncio.get_running_loop().time()
            assert owner.running is not None
            owner.shard.drain()
            await owner.running
            assert asyncio.get_running_loop().time() - began < 0.1
        assert not kafka.records

    @in_virtual_time
    async def test_whose_state_cannot_be_loaded_for_a_fault_of_ours_tries_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(9))
        async with owning(kafka, PodLog(FALCO, log.lines[:5])) as owner:
            await owner.drain()
        bad = True
        plant(monkeypatch, Windows, "restore", lambda *_: bad)
        async with owning(kafka, log) as owner:
            await until(lambda: owner.shard.condition == "failed")
            await asyncio.sleep(100)
            bad = False
            await owner.drain()
        check_published(kafka, log)

    @pytest.mark.parametrize("committed", [False, True])
    @in_virtual_time
    async def test_whose_publisher_fails_in_an_unforeseen_way_begins_again(
        self, monkeypatch: pytest.MonkeyPatch, committed: bool
    ) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(9))
        async with owning(kafka, log, pause_seconds=1.0) as owner:
            publish, tries = owner.publisher.publish, 0

            async def failing(*arguments: Any, **named: Any) -> None:
                nonlocal tries
                tries += 1
                if tries != 2:
                    await publish(*arguments, **named)
                    return
                if committed:
                    await publish(*arguments, **named)
                raise PlantedError(SECRET)

            monkeypatch.setattr(owner.publisher, "publish", failing)
            await until(lambda: check_lines(kafka) == 9, seconds=100)
            await owner.drain()
            assert tries > 2
            assert owner.realigned == 1
        check_published(kafka, log)

    @pytest.mark.parametrize("owner_of", [facts, "on_commit"])
    @in_virtual_time
    async def test_whose_commit_cannot_be_counted_has_committed(
        self, monkeypatch: pytest.MonkeyPatch, owner_of: Any
    ) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(9))
        with capture_logs() as logs:
            async with owning(kafka, log) as owner:
                if owner_of is facts:
                    plant(monkeypatch, facts, "committed", lambda *_: True)
                else:
                    plant(monkeypatch, owner.shard, "_on_commit", lambda *_: True)
                await owner.drain()
                assert owner.realigned == 0
        assert said(logs, "commit_not_counted")
        check_published(kafka, log)

    @in_virtual_time
    async def test_in_which_a_line_and_its_dead_letter_fail_commits_nothing_of_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, TargetEncoder, "alert", lambda _, given, *__: b'"n":7' in given.body)
        plant(monkeypatch, TargetEncoder, "dead_letter", lambda *_: True)
        kafka = MemoryKafka()
        async with owning(kafka, pod_log(FALCO, *alerts(9)), batch_lines=20) as owner:
            await until(lambda: owner.shard.condition == "failed")
            await asyncio.sleep(100)
        assert not kafka.records

    @in_virtual_time
    async def test_fault_that_is_no_lines_is_not_put_down_to_lines(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, Writer, "end_windows", lambda *_: True)
        lines = [(START_NS + n * HOUR_NS, body) for n, body in enumerate(repeats(4, "a"))]
        kafka = MemoryKafka()
        async with owning(kafka, PodLog(FALCO, lines), plan=DEDUPED, batch_lines=25) as owner:
            await until(lambda: owner.shard.condition == "failed")
        assert not kafka.values(LETTERS)
