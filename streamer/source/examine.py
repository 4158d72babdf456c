"""The Kubernetes half of `doctor`: can the API be used, are there Falco pods, and do they print what we can read."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from streamer.config.kubernetes import Kubernetes
from streamer.model import Finding, Target, Verdict
from streamer.source.api import ApiConfigError, ApiError, KubernetesApi, connect
from streamer.source.examine_logs import examine_logs, few
from streamer.source.overload import OverloadedError, overloaded, patiently
from streamer.source.pods import Origin, container_names, containers_of, runs_falco, view
from streamer.source.unreachable import PENDING, PROXY, REFUSED
from streamer.transform.plan import Plan

_NEEDED: Final = (("pods", "", "get"), ("pods", "", "list"), ("pods", "", "watch"), ("pods", "log", "get"))
_SKEW_SECONDS: Final = 3.0
"""An HTTP date has whole seconds, and an answer its way."""
_PAGE: Final = "500"
_OF_A_ROLLOUT: Final = ("controller-revision-hash", "pod-template-generation", "pod-template-hash")
"""Labels that change with every rollout."""
_OLDEST: Final = (1, 26)
"""The oldest release that we support (docs/deployment.md)."""


async def examine_kubernetes(settings: Kubernetes, plan: Plan) -> AsyncIterator[Finding]:
    """Look at everything that the worker needs of the Kubernetes API. Never raises for what it finds.

    `plan` says which sources of alerts are configured.
    """
    try:
        async with connect(settings.kubeconfig, settings.context) as api:
            try:
                async for finding in _examine(api, settings, plan):
                    yield finding
            except OverloadedError as error:
                yield overloaded(api.host, error)
    except ApiConfigError as error:
        yield Finding("api", Verdict.UNAVAILABLE, str(error))


async def _examine(api: KubernetesApi, settings: Kubernetes, plan: Plan) -> AsyncIterator[Finding]:
    namespaces = settings.namespaces or ("",)
    try:
        skew = await _skew(api)
        refused = [(ns, need) for ns in namespaces for need in _NEEDED if not await _allowed(api, ns, *need)]
    except ApiError as error:
        yield _no_api(api.host, error)
        return
    yield Finding("api", Verdict.FINE, f"the API server {api.host} answers and knows us")
    if skew is not None:
        yield skew
    if (version := await _version(api)) is not None:
        yield version
    for namespace, need in refused:
        yield _refused(namespace, *need)
    if not refused:
        yield Finding("rbac", Verdict.FINE, f"we may get, list and watch pods and read logs{_in(namespaces)}")
    if any(need[2] == "list" for _, need in refused):
        return
    try:
        pods = await _pods(api, namespaces, settings.selectors)
    except ApiError as error:
        yield Finding("pods", Verdict.FAULT, f"pods cannot be listed: {error}", error.fix)
        return
    targets: list[Target] = []
    lookalikes = await _lookalikes(api, namespaces) if not pods else ()
    for finding, found in _examine_pods(pods, settings, lookalikes):
        targets += found
        yield finding
    if any(need[1] == "log" for _, need in refused):
        return
    async for finding in examine_logs(api, targets, settings.max_line_bytes, plan):
        yield finding


def _no_api(host: str, error: ApiError) -> Finding:
    if error.status == 401 and error.fix != PROXY:
        return Finding(
            "api.token",
            Verdict.FAULT,
            f"the API server {host} does not accept our credentials (401): the token has expired, or is no token of it",
            error.fix,
        )
    if error.status == 403 and "system:anonymous" in error.message:
        told = f"the API server {host} does not know us (403): we come without credentials"
        return Finding("api.token", Verdict.FAULT, told, REFUSED)
    if error.status:
        told = f"the API server {host} answers {error.status}: {error}"
        fix = error.fix or "is this the address of an API server, and not of another?"
        return Finding("api", Verdict.UNAVAILABLE, told, fix)
    return Finding(
        "api",
        Verdict.UNAVAILABLE,
        f"the API server {host}: {error}",
        error.fix or "check kubernetes.kubeconfig, the network policies and the firewall",
    )


async def _skew(api: KubernetesApi) -> Finding | None:
    asked_at = time.time()
    theirs = await patiently(api.server_time)
    if theirs is None:
        return None
    ours = (asked_at + time.time()) / 2
    # The date is cut to whole seconds: on average it is half a second old.
    seconds = ours - (theirs + 0.5)
    if abs(seconds) <= _SKEW_SECONDS:
        return Finding("clock.api", Verdict.FINE, "our clock is that of the API server")
    direction = "ahead of" if seconds > 0 else "behind"
    return Finding(
        "clock.api",
        Verdict.FAULT,
        f"our clock is {abs(seconds):.0f} s {direction} the API server's",
        "synchronise the clocks (NTP): tokens, certificates and Kafka's limits on timestamps depend on them",
    )


async def _version(api: KubernetesApi) -> Finding | None:
    """Whether kubelets as old as the API server, or older, may be those that break long lines."""
    try:
        found = re.match(r"v?(\d+)\.(\d+)", str((await api.get("/version")).get("gitVersion", "")))
    except ApiError:  # whoever may ask for nothing else is told so in other words
        return None
    if found is None or (int(found[1]), int(found[2])) >= _OLDEST:
        return None
    return Finding(
        "api.version",
        Verdict.WARNING,
        f"Kubernetes {found[1]}.{found[2]} is older than 1.26: its kubelets write a timestamp into lines of more than "
        "16 KiB",
        "it is removed where it stands after 16 KiB, which is where Docker and containerd cut; with another runtime, "
        "and for all else, update the nodes",
    )


async def _allowed(api: KubernetesApi, namespace: str, resource: str, part: str, verb: str) -> bool:
    attributes = {"verb": verb, "resource": resource, "subresource": part, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await patiently(lambda: api.create(path, review))
    return bool((answer.get("status") or {}).get("allowed"))


def _refused(namespace: str, resource: str, part: str, verb: str) -> Finding:
    what = f"{resource}/{part}" if part else resource
    kind, where = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    name = f"falco-streamer-{verb}-{what.replace('/', '-')}"
    return Finding(
        f"rbac.{what}.{verb}",
        Verdict.FAULT,
        f"we may not {verb} {what}{_in([namespace])}",
        f"grant it to the worker's service account: kubectl create {kind} {name}"
        f"{where} --verb={verb} --resource={what}, and a {kind}binding; k8s/base/rbac.yaml has all that is needed",
    )


async def _pods(
    api: KubernetesApi, namespaces: Iterable[str], selectors: Iterable[str]
) -> list[Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for namespace in namespaces:
        for selector in selectors:
            params = {"labelSelector": selector, "limit": _PAGE}
            while True:
                answer = await patiently(partial(api.get, _path(namespace), params))
                found |= {pod["metadata"]["uid"]: pod for pod in answer.get("items") or ()}
                if not (more := (answer.get("metadata") or {}).get("continue")):
                    break
                params = {**params, "continue": more}
    return list(found.values())


async def _lookalikes(api: KubernetesApi, namespaces: Iterable[str]) -> list[Mapping[str, Any]]:
    """Pods that may be Falco's though no selector matches them, of the first some hundred; else those elsewhere."""
    found = [pod for namespace in namespaces for pod in await _running_falco(api, namespace)]
    if found or "" in namespaces:
        return found
    try:
        return await _running_falco(api, "")
    except ApiError:  # we need no right to look there
        return []


