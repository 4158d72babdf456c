"""Lists, watches and single objects: what the API server answers, and the simulator with it."""

import asyncio
import uuid

import orjson
import pytest

from tests.contract.asking import SECONDS, get, next_event, pods_path, refused
from tests.contract.driver import FALCO, ClusterDriver


async def names(api: ClusterDriver, **params: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in (await get(api, pods_path(api), params))["items"]]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", ["both", "new", "none", "old"]),
        ("app=falco", ["both", "old"]),
        ("app==falco", ["both", "old"]),
        ("app!=falco", ["new", "none"]),
        ("app", ["both", "old"]),
        ("!app", ["new", "none"]),
        ("app in (falco, sidekick)", ["both", "old"]),
        ("app notin (sidekick)", ["both", "new", "none", "old"]),
        ("app.kubernetes.io/name in (falco),app=falco", ["both"]),
        ("app.kubernetes.io/name=falco, !app", ["new"]),
        ("app=falco,app=other", []),
    ],
)
async def test_a_label_selector_selects(api: ClusterDriver, selector: str, expected: list[str]) -> None:
    await api.create_pod("old", labels={"app": "falco"})
    await api.create_pod("new", labels=FALCO)
    await api.create_pod("none", labels={"tier": "backend"})
    await api.create_pod("both", labels={**FALCO, "app": "falco"})
    assert await names(api, labelSelector=selector) == expected


@pytest.mark.parametrize("asked", [{"labelSelector": "app in falco"}, {"fieldSelector": "spec.mood=good"}])
async def test_a_selector_that_cannot_be_read_is_a_bad_request(
    api: ClusterDriver, asked: dict[str, str]
) -> None:
    status = await refused(api, pods_path(api), asked)
    assert (status["code"], status["reason"]) == (400, "BadRequest")


async def test_field_selectors_select_by_name(api: ClusterDriver) -> None:
    await api.create_pod("a")
    await api.create_pod("b")
    assert await names(api, fieldSelector="metadata.name=b") == ["b"]
    assert await names(api, fieldSelector="metadata.name!=b") == ["a"]


async def test_a_list_over_all_namespaces_is_the_lists_of_each(api: ClusterDriver) -> None:
    mark = {"mark": uuid.uuid4().hex}
    uid = await api.create_pod("a", labels=mark)
    found = await get(api, "/api/v1/pods", {"labelSelector": f"mark={mark['mark']}"})
    assert found["kind"] == "PodList"
    assert [pod["metadata"]["uid"] for pod in found["items"]] == [uid]
    assert found["items"][0]["metadata"]["namespace"] == api.namespace
    assert "kind" not in found["items"][0]


async def test_a_list_in_pages_is_one_snapshot(api: ClusterDriver) -> None:
    for name in "abcde":
        await api.create_pod(name)
    first = await get(api, pods_path(api), {"limit": "2"})
    assert first["metadata"]["remainingItemCount"] == 3
    # What happens between the pages is not in them, but in a watch from their version.
    await api.delete("c")
    second = await get(api, pods_path(api), {"limit": "2", "continue": first["metadata"]["continue"]})
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = await get(api, pods_path(api), {"limit": "2", "continue": second["metadata"]["continue"]})
    assert "continue" not in third["metadata"]
    pages = [[pod["metadata"]["name"] for pod in page["items"]] for page in (first, second, third)]
    assert pages == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_continue_token_that_is_none_is_a_bad_request(api: ClusterDriver) -> None:
    status = await refused(api, pods_path(api), {"limit": "2", "continue": "nonsense"})
    assert (status["code"], status["reason"]) == (400, "BadRequest")


