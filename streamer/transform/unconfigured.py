"""What a piece of the logs shows of sources that nobody has configured: which fields differ in nearly every alert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.model import Alert
from streamer.transform.parse import parse
from streamer.transform.plan import Plan
from streamer.transform.stamp import StampReader
from streamer.transform.treatment import LimitPlan, Treatments
from streamer.transform.volatile import ROUND, Kind


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """A source whose fields are learned, as far as the lines show them."""

    alerts: int
    kinds: int
    """Of alerts: one for each rule and set of fields."""
    undecided: int
    """Kinds with too few alerts to be decided about: fewer than `ROUND`."""
    most_undecided: int
    """The alerts of that one of them that has most."""
    volatile: tuple[str, ...]
    """The fields that differ in nearly every alert of a kind."""


class SourcesSeen:
    """Takes lines and learns as a worker does; but the logs of all pods together, since a piece of each is short."""

    def __init__(self, plan: Plan) -> None:
        self.alerts = Counter[str]()
        """By source, those that no filter drops."""
        self._filters = plan.filters
        self._treatments = Treatments(plan.dedupe, LimitPlan(enabled=False), b"")
        self._stamps = StampReader()
        self._kinds: dict[bytes, Kind] = {}
        self._seen = Counter[bytes]()

    def take(self, lines: Iterable[tuple[bytes, int]]) -> None:
        """Read lines: the text behind the timestamp, and that timestamp in ns."""
        for body, line_ns in lines:
            alert = parse(body, line_ns, self._stamps)
            if isinstance(alert, Alert) and self._filters.drops(alert, line_ns) is None:
                self.alerts[alert.source] += 1
                self._learn(alert)

    def _learn(self, alert: Alert) -> None:
        treatment = self._treatments.of(alert)
        selection = treatment.selection
        if treatment.learns and treatment.deduplicated and selection.fingerprint(alert) is not None:
            kind = self._kinds.setdefault(selection.key, Kind(alert.rule, alert.source))
            kind.learn(selection.evidence(alert))
            self._seen[selection.key] += 1

    def unconfigured(self) -> dict[str, Unconfigured]:
        """The sources that are not configured, by name."""
        found = {}
        for source in sorted({kind.source for kind in self._kinds.values()}):
            seen = {key: self._seen[key] for key, kind in self._kinds.items() if kind.source == source}
            few = [alerts for alerts in seen.values() if alerts < ROUND]
            volatile = {name for key in seen for name in self._kinds[key].volatile}
            found[source] = Unconfigured(
                alerts=sum(seen.values()),
                kinds=len(seen),
                undecided=len(few),
                most_undecided=max(few, default=0),
                volatile=tuple(sorted(volatile)),
            )
        return found
