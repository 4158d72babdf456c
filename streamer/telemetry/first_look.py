"""A look some seconds after the start: where nothing was published yet, the log says why, as far as it is known.

What fails says so itself. This is for what only waits: an answer that does not come, a container that does not start,
filters that drop everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog

from streamer.telemetry.background import in_background
from streamer.telemetry.status import CheckState, Status, StreamState

FIRST_SECONDS: Final = 8.0
"""After the start; an operator expects a message within 10 s."""
SECONDS: Final = 300.0
_NAMED: Final = 3
_DOCTOR: Final = "`falco-streamer doctor` finds the cause"

log = structlog.get_logger()


class Silence(NamedTuple):
    """Why nothing was published."""

    cause: str
    fix: str
    is_fault: bool = True
    """Else it may just be quiet."""


@asynccontextmanager
async def telling_silence(
    status: Callable[[], Status], first_seconds: float = FIRST_SECONDS, seconds: float = SECONDS
) -> AsyncIterator[None]:
    """Say so until something was published, while the context lasts."""
    async with in_background(_tell(status, first_seconds, seconds), "look for what is published"):
        yield


async def _tell(status: Callable[[], Status], first_seconds: float, seconds: float) -> None:
    await asyncio.sleep(first_seconds)
    waited_seconds = first_seconds
    while (found := silence(now := status(), waited_seconds)) is not None or not _publishes(now):
        if found is not None and found.is_fault:
            log.warning("nothing_published", cause=found.cause, fix=found.fix)
        elif found is not None:
            log.info("no_alert_yet", cause=found.cause, fix=found.fix)
        await asyncio.sleep(seconds)
        waited_seconds += seconds


def _publishes(status: Status) -> bool:
    return status.ready and status.ledger.alerts > status.ledger.filtered


def silence(status: Status, waited_seconds: float) -> Silence | None:
    """Why nothing was published; None where something was, or where what fails has said so."""
    for check in status.checks:
        if check.needed and check.state is not CheckState.OK:
            if check.state is CheckState.FAILING:
                return None
            return Silence(f"{check.name}: {check.why}, after {waited_seconds:.0f} s", _DOCTOR)
    waiting = [one for one in status.targets if one.state is StreamState.PENDING]
    if waiting and not any(one.opened for one in status.targets):
        names = ", ".join(one.target.pod_name for one in waiting[:_NAMED])
        more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
        target = waiting[0].target
        return Silence(
            f"the container has not started in {names}{more}",
            f"kubectl describe pod -n {target.namespace} {target.pod}: its events say why",
        )
    ledger = status.ledger
    if status.targets and ledger.lines and not ledger.alerts and not ledger.invalid:
        return Silence(
            f"no alert in the first {ledger.lines:,} lines",
            "cause one: kubectl run -it --rm shell --image=busybox -- cat /etc/shadow",
            is_fault=False,
        )
    if ledger.alerts and ledger.alerts == ledger.filtered:
        dropped = ", ".join(f"{one.name} ({one.dropped:,})" for one in status.filters if one.dropped)
        return Silence(
            f"filters have dropped all {ledger.alerts:,} alerts{f': {dropped}' if dropped else ''}",
            "change `filters` or `min_priority`; `falco-streamer replay` counts what each filter drops",
        )
    return None
