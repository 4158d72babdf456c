"""The real kubectl, with a home of its own, as the server's administrator or with a token."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.testbed import parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.fixtures import parts_or_skip

Object = dict[str, Any]
Right = tuple[str, str]
"""A verb and a resource, such as ("get", "pods/log")."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with a home of its own, as the server's administrator or with a token."""

    program: Path
    home: Path
    access: Sequence[str]

    def __call__(self, *arguments: str | Path, given: object = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *self.access, *map(str, arguments)],
            input=json.dumps(given),
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self, *arguments: str | Path, given: object = None) -> Any:
        done = self(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def apply(self, folder: Path) -> dict[str, Object]:
        """Apply a kustomization, silently; what the API server then has of it, by kind."""
        done = self("apply", "--server-side", "--validate=strict", "-k", folder)
        assert (done.returncode, done.stderr) == (0, "")
        found: dict[str, Object] = {}
        for wanted in self.rendered(folder):
            kind, metadata = wanted["kind"], wanted["metadata"]
            assert kind not in found
            where = ["-n", metadata.get("namespace", "default")]
            found[kind] = self.json("get", kind, metadata["name"], *where, "-o", "json")
        return found

    def rendered(self, folder: Path) -> list[Object]:
        done = self("kustomize", folder)
        assert (done.returncode, done.stderr) == (0, "")
        return list(yaml.safe_load_all(done.stdout))

    def allows(self, right: Right, *scope: str) -> bool:
        verb, (resource, _, subresource) = right[0], right[1].partition("/")
        done = self("auth", "can-i", verb, resource, f"--subresource={subresource}", *scope)
        assert done.stderr == ""  # it warns of a resource that it does not know, and says no
        assert done.stdout in {"yes\n", "no\n"}
        return done.stdout == "yes\n"

    def rights(self, namespace: str) -> set[Right]:
        """All that the API server lets this user do with resources of a namespace, by its own word."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        status = self.json("create", "--raw", path, "-f", "-", given=review)["status"]
        assert not status.get("incomplete"), status
        return {
            (verb, f"{resource}.{group}".rstrip("."))
            for rule in status["resourceRules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }


def kubectl_of(server: KubeApiServer, home: Path) -> Kubectl:
    """The administrator's."""
    with parts_or_skip():
        return Kubectl(parts.kubectl(), home, [f"--kubeconfig={server.kubeconfig}"])


def with_token(admin: Kubectl, server: KubeApiServer, account: str, namespace: str) -> Kubectl:
    """What a pod with this account is: whoever has its token, and nothing else."""
    token = admin("create", "token", account, "-n", namespace).stdout.strip()
    assert token
    # Without its own kubeconfig, which has a certificate that would win over the token.
    access = [f"--server={server.url}", f"--certificate-authority={server.authority.certificate}"]
    return replace(admin, access=["--kubeconfig=/dev/null", *access, f"--token={token}"])


def kubeconfig_of(user: Kubectl, folder: Path) -> Path:
    """Write what `user`, made by `with_token`, is as a kubeconfig."""
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in user.access)
    cluster = {"server": flags["server"], "certificate-authority": flags["certificate-authority"]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": flags["token"]}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
