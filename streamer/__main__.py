"""The program: `falco-streamer`, and `python -m streamer`, which is the same."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from types import TracebackType
from typing import Final

_CANNOT_WRITE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main() -> None:
    """Run the command that was asked for."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # half a second of imports: Ctrl-C ends us as it ends any program, without their tracebacks
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # imports make many objects and hardly any garbage; `cli.main` enables it behind them
    sys.excepthook = _end
    from streamer.cli import main as command  # noqa: PLC0415 - it takes its time

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno in _CANNOT_WRITE:
            sys.stderr.write(f"error: standard output: {error.strerror}\n")
        elif not isinstance(error, BrokenPipeError):
            raise
        # What is left is for nobody; without this, it would be tried once more, and complained of.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of ours ends the command. What the exception says may quote an alert: `python -X dev` shows it."""
    if sys.flags.dev_mode or not isinstance(error, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    from streamer.telemetry.failure import as_text  # noqa: PLC0415 - it takes its time

    sys.stderr.write(f"error: a fault of ours: {as_text(error)}\n")


if __name__ == "__main__":
    main()
