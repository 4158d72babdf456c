"""What is known of a target as a source of alerts, so that "no alerts" differs from "no data"."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from streamer.model.target import Target


class Coverage(StrEnum):
    """How well a target is covered."""

    FOLLOWING = "following"  # a stream is open, and lines have come lately
    SILENT = "silent"  # a stream is open, and nothing has come for a while: Falco has nothing to say
    TEXT = "text"  # Falco prints its alerts as text: nobody can read them
    BLIND = "blind"  # no stream is open: what happens on its node is not reported


class CoverageReport(NamedTuple):
    """What is to be reported of one target."""

    target: Target
    coverage: Coverage
    since_ns: int
    """Since when it is so, by our clock, as far as this worker knows."""
    changed: bool
    """Whether it is another state than the one reported last."""
