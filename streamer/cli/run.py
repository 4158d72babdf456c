"""`falco-streamer run`: the worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamer.cli import exits
from streamer.cli.options import fail, load_settings, settings_options


@click.command(
    epilog="""\b
Examples:
  falco-streamer run --config streamer.yaml
  falco-streamer run --set cluster=dev --set kafka.bootstrap_servers=localhost:9092 --set topics.create=true
"""
)
@settings_options
def run(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Follow Falco's pods and publish their alerts, until SIGTERM or Ctrl-C.

    A first signal drains what was read and commits it; a second one ends at once. Kafka or the API server being
    away never ends it. Exit codes: 0 drained, 1 not drained in time, 78 configuration.
    """
    from streamer.config import REQUIRED
    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides, require=REQUIRED)
    configure(settings.log.level, settings.log.format)

    import uvloop

    from streamer.app import Worker
    from streamer.flow.stop import StopLadder
    from streamer.sink import TopicsUnfit
    from streamer.source.api import ApiConfigError
    from streamer.telemetry.http import ListenError

    async def work() -> bool:
        stop = StopLadder()
        with stop.signals():
            return await Worker(settings, stop).run()

    try:
        drained = uvloop.run(work())
    except (TopicsUnfit, ApiConfigError, ListenError) as error:
        fail(f"error: {error}", exits.CONFIG)
    sys.exit(0 if drained else exits.FAILED)
