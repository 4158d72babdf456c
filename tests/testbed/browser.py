"""A real browser without a window: what it makes of a page, and what it says while it does."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.testbed.parts import PartMissing

_SECONDS: Final = 60.0
# Without a sandbox, because tests may run as root, where Chromium refuses to make one; and nothing of its own to load.
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1100,900",
)


@dataclass(frozen=True)
class Shown:
    """A page as the browser has it."""

    document: str
    """The document, written out again."""
    complaints: list[str]
    """What a developer would read in the console: blocked by a policy, failed to load, a script's error."""


def program() -> str:
    """The browser at hand. Raises PartMissing without one."""
    found = shutil.which("chromium")
    if not found:
        raise PartMissing(
            "pages are looked at in Chromium: install Debian's package chromium, or have it on PATH"
        )
    return found


def show(url: str, folder: Path, picture: Path | None = None) -> Shown:
    """Load a page, with the profile of a new user in `folder`; with `picture`, take one of it as a PNG.

    Raises PartMissing without Chromium.
    """
    command = [program(), *FLAGS, f"--user-data-dir={folder}", "--dump-dom"]
    if picture is not None:
        command.append(f"--screenshot={picture}")
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=_SECONDS, check=True)
    return Shown(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])
