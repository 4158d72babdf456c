"""Attacks by a crowd: each makes a log, from a seed, in which one marked alert is to go unseen among others."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.adversarial.alerts import EVIDENCE, NOISE, deep, falco, pressed, rate, unique
from tests.adversarial.arena import Attack, Line, Mark
from tests.unit.transform.samples import SECOND_NS, alert

_STEPS_NS: Final = tuple(
    round(seconds * SECOND_NS) for seconds in (0, 1e-9, 1, 9, 59, 61, 301, 1900, 86_400, 31_536_000)
)
_BACK_NS: Final = tuple(-step_ns for step_ns in (*_STEPS_NS, 11 * SECOND_NS))
Bodies = list[bytes]


def _hide(rng: random.Random, place: str | None, crowd: Bodies, marked: bytes, **dedupe: Any) -> Attack:
    """The marked alert anywhere in a crowd of which some come again, with a little of what a cluster always says."""
    crowd = crowd + rng.choices(crowd, k=rng.randrange(8)) + rng.sample(NOISE, 2)
    if rng.random() < 0.5:
        rng.shuffle(crowd)
    at = rng.randrange(len(crowd) + 1) if rng.random() < 0.3 else len(crowd)
    bodies = [*crowd[:at], marked, *crowd[at:]]
    usual_ns = rng.choice((0, 1_000_000, SECOND_NS, 7 * SECOND_NS))
    return Attack(pressed(rng, **dedupe), [Line(body, usual_ns) for body in bodies], [Mark(at, place)])


def variants(rng: random.Random) -> Attack:
    """More variants of a group than pass, and the marked one among them."""
    marker, name = unique(rng), rng.choice(EVIDENCE)
    crowd = [falco({name: f"sh -c {n}"}) for n in range(rng.randrange(1, 25))]
    return _hide(rng, name, crowd, falco({name: f"sh -c {marker}"}))


def other_fields(rng: random.Random) -> Attack:
    """The marker stands in another field than those that differ in the crowd, which differ at length."""
    marker, noisy = unique(rng), rng.sample(EVIDENCE, rng.randrange(1, len(EVIDENCE)))
    quiet = rng.choice([name for name in EVIDENCE if name not in noisy])

    def crowded(n: int) -> dict[str, Any]:
        return {name: f"{n} {rng.getrandbits(64)} " * rng.choice((1, 3, 12, 60)) for name in noisy}

    crowd = [falco({quiet: "usual", **crowded(n)}) for n in range(14)]
    return _hide(rng, quiet, crowd, falco({quiet: marker, **crowded(99)}))


def padding(rng: random.Random) -> Attack:
    """Long texts around the marker: equal ones, different ones, and both, before it and behind it."""
    marker, name = unique(rng), rng.choice(EVIDENCE)
    sizes = (0, 1, 16, 31, 33, 240, 257, 1000, 4000)
    filling = rng.choice(("a", "ä", "\\", " ", "\x01", "😀", '"'))
    same = filling * rng.choice(sizes)

    def text(core: str) -> str:
        own = rng.choice(("", "x", "y", filling))
        return same + own + filling * rng.choice(sizes) + core + filling * rng.choice(sizes)

    crowd = [falco({name: text(f"sh {n}")}) for n in range(rng.choice((2, 13)))]
    return _hide(rng, name, crowd, falco({name: text(marker)}))


def long_texts(rng: random.Random) -> Attack:
    """Alerts so long that a sample of them is cut; a few of a megabyte."""
    marker, name = unique(rng), rng.choice(EVIDENCE)
    size = 700_000 if rng.random() < 0.005 else rng.choice((15_000, 17_000, 40_000))
    filling = rng.choice("az ") * size
    before, after = rng.choice(((filling, ""), ("", filling)))
    places = rng.sample(EVIDENCE, 2)
    beside = dict.fromkeys(places, filling) if rng.random() < 0.3 else {}
    crowd = [falco({**beside, name: f"{before}sh {n}{after}"}) for n in range(rng.choice((1, 4, 12)))]
    return _hide(
        rng,
        name,
        crowd,
        falco({**beside, name: f"{before}{marker}{after}"}),
        max_variants=rng.choice((0, 10)),
    )


def burned_bucket(rng: random.Random) -> Attack:
    """The bucket is empty before the marked alert comes: by its own rule, by others, or by other processes."""
    marker = unique(rng)
    rules = ["Terminal shell in container", *(f"Rule {n}" for n in range(rng.choice((0, 3))))]
    crowd = [falco({"proc.name": f"p{n}"}, rule=rng.choice(rules)) for n in range(25)]
    own = rng.choice(({}, {"proc.name": "p1"}, {"proc.name": "evil"}))
    found = _hide(rng, "proc.cmdline", crowd, falco({**own, "proc.cmdline": marker}))
    limits = rng.choice((rate(1, 1), rate(0.001, 1), rate(60, 10)))
    return replace(found, plan=pressed(rng, limits))


def eviction(rng: random.Random) -> Attack:
    """Other groups push the marked alert's window out, before it comes and after."""
    marker = unique(rng)
    own = [falco({"proc.cmdline": f"sh {n}"}) for n in range(rng.randrange(14))]
    flush = [falco({"proc.name": f"p{n}"}) for n in range(rng.randrange(1, 30))]
    crowd = own + flush
    rng.shuffle(crowd)
    bounds = {"max_windows": rng.choice((1, 2, 3, 16)), "max_evidence_bytes": rng.choice((1, 2000, 10**6))}
    return _hide(rng, "proc.cmdline", crowd, falco({"proc.cmdline": marker}), **bounds)


