"""What `doctor` says of pods that match the selectors and come from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.config.kubernetes import Kubernetes
from streamer.model import Finding, Verdict
from streamer.simulator import Cluster, SimulatedApiServer
from streamer.source.examine import examine_kubernetes
from tests.unit.transform.course import planned
from tests.unit.transform.samples import PLAN, alert


async def pods_found(owners: tuple[str, ...], tmp_path: Path, *, other: bool) -> dict[str, Finding]:
    cluster = Cluster(seed=1)
    cluster.add_pod("falco", "falco-a").owner = "falco"
    if other:
        pod = cluster.add_pod("team", "falco-b")
        pod.owner = "copycat"
        cluster.set_label(pod, "team", "x")
    async with SimulatedApiServer(cluster) as server:
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"), owners=owners)
        return {finding.check: finding async for finding in examine_kubernetes(settings, PLAN)}


async def of_version(minor: int, tmp_path: Path) -> dict[str, Finding]:
    cluster = Cluster(seed=1)
    cluster.add_pod("falco", "falco-a")
    async with SimulatedApiServer(cluster, minor_version=minor) as server:
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
        return {finding.check: finding async for finding in examine_kubernetes(settings, PLAN)}


@pytest.mark.parametrize("minor", [19, 25])
async def test_kubelets_that_break_long_lines_are_a_warning(minor: int, tmp_path: Path) -> None:
    found = (await of_version(minor, tmp_path))["api.version"]
    assert found.verdict is Verdict.WARNING
    assert found.what.startswith(f"Kubernetes 1.{minor} is older than 1.26: ")


@pytest.mark.parametrize("minor", [26, 36])
async def test_nothing_is_said_of_those_that_do_not(minor: int, tmp_path: Path) -> None:
    assert "api.version" not in await of_version(minor, tmp_path)


async def test_a_pod_of_another_owner_is_named_with_the_cause_and_the_fix(tmp_path: Path) -> None:
    found = await pods_found(("DaemonSet/falco",), tmp_path, other=True)
    assert found["pods.origin"].verdict is Verdict.WARNING
    assert found["pods.origin"].what == (
        "not followed, since controlled by DaemonSet/copycat, not by DaemonSet/falco: team/falco-b"
    )
    assert "kubernetes.owners" in found["pods.origin"].fix
    assert found["pods"].what == "1 pod of Falco on 1 node"


async def test_an_owner_that_no_pod_has_is_a_fault(tmp_path: Path) -> None:
    found = await pods_found(("DaemonSet/falko",), tmp_path, other=False)
    assert found["pods.origin"].verdict is Verdict.FAULT
    assert "pods" not in found


@pytest.mark.parametrize("owners", [(), ("DaemonSet/falco",)])
async def test_nothing_is_said_where_all_are_followed(owners: tuple[str, ...], tmp_path: Path) -> None:
    assert "pods.origin" not in await pods_found(owners, tmp_path, other=False)


async def sources_found(tmp_path: Path, *alerts: bytes) -> list[Finding]:
    cluster = Cluster(seed=1)
    cluster.append(cluster.add_pod("falco", "falco-a"), *alerts)
    async with SimulatedApiServer(cluster) as server:
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
        findings = [finding async for finding in examine_kubernetes(settings, planned(cores=1))]
    return [finding for finding in findings if finding.check == "sources"]


def event(n: int, source: str = "acme", **fields: str) -> bytes:
    return alert(
        source=source, rule="Acme activity", output_fields={"acme.id": f"id-{n}", "acme.actor": "a"} | fields
    )


class TestSources:
    async def test_fields_of_a_source_that_nobody_configured_are_named_with_the_fix(
        self, tmp_path: Path
    ) -> None:
        (found,) = await sources_found(tmp_path, *map(event, range(40)))
        assert found.verdict is Verdict.WARNING
        assert found.what == (
            "the source acme is not configured; in nearly every one of its 40 alerts these fields differ: acme.id"
        )
        assert "dedupe.volatile_fields" in found.fix
        assert "/status" not in found.fix

    async def test_too_few_alerts_are_not_well_and_it_is_said_what_is_needed(self, tmp_path: Path) -> None:
        (found,) = await sources_found(tmp_path, *map(event, range(31)))
        assert found.verdict is Verdict.WARNING
        assert "in the last 300 lines of falco/falco-a: 31 alerts of it" in found.what
        assert "1 of 1 kinds of alert (rule and fields) with fewer than the 32 alerts" in found.what
        assert found.what.endswith("; the largest of them has 31")
        assert "examine again when the logs hold 32 alerts of a kind" in found.fix

    async def test_enough_alerts_without_such_a_field_are_well(self, tmp_path: Path) -> None:
        (found,) = await sources_found(tmp_path, *[event(n % 5) for n in range(40)])
        assert found.verdict is Verdict.FINE
        assert found.what.endswith("40 alerts of it, and no field differs in nearly every one")

    async def test_where_all_are_configured_the_alerts_that_were_seen_are_counted(
        self, tmp_path: Path
    ) -> None:
        alerts = [*[event(n, "syscall") for n in range(3)], *[event(n, "github") for n in range(2)]]
        (found,) = await sources_found(tmp_path, *alerts)
        assert found.verdict is Verdict.FINE
        assert found.what == (
            "in the last 300 lines of falco/falco-a: 5 alerts, all of configured sources (syscall 3, github 2)"
        )

    async def test_without_an_alert_nothing_is_said_of_sources(self, tmp_path: Path) -> None:
        assert await sources_found(tmp_path) == []

    async def test_names_that_alerts_choose_have_a_bound(self, tmp_path: Path) -> None:
        alerts = [event(n, f"{n:03}" + "s" * 500, **{"f" * 500: str(n)}) for n in range(100)]
        found = await sources_found(tmp_path, *alerts)
        assert len(found) == 17
        assert max(len(one.what) for one in found) < 500
        assert found[-1].what == "84 more sources are not configured"


async def examined(cluster: Cluster, tmp_path: Path, **settings: Any) -> dict[str, Finding]:
    async with SimulatedApiServer(cluster) as server:
        given = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"), **settings)
        return {finding.check: finding async for finding in examine_kubernetes(given, PLAN)}


NO_FALCO = (
    "none of them runs an image that is called falco: set kubernetes.selectors to Falco's own pods, or "
    "kubernetes.container to the one that runs it under another name"
)
APP = {"app": "registry.example.com:5000/app:1"}


async def test_falco_as_a_native_sidecar_is_found(tmp_path: Path) -> None:
    cluster = Cluster(seed=1)
    cluster.append(
        cluster.add_pod("team", "app-a", containers=["app"], sidecars=["falco"], images=APP),
        alert(cluster.clock_ns()),
    )
    found = await examined(cluster, tmp_path)
    assert "container" not in found
    assert found["pods"].what == "1 pod of Falco on 1 node"


@pytest.mark.parametrize(
    ("pod", "fix"),
    [
        (
            {"containers": ["app"], "sidecars": ["sensor"], "images": APP},
            "set kubernetes.container to sensor, which runs Falco's image",
        ),
        (
            {"containers": ["app", "sensor"], "images": APP},
            "set kubernetes.container to sensor, which runs Falco's image",
        ),
        ({"containers": ["app"], "images": APP}, NO_FALCO),
    ],
)
async def test_only_a_container_with_falcos_image_is_proposed(
    pod: dict[str, Any], fix: str, tmp_path: Path
) -> None:
    cluster = Cluster(seed=1)
    cluster.add_pod("team", "app-a", **pod)
    found = await examined(cluster, tmp_path)
    assert found["container"].verdict is Verdict.FAULT
    assert found["container"].fix == fix


async def test_a_pod_with_a_sidecar_that_no_selector_matches_is_named_by_lasting_labels(
    tmp_path: Path,
) -> None:
    cluster = Cluster(seed=1)
    labels = {"app": "shop", "pod-template-hash": "6d4f"}
    cluster.add_pod("team", "shop-a", labels=labels, containers=["app"], sidecars=["falco"], images=APP)
    found = await examined(cluster, tmp_path)
    assert found["pods"].fix == (
        "these run Falco's image: team/shop-a; set kubernetes.selectors to labels of theirs (app=shop)"
    )


OVERLOADED = "is overloaded: it answers 429 (too many requests), also after a pause"


@pytest.mark.parametrize("path", ["/version", "reviews", r"pods\?", "/log"])
async def test_an_overloaded_server_is_asked_once_more(path: str, tmp_path: Path) -> None:
    """What it does not do in time is not taken for silence, and one refusal not for a fault."""
    cluster = Cluster(seed=1)
    cluster.append(cluster.add_pod("falco", "falco-a"), alert(cluster.clock_ns()))
    found = {}
    for times in (1, 2):
        async with SimulatedApiServer(cluster) as server:
            fault = server.faults.answer(path, 429, times=times, retry_after_seconds=1, body=b"too many")
            settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
            found[times] = [finding async for finding in examine_kubernetes(settings, PLAN)]
            assert fault.struck == times
    assert {finding.verdict for finding in found[1]} == {Verdict.FINE}
    assert found[2][-1].verdict is Verdict.UNAVAILABLE
    assert found[2][-1].what.endswith(OVERLOADED)
    assert "falco.json" not in {finding.check for finding in found[2]}


async def test_a_long_pause_is_told_and_not_waited_for(tmp_path: Path) -> None:
    async with SimulatedApiServer(Cluster(seed=1)) as server:
        server.faults.answer("/version", 429, retry_after_seconds=300)
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
        [finding] = [finding async for finding in examine_kubernetes(settings, PLAN)]
    assert finding.what.endswith("is overloaded: it answers 429 and asks for a pause of 300 s")


@pytest.mark.parametrize(
    ("path", "status", "check", "told"),
    [
        ("reviews", 200, "api", "an HTML page (a login page?) at URL/apis/"),
        (".*", 401, "api", "answers 401: an HTML page (a login page?) at URL/version"),
        (".*", 403, "api", "answers 403: an HTML page (a login page?) at URL/version"),
        (".*", 502, "api", "answers 502: an HTML page (an error page of a proxy?) at URL/version"),
        (r"pods\?", 200, "pods", "pods cannot be listed: an HTML page (a login page?) at URL/api/v1/pods"),
        (
            "/log",
            200,
            "log",
            "the log of falco/falco-a cannot be read: an HTML page (a login page?) at URL/api/",
        ),
    ],
)
async def test_a_page_for_people_is_told_with_its_address(
    path: str, status: int, check: str, told: str, tmp_path: Path
) -> None:
    cluster = Cluster(seed=1)
    cluster.append(cluster.add_pod("falco", "falco-a"), alert(cluster.clock_ns()))
    async with SimulatedApiServer(cluster) as server:
        page = b"<!DOCTYPE html><title>Log in</title>"
        server.faults.answer(path, status, times=1000, body=page, content_type="text/html")
        settings = Kubernetes(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
        found = {finding.check: finding async for finding in examine_kubernetes(settings, PLAN)}
    assert told.replace("URL", server.url) in found[check].what
    assert "is there a proxy in between that wants a login?" in found[check].fix
    assert "falco.json" not in found
