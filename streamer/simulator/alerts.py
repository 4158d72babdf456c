"""A generator of Falco's alerts: endless, skewed as real ones are, the same for the same seed."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from typing import TYPE_CHECKING

from streamer.simulator.other_rules import AUDIT_RULES
from streamer.simulator.syscall_rules import SYSCALL_RULES
from streamer.simulator.templates import alert_template, drop_template
from streamer.simulator.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Collection

    from streamer.simulator.rules import Rule

SOURCES = ("syscall", "k8s_audit", "internal")
_DRAW = 1024
_POD_LETTERS = b"bcdfghjklmnpqrstvwxz2456789"


class AlertGenerator:
    """Alerts of a cluster's Falco pods.

    `combinations`: how many (rule, act, pod) there are; how often each comes falls with its rank to the
    power of `skew` (Zipf), so that a handful makes most lines. `version` is Falco's, and decides about
    keys and bytes. `sources`: which of `SOURCES` to draw from. `utc_offset_minutes`: the zone of the
    containers, in which `output` begins with the time. `message_key`: json_include_message_property.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        combinations: int = 2000,
        skew: float = 1.2,
        version: tuple[int, int] = (0, 44),
        sources: Collection[str] = SOURCES,
        utc_offset_minutes: int = 0,
        message_key: bool = False,
    ) -> None:
        self._rng = rng = random.Random(seed)  # made-up alerts, not secrets
        self._version = version
        self._message_key = message_key
        self._zone = dt.timezone(dt.timedelta(minutes=utc_offset_minutes))
        rules = [r for r in (*SYSCALL_RULES, *AUDIT_RULES) if r.source in sources]
        self._templates = [self._template(rule) for rule in _ranked(rng, rules, combinations)]
        if "internal" in sources:
            self._templates.insert(min(40, len(self._templates)), drop_template(version))
        if not self._templates:
            msg = f"no alerts to draw: sources must be among {', '.join(SOURCES)}"
            raise ValueError(msg)
        ranks = range(1, len(self._templates) + 1)
        self._weights = list(itertools.accumulate(rank**-skew for rank in ranks))
        self._drawn: list[bytes] = []
        self._second = -1
        self._iso = self._clock = b""
        self._hosts: dict[str, tuple[bytes, bytes, bytes]] = {}

    def alert(self, time_ns: int, hostname: str) -> bytes:
        """The next alert, without a newline: of this moment, from the Falco on this node."""
        if not self._drawn:
            self._drawn = self._rng.choices(self._templates, cum_weights=self._weights, k=_DRAW)
        host, pod, container = self._hosts.get(hostname) or self._new_host(hostname)
        second, nanosecond = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            self._new_second(second)
        fraction = b"%09d" % nanosecond
        chance = self._rng.getrandbits(48)
        return self._drawn.pop() % {
            b"host": host,
            b"pod": pod,
            b"cid": container,
            b"clock": self._clock + fraction,
            b"iso": self._iso + fraction + b"Z",
            b"ns": b"%d" % time_ns,
            b"port": b"%d" % (32768 + chance % 28232),  # Linux' range of client ports
            b"number": b"%d" % (chance >> 40),
            b"temp": b"%08x" % (chance & 0xFFFFFFFF),
        }

    def _template(self, rule: Rule) -> bytes:
        rng = self._rng
        act = rng.choice(rule.acts)
        workload = rng.choice([w for w in WORKLOADS if act.workload in {"", w.name}])
        return alert_template(rng, rule, act, workload, self._version, message_key=self._message_key)

    def _new_second(self, second: int) -> None:
        at = dt.datetime.fromtimestamp(second, dt.UTC)
        self._iso = at.strftime("%Y-%m-%dT%H:%M:%S.").encode()
        self._clock = at.astimezone(self._zone).strftime("%H:%M:%S.").encode()
        self._second = second

    def _new_host(self, hostname: str) -> tuple[bytes, bytes, bytes]:
        # The pods on a node have names of their own, always the same ones.
        own = random.Random(hostname)
        suffix = bytes(own.choices(_POD_LETTERS, k=5))
        found = (hostname.encode(), suffix, b"%05x" % own.getrandbits(20))
        self._hosts[hostname] = found
        return found


def _ranked(rng: random.Random, rules: list[Rule], count: int) -> list[Rule]:
    """The rules of all combinations by rank: noisy ones, then each rule once, the rest by weight.

    Rare rules (weight under 1) have their first rank far down.
    """
    if not rules:
        return []

    def draw(among: list[Rule], k: int) -> list[Rule]:
        return rng.choices(among, weights=[rule.weight for rule in among], k=k)

    usual = [rule for rule in rules if rule.weight >= 1] or rules
    noisy = [rule for rule in rules if rule.weight > 1] or usual
    rare = [rule for rule in rules if rule.weight < 1]
    head = draw(noisy, 20) + rng.sample(usual, len(usual)) + draw(usual, 100) + rare
    return (head + draw(rules, max(0, count - len(head))))[: max(1, count)]
