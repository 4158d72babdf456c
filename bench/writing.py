"""Alerts in the logs of real pods: one each, many each, or at a steady rate."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Final, Self

from bench.site import Worker
from streamer.simulator import AlertGenerator
from tests.testbed.pod import Pod

_TICK_SECONDS: Final = 0.01
_CONTEXT: Final = multiprocessing.get_context("fork")


def greet(pods: Sequence[Pod], worker: Worker) -> None:
    """One alert of each pod: when they have arrived, all streams are open."""
    write(pods, 1)
    worker.wait_for("lines", len(pods))


def write(pods: Sequence[Pod], lines: int, *, at_once: int = 100) -> None:
    """So many alerts to each log, in turns of `at_once`."""
    generator = AlertGenerator(2)
    for written in range(0, lines, at_once):
        count = min(at_once, lines - written)
        for pod in pods:
            pod.log().lines([generator.alert(time.time_ns(), "node") for _ in range(count)])


class Writing:
    """In the context a process of its own writes alerts, so many a second over all pods, each in its turn."""

    def __init__(self, pods: Sequence[Pod], rate: int) -> None:
        self._stop = _CONTEXT.Event()
        self._written: Synchronized[int] = _CONTEXT.Value("q", 0)
        arguments = (pods, rate, self._stop, self._written)
        self._process = _CONTEXT.Process(target=_write, args=arguments, daemon=True)

    @property
    def written(self) -> int:
        """How many alerts there are by now."""
        return self._written.value

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join()


def _write(pods: Sequence[Pod], rate: int, stop: Event, count: Synchronized[int]) -> None:
    generator = AlertGenerator(3)
    began, written = time.monotonic(), 0
    while not stop.wait(_TICK_SECONDS):
        due = int((time.monotonic() - began) * rate)
        share: dict[int, list[bytes | str]] = {}
        for n in range(written, due):
            share.setdefault(n % len(pods), []).append(generator.alert(time.time_ns(), "node"))
        for number, alerts in share.items():
            pods[number].log().lines(alerts)
        count.value = written = due
