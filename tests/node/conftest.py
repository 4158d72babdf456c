"""One real node and one broker for all of these tests; each has a namespace, a worker and topics of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.node.stage import Stage
from tests.testbed.client import KubeApi
from tests.testbed.fixtures import kafka, parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.node import Node
from tests.testbed.node_cluster import NodeCluster

__all__ = ["kafka"]


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A test that ends a part of it starts it again."""
    with parts_or_skip(), Node() as made:
        yield made


@pytest.fixture
async def cluster(node: Node) -> AsyncIterator[NodeCluster]:
    async with KubeApi(node.server.kubeconfig) as api, NodeCluster(api, node) as made:
        yield made


@pytest.fixture
async def stage(cluster: NodeCluster, kafka: Kafka, tmp_path: Path) -> AsyncIterator[Stage]:
    """A worker that runs, and nothing for it to read yet."""
    async with Stage(cluster, kafka, tmp_path) as made:
        yield made
