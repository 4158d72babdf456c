"""How one kind of alert is treated: which fields make it the same as another, for how long, and its limits.

Worked out once for each kind (rule, priority, source and field names), so that globs and overrides cost nothing
for each alert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import sha256
from typing import Final

from streamer.model import Alert, Priority
from streamer.transform.fingerprint import DIGEST_BYTES, Fingerprinter, FingerprintPlan, KeyFields, Selection
from streamer.transform.limit import Rate
from streamer.transform.parse import is_internal
from streamer.transform.workload import WorkloadNames

_SECOND_NS: Final = 1_000_000_000
_MOST_KINDS: Final = 1000
"""Rules are few. In a flood of names, treatments are worked out again; memory stays bounded."""

DEFAULT_RATE: Final = Rate(60, 300)
"""One a second is more than people read of one rule and node; the burst lets a real incident through whole."""


@dataclass(frozen=True, slots=True)
class DedupeOverride:
    """What is different for rules whose name matches one of `rules` (globs); None is as for the others."""

    rules: tuple[str, ...]
    enabled: bool | None = None
    window_ns: tuple[int, ...] | None = None
    max_variants: int | None = None
    fields: KeyFields | None = None


@dataclass(frozen=True, slots=True)
class DedupePlan:
    """What passes once and is counted then."""

    enabled: bool = True
    window_ns: tuple[int, ...] = (60 * _SECOND_NS, 300 * _SECOND_NS, 1800 * _SECOND_NS)
    """The lengths of a group's windows, the later ones for a group that stays busy."""
    max_variants: int = 10
    """How many variants of a group pass in a window in addition to its first alert."""
    max_windows: int = 25_000
    """How many windows a shard keeps."""
    max_evidence_bytes: int = 8 * 1024 * 1024
    """How much memory a shard spends on samples and variants' fields for summaries."""
    fingerprint: FingerprintPlan = field(default_factory=FingerprintPlan)
    overrides: tuple[DedupeOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitOverride:
    """Another rate for rules whose name matches one of `rules` (globs)."""

    rules: tuple[str, ...]
    rate: Rate


@dataclass(frozen=True, slots=True)
class TargetLimit:
    """What all alerts of a target may take: of `open` any, of `reserved` those of groups not seen before."""

    open: Rate
    reserved: Rate


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """What passes only so often. What is more goes to the overflow topic, whole."""

    enabled: bool = True
    protected: frozenset[Priority] = frozenset({Priority.EMERGENCY, Priority.ALERT, Priority.CRITICAL})
    """Priorities of which no limit diverts an alert and no variant is held back."""
    by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What makes a workload, which has a bucket of its own for each target: rule, priority, source or keys of
    `output_fields`, by Falco's source."""
    by_other: tuple[str, ...] = ("rule",)
    """The same for sources that `by` does not name."""
    rate: Rate = DEFAULT_RATE
    overrides: tuple[LimitOverride, ...] = ()
    target: TargetLimit | None = None
    """The limit for all alerts of one target together; None: it has none."""
    max_buckets: int = 25_000
    """How many buckets a shard keeps."""
    per_topic: Mapping[str, Rate] | None = None
    """Limits of a shard by topic, whatever the target; they run on our clock."""
    overall: Rate | None = None
    """The limit of a shard for all topics together."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """All that was worked out for one kind of alert."""

    names: tuple[str, ...]
    """Of its fields, in their order."""
    priority: Priority
    source: str
    selection: Selection
    internal: bool
    deduplicated: bool
    window_ns: tuple[int, ...]
    most_passed: int
    """How many variants may pass in one window, the first alert's among them."""
    passes_all_variants: bool
    """Whether every variant passes that was not shown in its window, however many there are."""
    learns: bool
    """Whether nobody has configured its source, so that it is learned which of its fields are volatile."""
    definition: bytes
    """That of the settings under which it is learned."""
    limited: bool
    """Whether the limits of its workload and its target bind it."""
    may_be_diverted: bool
    """Whether any limit binds it: those that protect Kafka bind protected priorities as well."""
    rate: Rate
    workload: WorkloadNames


class Treatments:
    """Knows how each alert is to be treated."""

    def __init__(self, dedupe: DedupePlan, limits: LimitPlan, key: bytes) -> None:
        self._dedupe = dedupe
        self._limits = limits
        self._fingerprinter = Fingerprinter(dedupe.fingerprint, key)
        self._overrides = [(_any_glob(item.rules), item) for item in dedupe.overrides]
        self._rates = [(_any_glob(item.rules), item.rate) for item in limits.overrides]
        self._known: dict[tuple[str, int, str, tuple[str, ...]], Treatment] = {}
        self._last: dict[str, Treatment] = {}
        # By rule: mostly all its alerts are of one kind.

    def of(self, alert: Alert) -> Treatment:
        """The treatment of an alert."""
        # Falco writes the fields in the order of their names: in another they are another kind, treated alike.
        names = tuple(alert.fields)
        last = self._last.get(alert.rule)
        if (
            last is not None
            and last.names == names
            and last.priority is alert.priority
            and last.source == alert.source
        ):
            return last
        kind = (alert.rule, int(alert.priority), alert.source, names)
        if (known := self._known.get(kind)) is None:
            if len(self._known) >= _MOST_KINDS:
                self._known.clear()
                self._last.clear()
                self._fingerprinter.forget()
            known = self._known[kind] = self._work_out(alert)
        self._last[alert.rule] = known
        return known

    def definition(self, rule: str, source: str) -> bytes | None:
        """The settings under which a kind learns its volatile fields; None where its source is configured."""
        plan = self._dedupe.fingerprint
        ours = self._override(rule)
        if not plan.learns or ours.fields is not None or source in plan.fields:
            return None
        return sha256(plan.definition(plan.other)).digest()[:DIGEST_BYTES]

    def _override(self, rule: str) -> DedupeOverride:
        return next((item for glob, item in self._overrides if glob.match(rule)), DedupeOverride(()))

    def _work_out(self, alert: Alert) -> Treatment:
        plan, limits = self._dedupe, self._limits
        ours = self._override(alert.rule)
        definition = self.definition(alert.rule, alert.source)
        rate = next((rate for glob, rate in self._rates if glob.match(alert.rule)), limits.rate)
        internal = is_internal(alert.rule)
        bound = limits.enabled and not internal
        limited = bound and alert.priority not in limits.protected
        enabled = plan.enabled if ours.enabled is None else ours.enabled
        most = plan.max_variants if ours.max_variants is None else ours.max_variants
        return Treatment(
            names=tuple(alert.fields),
            priority=alert.priority,
            source=alert.source,
            selection=self._fingerprinter.select(alert, ours.fields),
            internal=internal,
            # Without fields there is nothing to tell one alert from another by.
            deduplicated=enabled and not internal and bool(alert.fields),
            window_ns=ours.window_ns or plan.window_ns,
            most_passed=1 + most,
            passes_all_variants=alert.priority in limits.protected,
            learns=definition is not None,
            definition=definition or b"",
            limited=limited,
            may_be_diverted=limited or (bound and (limits.overall or limits.per_topic) is not None),
            rate=rate,
            workload=WorkloadNames(alert, limits.by.get(alert.source, limits.by_other), self._fingerprinter),
        )


def _any_glob(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)) or r"(?!)")
