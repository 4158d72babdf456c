"""The account of every line: each ends in exactly one outcome, and the sums must agree."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final


@dataclass(slots=True)
class Ledger:
    """Counters of outcomes since the shard's first line (for `replay` and `demo`: since the start).

    `lines = alerts + log_lines + invalid`, `alerts = filtered + deduplicated + limited + published`,
    `invalid = dead_lettered + dead_letter_limited`. Of the deduplicated alerts, `summarised` stand in the counts of
    summaries, or of the health records that take the place of one (`internal_error`); the rest is counted in open
    windows. The other counters are not part of the account: records that are
    not the outcome of a line (`summaries`; `health_records`, of which `gaps` report gaps) and `fragments`, which are
    not lines.
    """

    lines: int = 0
    alerts: int = 0
    log_lines: int = 0
    invalid: int = 0
    filtered: int = 0
    deduplicated: int = 0
    limited: int = 0
    published: int = 0
    dead_lettered: int = 0
    dead_letter_limited: int = 0
    summarised: int = 0
    summaries: int = 0
    health_records: int = 0
    gaps: int = 0
    fragments: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every line has exactly one outcome."""
        return (
            self.lines == self.alerts + self.log_lines + self.invalid
            and self.alerts == self.filtered + self.deduplicated + self.limited + self.published
            and self.deduplicated >= self.summarised
            and self.invalid == self.dead_lettered + self.dead_letter_limited
        )

    def copy(self) -> Ledger:
        """A ledger that later lines do not change."""
        return replace(self)

    def counters(self) -> dict[str, int]:
        """The counters by name."""
        return {name: getattr(self, name) for name in _NAMES}

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*[getattr(self, name) + getattr(other, name) for name in _NAMES])

    def as_dict(self) -> dict[str, int | bool]:
        """The counters by name, and whether they balance."""
        return self.counters() | {"balanced": self.balanced}


_NAMES: Final = tuple(field.name for field in fields(Ledger))
