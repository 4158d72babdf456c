"""Values nested as deep as orjson reads, which is deeper than it writes and than Python recurses."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from streamer.model import Priority
from streamer.transform.filter import Filter, FilterAction, Filters
from streamer.transform.load import load
from streamer.transform.matcher import Matcher
from streamer.transform.process import Processor
from streamer.transform.route import Route, Router
from streamer.transform.state import ShardState
from tests.unit.transform.course import planned
from tests.unit.transform.samples import NOW_NS, SECOND_NS, START_NS, Feed, alert

NAMES: Final = ("proc.cmdline", "proc.name", "evt.time", "k8s.ns.name", "n_drops", "zz.any")
LEVELS: Final = (*range(245, 258), 500, 900, 1015)
BY_PRIORITY: Final = {priority: f"falco.alerts.{priority.label}" for priority in Priority}


@pytest.mark.parametrize("source", ["syscall", "nobody-knows", "internal"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_stop_nothing(name: str, source: str, brackets: str) -> None:
    matcher, other = Matcher.parse(f'"{name}" =~ ".*x.*"'), Matcher.parse(f'"{name}" =~ "y"')
    plan = replace(
        planned(cores=1),
        filters=Filters([Filter("deep", FilterAction.DROP, (other,))]),
        router=Router(BY_PRIORITY, [Route("elsewhere", (matcher,))]),
    )
    opening, closing = brackets[:-1].encode(), brackets[-1:].encode()
    rule = "Falco internal: syscall event drop" if source == "internal" else "A rule"
    feed, stored, lines = Feed(), dict[str, bytes](), []
    for number, levels in enumerate(LEVELS * 4):
        fields = {"proc.cmdline": f"sh {number}", "proc.name": "sh", "n_drops": 1} | {name: "<deep>"}
        body = alert(output_fields=fields, source=source, rule=rule)
        nested = opening * levels + b'"x%d"' % (number % 2) + closing * levels
        lines.append((START_NS + number * SECOND_NS, body.replace(b'"<deep>"', nested)))
    state = ShardState(plan.cluster)
    for at in range(0, len(lines), 16):
        processor = Processor(plan, state)
        publication = processor.process([feed.batch(*lines[at : at + 16])], NOW_NS)
        for key, value in publication.changes:
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        state = load(plan.cluster, stored.items())
    Processor(plan, state).publish_due(NOW_NS, everything=True)
    assert state.ledger.balanced
    assert state.ledger.alerts == len(lines)
    assert state.ledger.dead_lettered == state.ledger.filtered == 0
