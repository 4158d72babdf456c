"""Make docs/demo.svg of what `falco-streamer demo` shows on a terminal: `python tools/picture.py`."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, LINES = 132, 20
CLEAR_LINE = "\r\x1b[K"


def play() -> str:
    """What the demo writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    command = [".venv/bin/falco-streamer", "demo", "--seconds", "12", "--seed", "4"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # how a terminal says that the last writer has gone
            pass
        if demo.wait():
            raise SystemExit(written.decode())
    return written.decode()


lines = [line.split(CLEAR_LINE)[-1].rstrip("\r") for line in play().split("\n") if line.strip()]
first, records, last = lines[0], lines[1:-2][-LINES:], lines[-2:]
console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
for line in ["\x1b[1m$ make demo\x1b[0m", *records, *last]:
    console.print(Text.from_ansi(line, no_wrap=True, overflow="crop"))
svg = console.export_svg(title="falco-streamer demo", theme=MONOKAI)
# Fonts are the viewer's business: nothing is to be loaded from anywhere.
Path("docs/demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
