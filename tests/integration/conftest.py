"""Integration tests have the whole test bed at hand."""

from tests.testbed.fixtures import (
    api,
    api_server,
    cluster,
    kafka,
    kafka_brokers,
    kubelet,
    private_api_server,
    private_cluster,
    private_kafka,
)

__all__ = [
    "api",
    "api_server",
    "cluster",
    "kafka",
    "kafka_brokers",
    "kubelet",
    "private_api_server",
    "private_cluster",
    "private_kafka",
]
