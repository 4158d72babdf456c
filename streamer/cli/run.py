"""`falco-streamer run`: the worker."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import click

from streamer.cli import exits
from streamer.cli.loop import run as run_loop
from streamer.cli.options import config_path, fail, load_settings, settings_options

_MARGIN_SECONDS: Final = 2.0


@click.command(
    short_help="Follow Falco's pods and publish their alerts.",
    epilog="""\b
Examples:
  falco-streamer run --config streamer.yaml
  falco-streamer run --set cluster=dev --set kafka.bootstrap_servers=localhost:9092 --set topics.create=true
""",
)
@settings_options
def run(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Follow Falco's pods and publish their alerts, until SIGTERM or Ctrl-C.

    A first signal drains what was read and commits it; a second one ends at once. Kafka or the API server being
    away never ends it. The configuration's file is read again when it changes, and at SIGHUP. Exit codes: 0 drained,
    1 not drained in time, 78 configuration.
    """
    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides)
    configure(settings.log.level, settings.log.format)

    from streamer.app import Worker
    from streamer.flow.stop import StopLadder
    from streamer.reload import Reload
    from streamer.sink import TopicsUnfit
    from streamer.source.api import ApiConfigError
    from streamer.telemetry.failure import log_failure
    from streamer.telemetry.http import ListenError

    reload = Reload(settings, config_path(config), overrides)

    async def work() -> bool:
        stop = StopLadder()
        with stop.signals():
            working = asyncio.ensure_future(Worker(settings, stop, reload=reload).run())
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            # The worker keeps to the grace period by itself; should it not, nothing is lost by ending it here.
            grace_seconds = reload.settings.shutdown.grace_seconds
            await asyncio.wait([working], timeout=grace_seconds + _MARGIN_SECONDS)
            if not working.done():
                click.echo("error: the worker did not end within its grace period and is ended now", err=True)
                os._exit(exits.FAILED)
            stopping.cancel()
            return working.result()

    try:
        drained = run_loop(work())
    except (TopicsUnfit, ApiConfigError, ListenError) as error:
        fail(f"error: {error}", exits.CONFIG)
    except Exception as error:
        log_failure("worker_failed", error)
        sys.exit(exits.FAILED)
    sys.exit(0 if drained else exits.FAILED)
