"""The test bed serves pod logs as a cluster does: real API server, and the kubelet's own reader behind it."""

import asyncio

import aiohttp
import pytest

from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import ApiError, KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.crilog import record, timestamp
from tests.testbed.kubelet import Kubelet
from tests.testbed.pod import Pod

pytestmark = pytest.mark.real

SECONDS = 20
NOON = 1_770_000_000_000_000_000


async def read(pod: Pod, cluster: FalcoCluster, **params: str) -> tuple[int, str]:
    async with asyncio.timeout(SECONDS), cluster.api.open_log(pod.namespace, pod.name, **params) as answer:
        return answer.status, await answer.text()


async def next_line(answer: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(SECONDS):
        return (await answer.content.readline()).decode()


async def rest(answer: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(SECONDS):
        return await answer.content.read()


async def test_lines_are_streamed_while_they_are_written(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().line("before", at=NOON + 500)
    async with cluster.api.open_log(pod.namespace, pod.name, follow="true", timestamps="true") as answer:
        assert answer.status == 200
        assert await next_line(answer) == "2026-02-02T02:40:00.000000500Z before\n"
        pod.log().line("after", at=NOON)
        # The API writes nine digits, whatever the runtime wrote.
        assert await next_line(answer) == "2026-02-02T02:40:00.000000000Z after\n"


async def test_the_header_comes_before_the_first_line(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    async with asyncio.timeout(SECONDS):
        async with cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
            assert answer.status == 200


async def test_parts_of_a_long_line_are_joined(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().part("a long ", at=NOON)
    pod.log().line("line", at=NOON + 1_000_000_000)
    assert await read(pod, cluster, timestamps="true") == (
        200,
        "2026-02-02T02:40:00.000000000Z a long line\n",
    )


async def test_tail_lines_gives_the_end(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().lines(f"line {number}" for number in range(1000))
    assert await read(pod, cluster, tailLines="2") == (200, "line 998\nline 999\n")


async def test_since_time_is_whole_seconds_and_inclusive(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().line("too old", at=NOON - 1)
    pod.log().line("same second", at=NOON)
    pod.log().line("later", at=NOON + 999_000_000)
    asked = timestamp(NOON + 900_000_000)
    assert await read(pod, cluster, sinceTime=asked) == (200, "same second\nlater\n")


async def test_previous_is_the_log_of_the_last_instance(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    assert (await read(pod, cluster, previous="true"))[0] == 400
    pod.log().line("first instance")
    await pod.restart()
    pod.log().line("second instance")
    assert await read(pod, cluster) == (200, "second instance\n")
    assert await read(pod, cluster, previous="true") == (200, "first instance\n")
    status = (await cluster.api.get(pod.path))["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["containerID"] != status["containerID"]


async def test_in_crash_loop_back_off_the_former_instance_answers(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().line("first instance")
    await pod.back_off()
    assert await read(pod, cluster) == (200, "first instance\n")
    await pod.restart()
    assert await read(pod, cluster) == (200, "")
    assert await read(pod, cluster, previous="true") == (200, "first instance\n")


async def test_a_follow_ends_when_the_container_has_ended(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().line("first")
    async with cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
        assert await next_line(answer) == "first\n"
        pod.log().line("last")
        await pod.end()
        assert await rest(answer) == b"last\n"


async def test_a_follow_goes_on_over_a_rotation_and_a_new_request_sees_the_new_file_only(
    cluster: FalcoCluster,
) -> None:
    pod = await cluster.add_pod()
    pod.log().line("first")
    async with cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
        assert await next_line(answer) == "first\n"
        # The reader watches for a new file from its first wait on: a line that it has to wake up for shows that.
        pod.log().line("second")
        assert await next_line(answer) == "second\n"
        rotated = pod.log().rotate()
        pod.log().line("third")
        assert await next_line(answer) == "third\n"
    assert rotated.read_bytes().endswith(b" F second\n")
    assert await read(pod, cluster) == (200, "third\n")


async def test_errors_of_the_reader_are_text_in_an_answer_of_200(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().rename()
    status, text = await read(pod, cluster)
    assert status == 200
    assert text.startswith("failed to try resolving symlinks in path")


async def test_a_damaged_record_is_passed_over(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod()
    pod.log().raw(record("one") + b"half a rec\n" + record("two"))
    assert await read(pod, cluster) == (200, "one\ntwo\n")


async def test_a_pod_without_a_node_has_no_content(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod(scheduled=False)
    assert await read(pod, cluster, follow="true") == (204, "")
    await pod.schedule(cluster.node)
    await pod.start()
    pod.log().line("at last")
    assert await read(pod, cluster) == (200, "at last\n")


async def test_a_container_that_has_not_started_is_waiting(cluster: FalcoCluster) -> None:
    pod = await cluster.add_pod(started=False)
    status, text = await read(pod, cluster)
    assert status == 400
    assert "is waiting to start: ContainerCreating" in text


async def test_a_pod_that_is_not_there_is_not_found(cluster: FalcoCluster) -> None:
    async with cluster.api.open_log(cluster.namespace, "nobody") as answer:
        assert answer.status == 404
        assert (await answer.json())["details"]["kind"] == "pods"


async def test_a_deleted_pod_is_not_found_and_its_successor_of_the_same_name_is_another(
    cluster: FalcoCluster,
) -> None:
    pod = await cluster.add_pod("falco-0")
    pod.log().line("of the first")
    async with cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
        assert await next_line(answer) == "of the first\n"
        await pod.delete()
        assert await rest(answer) == b""
    assert (await read(pod, cluster))[0] == 404
    successor = await cluster.add_pod("falco-0")
    successor.log().line("of the second")
    assert successor.uid != pod.uid
    assert await read(successor, cluster) == (200, "of the second\n")


async def test_a_kubelets_write_timeout_ends_a_stream_as_if_it_were_complete(
    private_api_server: KubeApiServer, private_cluster: FalcoCluster
) -> None:
    with Kubelet(private_api_server.authority, write_timeout_seconds=1) as impatient:
        await private_cluster.add_node("node-2", kubelet=impatient)
        pod = await private_cluster.add_pod(node="node-2")
        pod.log().line("first")
        async with private_cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
            assert await next_line(answer) == "first\n"
            assert await rest(answer) == b""


async def test_a_killed_kubelet_ends_its_streams_and_serves_again(private_cluster: FalcoCluster) -> None:
    pod = await private_cluster.add_pod()
    pod.log().line("first")
    async with private_cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
        assert await next_line(answer) == "first\n"
        private_cluster.kubelet.kill()
        assert await rest(answer) == b""
    assert (await read(pod, private_cluster))[0] == 500
    await asyncio.to_thread(private_cluster.kubelet.start)
    assert await read(pod, private_cluster) == (200, "first\n")


async def test_a_killed_api_server_cuts_its_streams_and_knows_its_pods_afterwards(
    private_api_server: KubeApiServer, private_cluster: FalcoCluster
) -> None:
    pod = await private_cluster.add_pod()
    pod.log().line("first")
    async with private_cluster.api.open_log(pod.namespace, pod.name, follow="true") as answer:
        assert await next_line(answer) == "first\n"
        private_api_server.kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            await rest(answer)
    await asyncio.to_thread(private_api_server.start)
    assert await read(pod, private_cluster) == (200, "first\n")


async def test_rbac_decides_who_lists_pods_and_who_reads_logs(
    private_api_server: KubeApiServer, private_cluster: FalcoCluster
) -> None:
    pod = await private_cluster.add_pod()
    namespace = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{pod.namespace}"
    pods = f"/api/v1/namespaces/{pod.namespace}/pods"
    async with KubeApi(private_api_server.kubeconfig_for("streamer")) as streamer:
        assert await refusal(streamer, pods) == 403
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
        role = {"kind": "Role", "metadata": {"name": "reader"}, "rules": rules}
        await private_cluster.api.create(f"{namespace}/roles", role)
        group = "rbac.authorization.k8s.io"
        binding = {
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "streamer"}],
        }
        await private_cluster.api.create(f"{namespace}/rolebindings", binding)
        # The authorizer learns of a binding through a watch of its own.
        async with asyncio.timeout(SECONDS):
            while await refusal(streamer, pods):
                pass
        found = (await streamer.get(pods, labelSelector="app.kubernetes.io/name=falco"))["items"]
        assert [item["metadata"]["uid"] for item in found] == [pod.uid]
        # To see a pod is not to read its log.
        assert await refusal(streamer, f"{pods}/{pod.name}/log") == 403


async def refusal(user: KubeApi, path: str) -> int | None:
    try:
        await user.get(path)
    except ApiError as error:
        return error.status
    return None
