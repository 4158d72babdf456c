"""The arena notices what is hidden: a judge that never objects proves nothing."""

from __future__ import annotations

import pytest

from streamer.transform.plan import Plan
from tests.adversarial.alerts import NOISE, PLAN, falco
from tests.adversarial.arena import Arena, Attack, Demand, HiddenError, Line, Mark
from tests.unit.transform.course import planned
from tests.unit.transform.samples import SECOND_NS

DROPPING = planned(filters=[{"action": "drop", "match": ['fd.name = "/etc/shadow"'], "reason": "a test"}])
LIMITED = planned(limits={"burst": 1, "rate_per_minute": 0.1})
LATER = [Line(body, 50 * SECOND_NS) for body in NOISE[:3]]


def played(plan: Plan, lines: list[Line], demand: Demand = Demand.SHOWN, **alert: str) -> None:
    """The course of a log that ends with one marked alert and what comes later."""
    marked = Line(falco({"fd.name": "/etc/shadow"}, **alert))
    attack = Attack(plan, [*lines, marked, *LATER], [Mark(len(lines), "fd.name", demand)], may_filter=True)
    for seed in range(10):
        Arena(attack, seed).run()


def test_what_is_published_is_shown() -> None:
    for demand in Demand:
        played(PLAN, [], demand)
        played(PLAN, [], demand, priority="Critical")


def test_what_is_dropped_is_hidden() -> None:
    with pytest.raises(HiddenError, match="in time"):
        played(DROPPING, [])
    with pytest.raises(HiddenError, match="not published at once"):
        played(DROPPING, [], Demand.WHOLE)
    with pytest.raises(HiddenError, match="of a protected priority"):
        played(DROPPING, [], priority="Critical")


def test_what_is_diverted_is_shown_but_not_on_its_topic() -> None:
    before = [Line(falco({"fd.name": f"/tmp/{n}"})) for n in range(5)]
    played(LIMITED, before)
    played(LIMITED, before, Demand.WHOLE)
    with pytest.raises(HiddenError, match="on the overflow topic"):
        played(LIMITED, before, Demand.ON_TOPIC)


def test_a_filter_that_drops_what_it_does_not_mean_is_noticed() -> None:
    attack = Attack(DROPPING, [Line(falco({"fd.name": "/etc/shadow"})), *LATER], [Mark(1, None)])
    with pytest.raises(AssertionError, match="no filter means it"):
        Arena(attack, 1).run()
