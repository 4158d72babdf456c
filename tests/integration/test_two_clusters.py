"""Two clusters on one broker, nothing set but what must be: they share the alert topics, and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from streamer.simulator import AlertGenerator
from tests.chaos.bed import Worker
from tests.integration.oracle import PRIORITIES, oracle
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet

pytestmark = pytest.mark.real

NAMES = ("prod-eu-1", "prod-eu")
ALERTS = 100


async def test_two_clusters_on_one_broker_do_not_touch_each_other(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, private_kafka: Kafka, tmp_path: Path
) -> None:
    written: dict[str, list[bytes]] = {}
    async with FalcoCluster(api, kubelet) as one, FalcoCluster(api, kubelet) as other:
        workers = {}
        for number, (name, cluster) in enumerate(zip(NAMES, (one, other), strict=True)):
            pod, generator = await cluster.add_pod(), AlertGenerator(number, sources=("syscall",))
            written[name] = [generator.alert(time.time_ns(), "node") for _ in range(ALERTS)]
            pod.log().lines(written[name])
            workers[name] = Worker(
                tmp_path / name, settings(name, cluster, api_server, private_kafka), ("-m", "streamer")
            )
        try:
            first, second = workers.values()
            await first.start()
            assert (await first.until_heard("shards_assigned"))["shards"] == list(range(8))
            await second.start()
            assert (await second.until_heard("shards_assigned"))["shards"] == list(range(8))
            topics = [f"falco.alerts.{priority}" for priority in PRIORITIES]
            async with oracle(private_kafka.bootstrap, topics) as seen:
                await seen.until(lambda seen: seen.alerts >= 2 * ALERTS)
                await second.kill()
                await second.start()
                assert await first.stop() == 0
                assert await second.stop() == 0
                await seen.read_to_end()
            found: dict[str, Counter[bytes]] = {name: Counter() for name in NAMES}
            for record in seen.records:
                found[dict(record.headers)["cluster"].decode()][record.value] += 1
            assert found == {name: Counter(alerts) for name, alerts in written.items()}
            assert len(first.heard("shards_assigned")) == 1, "what the other did was none of its business"
            for worker in workers.values():
                assert not worker.heard("shard_fenced")
                assert not worker.heard("shard_realigned")
            states = [f"falco-streamer.{name}.state" for name in NAMES]
            for name, state in zip(NAMES, states, strict=True):
                async with oracle(private_kafka.bootstrap, [state]) as kept:
                    await kept.read_to_end()
                named = {
                    orjson.loads(record.value)["cluster"]
                    for record in kept.records
                    if record.key == b"ledger"
                }
                assert named == {name}
        finally:
            for worker in workers.values():
                await worker.kill()


def settings(name: str, cluster: FalcoCluster, server: KubeApiServer, kafka: Kafka) -> dict[str, object]:
    return {
        "cluster": name,
        "kubernetes": {"kubeconfig": str(server.kubeconfig), "namespaces": [cluster.namespace]},
        "kafka": {"bootstrap_servers": [kafka.bootstrap], "group_instance_id": "falco-streamer-0"},
        "topics": {"create": True},
        "http": {"host": "127.0.0.1", "port": 0},
        "log": {"format": "json"},
    }
