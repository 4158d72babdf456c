"""A loop whose clock jumps: where nothing is left to do but wait, the time to wait for is there at once."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec

P = ParamSpec("P")


class Stuck(Exception):  # noqa: N818 - it says what the test is
    """All tasks wait for one another: in real time the test would hang."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only while every task waits, and then at once. For code without sockets and threads."""

    def __init__(self) -> None:
        self._now = 1000.0  # no clock starts at nothing
        super().__init__(_Impatient(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float | None) -> None:
        if seconds is None:
            raise Stuck
        self._now += seconds


class _Impatient(selectors.BaseSelector):
    """A selector that does not wait, but tells how long it would have."""

    def __init__(self, would_wait: Callable[[float | None], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._would_wait = would_wait

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._selector.select(0)
        if not ready and (timeout is None or timeout > 0):
            self._would_wait(timeout)
        return ready

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test's coroutine on such a loop; it must leave no task behind."""

    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        await test(*args, **kwargs)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"

    @functools.wraps(test)
    def runs(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(run(*args, **kwargs))

    return runs
