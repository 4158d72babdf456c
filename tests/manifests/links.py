"""What Kubernetes objects say of each other by name, label and port, and never checks: a wrong one shows at run time.

`loose_ends` finds what leads nowhere inside one set of objects, such as an overlay or a release.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

Object = Mapping[str, Any]


def loose_ends(objects: Iterable[Object], *, elsewhere: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Each reference that leads nowhere, in one line; `elsewhere` are (kind, name) of what others make."""
    return list(_Links(list(objects), set(elsewhere)).all())


@dataclass
class _Links:
    objects: list[Object]
    elsewhere: set[tuple[str, str]]

    def all(self) -> Iterator[str]:
        for one in self.objects:
            where = f"{one['kind']} {one['metadata']['name']}"
            check = getattr(self, f"_{one['kind'].lower()}", None)
            for fault in check(one) if check else ():
                yield f"{where}: {fault}"

    @cached_property
    def pods(self) -> list[tuple[str, Object]]:
        """The namespace and the template of each Deployment's pods, and pods that stand alone."""
        templates = [
            (_namespace(one), one["spec"]["template"]) for one in self.objects if one["kind"] == "Deployment"
        ]
        return templates + [(_namespace(one), one) for one in self.objects if one["kind"] == "Pod"]

    def _exists(self, kind: str, name: str, namespace: str | None) -> bool:
        return (kind, name) in self.elsewhere or any(
            one["kind"] == kind
            and one["metadata"]["name"] == name
            and namespace in {None, one["metadata"].get("namespace")}
            for one in self.objects
        )

    def _selected(self, namespace: str, selector: Mapping[str, str]) -> list[Object]:
        return [
            pod
            for where, pod in self.pods
            if where == namespace and selector and selector.items() <= pod["metadata"]["labels"].items()
        ]

    def _selects_one(self, namespace: str, selector: Mapping[str, str]) -> Iterator[str]:
        found = self._selected(namespace, selector)
        if len(found) != 1:
            yield f"selects {len(found)} pods, by {dict(selector)}"

    # ---- by kind

    def _deployment(self, one: Object) -> Iterator[str]:
        spec = one["spec"]
        if not spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items():
            yield "does not select its own pods"
        for spread in spec["template"]["spec"].get("topologySpreadConstraints", ()):
            labels = spread["labelSelector"]["matchLabels"]
            yield from self._selects_one(_namespace(one), labels)
        yield from self._of_a_pod(spec["template"]["spec"], _namespace(one))

    def _pod(self, one: Object) -> Iterator[str]:
        yield from self._of_a_pod(one["spec"], _namespace(one))

    def _of_a_pod(self, spec: Object, namespace: str) -> Iterator[str]:
        account = spec.get("serviceAccountName")
        if account and not self._exists("ServiceAccount", account, namespace):
            yield f"no ServiceAccount {account}"
        if spec.get("enableServiceLinks") is not False:
            yield "enableServiceLinks is not false"
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        for volume in spec.get("volumes", ()):
            for kind, key, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                if key in volume and not self._exists(kind, volume[key][name], namespace):
                    yield f"no {kind} {volume[key][name]}"
        mounted = set()
        for container in spec["containers"]:
            mounted |= {mount["name"] for mount in container.get("volumeMounts", ())}
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                if port is not None and port not in ports:
                    yield f"{probe}: no port {port}"
        for name in sorted(volumes ^ mounted):
            yield f"volume {name} is not both there and mounted"

    def _service(self, one: Object) -> Iterator[str]:
        selector = one["spec"]["selector"]
        yield from self._selects_one(_namespace(one), selector)
        for pod in self._selected(_namespace(one), selector):
            for port in one["spec"]["ports"]:
                if port["targetPort"] not in _ports(pod):
                    yield f"no port {port['targetPort']} in the pod"

    def _poddisruptionbudget(self, one: Object) -> Iterator[str]:
        yield from self._selects_one(_namespace(one), one["spec"]["selector"]["matchLabels"])

    def _networkpolicy(self, one: Object) -> Iterator[str]:
        selector = one["spec"]["podSelector"]["matchLabels"]
        yield from self._selects_one(_namespace(one), selector)
        rules = one["spec"].get("ingress", ())
        for peer in chain.from_iterable(rule.get("from", ()) for rule in rules):
            if labels := peer.get("podSelector", {}).get("matchLabels", {}) if len(peer) == 1 else {}:
                yield from self._selects_one(_namespace(one), labels)  # who is let in from our own namespace
        named = chain.from_iterable(rule.get("ports", ()) for rule in rules)
        for pod in self._selected(_namespace(one), selector):
            for port in named:
                if port["port"] not in _ports(pod):
                    yield f"no port {port['port']} in the pod"

    def _servicemonitor(self, one: Object) -> Iterator[str]:
        wanted = one["spec"]["selector"]["matchLabels"].items()
        found = [
            each
            for each in self.objects
            if each["kind"] == "Service"
            and _namespace(each) == _namespace(one)
            and wanted <= each["metadata"]["labels"].items()
        ]
        if len(found) != 1:
            yield f"selects {len(found)} Services"
        for service in found:
            ports = {port["name"] for port in service["spec"]["ports"]}
            yield from (
                f"no port {end['port']} in the Service"
                for end in one["spec"]["endpoints"]
                if end["port"] not in ports
            )

    def _podmonitor(self, one: Object) -> Iterator[str]:
        selector = one["spec"]["selector"]["matchLabels"]
        yield from self._selects_one(_namespace(one), selector)
        for pod in self._selected(_namespace(one), selector):
            for end in one["spec"]["podMetricsEndpoints"]:
                if end["port"] not in _ports(pod):
                    yield f"no port {end['port']} in the pod"

    def _rolebinding(self, one: Object) -> Iterator[str]:
        yield from self._of_a_binding(one, one["metadata"]["namespace"])

    def _clusterrolebinding(self, one: Object) -> Iterator[str]:
        yield from self._of_a_binding(one, None)

    def _of_a_binding(self, one: Object, namespace: str | None) -> Iterator[str]:
        role = one["roleRef"]
        if not self._exists(role["kind"], role["name"], namespace if role["kind"] == "Role" else None):
            yield f"no {role['kind']} {role['name']}"
        for subject in one["subjects"]:
            if not self._exists(subject["kind"], subject["name"], subject["namespace"]):
                yield f"no {subject['kind']} {subject['name']} in {subject['namespace']}"


def _namespace(one: Object) -> str:
    return str(one["metadata"]["namespace"])


def _ports(pod: Object) -> set[str]:
    return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", ())}
