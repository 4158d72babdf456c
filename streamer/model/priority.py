"""Falco's eight alert priorities."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Priority(IntEnum):
    """Falco's priorities, the most severe first; the number is the syslog severity, as in Falco's engine."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFORMATIONAL = 6
    DEBUG = 7

    @property
    def label(self) -> str:
        """The lower-case name, as it stands in topics, headers and metrics."""
        return self.name.lower()

    @staticmethod
    def parse(text: str) -> Priority | None:
        """Read a priority in any case; `Info` is accepted as Falco's own configuration accepts it."""
        return PRIORITIES.get(text) or PRIORITIES.get(text.lower())


# `Priority.EMERGENCY` is 0 and so false: the table holds it under its capitalised name too, and `parse`
# falls through to the same answer.
PRIORITIES: Final[dict[str, Priority]] = {
    spelling: priority for priority in Priority for spelling in (priority.label, priority.label.capitalize())
} | {"info": Priority.INFORMATIONAL}
"""By name, as Falco and people write it."""
