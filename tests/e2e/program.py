"""`falco-streamer` as its users run it: a process with arguments, output, signals and an exit code."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

COMMAND = [sys.executable, "-m", "streamer"]
SECONDS = 20.0
"""How long anything may take that a person would wait for."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what could configure the program."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("FALCO_STREAMER__")}
    return ours | dict(more or {})


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=SECONDS, check=False, env=environment()
    )


class Program:
    """A run of it that goes on; `output` is what it has said so far, stdout and stderr by turns as they came."""

    def __init__(self, *arguments: str | Path, terminal: bool = False) -> None:
        command = [*COMMAND, *map(str, arguments)]
        if terminal:
            self._reading, theirs = os.openpty()
        else:
            self._reading, theirs = os.pipe()
        stdin = theirs if terminal else subprocess.DEVNULL
        more = {"TERM": "xterm", "COLUMNS": "80"} if terminal else {}
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=theirs,
            stderr=theirs,
            env=environment(more),
            preexec_fn=_take_terminal if terminal else heed_interrupts,  # noqa: PLW1509  # the child has one thread
        )
        os.close(theirs)
        self.output = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reading, selectors.EVENT_READ)

    @property
    def text(self) -> str:
        return self.output.decode()

    def until(self, pattern: str | Callable[[], bool], seconds: float = SECONDS) -> None:
        """Read until what was said matches, or a condition holds."""
        deadline = time.monotonic() + seconds
        while not (re.search(pattern, self.text) if isinstance(pattern, str) else pattern()):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds} s: {pattern}\n{self.text}"
            if self._selector.select(min(left, 0.1)) and not self._read():
                assert isinstance(pattern, str)
                assert re.search(pattern, self.text), f"it ended without {pattern}\n{self.text}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def type(self, keys: bytes) -> None:
        """Press keys on its terminal."""
        os.write(self._reading, keys)

    def end(self, seconds: float = SECONDS) -> int:
        """Read to its end; the exit code."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._selector.select(left) and not self._read():
                break
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def _read(self) -> bool:
        try:
            chunk = os.read(self._reading, 65_536)
        except OSError:  # how a terminal says that nobody is left at the other end
            chunk = b""
        self.output += chunk
        return bool(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._selector.close()
        os.close(self._reading)


def heed_interrupts() -> None:
    """Undo what a shell without job control leaves to `make test &`: SIGINT ignored, by all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _take_terminal() -> None:
    """Make stdin the controlling terminal, so that Ctrl-C typed there is a signal."""
    import fcntl
    import termios

    heed_interrupts()
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
