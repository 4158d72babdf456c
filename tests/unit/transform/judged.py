"""A judge of the contract of deduplication, and courses for it to judge.

Evidence is a variant that was not shown in its group's window: neither published nor reported in a summary. Every one
of a protected priority is published at once, any other is shown within the first window length.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from streamer.model import Publication, Target
from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.load import load
from streamer.transform.process import Processor
from streamer.transform.state import ShardState
from streamer.transform.treatment import DedupePlan
from tests.unit.transform.samples import FALCO, NOW_NS, OTHER, PLAN, SECOND_NS, START_NS, Feed, alert

MINUTE_NS: Final = 60 * SECOND_NS
WITHIN_NS: Final = 70 * SECOND_NS
"""The first window length, and ten seconds of silence."""
TREATED: Final = replace(
    PLAN,
    dedupe=DedupePlan(
        max_variants=3,
        fingerprint=FingerprintPlan({"syscall": KeyFields(("proc.name",))}, volatile=("evt.*",)),
    ),
)
PROTECTED: Final = {"Emergency", "Alert", "Critical"}


def body(time_ns: int, command: Any, priority: str = "Notice", **fields: Any) -> bytes:
    every = {"proc.name": "sh", "proc.cmdline": command, "evt.time": time_ns, "user.name": "root"}
    return alert(time_ns, priority=priority, output_fields=every | fields)


@dataclass
class Shown:
    """When each command line was shown first, by our clock, and how."""

    published: dict[str, int] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)

    def take(self, publication: Publication | None, now_ns: int) -> None:
        if publication is None:
            return
        assert publication.ledger.balanced
        for key, value in publication.changes:
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        for record in publication.records:
            value = orjson.loads(record.value)
            if "summary" not in value:
                self.published.setdefault(value["output_fields"]["proc.cmdline"], now_ns)
                continue
            self.summaries.append(value)
            for variant in value["summary"]["variants"]:
                fields = value["output_fields"] | variant["fields"]
                self.reported.setdefault(fields["proc.cmdline"], now_ns)


class Judge:
    """Knows the contract, and of the core only its records."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, ...], tuple[int, int]] = {}
        """Evidence that was counted: when, by the target's clock and by ours."""
        self.shown: dict[tuple[str, ...], int] = {}
        """When each variant was shown last, by its target's clock."""
        self.elapsed_ns = dict.fromkeys([FALCO.pod_name, OTHER.pod_name], 0)
        self.published = self.summarised = 0

    def take(
        self,
        publication: Publication | None,
        now_ns: int,
        event: tuple[str, ...] | None = None,
    ) -> None:
        if publication is None:
            return
        values = [(record, orjson.loads(record.value)) for record in publication.records]
        published = [record.value for record, value in values if "summary" not in value]
        for record, value in values:
            if "summary" in value:
                self._summary(record.key.decode(), value)
        if event is not None:
            self._outcome(event, bool(published), now_ns)
        self.published += len(published)
        ledger = publication.ledger
        assert (ledger.published, ledger.summarised) == (self.published, self.summarised)

    def _outcome(self, key: tuple[str, ...], is_published: bool, now_ns: int) -> None:
        elapsed_ns = self.elapsed_ns[key[0]]
        if is_published:
            self.shown[key] = elapsed_ns
            return
        recently = key in self.shown and elapsed_ns - self.shown[key] < 30 * MINUTE_NS
        assert recently or key[1] not in PROTECTED, "protected evidence was held back"
        if not recently:
            self.waiting.setdefault(key, (elapsed_ns, now_ns))

    def _summary(self, pod: str, value: dict[str, Any]) -> None:
        for variant in value["summary"]["variants"]:
            fields = value["output_fields"] | variant["fields"]
            key = (pod, value["priority"], fields["proc.name"], fields["proc.cmdline"])
            self.waiting.pop(key, None)
            self.shown[key] = self.elapsed_ns[pod]
            self.summarised += variant["count"]

    def check(self, now_ns: int) -> None:
        for key, (elapsed_ns, at_ns) in self.waiting.items():
            assert self.elapsed_ns[key[0]] - elapsed_ns < MINUTE_NS, "not reported in time, by the lines"
            assert now_ns - at_ns < WITHIN_NS, "not reported in time, by our clock"


class Course:
    """Two pods' logs, whose clocks step and run apart, through a core that crashes and gets other settings."""

    def __init__(self) -> None:
        self.plan = TREATED
        self.processor = Processor(TREATED, ShardState("prod-eu-1"), b"k" * 16)
        self.feeds: dict[Target, Feed] = {target: Feed(target) for target in (FALCO, OTHER)}
        self.clocks = dict.fromkeys(self.feeds, (START_NS, 0))
        self.stored = Shown()
        self.judge, self.now_ns = Judge(), NOW_NS

    def write(self, target: Target, step: int, group: str, command: str, priority: str) -> None:
        time_ns, last_ns = self.clocks[target]
        time_ns += step * SECOND_NS
        if time_ns >= last_ns:
            self.judge.elapsed_ns[target.pod_name] += time_ns - last_ns if last_ns else 0
            last_ns = time_ns
        elif last_ns - time_ns > 10 * SECOND_NS:
            last_ns = time_ns
        self.clocks[target] = time_ns, last_ns
        line = body(time_ns, command, priority, **{"proc.name": group})
        made = self.processor.process([self.feeds[target].batch((time_ns, line))], self.now_ns)
        self._commit(made, (target.pod_name, priority, group, command))

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_ns += SECOND_NS
            self._commit(self.processor.publish_due(self.now_ns))
            self.judge.check(self.now_ns)

    def crash(self) -> None:
        state = load("prod-eu-1", self.stored.stored.items())
        assert state == self.processor.state
        self.processor = Processor(self.plan, state, b"another key, lost")

    def reload(self, max_variants: int) -> None:
        self.plan = replace(TREATED, dedupe=replace(TREATED.dedupe, max_variants=max_variants))
        self._commit(self.processor.publish_redefined(self.plan, self.now_ns))
        self.processor.replan(self.plan)

    def end(self) -> None:
        self.tick(WITHIN_NS // SECOND_NS)
        self._commit(self.processor.publish_due(self.now_ns, everything=True))
        ledger = self.processor.state.ledger
        assert ledger.deduplicated == ledger.summarised == self.judge.summarised

    def _commit(self, made: Publication | None, event: tuple[str, ...] | None = None) -> None:
        self.stored.take(made, self.now_ns)
        self.judge.take(made, self.now_ns, event)
        self.judge.check(self.now_ns)
