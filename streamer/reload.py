"""The configuration's file while we run: looked at now and then and at SIGHUP, taken only if it is whole.

Looking, not being notified: Kubernetes swaps a mounted ConfigMap by a symbolic link, which notifications miss.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from streamer.config import ConfigError, Settings, load
from streamer.config.difference import differences, merged
from streamer.telemetry import facts
from streamer.telemetry.failure import class_of, log_failure

LOOK_SECONDS: Final = 5.0
_REFUSED: Final = "the file is refused, what was before it stays in effect"

log = structlog.get_logger()

Apply = Callable[[Settings], Awaitable[None]]
"""Make settings take effect; raises `ReloadError` and changes nothing where they cannot."""


class ReloadError(Exception):
    """New settings are well in themselves and cannot be used here and now; the text says why."""


class Reload:
    """Takes changes of the configuration's file over; `path` may be None where there is none."""

    def __init__(
        self,
        settings: Settings,
        path: Path | None,
        overrides: Sequence[str] = (),
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.settings = settings
        """What is in effect."""
        self.trouble = ""
        """Why the file is not in effect as it stands; "" if it is."""
        self._path = path
        self._overrides = overrides
        self._look_seconds = look_seconds
        self._asked = asyncio.Event()
        self._known = self._content()
        self._again = True
        """Whether to try again although the file stays as it is: it may have changed before we began to look, or it
        is sound and could not be used when it was tried."""

    @asynccontextmanager
    async def watching(self, apply: Apply) -> AsyncIterator[None]:
        """Look at the file, and listen to SIGHUP, while the context lasts."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        looking = asyncio.create_task(self._look(apply), name="reload")
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look(self, apply: Apply) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._asked.wait()
            content = self._content()
            changed = self._asked.is_set() or content != self._known
            if changed or self._again:
                self._asked.clear()
                self._known = content
                try:
                    await self._take(apply, again=not changed)
                except Exception as error:
                    self.trouble = f"the file could not be taken, for a fault of ours: {class_of(error)}"
                    self._again = False
                    facts.config_refused()
                    log_failure("reload_failed", error)

    def _content(self) -> bytes | None:
        """The file's bytes; None while there is none, as between two halves of a careless replacement."""
        try:
            return None if self._path is None else self._path.read_bytes()
        except OSError:
            return None

    async def _take(self, apply: Apply, *, again: bool) -> None:
        """Take the file as it is now, if it is sound; else go on with what is in effect.

        `again` where it stays as it was: what is known is not said once more.
        """
        try:
            wanted = load(self._path, self._overrides)
            settings = merged(self.settings, wanted)
            changed = differences(self.settings, settings)
            if changed:
                await apply(settings)
        except (ConfigError, ValidationError, ReloadError) as error:
            lines = str(error).splitlines()
            known, self.trouble = self.trouble, f"{_REFUSED}: {_first(lines)}"
            self._again = isinstance(error, ReloadError)
            if again and self.trouble == known:
                return
            facts.config_refused()
            log.error(
                "config_refused",
                cause=_first(lines),
                detail="\n".join(lines),
                fix="falco-streamer check",
            )
            return
        self.settings, self._again, self.trouble = settings, False, ""
        waiting = [one for one in differences(settings, wanted) if not one.reloadable]
        if again and not changed and not waiting:
            return
        facts.config_taken(restart_needed=bool(waiting))
        if changed:
            log.info("config_reloaded", changed=[str(one) for one in changed])
        if waiting:
            self.trouble = f"a restart is needed for {', '.join(one.key for one in waiting)}"
            log.warning("config_needs_restart", changed=[str(one) for one in waiting])
        elif not changed:
            log.info("config_unchanged")


def _first(lines: Sequence[str]) -> str:
    """The first fault and its place."""
    return " ".join(line.strip().removeprefix("error: ") for line in lines[:2])
