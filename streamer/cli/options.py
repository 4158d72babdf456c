"""What commands have in common: settings from a file, the environment and flags."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import orjson

from streamer.cli import exits
from streamer.config import REQUIRED, ConfigError, Settings, load
from streamer.model import Ledger

DEFAULT_CONFIG: Final = Path("/etc/falco-streamer/streamer.yaml")

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F) -> F:
    """The flags `--config` and `--set`."""
    command = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set one key, such as kafka.shards=4; overrides the file and the environment. May be repeated.",
    )(command)
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path),
        help=f"The configuration file. Default: {DEFAULT_CONFIG}, if it exists.",
    )(command)


def load_settings(
    config: Path | None, overrides: tuple[str, ...], require: Collection[str] = REQUIRED
) -> Settings:
    """The settings; on any error all of them are printed and the process ends with code 78.

    What `run` requires is required, unless a command names the keys that it needs. So `check` cannot pass what `run`
    refuses.
    """
    try:
        return load(config_path(config), overrides, require=require)
    except ConfigError as error:
        fail(str(error), exits.CONFIG)


def config_path(config: Path | None) -> Path | None:
    """The file given, else the usual one if it is there."""
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.exists() else config


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr, and end."""
    click.echo(message, err=True)
    sys.exit(code)


def write_ledger(path: Path | None, ledger: Ledger) -> None:
    """Write the ledger to the file of `--ledger`, if there is one."""
    if path is None:
        return
    try:
        path.write_bytes(orjson.dumps(ledger.as_dict()) + b"\n")
    except OSError as error:
        fail(f"error: the ledger cannot be written to {path}: {error.strerror}", exits.FAILED)


def discard_stdout() -> None:
    """Let what is still to be printed go nowhere: the reader has seen enough (`| head`)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
