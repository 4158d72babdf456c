"""A living cluster, ready-made, for `demo` and `simulate`: Falco pods that print, restart, go and come.

What happens is a function of the seed and of the time that has passed: `advance` does what is due, `run`
calls it as real time passes, and a test may call it itself.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.simulator.alerts import AlertGenerator
from streamer.simulator.cluster import FALCO_LABELS, Cluster
from streamer.simulator.falco_text import broken, exit_lines, startup_lines, text_alert

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.simulator.pods import Pod

OLD_LABELS = {"app": "falco", "role": "security"}
"""What chart 1.x puts on its pods, if its release is called falco."""

TICK_SECONDS = 0.05
EVERY_SECONDS = 60
"""Restart and re-creation come again after so long."""


@dataclass
class Printed:
    """What has been printed, by what a reader has to make of it."""

    alerts: int = 0
    log_lines: int = 0
    text_alerts: int = 0
    broken: int = 0

    @property
    def lines(self) -> int:
        """All of it."""
        return self.alerts + self.log_lines + self.text_alerts + self.broken


class Scenario:
    """A cluster with `pods` Falco pods, one a node, in `namespaces` namespaces.

    `rate_per_second`: alerts of all pods together, unevenly spread. Every `broken_every`-th of them comes
    out cut, every `text_every`-th in text mode (0: never). A container is restarted after
    `restart_after_seconds`; a pod is deleted after `recreate_after_seconds`, with a grace period of two
    seconds in which it prints on, and replaced by one of another name; both again each minute. `on_event`
    is given these in words.
    """

    def __init__(
        self,
        *,
        rate_per_second: float = 50,
        pods: int = 5,
        namespaces: int = 2,
        seed: int = 0,
        rotate_bytes: int = 10 << 20,
        restart_after_seconds: float = 5,
        recreate_after_seconds: float = 8,
        broken_every: int = 500,
        text_every: int = 400,
        clock_ns: Callable[[], int] = time.time_ns,
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_event = on_event
        self.cluster = Cluster(rotate_bytes=rotate_bytes, clock_ns=clock_ns, seed=seed)
        self.printed = Printed()
        self._rate_per_second = rate_per_second
        self._broken_every = broken_every
        self._text_every = text_every
        self._random = random.Random(seed)
        self._generator = AlertGenerator(seed)
        self._due_alerts = 0
        self._printed_by: dict[str, int] = {}
        self._pods = [self._create(n % namespaces, f"node-{n + 1}") for n in range(pods)]
        # The first pods are the noisy ones.
        self._weights = list(itertools.accumulate(1 / (n + 1) for n in range(pods)))
        self._schedule: list[tuple[float, Callable[[float], None]]] = [
            (restart_after_seconds, self._restart),
            (recreate_after_seconds, self._begin_deletion),
        ]

    async def run(self, seconds: float | None = None) -> None:
        """Let time pass: `seconds` of it, or until cancelled."""
        now = asyncio.get_running_loop().time
        start = now()
        while seconds is None or now() - start < seconds:
            self.advance(now() - start)
            await asyncio.sleep(TICK_SECONDS)

    def advance(self, elapsed_seconds: float) -> None:
        """Do all that is due so long after the start."""
        self._schedule.sort(key=lambda item: item[0])
        while self._schedule and self._schedule[0][0] <= elapsed_seconds:
            at, action = self._schedule.pop(0)
            self._print_alerts(at)
            action(at)
            self._schedule.sort(key=lambda item: item[0])
        self._print_alerts(elapsed_seconds)

    def _print_alerts(self, elapsed_seconds: float) -> None:
        due = int(self._rate_per_second * elapsed_seconds)
        count, self._due_alerts = due - self._due_alerts, due
        if count <= 0:
            return
        now = self.cluster.clock_ns()
        for n, pod in enumerate(self._random.choices(self._pods, cum_weights=self._weights, k=count)):
            self._print_alert(pod, due - count + n + 1, now + n)

    def _print_alert(self, pod: Pod, number: int, now_ns: int) -> None:
        assert pod.node is not None
        # Falco stamps the event, the runtime the line, a little later.
        line = self._generator.alert(now_ns - self._random.randrange(200_000, 3_000_000), pod.node)
        if self._broken_every and number % self._broken_every == 0:
            line = broken(line)
            self.printed.broken += 1
        elif self._text_every and number % self._text_every == 0:
            line = text_alert(now_ns)
            self.printed.text_alerts += 1
        else:
            self.printed.alerts += 1
            self._printed_by[pod.uid] = self._printed_by.get(pod.uid, 0) + 1
        self.cluster.append(pod, line, time_ns=now_ns)

    def _print_log(self, pod: Pod, lines: list[bytes]) -> None:
        self.cluster.append(pod, *lines)
        self.printed.log_lines += len(lines)

    def _create(self, namespace: int, node: str) -> Pod:
        suffix = "".join(self._random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        # The second namespace is one that nobody has upgraded for years.
        labels = OLD_LABELS if namespace == 1 else FALCO_LABELS
        name = "falco" if namespace == 0 else f"falco-{namespace + 1}"
        pod = self.cluster.add_pod(name, f"falco-{suffix}", node=node, labels=labels)
        self._print_log(pod, startup_lines(self.cluster.clock_ns(), hostname=node))
        return pod

    def _say_goodbye(self, pod: Pod) -> None:
        count = self._printed_by.pop(pod.uid, 0)
        rules = {"Contact K8S API Server From Container": count}
        self._print_log(pod, exit_lines(self.cluster.clock_ns(), {"Notice": count}, rules))

    def _restart(self, at: float) -> None:
        pod = self._pods[0]
        self._say_goodbye(pod)
        self._on_event(f"{pod.namespace}/{pod.name}: the container restarts")
        self.cluster.restart_container(pod)
        self._print_log(pod, startup_lines(self.cluster.clock_ns(), hostname=pod.node or ""))
        self._schedule.append((at + EVERY_SECONDS, self._restart))

    def _begin_deletion(self, at: float) -> None:
        pod = self._pods[-1]
        self._on_event(f"{pod.namespace}/{pod.name}: the pod is being deleted")
        self.cluster.begin_deletion(pod, grace_seconds=2)
        self._schedule.append((at + 2, self._recreate))
        self._schedule.append((at + EVERY_SECONDS, self._begin_deletion))

    def _recreate(self, at: float) -> None:  # noqa: ARG002
        pod = self._pods.pop()
        self._say_goodbye(pod)
        self.cluster.terminate(pod)
        self.cluster.remove_pod(pod)
        namespace = 0 if pod.namespace == "falco" else int(pod.namespace.removeprefix("falco-")) - 1
        assert pod.node is not None
        self._pods.append(self._create(namespace, pod.node))
        self._on_event(f"{pod.namespace}/{pod.name}: the pod is gone, {self._pods[-1].name} takes its place")
