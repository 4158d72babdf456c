"""Whether files that the settings name have changed, without reading them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int], ...]


def stamp_of(files: Iterable[Path | str | None]) -> Stamp | None:
    """What differs as soon as one of the files does; None where one is missing, as in the midst of a change.

    A mounted volume is swapped by a link: each file is then another one, whatever its time and size.
    """
    try:
        stats = [(str(file), os.stat(file)) for file in files if file is not None]
    except OSError:
        return None
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
