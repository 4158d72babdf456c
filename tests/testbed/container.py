"""A pod's container, run by the real runc as a kubelet's runtime would run it.

Of the pod's specification comes what the kubelet would take from it: arguments, variables, user, groups, guards, the
limit of memory, mounts. Two things are not as in a cluster: the network is this machine's, because the test bed's
servers are on loopback, and nobody schedules, restarts or probes it.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.testbed.image import Image

Object = Mapping[str, Any]

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its account's token, the API server's authority and its namespace."""

# What containerd and CRI-O call RuntimeDefault, as Debian ships it beside buildah.
_SECCOMP = Path("/usr/share/containers/seccomp.json")
_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_SIZES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Container:
    """One container of a pod, as a bundle for runc in a folder; `command` runs it in the foreground.

    `volumes` are the folders behind the pod's ConfigMaps and Secrets, by the volume's name, and `token` is the one with
    the account's token; `hosts` are names of 127.0.0.1, such as a Service's.
    """

    def __init__(
        self,
        folder: Path,
        image: Image,
        root: Path,
        pod: Object,
        *,
        volumes: Mapping[str, Path],
        variables: Mapping[str, str],
        hosts: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = f"falco-streamer-{uuid.uuid4().hex[:8]}"
        self._runc = ["runc", "--root", str(folder / "runc")]
        self.command = [*self._runc, "run", "--bundle", str(folder), self.id]
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(hosts)}\n")
        subprocess.run(["runc", "spec", "--bundle", str(folder)], check=True)
        plain = json.loads((folder / "config.json").read_text())
        config = _configured(plain, image.config, pod, variables)
        config["root"]["path"] = str(root)
        config["mounts"] += [_bind(folder / "hosts", "/etc/hosts"), *_mounts(pod["spec"], volumes)]
        (folder / "config.json").write_text(json.dumps(config))

    def run(self, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        try:
            return subprocess.run(self.command, capture_output=True, text=True, check=False, timeout=seconds)
        finally:
            self.delete()

    def exec(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `kubectl exec` does."""
        asked = [*self._runc, "exec", self.id, *command]
        return subprocess.run(asked, capture_output=True, text=True, check=False, timeout=seconds)

    def status(self) -> dict[str, str]:
        """What the kernel says of its first process (proc(5), /proc/pid/status)."""
        said = subprocess.run([*self._runc, "state", self.id], capture_output=True, text=True, check=True)
        lines = Path(f"/proc/{json.loads(said.stdout)['pid']}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)

    def delete(self) -> None:
        """Kill whatever runs in it, and forget it; nothing happens if it has ended."""
        subprocess.run([*self._runc, "delete", "--force", self.id], capture_output=True, check=False)


def _configured(
    plain: dict[str, Any], image: Object, pod: Object, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Fill in runc's own example of a configuration."""
    spec = pod["spec"]
    (container,) = spec["containers"]
    identity, guards = spec["securityContext"], container["securityContext"]
    assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
    assert guards["capabilities"] == {"drop": ["ALL"]}
    environment = {**dict(line.split("=", 1) for line in image["Env"]), **variables}
    for one in container.get("env", ()):
        environment[one["name"]] = one["value"] if "value" in one else _of_the_pod(pod, one["valueFrom"])
    process = plain["process"]
    del process["rlimits"]  # runc's example has 1,024 open files, no cluster has
    process |= {
        "terminal": False,
        "cwd": image.get("WorkingDir") or "/",
        "args": [
            *container.get("command", image["Entrypoint"]),
            *container.get("args", [] if "command" in container else image["Cmd"]),
        ],
        "env": [f"{name}={value}" for name, value in environment.items()],
        "user": {
            "uid": identity["runAsUser"],
            "gid": identity["runAsGroup"],
            "additionalGids": [identity[key] for key in ("fsGroup",) if key in identity],
        },
        "capabilities": {kind: [] for kind in process["capabilities"]},
        "noNewPrivileges": guards["allowPrivilegeEscalation"] is False,
    }
    linux = plain["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in {"network", "cgroup"}]
    linux["seccomp"] = _seccomp()
    if limit := container.get("resources", {}).get("limits", {}).get("memory"):
        linux["resources"]["memory"] = {"limit": _bytes(limit)}
    return plain | {
        "hostname": pod["metadata"]["name"],
        "process": process,
        "root": {"readonly": guards["readOnlyRootFilesystem"]},
        "linux": linux,
        "mounts": [mount for mount in plain["mounts"] if mount["type"] != "cgroup"],
    }


def _of_the_pod(pod: Object, source: Object) -> str:
    assert source == {"fieldRef": source["fieldRef"]}
    assert source["fieldRef"]["fieldPath"] == "metadata.name"
    return str(pod["metadata"]["name"])


def _mounts(spec: Object, volumes: Mapping[str, Path]) -> list[dict[str, Any]]:
    (container,) = spec["containers"]
    kinds = {volume["name"]: volume for volume in spec.get("volumes", ())}
    mounts = []
    for mount in container.get("volumeMounts", ()):
        volume = kinds[mount["name"]]
        if "emptyDir" in volume:
            options = ["nosuid", "nodev", "mode=1777", f"size={_bytes(volume['emptyDir']['sizeLimit'])}"]
            mounts.append(
                {"destination": mount["mountPath"], "type": "tmpfs", "source": "tmpfs", "options": options}
            )
        else:
            assert mount["readOnly"]
            mounts.append(_bind(volumes[mount["name"]], mount["mountPath"]))
    if spec["automountServiceAccountToken"]:
        mounts.append(_bind(volumes["token"], TOKEN))
    return mounts


def _bind(source: Path, target: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", "ro"]}


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * _SIZES[unit]


def _seccomp() -> dict[str, Any]:
    """The profile as the runtime specification has it, for a process without capabilities."""
    profile = json.loads(_SECCOMP.read_text())
    ours, name = _ARCHITECTURES[platform.machine()]
    rules = []
    for rule in profile["syscalls"]:
        included, excluded = rule["includes"], rule["excludes"]
        if (
            included.get("caps")
            or ours not in included.get("arches", [ours])
            or ours in excluded.get("arches", [])
        ):
            continue
        kept = {key: rule[key] for key in ("names", "action", "errnoRet") if key in rule}
        rules.append(kept | {"args": rule["args"] or []})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [name],
        "syscalls": rules,
    }