def clock_steps(rng: random.Random) -> Attack:
    """Timestamps of the future, steps back, and clocks that stand still."""
    found = rng.choice((variants, eviction, burned_bucket))(rng)
    steps = rng.choice((_STEPS_NS, _BACK_NS, _STEPS_NS + _BACK_NS, (9 * SECOND_NS, -9 * SECOND_NS)))
    lines = [Line(line.body, rng.choice(steps) if rng.random() < 0.4 else 0) for line in found.lines]
    lines[0] = Line(lines[0].body, 2_000_000_000 * SECOND_NS)  # so that no step leads before 1970
    return replace(found, lines=lines)


def odd_values(rng: random.Random) -> Attack:
    """Key fields that are missing, null, lists, objects, numbers or deep; the marker stands in any of them."""
    marker = unique(rng)

    def odd(n: object) -> object:
        plain: tuple[object, ...] = (
            None,
            "",
            [],
            {},
            [n],
            {"a": n},
            str(n),
            [None, [n]],
            True,
            1,
            1.0,
            "1",
            -1,
            2**64 - 1,
        )
        return rng.choice((*plain, deep(rng.choice((10, 300, 1015)))))

    def fields(n: object) -> dict[str, Any]:
        names = rng.sample((*EVIDENCE, "proc.name", "container.id", "k8s.ns.name", "user.name"), 3)
        return {name: odd(n) for name in names}

    crowd = [falco(fields(n)) for n in range(rng.randrange(1, 20))]
    place = rng.choice((*EVIDENCE, "proc.name", "container.id"))
    value = rng.choice((marker, [marker], {"a": marker}, [None, 1, marker]))
    return _hide(rng, place, crowd, falco(fields(0) | {place: value}))


def no_fields(rng: random.Random) -> Attack:
    """Alerts without usable `output_fields`: `output` is all the evidence there is."""
    marker = unique(rng)
    nothing: Any = rng.choice((..., None, {}, [], "text", ["a"]))
    crowd = [
        alert(output_fields=nothing, output=f"10:00:00.000000000: Notice A shell {n}") for n in range(15)
    ]
    return _hide(
        rng,
        None,
        crowd,
        alert(output_fields=nothing, output=f"10:00:00.000000000: Notice A shell {marker}"),
    )


def normalised(rng: random.Random) -> Attack:
    """Values that look like what is taken out of them, around the marker; the same without it come before."""
    marker = unique(rng)
    shapes = (
        "/tmp/tmp.{rand}/{core}",
        "/tmp/tmp{rand}{core}",
        "/tmp/tmp.{core}",
        "/proc/{pid}{core}/environ",
        "/proc/{pid}/task/{pid}/{core}",
        "10.0.0.7:{port}->{core}:443",
        "{core}:{port}->10.0.0.1:443",
        "10.0.0.7:{core}{port}->10.0.0.1:443",
        "a:{port}->b:{port}->{core}",
        "tmp.{rand}{core} /proc/{pid} 10.0.0.7:{port}->/tmp/tmp{rand}",
    )
    shape, name = rng.choice(shapes), rng.choice(EVIDENCE)

    def text(core: str) -> str:
        rand = "".join(rng.choices("abcdefgh12345678", k=8))
        return shape.format(
            rand=rand, core=core, pid=rng.randrange(1, 99_999), port=rng.choice((80, 40_000, 51_234))
        )

    crowd = [falco({name: text(rng.choice(("", "x", "sh")))}) for _ in range(rng.randrange(1, 25))]
    return _hide(rng, name, crowd, falco({name: text(marker)}))


def rule_names(rng: random.Random) -> Attack:
    """Many rules, priorities and sources: what was worked out for each is forgotten again and again."""
    marker = unique(rng)
    kinds = [
        {
            "rule": f"Rule {n}",
            "priority": rng.choice(("Notice", "critical", "Debug")),
            "source": rng.choice("ab"),
        }
        for n in range(30)
    ]
    crowd = [falco({"proc.cmdline": f"sh {n}"}, **rng.choice(kinds)) for n in range(30)]
    return _hide(rng, "proc.cmdline", crowd, falco({"proc.cmdline": marker}, **rng.choice(kinds)))


def any_two(rng: random.Random) -> Attack:
    """Two attacks at once: the lines of one between those of the other, and both are to be seen."""
    own, other = rng.choice(CROWDS)(rng), rng.choice(CROWDS)(rng)
    order = [True] * len(own.lines) + [False] * len(other.lines)
    rng.shuffle(order)
    lines, marks, at = list[Line](), list[Mark](), [0, 0]
    for is_own in order:
        attack, index = (own, at[0]) if is_own else (other, at[1])
        at[0 if is_own else 1] += 1
        line = attack.lines[index]
        marks += [Mark(len(lines), mark.place) for mark in attack.marks if mark.at == index]
        lines.append(line if is_own else Line(line.body, max(0, line.step_ns)))
    return Attack(rng.choice((own.plan, other.plan)), lines, marks)


CROWDS: Final[tuple[Callable[[random.Random], Attack], ...]] = (
    variants,
    other_fields,
    padding,
    long_texts,
    burned_bucket,
    eviction,
    clock_steps,
    odd_values,
    no_fields,
    normalised,
    rule_names,
)
