"""`falco-streamer`, the group of commands."""

from __future__ import annotations

import gc
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Final

import click

from streamer import __version__

_COMMANDS: Final = (
    "run",
    "check",
    "doctor",
    "topics",
    "state",
    "tap",
    "view",
    "replay",
    "demo",
    "simulate",
    "version",
    "completion",
)


class _Commands(MutableMapping[str, click.Command]):
    """Imports the module of a command when the command is asked for: none pays for the others."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in _COMMANDS:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"streamer.cli.{name}"), name)
        gc.enable()  # `__main__` has disabled it for the imports
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("a command is a module of its name")

    def __delitem__(self, name: str) -> None:
        raise TypeError("a command is a module of its name")


@click.group(
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  falco-streamer demo
  falco-streamer doctor --config streamer.yaml
  falco-streamer run --set cluster=dev --set kafka.bootstrap_servers=localhost:9092 --set topics.create=true
  falco-streamer tap --config streamer.yaml --since 15m
""",
)
@click.version_option(__version__, prog_name="falco-streamer", message="%(prog)s %(version)s")
def main() -> None:
    """Falco's alerts from Kubernetes pod logs to Kafka, exactly once."""
