"""`falco-streamer view`: a live page of the alerts in the topics."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from streamer.cli import exits
from streamer.cli.loop import run as run_loop
from streamer.cli.options import fail, load_settings, settings_options
from streamer.cli.selection import since_ms


@click.command(
    short_help="Serve a live page of the alerts in the topics.",
    epilog="""\b
Examples:
  falco-streamer view --config streamer.yaml
  falco-streamer view --config streamer.yaml --since 6h --port 9000
  falco-streamer view --config streamer.yaml --host 0.0.0.0 --token-file token --tls-cert tls.crt --tls-key tls.key
""",
)
@settings_options
@click.option(
    "--since",
    metavar="WHEN",
    default="24h",
    show_default=True,
    help="Start time: a duration such as 15m, 6h or 1d, or an RFC 3339 time.",
)
@click.option(
    "--cluster",
    "clusters",
    metavar="NAME",
    multiple=True,
    help="Where topic names contain the cluster: read the topics of this cluster. May be repeated. Default: `cluster`.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8090,
    show_default=True,
    help="Port; 0: any free port.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the bearer token that requests must have. Required for addresses other than loopback.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The certificate's key (PEM).")
def view(
    config: Path | None,
    overrides: tuple[str, ...],
    since: str,
    clusters: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Read the topics, and serve a page with what was published: how each cluster stands, counts over time, and alerts.

    Committed records only, in no consumer group; nothing is written. Exit codes: 0 (also Ctrl-C), 1 cannot listen,
    2 usage, 78 configuration. While Kafka is away the page says so, and the viewer goes on when it is back.
    """
    from streamer.flow.stop import StopLadder
    from streamer.sink import Connection
    from streamer.telemetry.log import configure
    from streamer.view.access import Access, AccessError
    from streamer.view.server import Tls, ViewListenError
    from streamer.view.viewer import Listen, topics_of, viewing

    try:
        start_ms = since_ms(since, time.time_ns() // 1_000_000)
    except ValueError as error:
        expected = f"{since!r}: expected how long ago, such as 15m, 6h, 1d, or a time with its zone"
        raise click.BadParameter(expected, param_hint="'--since'") from error
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    tls = Tls(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    try:
        listen = Listen(Access.of(host, token_file), host, port, tls)
    except AccessError as error:
        raise click.UsageError(str(error)) from error
    settings = load_settings(config, overrides, require=("kafka.bootstrap_servers",))
    configure(settings.log.level, settings.log.format)

    async def serve() -> None:
        stop, topics = StopLadder(), topics_of(settings, clusters)
        with stop.signals():
            async with viewing(Connection(settings.kafka), topics, listen, start=start_ms) as url:
                click.echo(f"The alerts are at {url}", err=True)
                await stop.wait()

    try:
        run_loop(serve())
    except (AccessError, ViewListenError) as error:
        fail(f"error: {error}", exits.FAILED)
    sys.exit(0)
