"""A small disk of one's own, to be filled: a tmpfs in a mount namespace that lives as long as a process of ours."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.testbed.parts import PartMissing
from tests.testbed.process import Process

_HOLD = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec sleep infinity'


class SmallDisk:
    """A file system of so many bytes. Needs user namespaces, which root always may make; PartMissing without.

    `inside` is what a program's command must begin with to see it, at `path`; we see it at `outside`.
    """

    def __init__(self, path: Path, size: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        command = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            _HOLD,
            "sh",
            str(size),
            str(path),
        ]
        self.process = Process("small disk", command, path.parent / "small-disk.log")

    @property
    def inside(self) -> Sequence[str]:
        """A prefix for a command."""
        enter = ["nsenter", f"--target={self.process.pid}", "--user", "--mount", "--preserve-credentials"]
        # To enter makes the kernel forget that the program is to end with us (see Process).
        return [*enter, "setpriv", "--pdeathsig", "KILL"]

    @property
    def outside(self) -> Path:
        """The same folder for those who are not in the namespace."""
        return Path(f"/proc/{self.process.pid}/root{self.path}")

    def fill(self) -> None:
        """Take all the room there is."""
        with (self.outside / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while filler.write(bytes(size)) == size:
                        pass
                except OSError:  # full, for pieces of this size
                    continue

    def free(self) -> None:
        """Give back what fill() took."""
        (self.outside / "filler").unlink()

    def __enter__(self) -> Self:
        """Mount it."""
        try:
            self.process.spawn()
            self.process.wait_until(lambda: self.process.has_said("mounted"), seconds=10)
            subprocess.run([*self.inside, "true"], check=True, capture_output=True)
        except Exception as failure:
            self.process.kill()
            raise PartMissing(f"no file system of a size of its own can be made here: {failure}") from failure
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount it: with the last process in the namespace it is gone."""
        self.process.kill()
