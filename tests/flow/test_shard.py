"""A shard against a publisher in memory that fails as it is told: nothing lost, nothing doubled, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer.model import DigestRing, Ledger, PositionStatus, Publication, Reason, Target
from streamer.shard.shard import CommitPolicy, Shard
from streamer.telemetry import metrics
from streamer.telemetry.status import StreamState, TargetStatus
from streamer.transform.filter import Filter, FilterAction, Filters
from streamer.transform.fingerprint import FingerprintPlan
from streamer.transform.limit import Rate
from streamer.transform.matcher import Matcher
from streamer.transform.plan import Plan
from streamer.transform.route import Route, Router
from streamer.transform.treatment import DedupePlan
from tests.flow.publishers import Fault, MemoryKafka, MemoryPublisher
from tests.unit.flow.virtual_time import in_virtual_time
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert

GENEROUS = replace(PLAN, dead_letters=Rate(per_minute=600_000, burst=100_000))
"""A plan that keeps no dead letter back."""

NOTICE, WARNING, LETTERS = "falco.alerts.notice", "falco.alerts.warning", "falco.dead-letter"
SUMMARIES = "falco.summaries"


@dataclass(frozen=True)
class PodLog:
    """All that one target prints, with its times."""

    target: Target
    lines: Sequence[tuple[int, bytes]]


def pod_log(target: Target, *bodies: bytes) -> PodLog:
    return PodLog(target, [(START_NS + n * SECOND_NS, body) for n, body in enumerate(bodies)])


def alerts(count: int, first: int = 0) -> list[bytes]:
    return [alert(START_NS + n * SECOND_NS, n=n) for n in range(first, first + count)]


class Owner:
    """A worker, as far as one shard of it goes: its task, and the followers of some logs.

    A follower goes on at the position that the shard tells it, and begins again where the shard says so.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        *logs: PodLog,
        plan: Plan = GENEROUS,
        commit: CommitPolicy | None = None,
        batch_lines: int = 3,
        pause_seconds: float = 0.0,
        coverage_seconds: float | None = None,
    ) -> None:
        self.publisher: MemoryPublisher = kafka.publisher()
        self.commits: list[tuple[float, Publication]] = []
        self.realigned = 0
        self.shard = Shard(
            0,
            plan,
            self.publisher,
            commit or CommitPolicy(),
            coverage_seconds=coverage_seconds,
            on_commit=lambda made: self.commits.append((asyncio.get_running_loop().time(), made)),
            wall_ns=lambda: NOW_NS + int(asyncio.get_running_loop().time() * SECOND_NS),
        )
        self.shard.on_realign = self._realign
        self._logs = logs
        self._batch_lines = batch_lines
        self._pause_seconds = pause_seconds
        self._followers: list[asyncio.Task[None]] = []
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.shard.run())
        self._follow()

    async def crash(self) -> None:
        """End as a process does that is killed."""
        assert self.running is not None
        tasks = [self.running, *self._followers]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def drain(self) -> bool:
        """Read the logs to their end, end in order; False if another owner's commit left a part to the next start."""
        assert self.running is not None
        while not all(task.done() for task in self._followers):
            await asyncio.wait(self._followers)
        self.shard.drain()
        realigned = self.realigned
        await self.running
        return self.realigned == realigned

    def _follow(self) -> None:
        self._followers = [asyncio.create_task(self._read(log)) for log in self._logs]

    def _realign(self, shard: Shard) -> None:
        assert shard is self.shard
        self.realigned += 1
        for task in self._followers:
            task.cancel()
        self._follow()

    async def _read(self, log: PodLog) -> None:
        position = await self.shard.attach(log.target)
        feed = Feed(log.target)
        feed.ring = DigestRing() if position is None else position.ring
        at = 0 if position is None else position.lines
        while at < len(log.lines):
            await self.shard.put(feed.batch(*log.lines[at : at + self._batch_lines]))
            at += self._batch_lines
            await asyncio.sleep(self._pause_seconds)


@asynccontextmanager
async def owning(kafka: MemoryKafka, *logs: PodLog, **how: Any) -> AsyncIterator[Owner]:
    owner = Owner(kafka, *logs, **how)
    owner.start()
    try:
        yield owner
    finally:
        await owner.crash()


async def until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait for a condition, in virtual time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # virtual time costs nothing
            await asyncio.sleep(0.01)


def check_commits(kafka: MemoryKafka, shard: int = 0) -> Ledger:
    """Each commit is balanced and has the next sequence number; the stored ledger is the last one's."""
    commits = kafka.shard(shard).commits
    for number, commit in enumerate(commits, 1):
        stored = orjson.loads(dict(commit.changes)["ledger"] or b"")
        assert stored["sequence"] == number
        assert commit.ledger.balanced
        assert commit.ledger.as_dict().items() - {("balanced", True)} <= stored.items()
    return commits[-1].ledger


def check_published(kafka: MemoryKafka, *logs: PodLog) -> None:
    """The alerts of the logs are in the topics once, those of each log in its order; nothing else is."""
    for log in logs:
        key = log.target.pod_name.encode()
        for topic in (NOTICE, WARNING):
            found = [record.value for record in kafka.records if (record.key, record.topic) == (key, topic)]
            label = topic.rpartition(".")[2].capitalize()
            assert found == [body for _, body in log.lines if orjson.loads(body)["priority"] == label]
    assert len(kafka.records) == sum(len(log.lines) for log in logs)
    written = [index for index, shard in kafka.shards.items() if shard.commits]
    ledger = reduce(Ledger.__add__, (check_commits(kafka, index) for index in written), Ledger())
    assert ledger.lines == ledger.published == len(kafka.records)


