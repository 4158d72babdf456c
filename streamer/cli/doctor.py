"""`falco-streamer doctor`: what is wrong with this installation, and how to fix it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from streamer.cli import exits
from streamer.cli.options import load_settings, settings_options
from streamer.cli.show import escape
from streamer.model import Finding, Verdict

if TYPE_CHECKING:
    from streamer.config import Settings

_MARKS: Final[dict[Verdict, tuple[str, dict[str, Any]]]] = {
    Verdict.FINE: ("ok", {"fg": "green"}),
    Verdict.WARNING: ("warn", {"fg": "yellow"}),
    Verdict.FAULT: ("FAULT", {"fg": "red", "bold": True}),
    Verdict.UNAVAILABLE: ("AWAY", {"fg": "red", "bold": True}),
}


@click.command(
    short_help="Find what is wrong with a live installation, and the fix.",
    epilog="""\b
Examples:
  falco-streamer doctor --config streamer.yaml
  falco-streamer doctor --set cluster=dev --set kafka.bootstrap_servers=localhost:9092 -o json
  kubectl exec -n falco-streamer deploy/falco-streamer -- falco-streamer doctor
""",
)
@settings_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object with all findings.",
)
def doctor(config: Path | None, overrides: tuple[str, ...], output: str) -> None:
    """Examine a live installation: the Kubernetes API, RBAC, Falco's pods and output, Kafka, topics, ACLs, clocks.

    Nothing is written, neither to Kubernetes nor to Kafka; a running worker is not disturbed. Exit codes: 0 nothing
    is wrong (warnings may be there), 1 something is, 69 the API server or Kafka cannot be reached, 78 configuration.
    """
    import asyncio

    from streamer.telemetry.log import configure

    settings = load_settings(config, overrides)
    configure("error", settings.log.format)
    findings = asyncio.run(_examine(settings, print_now=output == "text"))
    if output == "json":
        click.echo(
            orjson.dumps({"findings": [_as_dict(one) for one in findings]}, option=orjson.OPT_INDENT_2)
        )
    else:
        click.echo(_conclusion(findings), err=True)
    sys.exit(exit_code(findings))


def exit_code(findings: Iterable[Finding]) -> int:
    """By the worst finding."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.UNAVAILABLE in verdicts:
        return exits.UNAVAILABLE
    return exits.FAILED if Verdict.FAULT in verdicts else 0


def text(finding: Finding) -> str:
    """A finding for people: a mark, what was found, and below it the fix. Names in it may be an attacker's."""
    word, style = _MARKS[finding.verdict]
    line = f"{click.style(f'{word:<5}', **style)}  {escape(finding.what)}"
    if not finding.fix:
        return line
    fix = "\n".join(f"         {escape(line)}" for line in finding.fix.splitlines())
    return f"{line}\n       → {fix.lstrip()}"


async def _examine(settings: Settings, *, print_now: bool) -> list[Finding]:
    findings = []
    async for finding in findings_of(settings):
        findings.append(finding)
        _say_what_is_awaited("")
        if print_now:
            click.echo(text(finding))
    return findings


def _say_what_is_awaited(whom: str) -> None:
    """On a terminal, in a line that goes again: who does not answer keeps us waiting for half a minute."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{f'waiting for {whom} …' if whom else ''}", err=True, nl=False)


async def findings_of(settings: Settings) -> AsyncIterator[Finding]:
    """Examine everything, one finding after the other."""
    from streamer.cli.examine_port import examine_port
    from streamer.config.advice import advice
    from streamer.plan import plan_of
    from streamer.sink import examine_kafka
    from streamer.source.examine import examine_kubernetes

    for finding in advice(settings, datetime.now(UTC)):
        yield finding
    if (taken := await examine_port(settings)) is not None:
        yield taken
    _say_what_is_awaited("the API server")
    async for finding in examine_kubernetes(settings.kubernetes, plan_of(settings)):
        yield finding
        _say_what_is_awaited("the API server")
    _say_what_is_awaited("Kafka")
    kafka_is_fit = True
    async for finding in examine_kafka(settings):
        kafka_is_fit = kafka_is_fit and finding.verdict in {Verdict.FINE, Verdict.WARNING}
        yield finding
        _say_what_is_awaited("Kafka")
    if kafka_is_fit and (fault := await _examine_state(settings)) is not None:
        yield fault
    _say_what_is_awaited("")


async def _examine_state(settings: Settings) -> Finding | None:
    from streamer.shard.division import misfit
    from streamer.sink import Connection, KafkaUnavailable, glance

    try:
        ledger = await glance(Connection(settings.kafka), settings.topic_names.state, "ledger")
    except KafkaUnavailable as error:
        return Finding("kafka", Verdict.UNAVAILABLE, error.cause, error.fix)
    return misfit(settings.cluster, settings.kafka.shards, ledger)


def _as_dict(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "verdict": finding.verdict,
        "found": finding.what,
        **({"fix": finding.fix} if finding.fix else {}),
    }


def _conclusion(findings: list[Finding]) -> str:
    wrong = sum(finding.verdict in {Verdict.FAULT, Verdict.UNAVAILABLE} for finding in findings)
    warned = sum(finding.verdict is Verdict.WARNING for finding in findings)
    if not wrong and not warned:
        return "Nothing is wrong."
    return f"{wrong} wrong, {warned} to look at, {len(findings) - wrong - warned} fine."