async def _running_falco(api: KubernetesApi, namespace: str) -> list[Mapping[str, Any]]:
    answer = await patiently(lambda: api.get(_path(namespace), {"limit": _PAGE}))
    return [pod for pod in answer.get("items") or () if any(map(runs_falco, containers_of(pod)))]


def _examine_pods(
    pods: Sequence[Mapping[str, Any]], settings: Kubernetes, lookalikes: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[Finding, list[Target]]]:
    if not pods:
        told = f"no pod matches {' or '.join(settings.selectors)}{_in(settings.namespaces or ('',))}"
        fix = "set kubernetes.selectors and kubernetes.namespaces to where Falco runs"
        if lookalikes:
            labels = lookalikes[0]["metadata"].get("labels") or {}
            shown = ",".join(
                f"{key}={value}" for key, value in sorted(labels.items()) if key not in _OF_A_ROLLOUT
            )
            theirs = sorted({pod["metadata"]["namespace"] for pod in lookalikes})
            elsewhere = settings.namespaces and not {*theirs} & {*settings.namespaces}
            where = f"kubernetes.namespaces to theirs ({','.join(theirs)}), and " if elsewhere else ""
            fix = (
                f"these run Falco's image: {_names(lookalikes)}; "
                f"set {where}kubernetes.selectors to labels of theirs ({shown})"
            )
        yield Finding("pods", Verdict.FAULT, told, fix), []
        return
    origin = Origin(settings.owners, settings.service_accounts)
    refused = [pod for pod in pods if origin.refusal(pod)]
    pods = [pod for pod in pods if not origin.refusal(pod)]
    if refused:
        yield (
            Finding(
                "pods.origin",
                Verdict.WARNING if pods else Verdict.FAULT,
                f"not followed, since {few(sorted({origin.refusal(pod) for pod in refused}))}: {_names(refused)}",
                "if they are Falco's, add to kubernetes.owners or kubernetes.service_accounts; else find out who gave "
                "them Falco's labels",
            ),
            [],
        )
    targets = [found.target for pod in pods if (found := view(pod, settings.container)) is not None]
    without = [pod for pod in pods if settings.container not in container_names(pod)]
    if without:
        names = sorted({name for pod in without for name in container_names(pod)})
        yield (
            Finding(
                "container",
                Verdict.FAULT,
                f"{_names(without)}: no container is called {settings.container}, but {', '.join(names)}",
                _container_fix(without),
            ),
            [],
        )
    pending = [
        pod
        for pod in pods
        if settings.container in container_names(pod) and not (pod.get("spec") or {}).get("nodeName")
    ]
    if pending:
        yield (
            Finding(
                "pods.pending",
                Verdict.WARNING if targets else Verdict.FAULT,
                f"on no node yet: {_names(pending)}",
                PENDING,
            ),
            [],
        )
    if targets:
        nodes = len({target.node for target in targets})
        yield (
            Finding(
                "pods", Verdict.FINE, f"{_number(len(targets), 'pod')} of Falco on {_number(nodes, 'node')}"
            ),
            targets,
        )


