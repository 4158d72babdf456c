"""The viewer as a process, on a real Kafka with three workers of two clusters, in a real Chromium."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiokafka import AIOKafkaConsumer

from streamer.simulator import AlertGenerator
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.devtools import Page, browser
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.unit.transform.samples import alert

pytestmark = pytest.mark.real

EU, US = "prod-eu-1", "prod-us-1"
TEXT = "10:00:00.123456789: Notice A shell was spawned in a container with an attached terminal (user=root)"


@asynccontextmanager
async def viewer(folder: Path, kafka: Kafka, prefix: str) -> AsyncIterator[str]:
    """`falco-streamer view`; gives its URL."""
    config = folder / "view.yaml"
    given = {"cluster": EU, "topics": {"prefix": prefix}, "kafka": {"bootstrap_servers": [kafka.bootstrap]}}
    await asyncio.to_thread(config.write_text, yaml.safe_dump(given))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "view", "--config", str(config), "--port", "0",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"http://\S+", line := await process.stderr.readline())):
                assert line, "it ended"
        reading = asyncio.create_task(process.stderr.read())
        yield found[0].decode()
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert b"Traceback" not in await reading
    finally:
        if process.returncode is None:
            process.kill()


def settings(
    name: str, cluster: FalcoCluster, server: KubeApiServer, kafka: Kafka, prefix: str
) -> dict[str, Any]:
    return {
        "cluster": name,
        "kubernetes": {"kubeconfig": str(server.kubeconfig), "namespaces": [cluster.namespace]},
        "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": 4},
        "topics": {"create": True, "prefix": prefix},
        "dedupe": {"enabled": True, "window_seconds": [1]},
        "limits": {"enabled": True, "burst": 20},
        "health": {"coverage_seconds": 300},
        "http": {"host": "127.0.0.1", "port": 0},
        "log": {"format": "json"},
    }


async def recount(kafka: Kafka, prefix: str) -> tuple[Counter[str], Counter[str]]:
    """Published and suppressed alerts by cluster, by a reader that has none of the viewer's code."""
    published, suppressed = Counter[str](), Counter[str]()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    topics = [topic for topic in await consumer.topics() if topic.startswith(f"{prefix}.")]
    consumer.subscribe(topics)
    while fetched := await consumer.getmany(timeout_ms=1500):
        for message in (each for messages in fetched.values() for each in messages):
            headers = dict(message.headers)
            cluster = headers["cluster"].decode()
            if headers["kind"] == b"summary":
                suppressed[cluster] += orjson.loads(message.value)["summary"]["count"]
            elif headers["kind"] == b"alert":
                (suppressed if "limited_by" in headers else published)[cluster] += 1
    await consumer.stop()
    return published, suppressed


async def until_counts(page: Page, kafka: Kafka, prefix: str, cluster: str, alerts: int) -> None:
    """Wait until the page has what was written, and hold it against a recount."""
    await page.run(
        f"history.pushState(null, '', '?range=6h&cluster={cluster}'); dispatchEvent(new Event('popstate'))"
    )
    async with asyncio.timeout(60):
        while True:
            published, suppressed = await recount(kafka, prefix)
            if published[cluster] + suppressed[cluster] >= alerts:
                break
    assert published[cluster] + suppressed[cluster] == alerts
    expected = f"{published[cluster]},{suppressed[cluster]}"
    numbers = (
        "[...document.querySelectorAll('#legend h3 .n')].map(each => +each.textContent.replaceAll(',', ''))"
    )
    await page.until(f"{numbers}.join() === {expected!r}", 20)


async def until_verdict(page: Page, cluster: str, state: str, says: str = "", seconds: float = 10) -> None:
    """Within ten seconds the card of the cluster has to say so."""
    cards = "[...document.querySelectorAll('.verdict')]"
    card = f"{cards}.find(each => each.querySelector('h2')?.innerText === '{cluster}')"
    shown = f"{card}?.querySelector('.state').innerText.endsWith('{state}') && {card}.textContent.includes({says!r})"
    await page.until(shown, seconds)


async def test_it_shows_what_three_workers_of_two_clusters_publish(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, private_kafka: Kafka, tmp_path: Path
) -> None:
    kafka, prefix = private_kafka, f"view-{uuid.uuid4().hex[:6]}"
    async with AsyncExitStack() as stack:
        eu, us = [await stack.enter_async_context(FalcoCluster(api, kubelet)) for _ in range(2)]
        workers = [
            WorkerProcess(tmp_path / f"{name}-{number}", settings(name, cluster, api_server, kafka, prefix))
            for name, cluster, number in ((EU, eu, 0), (EU, eu, 1), (US, us, 0))
        ]
        pods = {EU: [await eu.add_pod(f"falco-{each}") for each in "abc"], US: [await us.add_pod("falco-a")]}
        noisy = await eu.add_pod("falco-noisy")
        for worker in workers:
            stack.enter_context(worker.shown_on_failure())
            stack.callback(worker.kill)
            await worker.start()
        with parts_or_skip():
            chromium = await stack.enter_async_context(browser(tmp_path / "profile"))
        url = await stack.enter_async_context(viewer(tmp_path, kafka, prefix))
        page = await chromium.page()
        await page.open(url)
        generator, written = AlertGenerator(5, sources=("syscall",)), Counter[str]()

        def write(name: str, count: int) -> None:
            for number in range(count):
                pod = pods[name][number % len(pods[name])]
                pod.log().line(generator.alert(time.time_ns(), "node"))
                written[name] += 1

        write(EU, 600)
        write(US, 200)
        await until_verdict(page, EU, "OK", "4 Falco pods", 60)
        await until_verdict(page, US, "OK", "1 Falco pod", 60)
        await until_counts(page, kafka, prefix, EU, written[EU])
        await until_counts(page, kafka, prefix, US, written[US])

        pods[US][0].log().line(TEXT)
        await until_verdict(page, US, "DEGRADED", "text mode")
        start_ns = time.time_ns() - 25 * 10**9
        for number in range(200):  # over a limit for more than ten seconds, by the log's clock
            at_ns = start_ns + number * 10**8
            fields = {"k8s.ns.name": "ci", "proc.name": f"p{number}", "proc.cmdline": f"job {number}"}
            noisy.log().line(alert(at_ns, rule="Job started", output_fields=fields), at=at_ns)
            written[EU] += 1
        await until_verdict(page, EU, "DEGRADED", "Storm: the limit")
        await pods[EU].pop(1).back_off()
        await until_verdict(page, EU, "BLIND", "1 of 4 Falco pods is blind")
        await workers[2].stop(9)
        pods[US][0].log().line(generator.alert(time.time_ns(), "node"))
        await pods[US][0].delete()
        pods[US] = [await us.add_pod("falco-b")]
        await workers[2].start()
        await until_verdict(page, US, "DEGRADED", "1 gap: lines", 60)

        await asyncio.to_thread(kafka.kill)
        await page.until("document.getElementById('feed').innerText === 'Kafka is away'", 20)
        assert "connection refused" in await page.text("#banner")
        write(EU, 100)
        await asyncio.to_thread(kafka.start)
        await page.until("document.getElementById('feed').innerText === 'Live'", 60)
        await until_counts(page, kafka, prefix, EU, written[EU])
        assert [each for each in page.complaints if "404" not in each] == []
