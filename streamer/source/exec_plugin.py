"""A kubeconfig's exec plug-in, run as kubectl runs it (client-go, plugin/pkg/client/auth/exec)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

_ABANDONED_SECONDS: Final = 1.0
_LAST_WORDS_SECONDS: Final = 0.2
"""For what it wrote before its end, where something else keeps its stderr open."""
_SAID_BYTES: Final = 4096
"""Of what it writes to stderr, the last bytes that are kept for an error."""
_ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""Control sequences of a terminal: kubectl removes them from hints, too."""
_DROPPED: Final = "client.authentication.k8s.io/v1alpha1"
_MODES: Final = ("Never", "IfAvailable", "Always")


class PluginError(Exception):
    """It gives no credentials; the text begins with its name and says why."""


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """The `exec` section of a user."""

    command: str
    """A path, or a name that is looked up in PATH."""
    args: tuple[str, ...]
    api_version: str
    environment: Mapping[str, str]
    """Variables in addition to our own."""
    interactive_mode: str = "IfAvailable"
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = field(default=None)
    """The cluster as the plug-in is told of it; None where `provideClusterInfo` is not set."""

    @classmethod
    def of(cls, section: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> ExecPlugin:
        """Read a section. `folder` is the kubeconfig's. Raises PluginError."""
        command, version = section.get("command"), section.get("apiVersion")
        if not command or not version:
            raise PluginError(f"its exec section has no {'apiVersion' if command else 'command'}")
        if os.sep in command:  # a name alone is looked up in PATH
            command = os.path.normpath(folder / command)
        if version == _DROPPED:
            raise PluginError(
                f"its exec plug-in {command} has apiVersion {version}, which kubectl 1.24 dropped; write the "
                "kubeconfig again with a current client (EKS: `aws eks update-kubeconfig`)"
            )
        mode = section.get("interactiveMode") or "IfAvailable"
        if mode not in _MODES:
            raise PluginError(
                f"its exec plug-in {command} has interactiveMode `{mode}`, which is not one of {', '.join(_MODES)}"
            )
        return cls(
            command,
            tuple(map(str, section.get("args") or ())),
            version,
            {str(one["name"]): str(one.get("value") or "") for one in section.get("env") or ()},
            mode,
            " ".join(_ESCAPES.sub("", str(section.get("installHint") or "")).split()),
            cluster if section.get("provideClusterInfo") else None,
        )

    async def run(self, seconds: float) -> dict[str, Any]:
        """Run it and give the status that it prints. Raises PluginError; the process has ended then."""
        named = f"its exec plug-in {self.command}"
        interactive = self._interactive(named)
        try:
            return await self._status(interactive, seconds)
        except TimeoutError:
            raise PluginError(f"{named} did not end within {seconds:g} s") from None
        except OSError as error:
            hint = f"; {self.install_hint}" if self.install_hint else ""
            reason = (error.strerror or str(error)).lower()
            raise PluginError(f"{named} cannot be run: {reason}{hint}") from error
        except ValueError as error:
            raise PluginError(f"{named} failed: {error}") from error

    def _interactive(self, named: str) -> bool:
        """Whether it may ask questions: it has our standard input then, and its stderr is shown."""
        if self.interactive_mode == "Never":
            return False
        terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        if self.interactive_mode == "Always" and not terminal:
            raise PluginError(
                f"{named} asks questions (interactiveMode: Always), and standard input is not a terminal; start us at "
                "one, or use credentials that need no answers"
            )
        return terminal

    async def _status(self, interactive: bool, seconds: float) -> dict[str, Any]:
        spec: dict[str, Any] = {"interactive": interactive}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        info = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        async with _Stderr(show=interactive) as stderr:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *self.args,
                env={**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=None if interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr.handed_over(),
            )
            assert process.stdout is not None
            try:
                async with asyncio.timeout(seconds):
                    printed = await process.stdout.read()
                    await process.wait()
                said = await stderr.last()
            finally:
                if process.returncode is None:
                    process.kill()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_ABANDONED_SECONDS):
                            await process.wait()
        if process.returncode:
            *_, last = said.decode(errors="replace").strip().splitlines() or [""]
            raise ValueError(f"process returned {process.returncode}" + (f": {last}" if last else ""))
        return _read(printed, self.api_version)


class _Stderr:
    """What a plug-in writes to stderr, in a pipe of our own.

    A child that it leaves behind may keep the pipe open for ever: only its stdout and its end are waited for, as
    kubectl does.
    """

    def __init__(self, *, show: bool) -> None:
        """With `show`, it is shown: a question, or the address of a login page."""
        self._show = show
        self._kept = b""

    async def __aenter__(self) -> Self:
        read, self._write = os.pipe()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
        )
        self._hearing = asyncio.create_task(self._hear(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_ours()
        self._hearing.cancel()
        await asyncio.wait([self._hearing])
        self._transport.close()

    def handed_over(self) -> int:
        """The end that the process writes to."""
        return self._write

    async def last(self) -> bytes:
        """The end of what it has written, once it has ended."""
        self._close_ours()
        await asyncio.wait([self._hearing], timeout=_LAST_WORDS_SECONDS)
        return self._kept

    def _close_ours(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_SAID_BYTES):
            if self._show:
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()
            self._kept = (self._kept + chunk)[-_SAID_BYTES:]


def _read(printed: bytes, api_version: str) -> dict[str, Any]:
    try:
        answer = json.loads(printed)
    except ValueError as error:
        raise ValueError(f"failed to decode process output: {error}") from error
    match answer:
        case {"apiVersion": found, "status": dict(status)} if found == api_version:
            return status
    raise ValueError(f"it prints no ExecCredential of {api_version} with a status")