class TestCommits:
    @in_virtual_time
    async def test_what_comes_within_the_interval_is_one_transaction(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        clock = asyncio.get_running_loop().time
        policy = CommitPolicy(interval_seconds=0.05, quiet_interval_seconds=0)
        async with owning(kafka, commit=policy) as owner:
            await owner.shard.attach(FALCO)
            begun = clock()
            for n in range(3):  # at 0, 20 and 40 ms
                await owner.shard.put(feed.batch((START_NS + n, alert(START_NS + n))))
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.14)
            await owner.shard.put(feed.batch((START_NS + 9, alert(START_NS + 9))))
            await until(lambda: len(owner.commits) == 2)
        assert [commit.lines for _, commit in owner.commits] == [3, 1]
        assert [at - begun for at, _ in owner.commits] == pytest.approx([0.05, 0.25], abs=0.001)

    @in_virtual_time
    async def test_few_lines_wait_for_others_but_not_after_a_silence(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        clock = asyncio.get_running_loop().time
        policy = CommitPolicy(interval_seconds=0.05, quiet_interval_seconds=1.0)
        async with owning(kafka, commit=policy) as owner:
            await owner.shard.attach(FALCO)
            await asyncio.sleep(10)
            begun = clock()
            for n in range(100):
                await owner.shard.put(feed.batch((START_NS + n, alert(START_NS + n))))
                await asyncio.sleep(0.2 if n < 7 else 0.01)
            await until(lambda: sum(commit.lines for _, commit in owner.commits) == 100)
        times = [at - begun for at, _ in owner.commits]
        lines = [commit.lines for _, commit in owner.commits]
        assert [times[0], lines[0]] == pytest.approx([0.05, 1], abs=0.001)  # the first of all
        # Those of the following second: all shards have their turn at whole seconds, and it is the loop's 1010th.
        assert [times[1], lines[1]] == pytest.approx([1.0, 4], abs=0.001)
        # Eight are worth a transaction before the second is over; then they come in a stream.
        assert times[2] < 1.6
        assert min(lines[2:-1]) >= 5
        assert all(later - sooner < 0.1 for sooner, later in pairwise(times[2:-1]))

    @in_virtual_time
    async def test_shards_with_few_lines_have_their_turns_together(self) -> None:
        policy = CommitPolicy(interval_seconds=0.05, quiet_interval_seconds=0.25)
        now = asyncio.get_running_loop().time()
        for taken_at in (now + n / 1000 for n in range(1000)):
            turn = policy.quiet_until(taken_at)
            assert turn % 0.25 == 0
            assert 0.0625 <= turn - taken_at <= 0.3125
        assert policy.quiet_until(now + 0.1) == policy.quiet_until(now + 0.15)
        assert CommitPolicy(quiet_interval_seconds=0).quiet_until(now) == now

    @in_virtual_time
    async def test_a_full_inbox_is_committed_before_the_interval_is_over(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(12))
        small = CommitPolicy(interval_seconds=60, max_bytes=2000)
        begun = asyncio.get_running_loop().time()
        async with owning(kafka, log, commit=small, batch_lines=1) as owner:
            await until(lambda: sum(commit.lines for _, commit in owner.commits) >= 8, seconds=50)
        assert owner.commits[0][0] - begun < 1
        sizes = [sum(len(one.value) for one in commit.records) for _, commit in owner.commits]
        assert all(size <= 2000 for size in sizes)

    @in_virtual_time
    async def test_a_transaction_has_no_more_lines_than_the_cap(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(40))
        async with owning(kafka, log, commit=CommitPolicy(max_lines=9), batch_lines=4) as owner:
            await owner.drain()
        assert [commit.lines for _, commit in owner.commits] == [8] * 5
        check_published(kafka, log)

    @in_virtual_time
    async def test_nothing_to_commit_is_no_transaction(self) -> None:
        kafka = MemoryKafka()
        async with owning(kafka) as owner:
            await asyncio.sleep(3600)
            assert kafka.attempts == 0
            await owner.drain()
        assert kafka.attempts == 0

    @in_virtual_time
    async def test_a_position_that_moves_without_lines_is_committed(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        async with owning(kafka) as owner:
            assert await owner.shard.attach(FALCO) is None
            await owner.shard.put(feed.batch())
            await until(lambda: len(owner.commits) == 1)
            position = await owner.shard.attach(FALCO)
        assert position is not None
        assert position.lines == 0
        assert f"position/{FALCO.id}" in kafka.shard().state

    @in_virtual_time
    async def test_a_target_read_to_its_end_is_forgotten_ten_minutes_later_and_no_other(self) -> None:
        kafka = MemoryKafka()
        positions = [f"position/{target.id}" for target in (FALCO, OTHER)]
        async with owning(kafka) as owner:
            await owner.shard.put(
                replace(Feed(FALCO).batch(*pod_log(FALCO, *alerts(3)).lines), status=PositionStatus.DONE)
            )
            await owner.shard.put(Feed(OTHER).batch(*pod_log(OTHER, *alerts(3)).lines))
            await until(lambda: len(owner.commits) == 1)
            await asyncio.sleep(590)  # virtual time
            assert kafka.shard().state.keys() >= set(positions)
            await asyncio.sleep(20)
            assert await owner.shard.attach(FALCO) is None
            assert await owner.shard.attach(OTHER) is not None
            assert [position in kafka.shard().state for position in positions] == [False, True]
        assert not [key for key in kafka.shard().state if FALCO.id in key]
        assert len(kafka.records) == 6

    @in_virtual_time
    async def test_what_a_limit_keeps_back_is_told_within_a_minute(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *[b'{"broken'] * 10)
        strict = replace(PLAN, dead_letters=Rate(per_minute=0.001, burst=3))
        async with owning(kafka, log, plan=strict, batch_lines=10):
            await until(lambda: len(kafka.records) > 3, seconds=61)
        (record,) = kafka.values("falco.health")
        assert orjson.loads(record)["count"] == 7
        assert len(kafka.values(LETTERS)) == 3
        ledger = check_commits(kafka)
        assert (ledger.dead_lettered, ledger.dead_letter_limited, ledger.health_records) == (3, 7, 1)

    @in_virtual_time
    async def test_the_health_record_of_a_limit_survives_a_failed_transaction(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *[b'{"broken'] * 10)
        strict = replace(PLAN, dead_letters=Rate(per_minute=0.001, burst=3))
        async with owning(kafka, log, plan=strict, batch_lines=10) as owner:
            await until(lambda: len(owner.commits) == 1)
            kafka.faults += [Fault.BEFORE_COMMIT, Fault.ANSWER_LOST]
            await asyncio.sleep(200)
        (record,) = kafka.values("falco.health")
        assert orjson.loads(record)["count"] == 7
        assert check_commits(kafka).health_records == 1


class TestFilters:
    @in_virtual_time
    async def test_a_drop_counts_once_however_often_its_transaction_is_tried(self) -> None:
        kafka = MemoryKafka()
        kafka.faults += [Fault.BEFORE_COMMIT, Fault.ANSWER_LOST, Fault.BEFORE_COMMIT, Fault.EXPIRED]
        log = pod_log(FALCO, *alerts(9), *[alert(rule="wanted", n=n) for n in range(9)])
        misspelt = Filter("misspelt", FilterAction.DROP, (Matcher.parse('prco.name != "x"'),))
        named = Filter("shells", FilterAction.DROP, (Matcher.parse('rule =~ "Terminal.*"'),))
        plan = replace(GENEROUS, filters=Filters([misspelt, named]))
        metrics.FILTERED.keep(())
        metrics.FILTERED.keep(("misspelt", "shells"))
        async with owning(kafka, log, plan=plan) as owner:
            await owner.drain()
        ledger = check_commits(kafka)
        assert (ledger.alerts, ledger.filtered, ledger.published) == (18, 9, 9)
        assert sum((commit.filtered for _, commit in owner.commits), Counter[str]()) == {"shells": 9}
        assert metrics.FILTERED.dropped == {"misspelt": 0, "shells": 9}


class TestDeduplication:
    PLAN = replace(PLAN, dedupe=DedupePlan(fingerprint=FingerprintPlan(volatile=("evt.time*",))))
    LOG = pod_log(FALCO, *[alert(START_NS + n * SECOND_NS) for n in range(10)])

    @in_virtual_time
    async def test_one_alert_and_nine_repeats_are_one_record_and_a_summary_ten_seconds_after_the_window(
        self,
    ) -> None:
        """The pod is deleted and its node with it: nothing more is ever read. In the end no key of it is left."""
        kafka = MemoryKafka()
        async with owning(kafka, self.LOG, plan=self.PLAN, batch_lines=4) as owner:
            await until(lambda: len(kafka.records) == 1, seconds=1)
            await owner.shard.put(replace(Feed().batch(), status=PositionStatus.DONE))
            await until(lambda: len(kafka.records) == 2, seconds=60 + 10)
            assert len(kafka.values(NOTICE)) == 1
            assert [orjson.loads(value)["summary"]["count"] for value in kafka.values(SUMMARIES)] == [9]
            await until(lambda: set(kafka.shard().state) == {"key", "ledger"}, seconds=700)
            await asyncio.sleep(3600)
        assert len(kafka.records) == 2
        ledger = check_commits(kafka)
        assert (ledger.published, ledger.deduplicated, ledger.summarised, ledger.summaries) == (1, 9, 9, 1)

    @pytest.mark.parametrize("reload", [False, True])
    @in_virtual_time
    async def test_what_is_due_at_once_and_more_than_kafka_takes_in_time_is_told_in_parts(
        self, reload: bool
    ) -> None:
        """Many groups fall silent together, behind a quota: the same transaction again would fail for ever."""
        plan = replace(self.PLAN, dedupe=replace(self.PLAN.dedupe, max_variants=0))
        lines = [alert(START_NS, rule=f"Rule {n % 600}", n=n) for n in range(1200)]
        kafka, log = MemoryKafka(), PodLog(FALCO, [(START_NS, line) for line in lines])
        async with owning(kafka, log, plan=plan, batch_lines=100) as owner:
            await until(lambda: sum(commit.lines for _, commit in owner.commits) == 1200)
            kafka.most_records = 200
            if reload:
                owner.shard.replan(replace(plan, dedupe=replace(plan.dedupe, enabled=False)))
            await until(lambda: check_commits(kafka).summarised == 600, seconds=600)
            assert len(kafka.values(NOTICE)) == len(kafka.values(SUMMARIES)) == 600
            await owner.shard.put(Feed().batch((START_NS + 1, lines[0])))
            await until(lambda: sum(commit.lines for _, commit in owner.commits) == 1201)
        assert check_commits(kafka).published == 600 + reload

    @in_virtual_time
    async def test_pods_that_left_together_are_forgotten_in_as_many_parts_as_it_takes(self) -> None:
        long = replace(self.PLAN.dedupe, window_ns=(3600 * SECOND_NS,))
        kafka = MemoryKafka()
        async with owning(kafka, plan=replace(self.PLAN, dedupe=long)) as owner:
            for number in range(300):
                feed = Feed(replace(FALCO, pod=f"falco-{number}", uid=f"uid-{number}"))
                batch = feed.batch(*[(START_NS + n, alert(START_NS + n)) for n in range(2)])
                await owner.shard.put(replace(batch, status=PositionStatus.DONE))
            await until(lambda: len(kafka.records) == 300)
            kafka.most_records = 100
            await until(lambda: set(kafka.shard().state) == {"key", "ledger"}, seconds=700)
        assert check_commits(kafka).summarised == 300

    @in_virtual_time
    async def test_a_restart_goes_on_as_if_nothing_had_happened(self) -> None:
        kafka = MemoryKafka()
        for until_line in 3, 7, 10:
            log = PodLog(FALCO, self.LOG.lines[:until_line])
            async with owning(kafka, log, plan=self.PLAN, batch_lines=1) as owner:
                await owner.drain()
        async with owning(kafka, plan=self.PLAN):
            await until(lambda: len(kafka.records) == 2, seconds=70)
        assert check_commits(kafka).summarised == 9

    @in_virtual_time
    @pytest.mark.parametrize("fault", list(Fault))
    async def test_a_summary_is_told_once_whatever_happens_to_its_transaction(self, fault: Fault) -> None:
        kafka = MemoryKafka()
        async with owning(kafka, self.LOG, plan=self.PLAN, batch_lines=10) as owner:
            await until(lambda: len(owner.commits) == 1)
            kafka.faults += [fault, fault]
            await until(lambda: len(kafka.records) == 2, seconds=200)
            await asyncio.sleep(600)
        assert len(kafka.records) == 2
        assert check_commits(kafka).summarised == 9


class TestAttaching:
    @in_virtual_time
    async def test_a_target_waits_for_the_state_and_starts_at_its_position(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(5))
        async with owning(kafka, log) as owner:
            await owner.drain()
        kafka.away = 3
        async with owning(kafka) as later:
            attaching = asyncio.create_task(later.shard.attach(FALCO))
            await asyncio.sleep(0)
            assert not attaching.done()
            assert not later.shard.loaded
            position = await attaching
            assert position is not None
            assert position.lines == 5
            assert await later.shard.attach(OTHER) is None
            assert later.shard.ledger.published == 5

    @in_virtual_time
    async def test_putting_waits_while_the_inbox_is_full_and_goes_on_after_the_commit(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        bodies = alerts(30)
        put = 0

        async def read(shard: Shard) -> None:
            nonlocal put
            for body in bodies:
                await shard.put(feed.batch((START_NS, body)))
                put += 1

        # There is room for four times of what one transaction may hold.
        async with owning(kafka, commit=CommitPolicy(max_bytes=3000)) as owner:
            await owner.shard.attach(FALCO)
            with kafka.frozen():
                reading = asyncio.create_task(read(owner.shard))
                await asyncio.sleep(3600)
                held = put
                assert not reading.done()
            await reading
            await until(lambda: len(kafka.records) == 30)
        size = len(feed.batch((START_NS, bodies[0])).lines[0])
        # Three quarters of what there is room for, as it is the only shard: no more, however long it takes.
        assert 6000 <= held * size <= 9000 + size
        assert kafka.values(NOTICE) == bodies


class TestFailures:
    @pytest.mark.parametrize("fault", list(Fault))
    @pytest.mark.parametrize("times", [1, 4])
    @in_virtual_time
    async def test_a_failed_transaction_loses_and_doubles_nothing(self, fault: Fault, times: int) -> None:
        kafka = MemoryKafka()
        logs = [pod_log(FALCO, *alerts(20)), pod_log(OTHER, *alerts(20, first=100))]
        kafka.faults += [Fault.NONE] + [fault] * times
        async with owning(kafka, *logs, commit=CommitPolicy(max_lines=10)) as owner:
            await owner.drain()
            assert owner.realigned == 0
            assert owner.shard.ledger == check_commits(kafka)
        check_published(kafka, *logs)

    @in_virtual_time
    async def test_an_answer_that_was_lost_is_found_in_the_state_and_nothing_is_sent_again(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(3))
        kafka.faults.append(Fault.ANSWER_LOST)
        async with owning(kafka, log) as owner:
            await owner.drain()
        assert kafka.attempts == 1
        assert [commit.lines for _, commit in owner.commits] == [3]
        check_published(kafka, log)

    @in_virtual_time
    async def test_after_a_failure_the_same_input_makes_the_same_records(self) -> None:
        failing, well = MemoryKafka(), MemoryKafka()
        log = pod_log(FALCO, *alerts(9), b"a line of text", b'{"broken', *alerts(3, first=20))
        failing.faults += [Fault.BEFORE_COMMIT] * 3
        for kafka in (failing, well):
            async with owning(kafka, log) as owner:
                await owner.drain()
        assert failing.records == well.records

    @in_virtual_time
    async def test_tries_are_spaced_out_and_end_with_success(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(3))
        kafka.faults += [Fault.BEFORE_COMMIT] * 10
        begun = asyncio.get_running_loop().time()
        async with owning(kafka, log) as owner:
            await owner.drain()
        assert 2 < asyncio.get_running_loop().time() - begun < 60
        assert kafka.attempts == 11

    @in_virtual_time
    async def test_what_kafka_cannot_take_in_time_is_cut_until_it_can(self) -> None:
        """A backlog behind a quota: the same transaction again would fail for ever."""
        kafka = MemoryKafka()
        kafka.most_records = 100
        logs = [pod_log(FALCO, *alerts(900)), pod_log(OTHER, *alerts(900, first=1000))]
        async with owning(kafka, *logs, batch_lines=50) as owner:
            await owner.drain()
        check_published(kafka, *logs)

    @in_virtual_time
    async def test_once_kafka_is_quick_again_transactions_are_as_large_as_before(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(2000))
        kafka.faults += [Fault.BEFORE_COMMIT] * 12
        async with owning(kafka, log, batch_lines=50) as owner:
            await owner.drain()
        sizes = [commit.lines for _, commit in owner.commits]
        assert sizes[0] < sizes[1] < max(sizes)
        assert kafka.attempts == 12 + len(sizes)
        check_published(kafka, log)

    @in_virtual_time
    async def test_kafka_away_at_the_start_is_waited_for(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(3))
        kafka.away = 50
        with capture_logs() as said:
            async with owning(kafka, log) as owner:
                await owner.drain()
        check_published(kafka, log)
        assert {event["cause"] for event in said if event["event"] == "shard_not_opened"} == {
            "cannot reach memory:9092: it is away"
        }

    @in_virtual_time
    async def test_kafka_away_in_mid_run_is_waited_for_without_touching_the_followers(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(60))
        async with owning(kafka, log, pause_seconds=0.1) as owner:
            await until(lambda: len(kafka.records) >= 15)
            kafka.faults.append(Fault.BEFORE_COMMIT)
            kafka.away = 20
            await owner.drain()
            assert owner.realigned == 0
            assert owner.shard.loaded
        check_published(kafka, log)

    @in_virtual_time
    async def test_draining_commits_what_is_in_the_inbox_and_closes_the_publisher(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        bodies = alerts(8)
        async with owning(kafka, commit=CommitPolicy(interval_seconds=3600, max_lines=2)) as owner:
            await owner.shard.attach(FALCO)
            for body in bodies:
                await owner.shard.put(feed.batch((START_NS, body)))
            begun = asyncio.get_running_loop().time()
            await owner.drain()
            assert asyncio.get_running_loop().time() - begun < 1
        assert kafka.values(NOTICE) == bodies
        assert owner.publisher.closed

    @in_virtual_time
    async def test_draining_before_the_state_was_ever_loaded_ends_at_once(self) -> None:
        kafka = MemoryKafka()
        kafka.away = 1_000_000
        async with owning(kafka) as owner:
            await asyncio.sleep(100)
            owner.shard.drain()
            assert owner.running is not None
            async with asyncio.timeout(1):
                await owner.running
        assert owner.publisher.closed

    @in_virtual_time
    async def test_draining_while_kafka_is_away_goes_on_trying(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(3))
        async with owning(kafka, log) as owner:
            await until(lambda: owner.shard.loaded)
            kafka.faults.append(Fault.BEFORE_COMMIT)
            kafka.away = 5
            await owner.drain()
        check_published(kafka, log)


class TestOwnership:
    @in_virtual_time
    async def test_another_owner_who_has_committed_makes_all_targets_begin_again(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(30))
        async with owning(kafka, log, pause_seconds=0.2) as owner:
            await until(lambda: len(kafka.records) >= 6)
            async with owning(kafka, log) as rival:  # reads all of it
                await rival.drain()
            with capture_logs() as said:
                await until(lambda: owner.realigned == 1)
            warnings = [event["event"] for event in said if event["log_level"] == "warning"]
            assert warnings == ["shard_fenced", "shard_realigned"]
            assert owner.shard.ledger == rival.shard.ledger
            position = await owner.shard.attach(FALCO)
            assert position is not None
            assert position.lines == 30
            await owner.drain()
        check_published(kafka, log)

    @in_virtual_time
    async def test_what_stood_in_the_inbox_is_dropped_when_another_owner_had_committed_it(self) -> None:
        kafka, feed = MemoryKafka(), Feed()
        log = pod_log(FALCO, *alerts(6))
        batches = [feed.batch(line) for line in log.lines]
        owner = Owner(kafka, commit=CommitPolicy(max_lines=1))
        owner.start()
        await owner.shard.attach(FALCO)
        async with owning(kafka, log) as rival:
            await rival.drain()
        for batch in batches:  # one is in the transaction that is fenced, the others wait behind it
            await owner.shard.put(batch)
        await until(lambda: owner.realigned == 1)
        await owner.drain()
        assert owner.commits == []
        check_published(kafka, log)

    @in_virtual_time
    async def test_a_rival_who_has_committed_nothing_costs_no_realignment(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(10))
        async with owning(kafka, log, pause_seconds=0.2) as owner:
            await until(lambda: len(kafka.records) >= 3)
            await kafka.publisher().open()
            await owner.drain()
            assert owner.realigned == 0
        check_published(kafka, log)

    @in_virtual_time
    async def test_a_shard_that_was_taken_is_not_taken_back_at_once(self) -> None:
        kafka = MemoryKafka()
        log = pod_log(FALCO, *alerts(3))
        clock = asyncio.get_running_loop().time
        async with owning(kafka, log) as owner:
            await until(lambda: owner.shard.loaded)
            await kafka.publisher().open()
            begun, opened = clock(), kafka.opened
            await until(lambda: kafka.opened > opened)
            assert 1 <= clock() - begun <= 11
            await owner.drain()

    @in_virtual_time
    async def test_a_new_process_goes_on_behind_the_last_commit_of_one_that_was_killed(self) -> None:
        kafka = MemoryKafka()
        logs = [pod_log(FALCO, *alerts(50)), pod_log(OTHER, *alerts(50, first=100))]
        for wanted in (10, 40, 70):
            async with owning(kafka, *logs, pause_seconds=0.01, commit=CommitPolicy(max_lines=7)):
                await until(lambda wanted=wanted: len(kafka.records) >= wanted)  # type: ignore[misc]
        async with owning(kafka, *logs) as last:
            await last.drain()
        check_published(kafka, *logs)


class TestRefusals:
    @pytest.mark.parametrize("foreseen", [False, True])
    @pytest.mark.parametrize("reason", [Reason.RECORD_TOO_LARGE, Reason.INVALID_TIMESTAMP])
    @in_virtual_time
    async def test_a_refused_record_is_one_dead_letter_and_its_neighbours_pass(
        self, reason: Reason, foreseen: bool
    ) -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes[NOTICE] = 50_000
        kafka.refusal, kafka.foreseen = reason, foreseen
        large = alert(START_NS, output="x" * 60_000)
        bodies = [*alerts(500), large, *alerts(500, first=600)]
        log = pod_log(FALCO, *bodies)
        async with owning(kafka, log, batch_lines=1001) as owner:
            await owner.drain()
        assert kafka.values(NOTICE) == [body for body in bodies if body is not large]
        (letter,) = [record for record in kafka.records if record.topic == LETTERS]
        assert dict(letter.headers)["reason"] == reason.encode()
        assert kafka.opened <= 3  # at most two renewals
        ledger = check_commits(kafka)
        assert (ledger.lines, ledger.published, ledger.dead_lettered) == (1001, 1000, 1)
        assert orjson.loads(kafka.shard().state[f"position/{FALCO.id}"])["lines"] == 1001

    @in_virtual_time
    async def test_a_letter_that_is_refused_as_well_is_made_small(self) -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes = {NOTICE: 50_000, LETTERS: 4_000}
        large = alert(START_NS, output="x" * 60_000)
        log = pod_log(FALCO, *alerts(3), large, *alerts(3, first=10))
        async with owning(kafka, log, batch_lines=7) as owner:
            await owner.drain()
        (letter,) = kafka.values(LETTERS)
        assert orjson.loads(letter)["original_bytes"] == len(large)
        assert orjson.loads(letter)["truncated"] is True
        ledger = check_commits(kafka)
        assert (ledger.published, ledger.dead_lettered) == (6, 1)

    @in_virtual_time
    async def test_several_refused_records_are_all_found(self) -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes = {NOTICE: 5_000, WARNING: 5_000}
        large = [
            alert(START_NS + n, output="x" * 6_000, priority=priority)
            for n, priority in enumerate(["Notice", "Warning", "Notice"])
        ]
        log = pod_log(FALCO, *alerts(5), large[0], *alerts(5, first=10), large[1], large[2])
        async with owning(kafka, log, batch_lines=20) as owner:
            await owner.drain()
        assert len(kafka.values(LETTERS)) == 3
        assert len(kafka.values(NOTICE)) == 10
        assert check_commits(kafka).dead_lettered == 3

    @in_virtual_time
    async def test_a_letter_that_is_refused_at_any_size_does_not_spin(self) -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes = {NOTICE: 50_000, LETTERS: 10}
        log = pod_log(FALCO, alert(START_NS, output="x" * 60_000))
        async with owning(kafka, log):
            await asyncio.sleep(300)
        assert kafka.attempts < 300

    @in_virtual_time
    async def test_a_refusal_and_a_failure_together_lose_nothing(self) -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes = {NOTICE: 50_000}
        large = alert(START_NS, output="x" * 60_000)
        log = pod_log(FALCO, *alerts(3), large, *alerts(3, first=10))
        kafka.faults += [Fault.BEFORE_COMMIT, Fault.NONE, Fault.BEFORE_COMMIT, Fault.ANSWER_LOST]
        async with owning(kafka, log, batch_lines=7) as owner:
            await owner.drain()
        assert len(kafka.values(LETTERS)) == 1
        assert len(kafka.values(NOTICE)) == 6


class TestUnreadableState:
    @pytest.mark.parametrize(
        "state",
        [
            {"ledger": b"\xff no JSON"},
            {"ledger": b'{"v":2}'},
            {"position/a/b/c/d": b'{"v":1}'},
        ],
        ids=["damaged", "newer", "incomplete"],
    )
    @in_virtual_time
    async def test_it_stops_the_shard_with_a_word_and_attaches_nobody(self, state: dict[str, bytes]) -> None:
        kafka = MemoryKafka()
        kafka.shard().state = state
        with capture_logs() as said:
            async with owning(kafka, pod_log(FALCO, *alerts(3))) as owner:
                assert owner.running is not None
                await owner.running
                assert not owner.shard.loaded
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(3600):
                        await owner.shard.attach(FALCO)
        (event,) = [event for event in said if event["log_level"] == "error"]
        assert (event["event"], event["shard"]) == ("state_unreadable", 0)
        assert "state key" in event["cause"]
        assert owner.publisher.closed
        assert kafka.attempts == 0

    @in_virtual_time
    async def test_another_shard_of_the_same_worker_goes_on(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(3))
        kafka.shard(7).state = {"ledger": b"damaged"}
        broken = Shard(7, GENEROUS, kafka.publisher(7), CommitPolicy())
        async with owning(kafka, log) as owner, asyncio.TaskGroup() as tasks:
            tasks.create_task(broken.run())
            await owner.drain()
        check_published(kafka, log)
        assert not broken.loaded

    @in_virtual_time
    async def test_what_becomes_unreadable_in_mid_run_is_not_guessed_and_no_longer_loaded(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(60))
        async with owning(kafka, log, pause_seconds=0.2) as owner:
            await until(lambda: len(kafka.records) >= 6)
            kafka.shard().state["ledger"] = b"damaged"
            kafka.faults.append(Fault.BEFORE_COMMIT)
            assert owner.running is not None
            await owner.running
            assert not owner.shard.loaded
        before = len(kafka.records)
        assert before < 60

    @in_virtual_time
    async def test_of_another_cluster_it_is_refused_by_name(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(3))
        async with owning(kafka, log) as owner:
            await owner.drain()
        with capture_logs() as said:
            async with owning(kafka, plan=replace(GENEROUS, cluster="prod-us-1")) as other:
                assert other.running is not None
                await other.running
        assert "belongs to cluster 'prod-eu-1'" in said[-1]["cause"]


# Anything that a log may hold, and what becomes of it.
BODY = st.sampled_from(["notice", "warning", "large", "text", "broken"])
STEPS = st.lists(
    st.one_of(
        st.sampled_from([*Fault]),
        st.tuples(st.just("away"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.floats(0.0, 20.0)),
        st.just("crash"),
        st.just("rival"),
    ),
    max_size=14,
)


def body_of(kind: str, number: int) -> bytes:
    match kind:
        case "notice" | "warning":
            return alert(START_NS + number, n=number, priority=kind.capitalize())
        case "large":
            return alert(START_NS + number, n=number, output="x" * 3000)
        case "text":
            return b"Fri Nov 20 10:00:00 2026: Loading rules from: %d" % number
        case _:
            return b'{"broken %d' % number


@settings(max_examples=150)
@example(  # the rival's commit is found out only while the last owner drains
    kinds=([], ["notice"] * 5),
    steps=[("away", 1), "rival", ("pass", 1.0)],
    batch_lines=1,
    max_lines=1,
    max_bytes=4_000_000,
    quiet_seconds=1.0,
    letters_bytes=2_500,
    foreseen=False,
)
@given(
    kinds=st.tuples(st.lists(BODY, max_size=40), st.lists(BODY, max_size=40)),
    steps=STEPS,
    batch_lines=st.integers(1, 9),
    max_lines=st.integers(1, 30),
    max_bytes=st.integers(500, 20_000),
    quiet_seconds=st.sampled_from([0.0, 0.25, 1.0]),
    letters_bytes=st.sampled_from([2_500, 100_000]),
    foreseen=st.booleans(),
)
def test_whatever_fails_every_line_has_its_outcome_once_and_in_order(
    kinds: tuple[list[str], list[str]],
    steps: list[Any],
    batch_lines: int,
    max_lines: int,
    max_bytes: int,
    quiet_seconds: float,
    letters_bytes: int,
    foreseen: bool,
) -> None:
    logs = [
        pod_log(target, *(body_of(kind, n) for n, kind in enumerate(several)))
        for target, several in zip((FALCO, OTHER), kinds, strict=True)
    ]
    everything = Counter(kind for several in kinds for kind in several)

    @in_virtual_time
    async def play() -> None:
        kafka = MemoryKafka()
        kafka.largest_bytes = {NOTICE: 2_000, LETTERS: letters_bytes}
        kafka.foreseen = foreseen
        commit = CommitPolicy(0.05, quiet_seconds, max_lines, max_bytes)

        def new_owner() -> Owner:
            made = Owner(kafka, *logs, commit=commit, batch_lines=batch_lines, pause_seconds=0.03)
            made.start()
            return made

        owners = [new_owner()]
        for step in steps:
            match step:
                case Fault():
                    kafka.faults.append(step)
                case ("away", int(opens)):
                    kafka.away += opens
                case ("pass", float(seconds)):
                    await asyncio.sleep(seconds)
                case "crash":
                    await owners.pop(0).crash()
                    owners = owners or [new_owner()]
                case _:
                    owners.append(new_owner())
        while len(owners) > 1:
            await owners.pop(0).crash()
        while not await owners[0].drain():
            owners = [new_owner()]
        if not everything:
            return

        for several, log in zip(kinds, logs, strict=True):
            key = log.target.pod_name.encode()
            bodies = [body for _, body in log.lines]
            for topic, kind in ((NOTICE, "notice"), (WARNING, "warning")):
                found = [one.value for one in kafka.records if (one.key, one.topic) == (key, topic)]
                wanted = zip(several, bodies, strict=True)
                assert found == [body for its_kind, body in wanted if its_kind == kind]
        ids = [record.id for record in kafka.records]
        assert len(set(ids)) == len(ids) == everything.total() - everything["text"]
        ledger = check_commits(kafka)
        assert ledger.lines == everything.total()
        assert ledger.log_lines == everything["text"]
        assert ledger.published == everything["notice"] + everything["warning"]
        assert (
            ledger.dead_lettered == everything["large"] + everything["broken"] == len(kafka.values(LETTERS))
        )
        assert owners[0].shard.ledger == ledger

    with capture_logs():
        play()


@in_virtual_time
async def test_a_new_follower_begins_behind_the_batches_of_the_one_before() -> None:
    """A pod may lose its label and get it back while what was read of it is still on its way to Kafka."""
    log = pod_log(FALCO, *alerts(4))
    async with owning(MemoryKafka()) as owner:
        assert await owner.shard.attach(log.target) is None
        feed = Feed(log.target)
        await owner.shard.put(feed.batch(*log.lines))
        position = await owner.shard.attach(log.target)
        assert position is not None
        assert position.lines == 4
        assert len(owner.commits) == 1


class TestReloads:
    """Another plan while the shard is at work."""

    @in_virtual_time
    @pytest.mark.parametrize("fault", [Fault.NONE, Fault.BEFORE_COMMIT, Fault.ANSWER_LOST])
    async def test_what_was_counted_under_another_key_is_told_exactly_once(self, fault: Fault) -> None:
        dedupe = DedupePlan(fingerprint=FingerprintPlan(volatile=("evt.time", "n")))
        plan = replace(GENEROUS, dedupe=dedupe)
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(4))
        async with owning(kafka, log, plan=plan, batch_lines=4) as owner:
            await until(lambda: len(owner.commits) == 1)
            kafka.faults.append(fault)
            owner.shard.replan(replace(plan, dedupe=replace(dedupe, enabled=False)))
            await until(lambda: len(owner.commits) == 2)
            await owner.shard.put(Feed(FALCO).batch((START_NS + 9, alert(START_NS + 9))))
            await until(lambda: len(owner.commits) == 3)
        kinds = [dict(record.headers)["kind"] for record in kafka.records]
        assert kinds == [b"alert", b"summary", b"alert"]
        assert orjson.loads(kafka.records[1].value)["summary"]["reason"] == "reload"
        assert orjson.loads(kafka.records[1].value)["summary"]["count"] == 3
        check_commits(kafka)

    @in_virtual_time
    async def test_what_comes_after_it_is_treated_by_it_also_in_a_shard_that_was_idle(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(1))
        async with owning(kafka, log) as owner:
            await until(lambda: len(owner.commits) == 1)
            owner.shard.replan(replace(GENEROUS, router=Router({}, [Route("falco.new")])))
            await owner.shard.put(Feed(FALCO).batch((START_NS + 9, alert(START_NS + 9))))
            await until(lambda: len(owner.commits) == 2)
        assert [record.topic for record in kafka.records] == [NOTICE, "falco.new"]

    @in_virtual_time
    async def test_what_cannot_be_written_is_written_once_another_plan_leads_elsewhere(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(7))
        kafka.forbidden = {"falco.forbidden", "falco.no.more"}

        def towards(topic: str) -> Plan:
            return replace(GENEROUS, router=Router({}, [Route(topic)]))

        async with owning(kafka, log, plan=towards("falco.forbidden")) as owner:
            await until(lambda: kafka.attempts >= 3)
            owner.shard.replan(towards("falco.no.more"))
            await until(lambda: kafka.attempts >= 10)
            owner.shard.replan(towards(NOTICE))
            await owner.drain()
            assert owner.realigned == 0
        check_published(kafka, log)

    @in_virtual_time
    async def test_what_was_counted_is_told_where_the_other_plan_leads(self) -> None:
        """A topic is gone, and whoever leads its records elsewhere may change more than that."""
        dedupe = DedupePlan(fingerprint=FingerprintPlan(volatile=("evt.time", "n")))
        plan = replace(GENEROUS, dedupe=dedupe)
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(4))
        async with owning(kafka, log, plan=plan, batch_lines=4) as owner:
            await until(lambda: len(owner.commits) == 1)
            kafka.forbidden = {SUMMARIES}
            owner.shard.replan(replace(plan, summaries_topic="sums", dedupe=replace(dedupe, enabled=False)))
            await until(lambda: len(owner.commits) == 2, seconds=60)
        assert [record.topic for record in kafka.records] == [NOTICE, "sums"]
        assert orjson.loads(kafka.records[1].value)["summary"]["count"] == 3

    @in_virtual_time
    async def test_another_owner_meanwhile_is_not_written_over_under_the_other_plan(self) -> None:
        kafka, log = MemoryKafka(), pod_log(FALCO, *alerts(7))
        kafka.forbidden = {"falco.forbidden"}
        forbidden = replace(GENEROUS, router=Router({}, [Route("falco.forbidden")]))
        async with owning(kafka, log, plan=forbidden) as owner:
            await until(lambda: kafka.attempts >= 3)
            async with owning(kafka, log) as rival:
                await rival.drain()
            owner.shard.replan(GENEROUS)
            await until(lambda: owner.realigned == 1)
            await owner.drain()
        check_published(kafka, log)


class TestCoverage:
    """Coverage records go out in the shard's own transactions."""

    @in_virtual_time
    @pytest.mark.parametrize("fault", [Fault.NONE, Fault.BEFORE_COMMIT, Fault.ANSWER_LOST])
    async def test_each_state_is_told_exactly_once_and_again_in_five_minutes(self, fault: Fault) -> None:
        kafka = MemoryKafka()
        status = TargetStatus(
            FALCO, StreamState.FOLLOWING, running=True, unread_seconds=0, behind_seconds=0, quiet_seconds=0
        )
        async with owning(kafka, coverage_seconds=300) as owner:
            kafka.faults.append(fault)
            owner.shard.statuses = lambda: [status]
            await until(lambda: len(owner.commits) == 1)
            status = replace(status, state=StreamState.WAITING, unread_seconds=60)
            await until(lambda: len(owner.commits) == 2)
            await asyncio.sleep(330)
        told = [orjson.loads(record.value) for record in kafka.records]
        assert [(one["coverage"], one["changed"]) for one in told] == [
            ("following", True),
            ("blind", True),
            ("blind", False),
        ]
        assert check_commits(kafka).health_records == 3

    @in_virtual_time
    async def test_how_often_it_is_told_can_change_while_it_runs(self) -> None:
        kafka = MemoryKafka()
        status = TargetStatus(
            FALCO, StreamState.FOLLOWING, running=True, unread_seconds=0, behind_seconds=0, quiet_seconds=0
        )
        async with owning(kafka, coverage_seconds=300) as owner:
            owner.shard.statuses = lambda: [status]
            await until(lambda: len(owner.commits) == 1)
            owner.shard.adjust(CommitPolicy(), 20)
            await until(lambda: len(owner.commits) == 4)
            owner.shard.adjust(CommitPolicy(), None)
            await asyncio.sleep(3600)
        times = [at for at, _ in owner.commits]
        assert len(times) == 4
        assert all(20 <= later - earlier <= 26 for earlier, later in pairwise(times))
        check_commits(kafka)


class TestCommitPolicy:
    @in_virtual_time
    async def test_another_interval_holds_for_the_next_transaction(self) -> None:
        kafka, feed = MemoryKafka(), Feed()

        async def committed_after() -> float:
            before = len(owner.commits)
            begun = asyncio.get_running_loop().time()
            await owner.shard.put(feed.batch((START_NS, alerts(1)[0])))
            await until(lambda: len(owner.commits) > before)
            return owner.commits[-1][0] - begun

        async with owning(kafka, commit=CommitPolicy(interval_seconds=5)) as owner:
            await owner.shard.attach(FALCO)
            assert await committed_after() > 4.9
            owner.shard.adjust(CommitPolicy(interval_seconds=0.1), None)
            assert 0.09 < await committed_after() < 1
        check_commits(kafka)
