"""A ConfigMap or Secret as the kubelet mounts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class MountedVolume:
    """A folder in which every file is a link through `..data`, which is swapped as a whole at each change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0

    def write(self, files: Mapping[str, bytes]) -> None:
        """Let the volume hold these files from now on."""
        self._versions += 1
        version = self.folder / f"..2026_{self._versions}"
        version.mkdir(parents=True)
        for name, content in files.items():
            (version / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")