async def test_a_pod_shows_what_its_container_does(api: ClusterDriver) -> None:
    uid = await api.create_pod("p")
    path = f"{pods_path(api)}/p"
    pod = await get(api, path)
    assert (pod["kind"], pod["metadata"]["uid"], pod["metadata"]["labels"]) == ("Pod", uid, FALCO)
    assert [container["name"] for container in pod["spec"]["containers"]] == ["falco"]
    assert pod["spec"]["nodeName"]
    assert pod["status"]["phase"] == "Running"
    [running] = pod["status"]["containerStatuses"]
    assert set(running["state"]) == {"running"}
    assert running["lastState"] == {}
    assert (running["ready"], running["restartCount"]) == (True, 0)
    assert running["containerID"].startswith("containerd://")

    await api.restart("p")
    [restarted] = (await get(api, path))["status"]["containerStatuses"]
    assert set(restarted["state"]) == {"running"}
    assert restarted["restartCount"] == 1
    assert restarted["containerID"] != running["containerID"]
    last = restarted["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (1, "Error")
    assert last["containerID"] == running["containerID"]

    await api.back_off("p")
    [waiting] = (await get(api, path))["status"]["containerStatuses"]
    assert waiting["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    assert waiting["lastState"]["terminated"]["containerID"] == restarted["containerID"]
    assert (waiting["ready"], waiting["restartCount"]) == (False, 1)


async def test_an_ended_container_is_terminated(api: ClusterDriver) -> None:
    await api.create_pod("p")
    await api.end("p", exit_code=137)
    [ended] = (await get(api, f"{pods_path(api)}/p"))["status"]["containerStatuses"]
    assert ended["state"]["terminated"]["exitCode"] == 137
    assert ended["state"]["terminated"]["containerID"] == ended["containerID"]
    assert ended["state"]["terminated"]["finishedAt"] >= ended["state"]["terminated"]["startedAt"]


async def test_a_pod_without_a_node_says_so(api: ClusterDriver) -> None:
    await api.create_pod("p", scheduled=False)
    pod = await get(api, f"{pods_path(api)}/p")
    assert "nodeName" not in pod["spec"]
    assert "containerStatuses" not in pod["status"]
    assert pod["status"]["phase"] == "Pending"
    await api.schedule("p")
    pod = await get(api, f"{pods_path(api)}/p")
    assert pod["spec"]["nodeName"]
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


async def test_a_watch_goes_on_from_a_list(api: ClusterDriver) -> None:
    await api.create_pod("before")
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    await api.create_pod("p", scheduled=False)
    asked = {"watch": "true", "resourceVersion": version}
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        kind, pod = await next_event(answer)
        assert (kind, pod["kind"], pod["metadata"]["name"]) == ("ADDED", "Pod", "p")
        added = int(pod["metadata"]["resourceVersion"])
        await api.label("p", "colour", "blue")
        kind, pod = await next_event(answer)
        assert (kind, pod["metadata"]["labels"]["colour"]) == ("MODIFIED", "blue")
        modified = int(pod["metadata"]["resourceVersion"])
        await api.delete("p")
        kind, pod = await next_event(answer)
        while kind == "MODIFIED":  # a deletion may show in steps
            kind, pod = await next_event(answer)
        assert (kind, pod["metadata"]["name"]) == ("DELETED", "p")
        assert int(version) < added < modified < int(pod["metadata"]["resourceVersion"])


async def test_a_selected_watch_shows_a_lost_label_as_deleted_and_a_found_one_as_added(
    api: ClusterDriver,
) -> None:
    await api.create_pod("other", labels={"app": "other"})
    uid = await api.create_pod("p")
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    selector = "app.kubernetes.io/name=falco"
    asked = {"watch": "true", "resourceVersion": version, "labelSelector": selector}
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        await api.label("other", "colour", "blue")
        await api.label("p", "app.kubernetes.io/name", "renamed")
        kind, pod = await next_event(answer)
        assert (kind, pod["metadata"]["uid"]) == ("DELETED", uid)
        # It is shown as it was last seen in the selection, with the version at which it left.
        assert pod["metadata"]["labels"] == FALCO
        left = int(pod["metadata"]["resourceVersion"])
        assert left > int(version)
        await api.label("p", "app.kubernetes.io/name", "falco")
        kind, pod = await next_event(answer)
        assert (kind, pod["metadata"]["uid"]) == ("ADDED", uid)
        assert int(pod["metadata"]["resourceVersion"]) > left


async def test_a_watch_without_a_version_begins_with_what_is_there(api: ClusterDriver) -> None:
    await api.create_pod("a")
    await api.create_pod("b")
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), {"watch": "true"}) as answer:
        events = [await next_event(answer) for _ in range(2)]
        assert sorted((kind, pod["metadata"]["name"]) for kind, pod in events) == [
            ("ADDED", "a"),
            ("ADDED", "b"),
        ]


