"""One server process: started in a group of its own, waited for, stopped, and never left behind.

Blocking calls throughout, as a process is; from a coroutine use `asyncio.to_thread(broker.start)`.
"""

import atexit
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Runs before the server, in its process: asks the kernel for SIGKILL when our side is gone (prctl(2),
# PR_SET_PDEATHSIG = 1), makes sure that it had not gone before, and becomes the server. Instead of
# subprocess's preexec_fn, which is unsafe beside threads and warned about since Python 3.12.
_DIE_WITH_US = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(sys.argv[1]): os.execvp(sys.argv[2], sys.argv[2:])
"""

# The kernel means the *thread* that forked when it says parent: a worker thread of some event loop would
# take the servers with it when that loop is closed. So one thread, which lives as long as we do, starts all.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="testbed-spawner")

_running: "weakref.WeakSet[Process]" = weakref.WeakSet()


class StartError(Exception):
    """A server ended or was not ready in time; the message ends with the last lines it said."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on and that the kernel gives to no outgoing connection.

    It lies below ip_local_port_range, so it stays ours while its server is down: tests kill and restart.
    """
    while True:
        port = random.randint(12_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Say whether something listens on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A server that can be started, frozen, killed and started again, with its words in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def running(self) -> bool:
        """Whether the process lives; a frozen one does."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id; only while started."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    def spawn(self) -> None:
        """Start the process without waiting for it to be ready."""
        assert not self.running, f"{self.name} is running already"
        self._child = _spawner.submit(self._fork).result()
        _running.add(self)

    def _fork(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_US, str(os.getpid())]
            return subprocess.Popen(
                [*wrapper, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Poll until `ready` says so; StartError when the process ends or `seconds` pass before."""
        assert self._child is not None, f"{self.name} was not started"
        deadline = time.monotonic() + seconds
        while not ready():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(0.02)
                raise StartError(f"{self.name} ended before it was ready:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} is not ready after {seconds:.0f} s:\n{self.last_words()}")

    def has_said(self, pattern: str) -> bool:
        """Say whether a line since the last start matches this regular expression."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return re.search(pattern.encode(), log.read()) is not None

    def last_words(self, lines: int = 20) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) or "(it said nothing)"

    def stop(self, *, seconds: float = 20.0) -> None:
        """Ask it to end (SIGTERM) and wait; after `seconds` it is killed. Nothing happens if it has ended."""
        if self._child is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End the whole group at once (SIGKILL), frozen or not, and wait until it is gone."""
        if self._child is None:
            return
        self._signal(signal.SIGKILL)
        self._child.wait()
        _running.discard(self)

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): sockets stay open, nobody answers. Returns when all threads stand."""
        self._signal(signal.SIGSTOP)
        # Its threads stop one after the other; the kernel tells the parent when the last one has.
        stopped = os.WSTOPPED | os.WNOHANG
        self.wait_until(lambda: os.waitid(os.P_PID, self.pid, stopped) is not None, seconds=10)

    def resume(self) -> None:
        """Let a frozen one go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None, f"{self.name} was not started"
        if self._child.returncode is None:  # else the id may belong to somebody else by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


@atexit.register
def _kill_what_is_left() -> None:
    for process in list(_running):
        process.kill()
