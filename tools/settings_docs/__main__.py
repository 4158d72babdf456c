"""`python -m tools.settings_docs schema|reference|manual`: what is generated from the models."""

from __future__ import annotations

import click

from tools.settings_docs.manual import manual
from tools.settings_docs.reference import reference, schema


@click.group()
def main() -> None:
    """Print what is generated from the settings' models."""


@main.command("schema")
def _schema() -> None:
    """The JSON Schema: config/streamer.schema.json."""
    click.echo(schema(), nl=False)


@main.command("reference")
def _reference() -> None:
    """Every key with its default and a comment: config/streamer.yaml."""
    click.echo(reference(), nl=False)


@main.command("manual")
def _manual() -> None:
    """Every key with its type, default and meaning: docs/configuration.md."""
    click.echo(manual(), nl=False)


if __name__ == "__main__":
    main()
