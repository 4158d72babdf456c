"""`falco-streamer simulate`: serve the simulated cluster, to try a worker or kubectl against it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import click

from streamer.cli import exits
from streamer.cli.options import fail


@click.command(
    short_help="Serve a simulated cluster with Falco pods in it.",
    epilog="""\b
Examples:
  falco-streamer simulate --kubeconfig sim.kubeconfig
  kubectl --kubeconfig sim.kubeconfig logs -n falco -l app.kubernetes.io/name=falco -c falco --tail=-1 --follow
""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="Port; 0: any free port.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    default="simulated.kubeconfig",
    show_default=True,
    help="Write a kubeconfig for this cluster to this file.",
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 50_000), default=8, show_default=True, help="Alerts per second."
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Seed of the random alerts.",
)
def simulate(port: int, kubeconfig: Path, rate: float, seed: int) -> None:
    """Serve a Kubernetes API with Falco pods that print alerts, on 127.0.0.1, until SIGTERM or Ctrl-C."""
    from streamer.flow.stop import StopLadder
    from streamer.simulator import SimulatedApiServer
    from streamer.simulator.scenario import Scenario

    async def serve() -> None:
        stop = StopLadder()
        scenario = Scenario(rate_per_second=rate, seed=seed)
        async with SimulatedApiServer(scenario.cluster, port=port) as server:
            path = server.kubeconfig(kubeconfig)
            with stop.signals():
                click.echo(f"serving at {server.url}; kubeconfig: {path}", err=True)
                async with asyncio.TaskGroup() as tasks:
                    living = tasks.create_task(scenario.run())
                    await stop.wait()
                    living.cancel()

    try:
        asyncio.run(serve())
    except OSError as error:  # a port that is taken, a folder that is not there
        if error.errno == errno.EADDRINUSE:
            fail(f"error: port {port} is in use by another process; give another --port", exits.FAILED)
        where = f"{error.filename}: " if error.filename else ""
        fail(f"error: {where}{error.strerror or error}", exits.FAILED)
