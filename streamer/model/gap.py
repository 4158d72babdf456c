"""A hole in a target's log: lines that were, or may have been, written and cannot be read any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class GapReason(StrEnum):
    """Why lines may be missing."""

    ROTATION_UNSEEN = "rotation_unseen"  # the last line taken is not in the log any more: rotated away
    INSTANCES_SKIPPED = "instances_skipped"  # the container ran and ended while nobody followed it
    POD_GONE = "pod_gone"  # the pod was removed before its log was read to the end


CERTAIN_REASONS: Final = frozenset({GapReason.INSTANCES_SKIPPED})
"""Reasons of gaps in which lines must be missing; a gap of any reason may be one in which they may be."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole before the batch that carries it, from the last line taken to the first line read after it."""

    reason: GapReason
    certain: bool
    from_ns: int | None
    to_ns: int | None
    detail: str = ""
    evidence: tuple[Mapping[str, str | int | float | bool | None], ...] = ()
    """What was seen, one item for each time that lines were, or may have been, missed: `case` names the kind."""
