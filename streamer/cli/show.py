"""Records for people: one line each, coloured by priority. Control characters in an alert's text are escaped."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click
import orjson

from streamer.cli.workload import Workload, workload_of
from streamer.model import Ledger, Priority

_COLOURS: Final[Mapping[Priority, dict[str, Any]]] = {
    Priority.EMERGENCY: {"fg": "white", "bg": "red", "bold": True},
    Priority.ALERT: {"fg": "white", "bg": "red"},
    Priority.CRITICAL: {"fg": "red", "bold": True},
    Priority.ERROR: {"fg": "red"},
    Priority.WARNING: {"fg": "yellow"},
    Priority.NOTICE: {"fg": "cyan"},
    Priority.INFORMATIONAL: {"fg": "green"},
    Priority.DEBUG: {"fg": "bright_black"},
}
_WHAT: Final = ("reason", "coverage", "state", "rule")
"""The keys that say what happened, in a record that is not an alert's."""
_OTHERS: Final = {"dead-letter": "magenta", "health": "blue"}


def escape(text: str) -> str:
    """Text that cannot move the cursor, change colours or turn the reading direction."""
    return "".join(
        char
        if unicodedata.category(char) not in {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
        else ascii(char)[1:-1]
        for char in text
    )


def escape_json(text: str) -> str:
    """The same for JSON, which stays valid: what could act is written as JSON's own escapes."""
    return "".join(char if escape(char) == char else json.dumps(char)[1:-1] for char in text)


class Shown(NamedTuple):
    """A record as it is shown."""

    record: Mapping[str, Any]
    """Its value; empty where that is not a JSON object."""
    label: str
    style: Mapping[str, Any]
    rule: str
    """What happened: the rule, or the reason or state of a record that is not an alert's."""
    workload: Workload
    """What the record is about: of records that are not alerts', the Falco pod."""
    text: str

    def text_of(self, name: str) -> str:
        """A key of the value, if it is a text or number."""
        return _text(self.record.get(name))

    @property
    def columns(self) -> tuple[str, ...]:
        """All but time and label; a record that is not an alert's has no container and no process."""
        absent = self.workload.container == self.workload.process == ""
        return (self.rule, *(self.workload[:1] if absent else self.workload), self.text)


def show(key: bytes | None, value: bytes, headers: Mapping[str, bytes]) -> Shown:
    """What is shown of a record."""
    kind = headers.get("kind", b"").decode(errors="replace")
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        found = {}
    if kind in {"alert", "summary"}:
        priority = Priority.parse(headers.get("priority", b"").decode(errors="replace"))
        label, text = (priority.label.upper() if priority is not None else "?"), _message(found)
        style = _COLOURS[priority] if priority is not None else {}
        rule = headers.get("rule", b"").decode(errors="replace")
        if kind == "summary":
            style, text = {**style, "dim": True}, text.removeprefix(f"{rule} ")
        return Shown(found, label, style, rule, workload_of(found), text)
    label = (_text(found.get("health")) or kind).upper()
    text = _text(found.get("detail") or found.get("line") or found.get("name"))
    if found.get("health") == "gap":
        text = f"{_hole(found)}: {text}"
    if "count" in found:
        text = f"{_text(found['count'])} counted {text}"
    rule = next((_text(found[name]) for name in _WHAT if name in found), "")
    pod = Workload((key or b"").decode(errors="replace"), "", "")
    return Shown(found, escape(label), {"fg": _OTHERS.get(kind, "white")}, rule, pod, text)


def line(
    key: bytes | None,
    value: bytes,
    headers: Mapping[str, bytes],
    timestamp_ms: int,
    width: int,
    *,
    dated: bool = False,
) -> str:
    """One record in one line of at most `width` characters, in colours (which click strips without a terminal).

    With the time of day in UTC, and with its date if it is `dated`.
    """
    shown = show(key, value, headers)
    moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    at = f"{moment:{'%Y-%m-%d %H:%M:%S' if dated else '%H:%M:%S'}}.{timestamp_ms % 1000:03d}"
    start = f"{at}  {shown.label:<13}  "
    rest = escape("  ".join(shown.columns))
    if len(start) + len(rest) > width:
        rest = rest[: max(0, width - len(start) - 1)] + "…"
    return click.style(f"{at}  ", dim=True) + click.style(f"{shown.label:<13}", **shown.style) + "  " + rest


def ledger_line(ledger: Ledger, width: int = 200) -> str:
    """The ledger in one line, in words; with less of them where `width` is not enough."""
    balance = (
        click.style("balanced", fg="green")
        if ledger.balanced
        else click.style("OUT OF BALANCE", fg="red", bold=True)
    )
    outcomes = {
        "published": ledger.published,
        "deduplicated": ledger.deduplicated,
        "limited": ledger.limited,
        "filtered": ledger.filtered,
        "dead-lettered": ledger.dead_lettered,
    }
    always = {"published", "dead-lettered"}
    counts = ", ".join(f"{count:,} {name}" for name, count in outcomes.items() if count or name in always)
    parts = (
        (
            f"{ledger.lines:,} lines = {ledger.alerts:,} alerts + {ledger.log_lines:,} log lines + "
            f"{ledger.invalid:,} invalid; {counts}: "
        ),
        f"{ledger.lines:,} lines; {counts}: ",
        "",
    )
    room = width - len(click.unstyle(balance))
    return next(text for text in parts if len(text) <= max(room, 0)) + balance


def _hole(gap: Mapping[str, Any]) -> str:
    """Which lines are missing, and whether that is certain."""
    what = "lines are lost" if gap.get("certain") else "lines may be lost"
    ends = [
        f"{word} {_text(gap[name])}" for word, name in (("after", "from"), ("before", "to")) if gap.get(name)
    ]
    return " ".join([what, *ends])


def _message(alert: Mapping[str, Any]) -> str:
    """What happened, without the time and priority that Falco's `output` repeats."""
    output = _text(alert.get("output"))
    _, found, message = output.partition(f"{_text(alert.get('priority'))} ")
    return message if found else output


def _text(value: Any) -> str:
    """A text or number; what is nested has none, since it may be nested deeper than Python can print."""
    return str(value) if isinstance(value, str | int | float) else ""
