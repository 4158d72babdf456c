"""What is read of a pod object: whose log is served as the current one and as the previous one, and since when."""

from __future__ import annotations

import pytest

from streamer.model import Instance
from streamer.simulator import Cluster
from streamer.simulator.pods import Pod
from streamer.source.pods import PodView, container_names, runs_falco, view

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


def test_a_native_sidecar_has_its_status_among_those_of_init_containers() -> None:
    times = Times()
    sidecar = times.cluster.add_pod(
        "team",
        "app-a",
        containers=["app"],
        init_containers=["setup"],
        sidecars=["falco"],
        images={"app": "app:1"},
    )
    times.cluster.append(sidecar, b"one")
    first = view(times.cluster.object(sidecar), "falco")
    assert first is not None
    assert first.running
    assert first.instance is not None
    assert first.instance.restart_count == 0
    assert first.started_ns == START * SECOND
    times.later(5)
    times.cluster.restart_container(sidecar)
    found = view(times.cluster.object(sidecar), "falco")
    assert found is not None
    assert found.instance is not None
    assert found.instance.restart_count == 1
    assert found.previous == first.instance
    assert found.previous_ended_ns == (START + 5) * SECOND


def test_an_init_container_that_ends_and_an_ephemeral_one_are_not_followed() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.object(cluster.add_pod("team", "app-a", containers=["app"], init_containers=["falco"]))
    pod["spec"]["ephemeralContainers"] = [{"name": "falco-debug", "image": "falcosecurity/falco"}]
    assert container_names(pod) == ["app"]
    assert view(pod, "falco") is None
    assert view(pod, "falco-debug") is None


@pytest.mark.parametrize(
    ("image", "falco"),
    [
        ("falco", True),
        ("falcosecurity/falco:0.44.1", True),
        ("docker.io/falcosecurity/falco:0.44.1-debian", True),
        ("registry.example.com:5000/mirror/falco@sha256:6a6a", True),
        ("registry.example.com:5000/falco", True),
        ("public.ecr.aws/falcosecurity/falco-no-driver:0.39.2", True),
        ("docker.io/falcosecurity/falco-driver-loader:0.44.1", False),
        ("docker.io/falcosecurity/falcoctl:0.11.0", False),
        ("docker.io/falcosecurity/falcosidekick:2.31", False),
        ("falco/app:1", False),
        ("", False),
    ],
)
def test_which_images_are_falcos(image: str, falco: bool) -> None:
    assert runs_falco({"name": "x", "image": image}) is falco
