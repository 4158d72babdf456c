from collections.abc import Callable

import pytest

from streamer.simulator.cluster import Change, Cluster, GoneError
from streamer.simulator.logs import LogReader
from streamer.simulator.pods import Json


def kinds(changes: list[Change]) -> list[str]:
    return [
        "ADDED" if change.before is None else "DELETED" if change.after is None else "MODIFIED"
        for change in changes
    ]


def everything(_: Json) -> bool:
    return True


def test_the_resource_version_rises_with_every_change() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.add_pod("falco", "p", waiting=True)
    versions = [pod.resource_version]
    steps: list[Callable[[], object]] = [
        lambda: cluster.start_container(pod),
        lambda: cluster.set_label(pod, "a", "b"),
        lambda: cluster.restart_container(pod),
        lambda: cluster.crash(pod),
        lambda: cluster.start_container(pod),
        lambda: cluster.begin_deletion(pod),
        lambda: cluster.terminate(pod),
        lambda: cluster.remove_pod(pod),
    ]
    for step in steps:
        step()
        versions.append(pod.resource_version)
    assert versions == sorted(set(versions))
    assert cluster.resource_version == versions[-1]


def test_changes_are_those_after_a_version() -> None:
    cluster = Cluster(seed=1)
    start = cluster.resource_version
    pod = cluster.add_pod("falco", "p")
    cluster.set_label(pod, "a", "b")
    middle = cluster.resource_version
    cluster.delete_pod(pod)
    assert kinds(cluster.changes_since(start)) == ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    assert kinds(cluster.changes_since(middle)) == ["MODIFIED", "MODIFIED", "DELETED"]
    assert cluster.changes_since(cluster.resource_version) == []


def test_a_change_shows_the_pod_as_it_was_then() -> None:
    cluster = Cluster(seed=1)
    start = cluster.resource_version
    pod = cluster.add_pod("falco", "p", labels={"a": "1"})
    cluster.set_label(pod, "a", "2")
    first, second = cluster.changes_since(start)
    assert first.after is not None
    assert first.after["metadata"]["labels"] == {"a": "1"}
    assert second.before is first.after
    assert second.event(everything) is not None


def test_the_history_is_bounded_and_older_versions_are_gone() -> None:
    cluster = Cluster(history=3, seed=1)
    pod = cluster.add_pod("falco", "p")
    versions = [cluster.resource_version]
    for n in range(5):
        cluster.set_label(pod, "n", str(n))
        versions.append(cluster.resource_version)
    assert len(cluster.changes_since(versions[-4])) == 3
    with pytest.raises(GoneError, match=rf"too old resource version: {versions[-5]} \({versions[-4]}\)"):
        cluster.changes_since(versions[-5])


def test_a_compaction_forgets_everything_and_lists_begin_after_it() -> None:
    cluster = Cluster(seed=1)
    cluster.add_pod("falco", "p")
    before = cluster.resource_version
    cluster.forget_history()
    with pytest.raises(GoneError):
        cluster.changes_since(before)
    assert cluster.changes_since(cluster.resource_version) == []


def test_the_containers_of_a_removed_pod_print_on_and_show_in_no_event() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.add_pod("falco", "p")
    reader = LogReader(cluster.log(pod), follow=True, timestamps=False)
    cluster.remove_pod(pod)
    gone = cluster.resource_version
    cluster.append(pod, b"still here")
    assert reader.read() == b"still here\n"
    cluster.terminate(pod)
    assert reader.read() == b""
    assert reader.finished
    assert cluster.resource_version == gone
    assert ("falco", "p") not in cluster.pods


def test_a_name_is_taken_once() -> None:
    cluster = Cluster(seed=1)
    first = cluster.add_pod("falco", "p")
    with pytest.raises(ValueError, match="already exists"):
        cluster.add_pod("falco", "p")
    cluster.delete_pod(first)
    assert cluster.add_pod("falco", "p").uid != first.uid


def test_ids_are_the_same_for_the_same_seed() -> None:
    pods = [Cluster(seed=seed).add_pod("falco", "p") for seed in (1, 1, 2)]
    assert pods[0].uid == pods[1].uid != pods[2].uid


def test_the_phase_follows_the_containers() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.add_pod("falco", "p", node=None)
    phases = [pod.phase]
    cluster.schedule(pod, "node-1")
    phases.append(pod.phase)
    cluster.start_container(pod)
    phases.append(pod.phase)
    cluster.crash(pod)
    phases.append(pod.phase)
    cluster.start_container(pod)
    cluster.terminate(pod, exit_code=1)
    phases.append(pod.phase)
    cluster.start_container(pod)
    cluster.terminate(pod)
    phases.append(pod.phase)
    assert phases == ["Pending", "Pending", "Running", "Running", "Failed", "Succeeded"]


def test_every_start_after_an_end_is_a_restart() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.add_pod("falco", "p", waiting=True)
    container = pod.containers["falco"]
    counts = []
    for _ in range(3):
        cluster.start_container(pod)
        counts.append(container.restart_count)
        cluster.crash(pod)
    cluster.restart_container(pod)
    counts.append(container.restart_count)
    assert counts == [0, 1, 2, 3]
    assert container.waiting_reason is None
    assert container.last is not None
    assert container.last.exit_code == 139


def test_a_container_that_has_not_started_has_no_log() -> None:
    cluster = Cluster(seed=1)
    pod = cluster.add_pod("falco", "p", waiting=True)
    with pytest.raises(ValueError, match="has not started"):
        cluster.append(pod, b"too early")