def _container_fix(pods: Sequence[Mapping[str, Any]]) -> str:
    """What to do where no container has the name that is set. Only a container with Falco's image is proposed."""
    falco = sorted({one["name"] for pod in pods for one in containers_of(pod) if runs_falco(one)})
    if falco:
        return f"set kubernetes.container to {' or '.join(falco)}, which runs Falco's image"
    for kind, key in (
        ("an ephemeral container", "ephemeralContainers"),
        ("an init container", "initContainers"),
    ):
        others = [one for pod in pods for one in (pod.get("spec") or {}).get(key) or () if runs_falco(one)]
        if others:
            return (
                f"Falco's image runs in {kind} ({others[0].get('name')}), which is not followed: run it as a "
                "container, or as an init container with restartPolicy: Always"
            )
    return (
        "none of them runs an image that is called falco: set kubernetes.selectors to Falco's own pods, or "
        "kubernetes.container to the one that runs it under another name"
    )


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"


def _in(namespaces: Sequence[str]) -> str:
    named = [namespace for namespace in namespaces if namespace]
    return (
        f" in the namespace{'s' if len(named) > 1 else ''} {', '.join(named)}"
        if named
        else " in all namespaces"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _names(pods: Iterable[Mapping[str, Any]]) -> str:
    return few([f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods])
