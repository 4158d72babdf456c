"""`falco-streamer`, the group of commands."""

from __future__ import annotations

import click

from streamer import __version__
from streamer.cli.check import check
from streamer.cli.completion import completion
from streamer.cli.demo import demo
from streamer.cli.doctor import doctor
from streamer.cli.replay import replay
from streamer.cli.run import run
from streamer.cli.simulate import simulate
from streamer.cli.state import state
from streamer.cli.tap import tap
from streamer.cli.topics import topics


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="falco-streamer", message="%(prog)s %(version)s")
def main() -> None:
    """Falco's alerts from Kubernetes pod logs to Kafka, exactly once."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"falco-streamer {__version__}")


for command in (run, check, doctor, topics, state, tap, replay, demo, simulate, completion):
    main.add_command(command)
