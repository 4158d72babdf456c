"""What commits have found wrong with alerts, for the log: dead letters, and sources that nobody has configured.

Rules and names of fields are alert content: above level `debug` the log names neither.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from streamer.model import Publication, Reason, Target
from streamer.telemetry.volatile import FIX_FIELDS

_AGAIN_SECONDS: Final = 3600.0
"""How often one source is written about."""
_MOST_SOURCES: Final = 32
"""About how many sources at most in that time."""
_FIX_FIELDS: Final = f"{FIX_FIELDS}; health records and /status name the fields"
_FIXES: Final[Mapping[Reason, str]] = {
    Reason.TEXT_ALERT: "Falco prints its alerts as text: set `falco.json_output: true` in the Falco chart's values "
    "(`json_output: true` in falco.yaml)",
    Reason.LINE_TOO_LONG: "raise kubernetes.max_line_bytes, and the topics' max.message.bytes with it",
    Reason.RECORD_TOO_LARGE: "raise max.message.bytes of the topic",
    Reason.INTERNAL_ERROR: "a fault of ours: report it with `frames` of the event `line_failed`",
}

log = structlog.get_logger()


class Findings:
    """Writes them; `clock` is in seconds, and monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written_at: dict[str, float] = {}
        """By source: when it was written about."""

    def report(self, publication: Publication) -> None:
        """Write what one commit has found."""
        for target, source, rule, fields in publication.volatile_fields:
            log.debug("volatile_fields_of_rule", source=source, rule=rule, fields=fields)
            if self._may_write(source):
                log.warning(
                    "volatile_fields",
                    source=source,
                    example=target.pod_name,
                    fix=_FIX_FIELDS,
                )
        by_reason: Counter[Reason] = Counter()
        example: dict[Reason, Target] = {}
        for (target, reason), count in publication.malformed.items():
            by_reason[reason] += count
            example.setdefault(reason, target)
        for reason, count in by_reason.items():
            fix = {"fix": _FIXES[reason]} if reason in _FIXES else {}
            log.warning("dead_letters", cause=reason, count=count, example=example[reason].pod_name, **fix)

    def _may_write(self, source: str) -> bool:
        now = self._clock()
        lately = {known: at for known, at in self._written_at.items() if now - at < _AGAIN_SECONDS}
        if may := source not in lately and len(lately) < _MOST_SOURCES:
            lately[source] = now
        self._written_at = lately
        return may
