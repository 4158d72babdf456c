"""What attackers have to work with: alerts with any command lines, names and fields, and plans under pressure."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any, Final

import orjson

from streamer.simulator import AlertGenerator
from streamer.transform.plan import Plan
from tests.unit.transform.course import planned
from tests.unit.transform.samples import START_NS, alert

PLAN: Final = planned()
"""All defaults."""

FIELDS: Final[dict[str, Any]] = orjson.loads(alert())["output_fields"] | {
    "fd.name": "/etc/hosts",
    "proc.name": "sh",
    "proc.pcmdline": "containerd-shim -namespace k8s.io",
    "user.name": "root",
    "proc.pid": 4711,
}
EVIDENCE: Final = ("proc.cmdline", "fd.name", "proc.pcmdline", "evt.args", "proc.exepath", "zz.last")
"""Fields that tell variants apart, some of which the rule may not print; first and last in any order."""

VOLATILE: Final = (
    *("evt.time", "evt.num", "evt.rawtime", "proc.pid", "proc.ppid", "proc.vpid", "proc.duration"),
    *("fd.num", "fd.cport", "thread.tid", "container.start_ts", "proc.nthreads", "evt.latency"),
)
"""Fields that differ each time without meaning anything, whatever their values are."""

_DEEP: Final = re.compile(rb'"<deep (\d+)>"')

_generator = AlertGenerator(3, combinations=300)
NOISE: Final = [_generator.alert(START_NS + n, "node-1") for n in range(400)]
"""What a cluster says all day."""


def falco(fields: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """An alert with other fields."""
    return _DEEP.sub(_nested, alert(output_fields=FIELDS | (fields or {}), **changed))


def acme(rng: random.Random, number: int, fields: dict[str, Any], **changed: Any) -> bytes:
    """An alert of a plugin that nobody has heard of: each has another id, time and number."""
    event: dict[str, Any] = {
        "acme.action": "login",
        "acme.actor": "alice",
        "acme.detail": "",
        "acme.id": f"{rng.getrandbits(128):032x}",
        "acme.seq": number,
        "acme.target": "portal",
        "acme.ts": START_NS + rng.getrandbits(40),
    }
    kind = {"rule": "Acme activity", "source": "acme", "tags": ["acme"], "output_fields": event | fields}
    return alert(**(kind | changed))


def deep(levels: int) -> str:
    """Stands for a list in a list in a list: more levels than Python's and orjson's writers take."""
    return f"<deep {levels}>"


def _nested(match: re.Match[bytes]) -> bytes:
    levels = int(match[1])
    return b"[" * levels + b"]" * levels


def unique(rng: random.Random) -> str:
    """A text that is nowhere else, and that no normaliser touches."""
    return f"Mark{rng.getrandbits(64):016X}kraM"


def pressed(rng: random.Random, limits: dict[str, Any] | None = None, **fixed: Any) -> Plan:
    """The defaults, in two of three cases with one or more bounds so tight that pressure is cheap.

    `limits` and `fixed`, which are settings of `dedupe`, are laid over.
    """
    dedupe: dict[str, Any] = {}
    tight: dict[str, Any] = {}
    if rng.random() < 2 / 3:
        dedupe = {
            "max_variants": rng.choice((0, 1, 3, 10)),
            "max_windows": rng.choice((1, 2, 7, 200_000)),
            "max_evidence_bytes": rng.choice((1, 3000, 50_000, 10**8)),
        }
        tight = rng.choice((rate(1, 1), rate(60, 5), rate(60, 300)))
        tight |= {
            "enabled": rng.random() < 0.8,
            "by": {"syscall": rng.choice((["rule"], ["priority"], ["rule", "proc.name"]))},
            "max_buckets": rng.choice((1, 2, 200_000)),
            "overall": rng.choice((None, None, rate(10, 3))),
            "per_topic": rng.choice((None, rate(10, 3))),
            "target": rng.choice(({"enabled": False}, rate(5, 3), rate(120, 800))),
        }
    own, others = planned(1, dedupe=dedupe | fixed), planned(1, limits=tight | (limits or {}))
    return replace(own, limits=others.limits)


def rate(per_minute: float, burst: int) -> dict[str, Any]:
    """A rate as in the settings."""
    return {"rate_per_minute": per_minute, "burst": burst}
