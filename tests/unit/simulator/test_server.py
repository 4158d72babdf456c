import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import orjson
import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from streamer.simulator import Cluster, SimulatedApiServer
from streamer.simulator.pods import Pod
from streamer.simulator.status import kubelet_down, kubelet_has_not

SECONDS = 20
LOG = "/api/v1/namespaces/falco/pods/p/log"
FOLLOW = f"{LOG}?follow=true"
WATCH = "/api/v1/pods?watch=true"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(seed=1)


@pytest.fixture
def pod(cluster: Cluster) -> Pod:
    return cluster.add_pod("falco", "p")


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[SimulatedApiServer]:
    async with asyncio.timeout(SECONDS), SimulatedApiServer(cluster) as running:
        yield running


@pytest.fixture
async def client(server: SimulatedApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  # nothing tells a test of what is inside the server
            await asyncio.sleep(0.001)


async def status_of(client: aiohttp.ClientSession, path: str) -> int:
    async with client.get(path) as answer:
        await answer.read()
        return answer.status


async def test_a_log_is_cut_cleanly_after_so_many_bytes_and_the_next_is_whole(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one", b"two", b"three")
    fault = server.faults.cut_log("p", after_bytes=6)
    async with client.get(FOLLOW) as answer:
        assert await answer.read() == b"one\ntw"
    assert fault.struck
    async with client.get(LOG) as answer:
        assert await answer.read() == b"one\ntwo\nthree\n"
    assert server.log_opens["falco", "p"] == 2


async def test_a_log_is_aborted_after_bytes_that_arrive(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, *[b"x" * 999] * 2000)
    server.faults.cut_log("p", after_bytes=1_234_567, abort=True)
    async with client.get(LOG) as answer:
        assert len(await answer.content.readexactly(1_234_567)) == 1_234_567
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_a_fault_strikes_in_the_middle_of_a_follow(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.faults.cut_log("p", after_bytes=5)
    async with client.get(FOLLOW) as answer:
        cluster.append(pod, b"one")
        assert await answer.content.readline() == b"one\n"
        cluster.append(pod, b"two")
        assert await answer.content.read() == b"t"


async def test_a_stalled_log_goes_on_when_its_gate_opens(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one", b"two")
    fault = server.faults.stall_log("p", after_bytes=4)
    async with client.get(LOG) as answer:
        assert await answer.content.readline() == b"one\n"
        await eventually(lambda: fault.struck)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await answer.content.readline()
        fault.gate.set()
        assert await answer.content.read() == b"two\n"


async def test_a_stalled_log_can_be_cut(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one", b"two")
    fault = server.faults.stall_log("p", after_bytes=4)
    async with client.get(LOG) as answer:
        await eventually(lambda: fault.struck)
        assert server.cut() == 1
        assert await answer.content.read() == b"one\n"


async def test_a_kubelets_error_text_comes_after_the_backlog_inside_a_200(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one")
    text = b"failed to create fsnotify watcher: too many open files"
    server.faults.text_in_log("p", text, after_bytes=None)
    async with client.get(FOLLOW) as answer:
        assert answer.status == 200
        assert await answer.read() == b"one\n" + text


async def test_requests_are_answered_as_scripted_as_often_as_scripted(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.faults.answer(r"/log", 429, times=2, retry_after_seconds=7)
    async with client.get(LOG) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert await status_of(client, "/api/v1/pods") == 200
    assert await status_of(client, LOG) == 429
    assert await status_of(client, LOG) == 200


async def test_a_proxys_html_is_no_status_object(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.faults.answer(r"/pods\?watch", 503, body=b"<html>busy</html>", content_type="text/html")
    async with client.get(WATCH) as answer:
        assert (answer.status, answer.content_type) == (503, "text/html")
        assert await answer.read() == b"<html>busy</html>"


async def test_what_a_kubelet_lacks_is_another_404(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.faults.refuse("/log", kubelet_has_not("p"))
    server.faults.refuse("/log", kubelet_down("falco", "p"))
    async with client.get(LOG) as answer:
        assert answer.status == 404
        assert (await answer.json())["details"] == {"name": "p", "kind": "pods/log"}
    async with client.get(LOG) as answer:
        assert answer.status == 500
        assert "reason" not in await answer.json()


async def test_held_requests_wait_for_their_gate(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one")
    fault = server.faults.hold("/log")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(status_of(client, LOG)) for _ in range(3)]
        await eventually(lambda: fault.struck == 3)
        assert not any(task.done() for task in tasks)
        server.faults.clear()
        assert fault.gate is not None
        assert fault.gate.is_set()
    assert [task.result() for task in tasks] == [200] * 3


async def test_rights_can_be_taken_away_and_reviews_say_so(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.access.denied.add(("get", "pods/log"))
    async with client.get(LOG) as answer:
        assert answer.status == 403
        status = await answer.json()
        assert status["reason"] == "Forbidden"
        assert status["message"].startswith('pods "p" is forbidden: User "system:serviceaccount:falco:')
    assert await status_of(client, "/api/v1/namespaces/falco/pods/p") == 200
    for resource_name, subresource, allowed in (("pods", "log", False), ("pods", "", True)):
        attributes = {"verb": "get", "resource": resource_name, "subresource": subresource}
        review = {"spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        async with client.post(path, json=review) as answer:
            assert (await answer.json())["status"]["allowed"] is allowed


async def test_a_token_is_asked_for_and_the_kubeconfig_has_it(cluster: Cluster, tmp_path: Path) -> None:
    async with SimulatedApiServer(cluster, token="s3cret") as server:
        path = server.kubeconfig(tmp_path / "kubeconfig")
        found = Configuration()
        await load_kube_config(str(path), client_configuration=found, persist_config=False)
        assert found.host == server.url
        authorization = {"Authorization": found.api_key["BearerToken"]}
        async with aiohttp.ClientSession(server.url) as client:
            async with client.get("/api/v1/pods", headers=authorization) as answer:
                assert answer.status == 200
            async with client.get("/api/v1/pods", headers={"Authorization": "Bearer other"}) as answer:
                assert answer.status == 401
            assert await status_of(client, "/version") == 200


async def test_the_server_is_the_same_after_an_outage(cluster: Cluster, pod: Pod) -> None:
    cluster.append(pod, b"one")
    server = SimulatedApiServer(cluster)
    await server.start()
    url = server.url
    async with aiohttp.ClientSession(url) as client:
        async with client.get(FOLLOW) as answer:
            assert await answer.content.readline() == b"one\n"
            await server.stop()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await status_of(client, LOG)
        await server.start()
        assert server.url == url
        assert await status_of(client, LOG) == 200
        async with client.get(FOLLOW) as answer:
            assert await answer.content.readline() == b"one\n"
            await server.stop(abort=False)
            assert await answer.content.read() == b""
    assert server.streams == set()


async def test_streams_of_clients_that_have_gone_are_given_up(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    async with client.get(FOLLOW), client.get(WATCH) as watch:
        assert watch.status == 200
        assert sorted(stream.path for stream in server.streams) == sorted([FOLLOW, WATCH])
        watch.close()
        await eventually(lambda: [stream.path for stream in server.streams] == [FOLLOW])
    await eventually(lambda: not server.streams)


async def test_streams_are_cut_and_aborted_by_path(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one")
    async with client.get(FOLLOW) as log, client.get(f"{WATCH}&resourceVersion=1001") as watch:
        assert await log.content.readline() == b"one\n"
        assert server.cut("watch=") == 1
        assert await watch.content.read() == b""
        assert server.cut(r"/p/log", abort=True) == 1
        with pytest.raises(aiohttp.ClientPayloadError):
            await log.content.read()


async def test_a_removed_pods_stream_goes_on_while_a_new_request_finds_nothing(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.append(pod, b"one")
    async with client.get(FOLLOW) as answer:
        assert await answer.content.readline() == b"one\n"
        cluster.remove_pod(pod)
        assert await status_of(client, LOG) == 404
        cluster.append(pod, b"two")
        cluster.terminate(pod)
        assert await answer.content.read() == b"two\n"


async def test_a_watch_that_has_fallen_out_of_the_history_is_closed() -> None:
    cluster = Cluster(history=2, seed=1)
    pod = cluster.add_pod("falco", "p")
    async with SimulatedApiServer(cluster) as server, aiohttp.ClientSession(server.url) as client:
        version = cluster.resource_version
        async with client.get(f"{WATCH}&resourceVersion={version}") as answer:
            # No await between the changes: the watch cannot keep up.
            for n in range(5):
                cluster.set_label(pod, "n", str(n))
            assert await answer.content.read() == b""
        async with client.get(f"{WATCH}&resourceVersion={version}") as answer:
            event = orjson.loads(await answer.content.read())
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_bookmarks_come_at_their_interval(cluster: Cluster) -> None:
    async with (
        SimulatedApiServer(cluster, bookmark_seconds=0.01) as server,
        aiohttp.ClientSession(server.url) as client,
        client.get(f"{WATCH}&resourceVersion={cluster.resource_version}&allowWatchBookmarks=true"
                   "&labelSelector=app%3Dnobody") as answer,
    ):  # fmt: skip
        for _ in range(2):
            cluster.add_pod("falco", f"p-{cluster.resource_version}")
            event = orjson.loads(await answer.content.readline())
            assert event["type"] == "BOOKMARK"
            assert event["object"]["metadata"]["resourceVersion"] == str(cluster.resource_version)


async def test_a_continue_token_is_good_for_a_bounded_number_of_other_lists(
    cluster: Cluster, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    for name in "abc":
        cluster.add_pod("falco", name)
    async with client.get("/api/v1/pods?limit=1") as answer:
        token = (await answer.json())["metadata"]["continue"]
    assert await status_of(client, f"/api/v1/pods?limit=1&continue={token}") == 200
    for _ in range(64):
        assert await status_of(client, "/api/v1/pods?limit=1") == 200
    async with client.get(f"/api/v1/pods?limit=1&continue={token}") as answer:
        assert answer.status == 410
        assert (await answer.json())["reason"] == "Expired"


async def test_hundreds_of_follows_are_served_at_once(cluster: Cluster, server: SimulatedApiServer) -> None:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(500, open_files // 3)
    pods = [cluster.add_pod("falco", f"p-{n}") for n in range(count)]
    connector = aiohttp.TCPConnector(limit=0)

    async def first_line(client: aiohttp.ClientSession, name: str) -> bytes:
        async with client.get(f"/api/v1/namespaces/falco/pods/{name}/log?follow=true") as answer:
            return await answer.content.readline()

    async with aiohttp.ClientSession(server.url, connector=connector) as client:
        tasks = [asyncio.create_task(first_line(client, pod.name)) for pod in pods]
        await eventually(lambda: len(server.streams) == count)
        for n, pod in enumerate(pods):
            cluster.append(pod, b"line %d" % n)
        assert await asyncio.gather(*tasks) == [b"line %d\n" % n for n in range(count)]


async def test_requests_are_counted_by_verb_and_resource_also_those_that_are_refused(
    pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    server.faults.answer("/pods/p$", 503)
    for path in ("/api/v1/pods", "/api/v1/namespaces/falco/pods/p", LOG, LOG, "/version"):
        await status_of(client, path)
    assert server.requests == {"list": 1, "get": 1, "get/log": 2}


async def test_a_node_that_hangs_answers_no_log_request_and_its_open_logs_bring_nothing_until_it_goes_on(
    cluster: Cluster, pod: Pod, server: SimulatedApiServer, client: aiohttp.ClientSession
) -> None:
    cluster.add_pod("falco", "q", node="node-2")
    async with client.get(f"{FOLLOW}&timestamps=true") as opened:
        server.hang_nodes("node-1")
        cluster.append(pod, b"late")
        waiting = asyncio.ensure_future(status_of(client, LOG))
        assert await status_of(client, LOG.replace("/p/", "/q/")) == 200
        assert await status_of(client, "/api/v1/namespaces/falco/pods/p") == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.content.readline(), 0.2)
        assert not waiting.done()
        server.resume_nodes()
        assert (await opened.content.readline()).endswith(b"late\n")
        assert await waiting == 200