async def test_a_watch_from_a_forgotten_version_gets_an_error_event_of_410(api: ClusterDriver) -> None:
    await api.create_pod("p")
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    await api.label("p", "colour", "blue")
    await api.forget_history()
    asked = {"watch": "true", "resourceVersion": version}
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        assert answer.status == 200
        kind, status = await next_event(answer)
        assert kind == "ERROR"
        assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
        assert status["message"].startswith(f"too old resource version: {version} (")
        assert await answer.content.readline() == b""


async def test_a_watch_ends_cleanly_at_its_timeout_with_a_bookmark_of_what_it_did_not_show(
    api: ClusterDriver,
) -> None:
    await api.create_pod("p")
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    asked = {
        "watch": "true",
        "resourceVersion": version,
        "timeoutSeconds": "4",
        "allowWatchBookmarks": "true",
        "labelSelector": "app=nobody",
    }
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        await api.label("p", "colour", "blue")
        seen = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
        kind, bookmark = await next_event(answer)
        assert (kind, bookmark["kind"]) == ("BOOKMARK", "Pod")
        assert int(version) < int(bookmark["metadata"]["resourceVersion"]) <= int(seen)
        # The real server may say the same again before it ends.
        more = [orjson.loads(line)["type"] async for line in answer.content]
        assert set(more) <= {"BOOKMARK"}


async def test_a_watch_that_has_nothing_new_to_say_sends_no_bookmark(api: ClusterDriver) -> None:
    await api.create_pod("p")
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    asked = {
        "watch": "true",
        "resourceVersion": version,
        "timeoutSeconds": "3",
        "allowWatchBookmarks": "true",
    }
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        assert await answer.content.read() == b""


async def test_the_end_of_what_is_there_is_marked_where_bookmarks_are_allowed(api: ClusterDriver) -> None:
    await api.create_pod("p")
    asked = {"watch": "true", "allowWatchBookmarks": "true"}
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        kind, pod = await next_event(answer)
        assert (kind, pod["metadata"]["name"]) == ("ADDED", "p")
        kind, bookmark = await next_event(answer)
        assert kind == "BOOKMARK"
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_version_that_is_none_is_refused(api: ClusterDriver) -> None:
    status = await refused(api, pods_path(api), {"watch": "true", "resourceVersion": "x"})
    assert status["code"] == 500
    assert "reason" not in status


async def test_a_watch_without_bookmarks_gets_none(api: ClusterDriver) -> None:
    version = (await get(api, pods_path(api)))["metadata"]["resourceVersion"]
    asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "1"}
    async with asyncio.timeout(SECONDS), api.open(pods_path(api), asked) as answer:
        assert await answer.content.readline() == b""


async def test_access_reviews_say_what_is_allowed(api: ClusterDriver) -> None:
    attributes = {"namespace": api.namespace, "verb": "get", "resource": "pods", "subresource": "log"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    status, answered = await api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert status == 201
    assert answered["kind"] == "SelfSubjectAccessReview"
    result = answered["status"]
    assert isinstance(result, dict)
    assert result["allowed"] is True


async def test_the_version_is_one(api: ClusterDriver) -> None:
    version = await get(api, "/version")
    assert version["gitVersion"].startswith("v1.")
    assert version["major"] == "1"


async def test_namespaces_are_listed(api: ClusterDriver) -> None:
    await api.create_pod("p")
    found = await get(api, "/api/v1/namespaces")
    assert found["kind"] == "NamespaceList"
    assert api.namespace in {namespace["metadata"]["name"] for namespace in found["items"]}
