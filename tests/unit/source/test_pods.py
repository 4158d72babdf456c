"""What is read of a pod object: whose log is served as the current one and as the previous one, and since when."""

from __future__ import annotations

from streamer.model import Instance
from streamer.simulator import Cluster
from streamer.simulator.pods import Pod
from streamer.source.pods import PodView, view

START = 1_790_000_000
SECOND = 1_000_000_000


class Times:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ns = START * SECOND
        self.cluster = Cluster(seed=1, clock_ns=lambda: self.now_ns)
        self.pod: Pod = self.cluster.add_pod("falco", "falco-a")

    def later(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)

    def seen(self) -> PodView:
        found = view(self.cluster.object(self.pod), "falco")
        assert found is not None
        return found


def test_a_running_container_has_a_start_and_no_end() -> None:
    found = Times().seen()
    assert found.running
    assert (found.started_ns, found.ended_ns) == (START * SECOND, None)
    assert found.previous is None


def test_times_are_whole_seconds_and_those_of_the_run() -> None:
    times = Times()
    times.later(3.9)
    times.cluster.terminate(times.pod)
    found = times.seen()
    assert not found.running
    assert (found.started_ns, found.ended_ns) == (START * SECOND, (START + 3) * SECOND)


def test_after_a_restart_the_previous_log_is_that_of_the_run_before() -> None:
    times = Times()
    first = times.seen().instance
    times.later(5)
    times.cluster.restart_container(times.pod)
    found = times.seen()
    assert found.instance is not None
    assert found.instance.restart_count == 1
    assert first is not None
    assert found.previous == Instance(first.container_id, 0)
    assert (found.previous_started_ns, found.previous_ended_ns) == (START * SECOND, (START + 5) * SECOND)
    assert found.started_ns == (START + 5) * SECOND


def test_while_it_waits_for_its_restart_the_last_run_is_both() -> None:
    times = Times()
    times.later(5)
    times.cluster.crash(times.pod)
    found = times.seen()
    assert not found.running
    assert found.instance == found.previous
    assert (found.started_ns, found.ended_ns) == (found.previous_started_ns, found.previous_ended_ns)
    assert found.started_ns == START * SECOND


def test_a_pod_that_has_not_started_has_neither() -> None:
    cluster = Cluster(seed=1)
    found = view(cluster.object(cluster.add_pod("falco", "falco-a", waiting=True)), "falco")
    assert found is not None
    assert (found.instance, found.previous, found.started_ns, found.running) == (None, None, None, False)
