"""What an examination found: one fact about the installation, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a finding is meant."""

    FINE = "fine"
    WARNING = "warning"
    """Work is possible, but not as well as it could be."""
    FAULT = "fault"
    """Work is not possible, or alerts are lost, late or unreadable."""
    UNAVAILABLE = "unavailable"
    """Nobody answers: what lies behind could not be examined."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `check` is a stable name, `fix` empty where there is nothing to do."""

    check: str
    verdict: Verdict
    what: str
    fix: str = ""
