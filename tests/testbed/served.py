"""What the test bed's servers have in common: a folder and a process, to be stopped, killed, frozen and closed."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from tests.testbed.process import Process


class Served(ABC):
    """A server with a process of its own. Data and ports outlive stop() and kill(); close() ends it all."""

    STOP_SECONDS: ClassVar[float] = 20.0
    """How long it may take to end in good order."""

    folder: Path
    process: Process

    @abstractmethod
    def start(self) -> None:
        """Start it, for the first time or again, and wait until it serves; StartError if it does not."""

    def stop(self) -> None:
        """End it in good order (SIGTERM)."""
        self.process.stop(seconds=self.STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        self.process.kill()

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP), as on a hung node: connections stay, answers do not come."""
        self.process.freeze()

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.process.resume()

    def close(self) -> None:
        """End it and remove what it wrote."""
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
