"""A real Kafka broker in KRaft mode, broker and controller in one JVM, on loopback.

Three listeners, so that a test may put TLS, SASL and an authorizer on the first without the broker having to
log in to itself: CLIENT is what tests connect to, INTERNAL is between brokers, CONTROLLER is the quorum's.
"""

import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.testbed import parts
from tests.testbed.parts import PartMissing
from tests.testbed.process import Process, StartError, free_port
from tests.testbed.served import Served

# What a test wants of a broker: up at once, also after a kill (the controller admits it again when its old
# session has timed out), groups without the 3 s wait for more members, few partitions of the internal topics
# (50 of each by default), and no topic made by a typo. fsync stays as it is by default: left to the OS.
_QUICK: Mapping[str, str] = {
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}

# In the minutes that a test lasts, the first compiler's quick code beats the second's better code.
_JVM = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
# Log4j's own default configuration, to stdout, with more than its errors.
_LOGGING = ["-Dorg.apache.logging.log4j.level=INFO"]


class Quorum:
    """The controllers of one cluster: who they are must be known before the first of them starts."""

    def __init__(self, brokers: int = 1) -> None:
        # As Kafka's own do, it begins with no dash: the storage tool would take it for an option. One in 64 would.
        self.cluster_id = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        self.ports = {node_id: free_port() for node_id in range(1, brokers + 1)}

    @property
    def voters(self) -> str:
        """The property controller.quorum.voters."""
        return ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in self.ports.items())


class Kafka(Served):
    """One broker; alone, it is the whole cluster.

    `classes` are folders of compiled classes of ours (`compiled`), such as policies.
    `extra_properties` win over ours (server.properties), `format_arguments` go to the storage tool
    (--add-scram ...), `jvm_arguments` to Java (-Djava.security.auth.login.config=...), `prefix` before
    the whole command (SmallDisk.inside). stop() moves leaders
    and closes logs, and clients see it go.
    """

    STOP_SECONDS: ClassVar[float] = 30

    def __init__(
        self,
        *,
        extra_properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        jvm_arguments: Sequence[str] = (),
        quorum: Quorum | None = None,
        node_id: int = 1,
        prefix: Sequence[str] = (),
        classes: Sequence[Path] = (),
    ) -> None:
        classpath = ":".join([*map(str, classes), parts.kafka()])
        self._java = [*prefix, parts.java(), *_JVM, *_LOGGING, *jvm_arguments, "-cp", classpath]
        self._quorum = quorum or Quorum()
        self.node_id = node_id
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"falco-streamer-kafka-{node_id}-"))
        self._properties = self._defaults() | dict(extra_properties or {})
        self._format_arguments = list(format_arguments)
        self._formatted = False
        self._settings = self.folder / "server.properties"
        command = [*self._java, "kafka.Kafka", str(self._settings)]
        self.process = Process(f"kafka broker {node_id}", command, self.folder / "kafka.log")

    @property
    def bootstrap(self) -> str:
        """host:port for a client's bootstrap_servers."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it serves (about 4 s); StartError if not."""
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start it without waiting: of several brokers none is ready before most of them run."""
        if not self._formatted:
            self._format()
        self.process.spawn()

    def wait_ready(self, *, seconds: float = 60.0) -> None:
        """Wait for the broker's own word that it has started; a listener accepts a while before that."""
        self.process.wait_until(lambda: self.process.has_said(r"Kafka Server started"), seconds=seconds)

    def limit_producers(self, bytes_per_second: int) -> None:
        """Set a quota: who produces more under one client id has its connection held up (about 2 s)."""
        change = ["--alter", "--add-config", f"producer_byte_rate={bytes_per_second}"]
        everybody = ["--entity-type", "clients", "--entity-default"]
        tool = ["kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap, *change, *everybody]
        done = subprocess.run([*self._java, *tool], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the quota was not set:\n{done.stdout}{done.stderr}"

    def _defaults(self) -> dict[str, str]:
        listeners = {"CLIENT": self.port, "INTERNAL": free_port()}
        quorum = {"CONTROLLER": self._quorum.ports[self.node_id]}
        replicas = str(min(3, len(self._quorum.ports)))
        in_sync = str(max(1, int(replicas) - 1))

        def urls(ports: Mapping[str, int]) -> str:
            return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())

        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": self._quorum.voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": urls(listeners | quorum),
            "advertised.listeners": urls(listeners),
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            **_QUICK,
        }

    def _format(self) -> None:
        self._settings.write_text("".join(f"{key}={value}\n" for key, value in self._properties.items()))
        tool = ["kafka.tools.StorageTool", "format", "--config", str(self._settings)]
        command = [*self._java, *tool, "--cluster-id", self._quorum.cluster_id, *self._format_arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        self._formatted = True


class ExternalKafka(Kafka):
    """A broker that somebody else runs (TESTBED_KAFKA=host:port): to be used, not to be stopped."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @property
    def bootstrap(self) -> str:
        """host:port as given."""
        return self._bootstrap

    def start(self) -> None:
        """It runs."""

    def close(self) -> None:
        """It goes on."""

    def spawn(self) -> None:
        """Not ours to do: PartMissing, as for all that follow."""
        raise _not_ours()

    def stop(self) -> None:
        """Not ours to do."""
        raise _not_ours()

    def kill(self) -> None:
        """Not ours to do."""
        raise _not_ours()

    def freeze(self) -> None:
        """Not ours to do."""
        raise _not_ours()

    def resume(self) -> None:
        """Not ours to do."""
        raise _not_ours()


def _not_ours() -> parts.PartMissing:
    return parts.PartMissing("this test stops its broker: unset TESTBED_KAFKA to have one of the test bed's")


def compiled(source: Path, folder: Path) -> Path:
    """Compile a class that runs inside the broker; returns the folder to give as one of `classes`.

    Raises PartMissing where Java comes without its compiler.
    """
    modules = subprocess.run([parts.java(), "--list-modules"], capture_output=True, text=True, check=True)
    if "jdk.compiler@" not in modules.stdout:
        raise PartMissing("a broker's policy is compiled by a JDK: apt-get install openjdk-17-jdk-headless")
    compiler = [parts.java(), "-m", "jdk.compiler/com.sun.tools.javac.Main"]
    jars = ":".join(map(str, Path(parts.kafka()).parent.glob("*.jar")))  # it expands no wildcard
    command = [*compiler, "-cp", jars, "-d", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{source.name} was not compiled:\n{done.stdout}{done.stderr}"
    return folder
