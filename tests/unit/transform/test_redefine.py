"""Another plan in mid course: windows whose key is the same stay, the others are told; nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.transform.fingerprint import FingerprintPlan, KeyFields
from streamer.transform.treatment import DedupeOverride, DedupePlan
from tests.unit.transform.samples import FALCO, NOW_NS, SECOND_NS, START_NS
from tests.unit.transform.test_dedupe import DEDUPE, MOST_VARIANTS, UNLIMITED, Line, Run, streams

VOLATILE: Final = ("evt.time*",)
BY_BOTH: Final = FingerprintPlan({"syscall": KeyFields(("proc.name", "proc.cmdline"))}, volatile=VOLATILE)
OTHER_SOURCE: Final = FingerprintPlan(
    {"syscall": KeyFields(("proc.name",)), "okta": KeyFields(("okta.actor.name",))}, volatile=VOLATILE
)
ONE_VARIANT: Final = FingerprintPlan({"syscall": KeyFields(("proc.name",), ("proc.exe",))}, volatile=VOLATILE)
LESS_VOLATILE: Final = replace(DEDUPE.fingerprint, volatile=("evt.tim*",))
UNLIKE: Final = replace(DEDUPE.fingerprint, normalisers=())
PLANS: Final = [
    DEDUPE,
    replace(DEDUPE, fingerprint=BY_BOTH),
    replace(DEDUPE, fingerprint=OTHER_SOURCE),
    replace(DEDUPE, fingerprint=ONE_VARIANT),
    replace(DEDUPE, fingerprint=LESS_VOLATILE),
    replace(DEDUPE, fingerprint=UNLIKE),
    replace(DEDUPE, enabled=False),
    replace(DEDUPE, max_variants=0, window_ns=(7 * SECOND_NS,)),
]


def replan(run: Run, dedupe: DedupePlan) -> None:
    plan = replace(UNLIMITED, dedupe=dedupe)
    run.commit(run.processor.publish_redefined(plan, NOW_NS))
    run.plan = plan
    run.processor.replan(plan)


def repeated(group: str = "nc", count: int = 3, first: int = 0) -> list[Line]:
    return [Line(START_NS + n * SECOND_NS, group, "a") for n in range(first, first + count)]


def told(run: Run) -> list[tuple[Any, ...]]:
    return [(value["summary"]["reason"], value["summary"]["count"]) for value in run.values("summary")]


def test_a_window_whose_key_stays_goes_on_counting() -> None:
    for dedupe in (DEDUPE, replace(DEDUPE, fingerprint=OTHER_SOURCE), replace(DEDUPE, max_variants=0)):
        run = Run()
        run.lines(FALCO, repeated())
        replan(run, dedupe)
        assert told(run) == []
        run.lines(FALCO, repeated(first=3))
        assert len(run.passed()) == 1
        run.end()
        assert told(run) == [("end", 5)]


def test_a_window_whose_key_changes_is_told_and_the_next_alert_is_a_first_one() -> None:
    for dedupe in (replace(DEDUPE, fingerprint=BY_BOTH), replace(DEDUPE, fingerprint=ONE_VARIANT)):
        run = Run()
        run.lines(FALCO, repeated())
        replan(run, dedupe)
        assert told(run) == [("reload", 2)]
        assert run.values("summary")[0]["summary"]["final"]
        run.lines(FALCO, repeated(first=3))
        assert len(run.passed()) == 2
        run.crash()  # what is stored is what is known


def test_a_window_that_has_counted_nothing_does_not_judge_by_another_key() -> None:
    """Its variants are as many as may pass, by what no longer tells variants apart: they are no reason to count."""
    for fingerprint in (ONE_VARIANT, LESS_VOLATILE, UNLIKE):
        run = Run()
        variants = [Line(START_NS + n * SECOND_NS, "nc", name) for n, name in enumerate("abc")]
        run.lines(FALCO, variants)
        assert len(run.passed()) == 1 + MOST_VARIANTS
        replan(run, replace(DEDUPE, fingerprint=fingerprint))
        again = Line(START_NS + 9 * SECOND_NS, "nc", "d")
        run.lines(FALCO, [again])
        assert run.passed()[-1] == again.body()
        run.crash()


def test_a_window_that_has_counted_nothing_stays_where_its_key_does() -> None:
    for dedupe in (replace(DEDUPE, fingerprint=OTHER_SOURCE), replace(DEDUPE, window_ns=(7 * SECOND_NS,))):
        run = Run()
        run.lines(FALCO, repeated(count=1))
        replan(run, dedupe)
        run.lines(FALCO, repeated(first=1))
        assert len(run.passed()) == 1


def test_what_is_not_counted_any_more_is_told_and_passes() -> None:
    for dedupe in (
        replace(DEDUPE, enabled=False),
        replace(DEDUPE, overrides=(DedupeOverride(("Terminal*",), False),)),
    ):
        run = Run()
        run.lines(FALCO, repeated())
        replan(run, dedupe)
        assert told(run) == [("reload", 2)]
        run.lines(FALCO, repeated(first=3))
        assert len(run.passed()) == 4


def test_a_change_for_one_rule_leaves_the_windows_of_the_others() -> None:
    run = Run()
    run.lines(FALCO, repeated())
    replan(run, replace(DEDUPE, overrides=(DedupeOverride(("Other rule",), False),)))
    run.lines(FALCO, repeated(first=3))
    assert told(run) == []
    assert len(run.passed()) == 1


def test_where_nothing_was_counted_there_is_nothing_to_tell() -> None:
    run = Run()
    run.lines(FALCO, repeated(count=1))
    assert run.processor.publish_redefined(replace(UNLIMITED, dedupe=PLANS[1]), NOW_NS) is None


def test_the_key_of_a_state_that_was_never_stored_is_stored_after_a_reload() -> None:
    run = Run()
    replan(run, PLANS[1])
    run.lines(FALCO, repeated())
    assert "key" in run.live
    run.crash()


@settings(max_examples=40)
@given(st.data())
def test_no_alert_is_lost_or_told_twice_over_any_reloads_and_crashes(data: st.DataObject) -> None:
    run, written = Run(), 0
    for lines in data.draw(st.lists(streams(12), min_size=1, max_size=5)):
        run.lines(FALCO, lines)  # and the run checks its ledger at each commit
        written += len(lines)
        replan(run, data.draw(st.sampled_from(PLANS)))
        if data.draw(st.booleans()):
            run.crash()
    run.end()
    assert len(run.passed()) + sum(value["summary"]["count"] for value in run.values("summary")) == written
