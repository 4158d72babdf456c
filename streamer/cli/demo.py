"""`falco-streamer demo`: see it work, with nothing else installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from streamer.cli import exits
from streamer.cli.loop import run as run_loop
from streamer.cli.options import discard_stdout, fail, write_ledger
from streamer.cli.show import ledger_line, line

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.demo import Outcome
    from streamer.model import Ledger
    from streamer.sink import Message


@click.command(
    short_help="Run everything in one process, without Kafka and a cluster.",
    epilog="""\b
Examples:
  falco-streamer demo
  falco-streamer demo --seconds 15 --ledger ledger.json
""",
)
@click.option(
    "--seconds", type=click.FloatRange(min=1), help="Stop after this time. Default: run until Ctrl-C."
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 20_000), default=8, show_default=True, help="Alerts per second."
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Seed of the random alerts.",
)
@click.option(
    "--ledger", type=click.Path(path_type=Path), help="Write the final ledger to this file, as JSON."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the worker's own log as well.")
def demo(seconds: float | None, rate: float, seed: int, ledger: Path | None, verbose: bool) -> None:
    """Follow a simulated cluster into an embedded mock broker, and print what arrives in the topics.

    The mock broker has no transactions, so the demo delivers at least once; against a real Kafka it is exactly once.
    Exit code 0 only if the ledger balances and every record was found in its topic.
    """
    from streamer.demo import run_demo
    from streamer.flow.stop import StopLadder
    from streamer.sink.mock_broker import MockBrokerMissing
    from streamer.telemetry.log import configure

    configure("info" if verbose else "error")

    async def play() -> Outcome:
        stop = StopLadder()
        screen = _Screen(on_closed=stop.request)
        with stop.signals(), screen:
            return await run_demo(
                stop,
                rate=rate,
                seed=seed,
                seconds=seconds,
                on_record=screen.record,
                on_ledger=screen.ledger,
                on_event=screen.event,
                on_page=_introduce,
            )

    try:
        outcome = run_loop(play())
    except MockBrokerMissing as error:
        fail(f"error: {error}", exits.FAILED)
    click.echo(f"{outcome.read_back:,} of {outcome.expected:,} records read back from the topics", err=True)
    click.echo(ledger_line(outcome.ledger), err=True)
    write_ledger(ledger, outcome.ledger)
    sys.exit(0 if outcome.sound else exits.FAILED)


def _introduce(url: str) -> None:
    click.echo(f"The alerts are at {url}", err=True)
    click.echo(
        "A simulated cluster, the worker and a mock Kafka broker in one process. The mock broker has no transactions: "
        "this demo delivers at least once. Ctrl-C ends it.",
        err=True,
    )


class _Screen:
    """Records above, on a terminal the ledger in the last line; `on_closed` is called when nobody reads any more."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._terminal = sys.stdout.isatty()
        self._width = shutil.get_terminal_size().columns if self._terminal else 200

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._print("", end="")

    def record(self, message: Message) -> None:
        headers = dict(message.headers)
        self._print(line(message.key, message.value or b"", headers, message.timestamp_ms, self._width))

    def event(self, text: str) -> None:
        """Something happens in the cluster; none of it may cost an alert."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False)
        click.echo(click.style(f"-- {text} --", dim=True))

    def ledger(self, ledger: Ledger) -> None:
        if self._terminal:
            self._print(ledger_line(ledger, self._width - 1), end="")

    def _print(self, text: str, end: str = "\n") -> None:
        try:
            click.echo(("\r\x1b[K" if self._terminal else "") + text + end, nl=False)
        except BrokenPipeError:  # `| head`
            discard_stdout()
            self._on_closed()
