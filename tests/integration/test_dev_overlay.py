"""The overlay for a look without a Kafka: the broker that it brings, with its variables read as the image reads them.

The image cannot be had here. Its entry point hands the variables to a class of Kafka's own, which is in the jars.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.simulator import AlertGenerator
from tests.integration.worker import WorkerProcess
from tests.manifests.sets import Object, objects_of, of_kind
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.cluster import FalcoCluster
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.process import free_port

pytestmark = pytest.mark.real

ALERTS = 30


def kafka_of(objects: list[Object]) -> Object:
    (found,) = [one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] == "kafka"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return dict(container)


class OverlaysKafka(Kafka):
    """A broker with the overlay's settings and no other, but for addresses and the folder."""

    def __init__(self, container: Object) -> None:
        self._variables = {one["name"]: one["value"] for one in container["env"]}
        super().__init__()

    def _defaults(self) -> dict[str, str]:
        (client,) = self._variables["KAFKA_ADVERTISED_LISTENERS"].split(",")
        here = {
            client.removeprefix(
                "PLAINTEXT://"
            ): self.bootstrap,  # a Service's name, which nobody resolves here
            ":9092": f":{self.port}",
            ":9093": f":{free_port()}",
            "/var/lib/kafka/data": str(self.folder / "data"),
        }
        environment = {"PATH": "/usr/bin:/bin"}
        for name, value in self._variables.items():
            for there, ours in here.items():
                value = value.replace(there, ours)  # noqa: PLW2901
            environment[name] = value
        folders = {name: self.folder / name for name in ("default", "mounted", "final")}
        for folder in folders.values():
            folder.mkdir()
        (folders["default"] / "server.properties").touch()
        for name in ("log4j2.yaml", "tools-log4j2.yaml"):
            (folders["default"] / name).write_text(
                "Configuration: {Loggers: {Root: {level: INFO}, Logger: []}}\n"
            )
        given = [word for name, folder in folders.items() for word in (f"--{name}-configs-dir", str(folder))]
        command = [*self._java, "kafka.docker.KafkaDockerWrapper", "setup", *given]
        subprocess.run(
            command, env=environment, capture_output=True, check=False
        )  # it formats, too: here we do
        lines = (folders["final"] / "server.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line)


@pytest.fixture
def objects() -> Iterator[list[Object]]:
    with parts_or_skip():
        yield objects_of("overlay dev")


@pytest.fixture
def settings(objects: list[Object]) -> Any:
    (config,) = [one for one in of_kind(objects, "ConfigMap") if "streamer.yaml" in one["data"]]
    return yaml.safe_load(config["data"]["streamer.yaml"])


def test_the_worker_asks_for_the_service_and_is_told_the_same_address(
    objects: list[Object], settings: Any
) -> None:
    (service,) = [one for one in of_kind(objects, "Service") if one["metadata"]["name"] == "kafka"]
    (port,) = service["spec"]["ports"]
    address = f"{service['metadata']['name']}:{port['port']}"
    assert settings["kafka"]["bootstrap_servers"] == [address]
    variables = {one["name"]: one["value"] for one in kafka_of(objects)["env"]}
    assert variables["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{address}"
    workers = [one["metadata"]["namespace"] for one in of_kind(objects, "Deployment")]
    assert set(workers) == {service["metadata"]["namespace"]}


async def test_its_kafka_takes_alerts_and_tap_shows_them(
    objects: list[Object], settings: Any, cluster: FalcoCluster, api_server: KubeApiServer, tmp_path: Path
) -> None:
    pod = await cluster.add_pod()
    generator = AlertGenerator(3)
    alerts = [generator.alert(time.time_ns(), "node") for _ in range(ALERTS)]
    pod.log().lines(alerts)
    with parts_or_skip(), OverlaysKafka(kafka_of(objects)) as kafka:
        settings["kafka"]["bootstrap_servers"] = [kafka.bootstrap]
        settings["kubernetes"] = {"kubeconfig": str(api_server.kubeconfig), "namespaces": [cluster.namespace]}
        settings["http"] = {"host": "127.0.0.1", "port": 0}
        worker = WorkerProcess(tmp_path, {**settings, "log": {"format": "json"}})
        with worker.shown_on_failure():
            await worker.start()
            async with asyncio.timeout(60):
                while not worker.said("http_serving") or (await worker.metrics()).get(  # noqa: ASYNC110
                    "falco_streamer_lines_total", 0
                ) < len(alerts):
                    await asyncio.sleep(0.1)
            tap = [sys.executable, "-m", "streamer", "tap", "--config", str(worker.config)]
            shown = await asyncio.create_subprocess_exec(
                *[*tap, "--since", "1h", "--no-follow", "--output", "raw"], stdout=subprocess.PIPE
            )
            printed, _ = await shown.communicate()
            assert shown.returncode == 0
            assert set(printed.splitlines()) == set(alerts)
            assert await worker.stop() == 0
