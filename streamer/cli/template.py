"""`tap --template`: a line of the caller's own form, with names in braces."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson

from streamer.cli.show import Shown, show
from streamer.cli.workload import ABSENT

if TYPE_CHECKING:
    from streamer.sink import Message

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

_Value = Callable[["Message", Shown], str]


def _header(name: str) -> _Value:
    return lambda message, _: (message.header(name) or b"").decode(errors="replace")


NAMES: Final[Mapping[str, _Value]] = {
    "time": lambda message, _: _time(message.timestamp_ms),
    "topic": lambda message, _: message.topic,
    "partition": lambda message, _: str(message.partition),
    "offset": lambda message, _: str(message.offset),
    "key": lambda message, _: (message.key or b"").decode(errors="replace"),
    "value": lambda message, _: (message.value or b"").decode(errors="replace"),
    "id": _header("ce_id"),
    "kind": _header("kind"),
    "cluster": _header("cluster"),
    "node": _header("node"),
    "priority": _header("priority"),
    "rule": lambda _, shown: shown.rule,
    "source": lambda _, shown: shown.text_of("source"),
    "hostname": lambda _, shown: shown.text_of("hostname"),
    "workload": lambda _, shown: shown.workload.name,
    "container": lambda _, shown: shown.workload.container,
    "process": lambda _, shown: shown.workload.process,
    "message": lambda _, shown: shown.text,
}
"""Every other name is a field of the alert's `output_fields`."""


class TemplateError(ValueError):
    """A template is not valid; the text says why."""


class Template:
    """A parsed template. Raises TemplateError."""

    def __init__(self, text: str) -> None:
        self._parts: list[str | _Value] = []
        end = 0
        for found in _PART.finditer(text):
            self._parts.append(text[end : found.start()])
            end, name = found.end(), found[1]
            if name is None:
                if len(found[0]) == 1:
                    raise TemplateError(
                        f"a single {found[0]} at character {found.start() + 1}: write it twice"
                    )
                self._parts.append(found[0][0])
            elif not name:
                raise TemplateError(f"no name in the braces at character {found.start() + 1}")
            elif name in NAMES:
                self._parts.append(NAMES[name])
            else:
                self._parts.append(_field(name))
        self._parts.append(text[end:])

    def render(self, message: Message) -> str:
        """The line of a record; what a record does not have is `-`."""
        shown = show(message.key, message.value or b"", dict(message.headers))
        return "".join(
            part if isinstance(part, str) else part(message, shown) or ABSENT for part in self._parts
        )


def _field(name: str) -> _Value:
    def value(_: Message, shown: Shown) -> str:
        fields = shown.record.get("output_fields")
        found = fields.get(name) if isinstance(fields, dict) else None
        if found is None or isinstance(found, str):
            return found or ""
        try:
            return orjson.dumps(found).decode()
        except TypeError:  # nested too deep
            return ""

    return value


def _time(timestamp_ms: int) -> str:
    moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{timestamp_ms % 1000:03d}Z"
