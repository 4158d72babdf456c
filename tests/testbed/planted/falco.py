"""What is wrong with Falco, its pods, or with what the settings say of them."""

from __future__ import annotations

import time
from typing import Any

from tests.testbed.cluster import FalcoCluster
from tests.testbed.planted import SECOND_NS, Setup, Table, alert, print_alerts
from tests.testbed.pod import Pod

FALCO = Table()


@FALCO.fault("no pod matches app.kubernetes.io/name=falco or app=falco", run="event=no_pod_matches")
async def no_pod(setup: Setup) -> None:
    await setup.own_falco()


@FALCO.fault("no pod matches app=falcon", run="event=no_pod_matches")
async def a_wrong_label(setup: Setup) -> None:
    setup.kubernetes["selectors"] = ["app=falcon"]


@FALCO.fault("no pod matches", run="event=no_pod_matches")
async def another_namespace(setup: Setup) -> None:
    setup.kubernetes["namespaces"] = ["kube-system"]


@FALCO.fault("no container is called falco, but falco-ebpf, falcoctl", run="event=no_container_matches")
async def a_container_with_another_name(setup: Setup) -> None:
    await (await setup.own_falco()).add_pod("falco-a", containers=("falco-ebpf", "falcoctl"))


@FALCO.fault("which is not followed", run="event=no_container_matches")
async def falco_in_an_init_container(setup: Setup) -> None:
    await bare_pod(
        await setup.own_falco(),
        {
            "initContainers": [{"name": "falco", "image": "falcosecurity/falco"}],
            "containers": [{"name": "shop", "image": "shop:1"}],
        },
    )


@FALCO.fault("not followed, since", run="not followed")
async def pods_of_another_owner(setup: Setup) -> None:
    setup.kubernetes["owners"] = ["DaemonSet/falco"]


@FALCO.fault("Falco prints its alerts as text")
async def text_in_place_of_json(setup: Setup) -> None:
    pod = await (await setup.own_falco()).add_pod("falco-a")
    print_text(pod)


@FALCO.fault("no alert yet in the last lines", run="no alert in the first 1 lines")
async def a_falco_that_has_said_nothing(setup: Setup) -> None:
    pod = await (await setup.own_falco()).add_pod("falco-a")
    pod.log().line("Fri Nov 20 10:00:00 2026: Loading rules from:")


@FALCO.fault("is waiting to start: ContainerCreating", run="the container has not started in ")
async def a_container_that_does_not_start(setup: Setup) -> None:
    await (await setup.own_falco()).add_pod("falco-a", started=False)


@FALCO.fault("on no node yet: ", run="no matching pod is on a node yet")
async def a_pod_without_a_node(setup: Setup) -> None:
    await (await setup.own_falco()).add_pod("falco-a", scheduled=False)


@FALCO.fault("the API server does not reach the node")
async def a_node_that_does_not_answer(setup: Setup) -> None:
    cluster = await setup.own_falco()
    await cluster.add_pod("falco-a")
    status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}
    await setup.servers.api.patch(f"/api/v1/nodes/{cluster.node}/status", {"status": status})


@FALCO.fault("filters drop all 10 alerts", run="filters have dropped all 10 alerts")
async def a_filter_that_drops_everything(setup: Setup) -> None:
    everything = {"name": "all", "action": "drop", "match": ["priority <= emergency"], "reason": "a slip"}
    setup.settings["filters"] = [everything]


@FALCO.fault("filters drop all 10 alerts", run="filters have dropped all 10 alerts")
async def a_least_priority_above_all(setup: Setup) -> None:
    setup.settings["min_priority"] = "emergency"


def print_text(pod: Pod) -> None:
    """What Falco prints without `json_output`."""
    for n in range(10):
        pod.log().line(f"10:00:0{n}.123456789: Warning Shell in a container (user=root)")


def hold_back(pod: Pod) -> None:
    """What a buffer does: four alerts of a kilobyte fill it, and come together."""
    flushed_at = time.time_ns()
    for n in range(4):
        pod.log().line(alert(flushed_at - (30 - 7 * n) * SECOND_NS), at=flushed_at + n * 1000)


async def bare_pod(cluster: FalcoCluster, spec: dict[str, Any]) -> None:
    """A pod of Falco's with any containers, none of which has a log."""
    metadata = {"name": "falco-a", "labels": {"app.kubernetes.io/name": "falco"}}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "nodeName": cluster.node},
    }
    await cluster.api.create(f"/api/v1/namespaces/{cluster.namespace}/pods", body)


__all__ = ["FALCO", "bare_pod", "hold_back", "print_alerts", "print_text"]
