"""A real kube-apiserver with RBAC on loopback, its etcd beside it.

No controller manager and no scheduler: nobody binds a pod, deletes a namespace's contents or makes a service
account's token secret. Tests say what they want instead (`cluster`). Without a kubelet that registers itself,
the address of a node's log endpoint is what its Node object says.
"""

import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import yaml

from tests.testbed import parts
from tests.testbed.certs import Authority, KeyPair
from tests.testbed.etcd import Etcd
from tests.testbed.process import Process, free_port
from tests.testbed.served import Served


class KubeApiServer(Served):
    """One API server. Objects, port and certificates outlive stop() and kill(); close() ends it all.

    After stop() the listener closes at once, open log streams live up to 60 s more. kill() leaves etcd alive.
    """

    STOP_SECONDS: ClassVar[float] = 90

    def __init__(self, *, extra_arguments: Sequence[str] = ()) -> None:
        program, etcd = parts.apiserver(), parts.etcd()
        self.folder = Path(tempfile.mkdtemp(prefix="falco-streamer-kubernetes-"))
        self.authority = Authority(self.folder / "pki")
        self.port = free_port()
        self.etcd = Etcd(etcd, self.folder)
        command = [str(program), *self._arguments(), *extra_arguments]
        self.process = Process("kube-apiserver", command, self.folder / "kube-apiserver.log")
        self.kubeconfig = self.kubeconfig_for("admin", ["system:masters"])

    @property
    def url(self) -> str:
        """Where it serves, with a certificate of `authority`."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a user who has no rights but those that RBAC gives to name and groups."""
        pair = self.authority.client(user, groups)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "clusters": [
                {
                    "name": "testbed",
                    "cluster": {"server": self.url, "certificate-authority": str(self.authority.certificate)},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {"client-certificate": str(pair.public), "client-key": str(pair.key)},
                }
            ],
        }
        path = self.folder / f"kubeconfig-{user}"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def serve_with(self, pair: KeyPair) -> None:
        """Have it serve with another certificate, as a rotation of the control plane's puts it into its place."""
        self._serving.key.write_bytes(pair.key.read_bytes())
        self._serving.public.write_bytes(pair.public.read_bytes())

    def start(self) -> None:
        """Start it, with etcd if that is down, and wait until it is ready (3 s); StartError if not."""
        if not self.etcd.process.running:
            self.etcd.start()
        self.process.spawn()
        self.process.wait_until(self._ready, seconds=60)

    def close(self) -> None:
        """End it and etcd, and remove what they wrote."""
        self.process.kill()  # before what it talks to
        self.etcd.process.kill()
        super().close()

    def _arguments(self) -> list[str]:
        self._serving = serving = self.authority.server("kube-apiserver")
        to_kubelets = self.authority.client("kube-apiserver-kubelet-client", ["system:masters"])
        tokens = self.authority.key_pair("service-accounts")
        return [
            f"--etcd-servers={self.etcd.url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            # It complains that its endpoint "may not be in the loopback range" and goes on: nobody uses that one.
            "--advertise-address=127.0.0.1",
            f"--tls-cert-file={serving.public}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={tokens.public}",
            f"--service-account-signing-key-file={tokens.key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            # It would refuse every pod until a controller had made the namespace's default account.
            "--disable-admission-plugins=ServiceAccount",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={to_kubelets.public}",
            f"--kubelet-client-key={to_kubelets.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]

    def _ready(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self.authority.certificate))
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=trust) as answer:
                return bool(answer.status == 200)
        except OSError:  # refused, reset, or an HTTP error: not yet
            return False


class ExternalApiServer:
    """An API server that somebody else runs (TESTBED_KUBECONFIG): to be asked, not to be stopped."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        named = {context["name"]: context["context"]["cluster"] for context in config["contexts"]}
        servers = {cluster["name"]: cluster["cluster"]["server"] for cluster in config["clusters"]}
        self.kubeconfig = kubeconfig
        self.url = str(servers[named[config["current-context"]]])
