"""What the contract needs of a cluster: to change its pods, to write their logs, and to ask its API.

Two drivers fulfil it: the simulator's, in this process, and the test bed's, on the real API server. Pods are
named by their name in the driver's one namespace; `at` is a record's time in nanoseconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp

FALCO = {"app.kubernetes.io/name": "falco"}


class ClusterDriver(Protocol):
    """A cluster under test."""

    namespace: str

    def open(
        self,
        path: str,
        params: Mapping[str, str] = {},
        *,
        authorization: str | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """GET a path as the administrator, or with an Authorization header of one's own and no other identity."""
        ...

    async def post(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        """POST an object; the status and the answered object."""
        ...

    async def create_pod(
        self,
        name: str,
        *,
        labels: Mapping[str, str] = FALCO,
        containers: Sequence[str] = ("falco",),
        scheduled: bool = True,
        started: bool = True,
    ) -> str:
        """Create a pod, on a node and running unless told otherwise; its UID."""
        ...

    async def schedule(self, name: str) -> None:
        """Give a pod without a node one; its containers are then waiting."""
        ...

    async def start(self, name: str) -> None:
        """Start the waiting containers of a pod."""
        ...

    async def end(self, name: str, *, exit_code: int = 0) -> None:
        """End a pod's first container."""
        ...

    async def restart(self, name: str) -> None:
        """End a pod's first container and start its next instance."""
        ...

    async def back_off(self, name: str) -> None:
        """End a pod's first container and leave it waiting in CrashLoopBackOff."""
        ...

    async def label(self, name: str, key: str, value: str | None) -> None:
        """Set a label, or remove it."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a pod and end its containers."""
        ...

    async def forget_history(self) -> None:
        """Let every resource version so far be too old for a watch. Open streams may break."""
        ...

    def line(self, name: str, text: bytes, at: int, *, container: str | None = None) -> None:
        """Write a line, cut into records as containerd cuts it."""
        ...

    def part(self, name: str, text: bytes, at: int) -> None:
        """Write a record without an end of line."""
        ...

    def rotate(self, name: str) -> None:
        """Rotate the log of a pod's first container."""
        ...
