"""`falco-streamer run` and `simulate` as processes: what they do without Kafka, and how they end."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from streamer.source.api import connect
from tests.e2e.program import Program, run


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The way into a simulated cluster, served by a process."""
    path = tmp_path_factory.mktemp("simulate") / "sim.kubeconfig"
    with Program("simulate", "--kubeconfig", path, "--rate", "50") as program:
        program.until(r"serving at http://127\.0\.0\.1:\d+; kubeconfig: ")
        yield path
        program.send(signal.SIGTERM)
        assert program.end() == 0, program.text
        assert "Traceback" not in program.text


async def test_the_simulated_cluster_is_reached_by_its_kubeconfig(kubeconfig: Path) -> None:
    async with connect(kubeconfig, None) as api:
        found = await api.get("/api/v1/pods", {"labelSelector": "app.kubernetes.io/name=falco"})
        pods = found["items"]
        assert pods
        name, namespace = pods[0]["metadata"]["name"], pods[0]["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        params = {"container": "falco", "follow": "true", "timestamps": "true"}
        read = b""
        async with asyncio.timeout(20), api.lines(path, params) as body:
            async for chunk in body.iter_any():
                read += chunk
                if b'"rule":' in read:
                    break
        assert re.match(rb"\d{4}-\d\d-\d\dT", read)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_without_kafka_the_worker_says_so_now_and_then_waits_and_ends_at_sigterm(
    kubeconfig: Path,
) -> None:
    port = free_port()
    settings = {
        "cluster": "e2e",
        "kafka.bootstrap_servers": "127.0.0.1:1",
        "kubernetes.kubeconfig": str(kubeconfig),
        "http.host": "127.0.0.1",
        "http.port": str(port),
    }
    with Program("run", *(part for item in settings.items() for part in ("--set", "=".join(item)))) as worker:
        worker.until("kafka_unavailable")
        begun = time.monotonic()
        assert await get(f"http://127.0.0.1:{port}/livez") == (200, "ok\n")
        status, text = await get(f"http://127.0.0.1:{port}/readyz")
        assert status == 503
        assert "[-] topics verified" in text
        worker.until(lambda: time.monotonic() - begun > 2.5)  # several tries
        worker.send(signal.SIGTERM)
        stopped = time.monotonic()
        assert worker.end() == 0, worker.text
        assert time.monotonic() - stopped < 5
    events = [orjson.loads(line) for line in worker.output.splitlines()]
    (said,) = [event for event in events if event["event"] == "kafka_unavailable"]
    assert said["cause"] == "cannot reach 127.0.0.1:1: connection refused"
    assert "Kafka running" in said["fix"]


async def test_while_kafka_refuses_nothing_is_reported_as_well_that_nobody_has_checked(
    kubeconfig: Path,
) -> None:
    port = free_port()
    settings = {
        "cluster": "e2e",
        "kafka.bootstrap_servers": "127.0.0.1:1",
        "kubernetes.kubeconfig": str(kubeconfig),
        "http.host": "127.0.0.1",
        "http.port": str(port),
    }
    with Program("run", *(part for item in settings.items() for part in ("--set", "=".join(item)))) as worker:
        worker.until("kafka_unavailable")
        status, ready = await get(f"http://127.0.0.1:{port}/readyz?verbose")
        live_status, live = await get(f"http://127.0.0.1:{port}/livez?verbose")
        _, told = await get(f"http://127.0.0.1:{port}/status")
        _, shown = await get(f"http://127.0.0.1:{port}/")
        _, metrics = await get(f"http://127.0.0.1:{port}/metrics")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0, worker.text
    assert status == 503
    *conditions, last = ready.splitlines()
    assert last == "not ready"
    marks = {line[4:].partition(":")[0]: line[:3] for line in conditions}
    assert marks == {
        "topics verified": "[-]",
        "state loaded": "[?]",
        "pods listed": "[?]",
        "Kafka takes records": "[?]",
        "pods watched": "[?]",
        "configuration": "[+]",
        "pods found": "[?]",
    }
    assert "[-] topics verified: cannot reach 127.0.0.1:1: connection refused" in conditions
    assert live_status == 200
    assert live.splitlines() == ["[+] event loop", *conditions, "ok"]
    states = {check["name"]: check["state"] for check in orjson.loads(told)["checks"]}
    assert states == {
        name: {"[+]": "ok", "[-]": "failing", "[?]": "unknown"}[mark] for name, mark in marks.items()
    }
    assert "✓ Kafka takes records" not in shown
    assert "? Kafka takes records" in shown
    assert "Not ready: topics verified" in shown
    assert "falco_streamer_ready 0.0" in metrics


async def test_while_kafka_is_awaited_the_configuration_is_looked_after_and_sighup_ends_nothing(
    kubeconfig: Path, tmp_path: Path
) -> None:
    config = tmp_path / "streamer.yaml"
    text = (
        "cluster: e2e\nkafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        f"kubernetes: {{kubeconfig: '{kubeconfig}'}}\nhttp: {{host: 127.0.0.1, port: 0}}\n"
    )
    config.write_text(text)
    with Program("run", "--config", config) as worker:
        worker.until("kafka_unavailable")
        worker.send(signal.SIGHUP)
        worker.until("config_unchanged")
        config.write_text(
            text.replace("127.0.0.1:1", "127.0.0.1:2") + "routes: [{match: 'tags = \"x\"', topic: x}]\n"
        )
        worker.send(signal.SIGHUP)
        worker.until("config_reloaded")
        worker.until("config_needs_restart")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0, worker.text
    events = {event["event"]: event for event in map(orjson.loads, worker.output.splitlines())}
    assert events["config_needs_restart"]["changed"] == [
        "kafka.bootstrap_servers[0]: 127.0.0.1:1 -> 127.0.0.1:2"
    ]
    assert "config_refused" not in events


async def test_a_broker_that_never_answers_does_not_hold_up_the_end(kubeconfig: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {
            "cluster": "e2e",
            "kafka.bootstrap_servers": f"127.0.0.1:{silent.getsockname()[1]}",
            "kubernetes.kubeconfig": str(kubeconfig),
            "http.host": "127.0.0.1",
            "http.port": "0",
        }
        with Program(
            "run", *(part for item in settings.items() for part in ("--set", "=".join(item)))
        ) as worker:
            worker.until("http_serving")
            silent.settimeout(10)
            connected, _ = silent.accept()
            with connected:
                worker.send(signal.SIGTERM)
                stopped = time.monotonic()
                assert worker.end() == 0, worker.text
                assert time.monotonic() - stopped < 3


def test_an_http_port_that_is_taken_is_one_line_and_a_matter_of_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            "run", "--set", "cluster=e2e", "--set", "kafka.bootstrap_servers=127.0.0.1:1",
            "--set", "http.host=127.0.0.1", "--set", f"http.port={port}",
        )  # fmt: skip
    assert done.returncode == 78
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"error: cannot listen at http.port {port}: ")
