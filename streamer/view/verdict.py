"""Whether a cluster's alerts arrive: OK, DEGRADED or BLIND, with reasons. Pure: of health records and the time.

BLIND: of some Falco pod, or of all, no alert can arrive. DEGRADED: alerts arrive, but some are or were lost, late, or
diverted. What happened once counts for an hour (`RECENT_MS`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from streamer.view.health import ClusterHealth, Event, Pod

UNREPORTED_MS: Final = 600_000
"""A pod without a coverage record for so long is as good as blind (docs/consuming.md)."""
RECENT_MS: Final = 3_600_000
LATE_MS: Final = 60_000
"""A pod whose alerts usually come later than this is late."""
_NAMED: Final = 3
"""Pods that a reason names."""

_JSON_FIX: Final = "Set `json_output: true` in Falco's configuration (`falco.json_output` in its Helm chart)."
_BLIND_FIX: Final = "`falco-streamer doctor` says why; `kubectl describe pod` shows whether Falco runs."
_WORKER_FIX: Final = (
    "See whether the worker of this cluster runs: its `/readyz?verbose`, and `falco-streamer doctor`."
)
_GONE_FIX: Final = "Nothing is to be done if the node was removed. Else see why no Falco pod runs on it."
_GAP_FIXES: Final = {
    "rotation_unseen": "Raise the kubelet's `containerLogMaxSize`, and see why the worker was behind.",
    "instances_skipped": "See why Falco restarts, and whether a worker ran at that time.",
    "pod_gone": "See whether a worker ran when the pod was deleted.",
}
_STORM_FIX: Final = (
    "The alerts are whole on the overflow topic. Look at the workload, or add a filter or an exception."
)
_DROP_FIX: Final = (
    "Give Falco larger buffers (`engine.modern_ebpf.buf_size_preset`), more CPU, or fewer rules."
)
_LATE_FIX: Final = (
    "Set `buffered_outputs: false` in Falco; before 0.44 run it with `-U`. "
    "If the worker is behind, its page shows the lag."
)
_LETTERS_FIX: Final = "Look at the dead-letter topic: something prints to Falco's log what is no alert."


class State(StrEnum):
    """How a cluster stands; the later ones are worse."""

    OK = "ok"
    DEGRADED = "degraded"
    BLIND = "blind"


_ORDER: Final = list(State)


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a cluster is not OK."""

    state: State
    what: str
    since_ms: int
    fix: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one cluster stands."""

    cluster: str
    state: State
    since_ms: int | None
    """Since when it is not OK; None if it is."""
    causes: tuple[Cause, ...]
    """The worst first."""
    summary: str
    """What there is, in a few words."""
    reported_ms: int | None
    """When a pod's coverage was last reported."""

    def as_dict(self) -> dict[str, Any]:
        """As the page gets it."""
        causes = [
            {"state": each.state, "what": each.what, "since_ms": each.since_ms, "fix": each.fix}
            for each in self.causes
        ]
        return {
            "cluster": self.cluster,
            "state": self.state,
            "since_ms": self.since_ms,
            "causes": causes,
            "summary": self.summary,
            "reported_ms": self.reported_ms,
        }


def judge(health: ClusterHealth, now_ms: int) -> Verdict:
    """How a cluster stands at a time."""
    pods = current_pods(health, now_ms)
    reported_ms = max((pod.reported_ms for pod in health.pods.values()), default=None)
    found: list[Cause] = []
    if reported_ms is None or now_ms - reported_ms > UNREPORTED_MS:
        found.append(_nobody(reported_ms, health.first_ms))
    else:
        found += _coverage(pods, now_ms)
    found += _events(health, now_ms)
    found += _late(health, pods, now_ms)
    causes = tuple(sorted(found, key=lambda each: (-_ORDER.index(each.state), -each.since_ms)))
    state = causes[0].state if causes else State.OK
    since_ms = min((each.since_ms for each in causes if each.state is state), default=None)
    return Verdict(health.name, state, since_ms, causes, _summary(pods), reported_ms)


def state_of(pod: Pod, now_ms: int) -> str:
    """The state of a pod: as reported, or `unreported` where that is too long ago."""
    return pod.coverage if now_ms - pod.reported_ms <= UNREPORTED_MS else "unreported"


def current_pods(health: ClusterHealth, now_ms: int) -> list[Pod]:
    """The pods that count: without those that another one has replaced, and those that are gone for an hour."""
    newest: dict[tuple[str, str, str], Pod] = {}
    for pod in health.pods.values():
        if now_ms - pod.reported_ms <= UNREPORTED_MS and pod.coverage != "blind":
            at = _place(pod)
            if at not in newest or pod.first_ms > newest[at].first_ms:
                newest[at] = pod
    found = []
    for pod in health.pods.values():
        state = state_of(pod, now_ms)
        successor = newest.get(_place(pod))
        # One that went blind was replaced by what came after that; of one that is gone, it is not known when it went.
        went_ms = pod.since_ms if state == "blind" else pod.first_ms
        replaced = successor is not None and successor is not pod and successor.first_ms > went_ms
        if state in {"blind", "unreported"} and replaced:
            continue
        if state == "unreported" and now_ms - pod.reported_ms > RECENT_MS:
            continue
        found.append(pod)
    return found


