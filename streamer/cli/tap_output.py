"""How `tap` prints a record: as a line for people, by a template, as JSON or as it is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from streamer.cli.selection import as_json
from streamer.cli.show import escape, escape_json, line
from streamer.cli.template import Template

if TYPE_CHECKING:
    from streamer.sink import Message

_ANY_WIDTH: Final = 100_000
_DAY_MS: Final = 86_400_000


class Printer:
    """Prints records. On a terminal, control characters of an alert's text are escaped."""

    def __init__(self, output: str, color: str, template: Template | None = None) -> None:
        self._output = output
        self._template = template
        self._terminal = sys.stdout.isatty()
        automatic = self._terminal and not os.environ.get("NO_COLOR")
        self._color = {"always": True, "never": False}.get(color, automatic)
        self._width = shutil.get_terminal_size().columns if self._terminal else _ANY_WIDTH

    def print(self, message: Message) -> None:
        """One record, one line."""
        value = message.value or b""
        if self._template is not None:
            click.echo(escape(self._template.render(message)))
            return
        if self._output in {"table", "wide"}:
            width = self._width if self._output == "table" else _ANY_WIDTH
            today = message.timestamp_ms // _DAY_MS == time.time() * 1000 // _DAY_MS
            headers = dict(message.headers)
            text = line(message.key, value, headers, message.timestamp_ms, width, dated=not today)
            click.echo(text, color=self._color)
            return
        if self._output == "json":
            value = as_json(
                message.topic, message.partition, message.offset, message.timestamp_ms, message.key, value,
                message.headers,
            )  # fmt: skip
        if self._terminal:
            shown = value.decode(errors="backslashreplace")
            click.echo(escape_json(shown) if self._output == "json" else escape(shown))
        else:
            sys.stdout.buffer.write(value + b"\n")
            sys.stdout.buffer.flush()
