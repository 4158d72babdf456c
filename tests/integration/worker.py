"""The worker as a process, as it is run in a cluster."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

EVERY_ALERT_PASSES: Mapping[str, Any] = {
    "dedupe": {"enabled": False},
    "limits": {"enabled": False},
    "health": {"coverage_seconds": None},
}


class LoggedWorker:
    """`falco-streamer run` by some command; its log is kept, and shown where a test fails."""

    def __init__(self, folder: Path, command: Sequence[str] = ()) -> None:
        self.log = folder / "worker.log"
        self._command = command
        self._process: Process | None = None

    @property
    def command(self) -> Sequence[str]:
        """What runs it."""
        return self._command

    @property
    def running(self) -> bool:
        """Whether it was started and has not been stopped."""
        return self._process is not None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self.command, stdout=log, stderr=log)

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await process.wait()

    def send(self, number: int) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line[:1] == b"{"]

    async def get(self, path: str) -> str:
        """What it answers at its HTTP port."""
        url = f"http://127.0.0.1:{self.said('http_serving')[-1]['port']}/{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def metrics(self) -> dict[str, float]:
        """What it serves to Prometheus: each series as it is written there, with its value."""
        page = await self.get("metrics")
        series = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in series}

    def said(self, event: str) -> list[dict[str, Any]]:
        """Those of its log's events that have this name."""
        return [one for one in self.events() if one["event"] == event]

    @contextmanager
    def shown_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.kill()
            print("\n".join(self.log.read_text().splitlines()[-60:]))  # noqa: T201  # pytest shows it
            raise


class WorkerProcess(LoggedWorker):
    """The same as a process of this machine's, with a configuration file.

    Every alert passes, and no coverage is reported, unless the settings say otherwise: so that tests can count.
    As a pod has, it has a name of its own that survives a crash, so that it need not wait for itself to be missed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "streamer.yaml"
        kafka = {"group_instance_id": uuid.uuid4().hex, **settings.get("kafka", {})}
        self.config.write_text(yaml.safe_dump({**EVERY_ALERT_PASSES, **settings, "kafka": kafka}))

    @property
    def command(self) -> Sequence[str]:
        """With the configuration that is wanted now."""
        return [sys.executable, "-m", "streamer", "run", "--config", str(self.config)]
