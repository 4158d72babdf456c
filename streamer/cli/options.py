"""What commands have in common: settings from a file, the environment and flags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from streamer.cli import exits
from streamer.config import ConfigError, Settings, load

DEFAULT_CONFIG: Final = Path("/etc/falco-streamer/streamer.yaml")

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F) -> F:
    """The flags `--config` and `--set`."""
    command = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set one key, such as kafka.shards=4; wins over file and environment. May be repeated.",
    )(command)
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path),
        help=f"The configuration file. Default: {DEFAULT_CONFIG}, if it is there.",
    )(command)


def load_settings(config: Path | None, overrides: tuple[str, ...], require: Collection[str] = ()) -> Settings:
    """The settings; on any error all of them are printed and the process ends with code 78."""
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    try:
        return load(config, overrides, require=require)
    except ConfigError as error:
        fail(str(error), exits.CONFIG)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr, and end."""
    click.echo(message, err=True)
    sys.exit(code)
