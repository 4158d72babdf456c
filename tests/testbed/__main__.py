"""`python -m tests.testbed build|up`: get the parts, or run all of them until Ctrl-C."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

from tests.testbed import BuildError, PartMissing, StartError, operators, parts
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.connect_worker import connect
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.search import elasticsearch


def main() -> int:
    """Return the exit code: 0, or 1 with one line on stderr when a part cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("what", choices=["build", "up"], help="build: all parts, once; up: run them")
    wanted = parser.parse_args().what
    # A plain `kill` stops everything as Ctrl-C does, also where a shell without job control ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _build() if wanted == "build" else _up()
    except (PartMissing, BuildError, StartError) as failure:
        sys.stderr.write(f"testbed: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("testbed: stopped\n")
    return 0


_PARTS: Final[tuple[Callable[[], object], ...]] = (
    parts.kafka,  # first: it takes seconds, and who lacks Java need not wait ten minutes to hear of it
    connect,
    elasticsearch,
    operators.strimzi,
    operators.prometheus_operator,
    parts.etcd,
    parts.apiserver,
    parts.kubelet,
    parts.node_kubelet,
    parts.remove_container,
    parts.containerd,
    parts.shim,
    parts.ctr,
    parts.printer,
    parts.kubectl,
    parts.helm,
    parts.helmfile,
    parts.promtool,
)


def _build() -> None:
    """Build all parts, here and not in the first test that needs one: a test's time is limited."""
    missing = []
    for part in _PARTS:
        try:
            part()
        except PartMissing as error:
            missing.append(str(error))
    if missing:
        raise PartMissing("; ".join(missing))


def _up() -> None:
    with Kafka() as kafka, KubeApiServer() as server, Kubelet(server.authority) as kubelet:
        for name, value in {
            "Kafka": kafka.bootstrap,
            "API server": server.url,
            "kubeconfig": server.kubeconfig,
            "pod logs": f"{kubelet.root}/<namespace>_<pod>_<uid>/<container>/<restartCount>.log",
            "kubelet port": f"{kubelet.port} (for status.daemonEndpoints of your Node objects)",
            "server logs": f"{kafka.folder}, {server.folder}, {kubelet.folder}",
        }.items():
            sys.stdout.write(f"{name + ':':14}{value}\n")
        sys.stdout.write("Ctrl-C stops everything and removes its data.\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