def _place(pod: Pod) -> tuple[str, str, str]:
    """Where a pod and the one that takes its place both are."""
    return pod.target.namespace, pod.target.node, pod.target.container


def _nobody(reported_ms: int | None, first_ms: int) -> Cause:
    if reported_ms is None:
        what = "No Falco pod has been reported: nobody says whether alerts would arrive"
        return Cause(State.BLIND, what, first_ms, _WORKER_FIX + " `health.coverage_seconds` must be set.")
    return Cause(
        State.BLIND,
        "No Falco pod is reported any more: no worker watches this cluster",
        reported_ms,
        _WORKER_FIX,
    )


def _coverage(pods: Sequence[Pod], now_ms: int) -> Iterator[Cause]:
    for state, verdict, words, fix in (
        ("blind", State.BLIND, "blind: the log is not being read", _BLIND_FIX),
        ("text", State.DEGRADED, "in text mode: alerts become dead letters", _JSON_FIX),
        ("unreported", State.DEGRADED, "not reported any more: deleted, or not watched", _GONE_FIX),
    ):
        these = [pod for pod in pods if state_of(pod, now_ms) == state]
        if these:
            since = (pod.reported_ms if state == "unreported" else pod.since_ms for pod in these)
            what = f"{len(these)} of {len(pods)} Falco pods {_are(these)} {words} ({_names(these)})"
            yield Cause(verdict, what, min(since), fix)


def _events(health: ClusterHealth, now_ms: int) -> Iterator[Cause]:
    recent = [event for event in health.events if now_ms - event.time_ms <= RECENT_MS]
    gaps = [event for event in recent if event.health == "gap"]
    for certain in (True, False):
        if these := [gap for gap in gaps if (gap.content.get("certain") is True) == certain]:
            last = these[-1]
            what = (
                f"{_several(len(these), 'gap')}: lines {'are' if certain else 'may be'} lost, "
                f"last of {last.target.pod_name} ({last.content.get('reason')})"
            )
            fix = _GAP_FIXES.get(str(last.content.get("reason")), "docs/reading.md lists the cases.")
            yield Cause(State.DEGRADED, what, _first(these), fix)
    for storm in health.storms.values():
        workload = storm.content.get("workload")
        named = (
            ", ".join(f"{name} {value}" for name, value in workload.items())
            if isinstance(workload, dict)
            else ""
        )
        who = named or storm.content.get("name") or storm.target.pod_name
        what = f"Storm: the limit `{storm.content.get('limit')}` diverts alerts to the overflow topic ({who})"
        yield Cause(State.DEGRADED, what, storm.from_ms or storm.time_ms, _STORM_FIX)
    reports = [event for event in recent if event.health == "falco_report"]
    if reports:
        last = reports[-1]
        dropped = sum(_drops(event) for event in reports)
        lost = f"{dropped:,} system calls were lost" if dropped else str(last.content.get("rule"))
        what = (
            f"Falco reports {_several(len(reports), 'fault')} of its own: {lost}, last on {last.target.node}"
        )
        yield Cause(State.DEGRADED, what, _first(reports), _DROP_FIX)
    letters = [event for event in recent if event.health == "dead_letters_limited"]
    if letters:
        count = sum(_number(event.content.get("count")) for event in letters)
        reasons = Counter(str(event.content.get("reason")) for event in letters)
        what = f"{count:,} lines that are no valid alerts were over the limit of dead letters ({', '.join(reasons)})"
        yield Cause(State.DEGRADED, what, _first(letters), _LETTERS_FIX)


def _late(health: ClusterHealth, pods: Sequence[Pod], now_ms: int) -> Iterator[Cause]:
    def late(pod: Pod) -> bool:
        voice = health.voices.get(pod.target.pod_name)
        delay = voice.delay_ms if voice is not None and now_ms - voice.last_ms <= RECENT_MS else None
        return delay is not None and delay > LATE_MS

    if these := list(filter(late, pods)):
        worst = max(health.voices[pod.target.pod_name].delay_ms or 0 for pod in these)
        what = f"Alerts of {_several(len(these), 'Falco pod')} come up to {worst // 1000} s late ({_names(these)})"
        last_ms = max(health.voices[pod.target.pod_name].last_ms for pod in these)
        yield Cause(State.DEGRADED, what, last_ms, _LATE_FIX)


def _summary(pods: Sequence[Pod]) -> str:
    nodes = len({pod.target.node for pod in pods})
    return f"{_several(len(pods), 'Falco pod')} on {_several(nodes, 'node')}"


def _first(events: Sequence[Event]) -> int:
    return min(event.time_ms for event in events)


def _drops(event: Event) -> int:
    counters = event.content.get("counters")
    return _number(counters.get("n_drops")) if isinstance(counters, dict) else 0


def _number(value: object) -> int:
    """A counter: Falco prints them as numbers or, in older releases, as text."""
    if type(value) is int:
        return max(0, value)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else 0


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _are(these: Sequence[Pod]) -> str:
    return "is" if len(these) == 1 else "are"


def _names(pods: Sequence[Pod]) -> str:
    names = [f"{pod.target.pod_name} on {pod.target.node or 'no node'}" for pod in pods[:_NAMED]]
    return ", ".join(names) + (f", and {len(pods) - _NAMED:,} more" if len(pods) > _NAMED else "")
