"""Followers of shards that come and go, against the simulator: only what is owned is followed, and left as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streamer.model import Target
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.api import connect
from streamer.source.discovery import Discovery
from streamer.source.fleet import Fleet
from tests.flow.following import HASTY, Recorder, eventually, numbered


class Owners:
    """Whose each pod is, by its name."""

    def __init__(self) -> None:
        self.by_pod: dict[str, Recorder] = {}

    def of(self, target: Target) -> Recorder | None:
        return self.by_pod.get(target.pod)


@asynccontextmanager
async def owned(
    server: SimulatedApiServer, owners: Owners, tmp_path: Path
) -> AsyncIterator[tuple[Fleet, Discovery]]:
    async with (
        connect(server.kubeconfig(tmp_path / "kubeconfig"), None) as api,
        asyncio.TaskGroup() as tasks,
    ):
        discovery = Discovery(api, ["app.kubernetes.io/name=falco"], (), "falco")
        async with Fleet(api, owners.of, max_line_bytes=786_432, from_now=False, patience=HASTY) as fleet:
            discovery.on_change = fleet.take
            running = tasks.create_task(discovery.run())
            await discovery.listed()
            yield fleet, discovery
            running.cancel()


async def test_only_targets_with_an_owner_are_followed(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    ours, others = cluster.add_pod("falco", "ours"), cluster.add_pod("falco", "others")
    owners, recorder = Owners(), Recorder()
    owners.by_pod[ours.name] = recorder
    async with owned(server, owners, tmp_path) as (fleet, _):
        for pod in (ours, others):
            cluster.append(pod, *numbered(0, 3))
        await recorder.until_read(ours.name, numbered(0, 3))
        assert len(fleet) == 1
        assert others.name not in recorder.lines


async def test_what_is_released_is_left_as_it_is_and_its_next_owner_goes_on_there(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    moving, staying = cluster.add_pod("falco", "moving"), cluster.add_pod("falco", "staying")
    owners, first, second = Owners(), Recorder(), Recorder()
    owners.by_pod |= {moving.name: first, staying.name: second}
    async with owned(server, owners, tmp_path) as (fleet, discovery):
        for pod in (moving, staying):
            cluster.append(pod, *numbered(0, 5))
        await first.until_read(moving.name, numbered(0, 5))
        await second.until_read(staying.name, numbered(0, 5))

        del owners.by_pod[moving.name]
        assert [target.pod for target in fleet.release(first)] == [moving.name]
        cluster.append(moving, *numbered(5, 8))
        cluster.append(staying, *numbered(5, 8))
        await second.until_read(staying.name, numbered(0, 8))
        assert len(fleet) == 1
        assert first.lines[moving.name] == numbered(0, 5)

        owners.by_pod[moving.name] = second
        second.positions |= first.positions
        for view in discovery.views():
            fleet.update(view)
        fleet.adopt([(target, first.positions[target.id]) for target in first.targets.values()])
        await second.until_read(moving.name, numbered(5, 8))
    assert first.gaps == second.gaps == []


async def test_a_pod_that_is_seen_out_is_released_without_a_gap(
    cluster: Cluster, server: SimulatedApiServer, tmp_path: Path
) -> None:
    pod = cluster.add_pod("falco", "leaving")
    owners, recorder = Owners(), Recorder()
    owners.by_pod[pod.name] = recorder
    async with owned(server, owners, tmp_path) as (fleet, discovery):
        cluster.append(pod, *numbered(0, 5))
        await recorder.until_read(pod.name, numbered(0, 5))
        cluster.begin_deletion(pod)
        cluster.set_label(pod, "app.kubernetes.io/name", None)
        await eventually(lambda: not discovery.views())  # its stream is open still, and is waited for
        assert len(fleet) == 1
        del owners.by_pod[pod.name]
        fleet.release(recorder)
        assert len(fleet) == 0
        await asyncio.sleep(0.2)  # nothing is to happen
        assert len(fleet) == 0
    assert recorder.gaps == []
