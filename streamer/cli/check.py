"""`falco-streamer check`: is this configuration valid; nothing is connected to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from streamer.cli.options import load_settings, settings_options
from streamer.config.section import Section

if TYPE_CHECKING:
    from streamer.config import Secret, Settings


@click.command(
    short_help="Check the configuration, offline: all errors at once.",
    epilog="""\b
Examples:
  falco-streamer check --config streamer.yaml
  falco-streamer check --config streamer.yaml --set kafka.shards=16 --show
  falco-streamer check --config filters.yaml --partial
""",
)
@settings_options
@click.option("--show", is_flag=True, help="Print the effective settings as YAML; secrets stay hidden.")
@click.option(
    "--partial",
    is_flag=True,
    help="Accept a part of a configuration, such as a file of filters: required keys may be absent.",
)
def check(config: Path | None, overrides: tuple[str, ...], show: bool, partial: bool) -> None:
    """Check the configuration: all errors at once, each with file, line and column, the reason, and the nearest name.

    Accepts what `run` accepts. Works offline; what may be wrong beyond that is reported as warnings. Exit codes: 0
    valid, 78 not.
    """
    settings = load_settings(config, overrides, require=()) if partial else load_settings(config, overrides)
    for warning in _warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    if show:
        given = settings.model_dump(mode="json")
        click.echo(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), nl=False)
    else:
        whole = "ok, as a part of a configuration" if partial else f"ok: cluster {settings.cluster}"
        click.echo(
            f"{whole}, {len(settings.topic_specs)} topics, {len(settings.routes)} routes, "
            f"{len(settings.filters)} filters"
        )


def _warnings(settings: Settings) -> Iterator[str]:
    from streamer.config import SecretError
    from streamer.config.advice import advice

    yield from _unreadable(settings)
    for secret in _secrets(settings):
        try:
            secret.read()
        except SecretError as error:
            yield str(error)
    for finding in advice(settings, datetime.now(UTC)):
        yield f"{finding.what}; {finding.fix}"


def _unreadable(section: Section, above: str = "") -> Iterator[str]:
    """Of files that are only used when a connection is made; those with secrets are looked into besides."""
    for name, value in section:
        key = f"{above}{name}"
        if isinstance(value, Path) and not key.endswith(("password_file", "secret_file")):
            try:
                value.open("rb").close()
            except OSError as error:
                yield f"`{key}`: cannot read {value}: {error.strerror}"
        elif isinstance(value, Section):
            yield from _unreadable(value, f"{key}.")


def _secrets(settings: Settings) -> Iterator[Secret]:
    security = settings.kafka.security
    candidates = (security.sasl.secret, security.sasl.oauth.secret, security.key_secret)
    yield from (secret for secret in candidates if secret is not None and secret.file is not None)
