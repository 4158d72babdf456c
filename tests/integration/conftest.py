"""Integration tests have the whole test bed at hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.bed import Bed, Site, bed
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.cluster import FalcoCluster
from tests.testbed.fixtures import (
    api,
    api_server,
    cluster,
    identity_provider,
    image,
    images,
    kafka,
    kafka_brokers,
    kubelet,
    parts_or_skip,
    private_api_server,
    private_cluster,
    private_kafka,
    secure_kafka,
)
from tests.testbed.kafka import Kafka

__all__ = [
    "api",
    "api_server",
    "cluster",
    "identity_provider",
    "image",
    "images",
    "kafka",
    "kafka_brokers",
    "kubelet",
    "private_api_server",
    "private_cluster",
    "private_kafka",
    "secure_kafka",
]


@pytest.fixture
async def site(cluster: FalcoCluster, kafka: Kafka, api_server: KubeApiServer, tmp_path: Path) -> Site:
    """A worker's surroundings on the servers that all tests use."""
    made = Site(tmp_path, cluster, api_server.kubeconfig, kafka.bootstrap, kafka.bootstrap)
    await made.create_topics()
    return made


@pytest.fixture
async def own_servers(tmp_path: Path) -> AsyncIterator[Bed]:
    """The same on servers that one test may kill, freeze and cut off (about 8 s)."""
    with parts_or_skip():
        async with bed(tmp_path) as made:
            yield made
