"""What a node's path of a log file says: whose log it is, and which of its files is older.

The kubelet keeps logs as `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`, N being the restarts. A rotated file
has its time appended, and `.gz` where it is packed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamer.model import Target

_PATH: Final = re.compile(
    r"(?:^|/)([a-z0-9.-]+)_([a-z0-9.-]+)_([0-9a-f-]{32,36})/([a-z0-9-]+)/(\d+)\.log(?:\.(\d{8}-\d{6}))?(?:\.gz)?$"
)
_LINKS: Final = 4


def target_of(name: str, node: str = "") -> Target | None:
    """The container whose log this file is; also by the link to it in `/var/log/containers`."""
    match = _match(name)
    return None if match is None else Target(match[1], match[2], match[3], match[4], node)


def instance_of(name: str) -> tuple[str, ...] | None:
    """The container and which of its instances this file is of; parts of a line go on in the next file of the same."""
    match = _match(name)
    return None if match is None else match.groups()[:5]


def in_order(names: Sequence[str]) -> list[str]:
    """The files of one container from the oldest to the newest, where the first of them was named."""
    known = {name: match for name in names if (match := _match(name)) is not None}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, match in known.items():
        groups.setdefault(match.groups()[:4], []).append(name)
    for group in groups.values():
        group.sort(key=lambda name: (int(known[name][5]), known[name][6] or "~"))
    ordered: list[str] = []
    for name in names:
        if name not in known:
            ordered.append(name)
        else:
            ordered += groups.pop(known[name].groups()[:4], [])
    return ordered


def _match(name: str) -> re.Match[str] | None:
    for _ in range(_LINKS):
        if (match := _PATH.search(os.path.abspath(name))) is not None:  # not resolve(): links stay
            return match
        path = Path(name)
        if not path.is_symlink():
            return None
        name = str(path.parent / path.readlink())
    return None
