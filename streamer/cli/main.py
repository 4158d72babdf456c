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
from streamer.cli.version import version


@click.group(
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


for command in (run, check, doctor, topics, state, tap, replay, demo, simulate, version, completion):
    main.add_command(command)
