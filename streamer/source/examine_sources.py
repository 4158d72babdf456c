"""What `doctor` says of the sources of alerts: those that nobody has configured, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from streamer.model import Finding, Verdict
from streamer.telemetry.volatile import FIX_FIELDS, VolatileSource, volatile_fields
from streamer.transform.unconfigured import SourcesSeen, Unconfigured
from streamer.transform.volatile import ROUND

_NAMED: Final = 8
"""Sources whose alerts are counted by name."""
_CHECK: Final = "sources"


def examine_sources(seen: SourcesSeen, where: str) -> Iterator[Finding]:
    """One finding for each source that is not configured; `where` says which lines were read."""
    if not seen.alerts:
        return  # that there is no alert is a finding of its own
    found = seen.unconfigured()
    if not found:
        told = f"{where}: {seen.alerts.total():,} alerts, all of configured sources ({_counts(seen)})"
        yield Finding(_CHECK, Verdict.FINE, told)
        return
    shown = volatile_fields([{source: one.volatile for source, one in found.items()}])
    for (_, one), bounded in zip(sorted(found.items()), shown.sources, strict=False):
        yield _finding(one, bounded, where)
    if shown.more_sources:
        yield Finding(_CHECK, Verdict.WARNING, f"{shown.more_sources} more sources are not configured")


def _finding(one: Unconfigured, shown: VolatileSource, where: str) -> Finding:
    source = f"the source {shown.source} is not configured"
    few = (
        f"{one.undecided} of {one.kinds} kinds of alert (rule and fields) with fewer than the {ROUND} alerts that are "
        f"needed to tell which fields differ in nearly every one; the largest of them has {one.most_undecided}"
    )
    if shown.fields:
        more = f" and {shown.more_fields} more" if shown.more_fields else ""
        told = f"{source}; in nearly every one of its {one.alerts:,} alerts these fields differ: "
        told += ", ".join(shown.fields) + more + (f"; {few}" if one.undecided else "")
        return Finding(_CHECK, Verdict.WARNING, told, FIX_FIELDS)
    told = f"{source}; {where}: {one.alerts:,} alerts of it"
    if one.undecided:
        fix = (
            f"examine again when the logs hold {ROUND} alerts of a kind; or give the source an entry in "
            "dedupe.group_fields and limits.by now"
        )
        return Finding(_CHECK, Verdict.WARNING, f"{told}; {few}", fix)
    return Finding(_CHECK, Verdict.FINE, f"{told}, and no field differs in nearly every one")


def _counts(seen: SourcesSeen) -> str:
    named = seen.alerts.most_common(_NAMED)
    more = len(seen.alerts) - len(named)
    counts = ", ".join(f"{source} {count:,}" for source, count in named)
    return counts + (f" and {more} more" if more else "")
