"""An embedded broker: librdkafka's mock cluster, which comes inside the confluent-kafka wheel.

It speaks enough of Kafka's protocol for a demo and for tests of failures: produce, fetch, idempotence, groups of
one member. It is not Kafka: it keeps records in memory, does not fence, shows aborted records to everybody and
knows no admin calls. Python has no binding for it, hence ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

_PRODUCER_TYPE: Final = 0  # RD_KAFKA_PRODUCER; the mock cluster needs any client instance to live in
_ERROR_TEXT_BYTES: Final = 512

# Kafka's numbers of the requests for which tests inject errors.
PRODUCE: Final = 0
FETCH: Final = 1
METADATA: Final = 3
FIND_COORDINATOR: Final = 10
INIT_PRODUCER_ID: Final = 22
ADD_PARTITIONS_TO_TXN: Final = 24
END_TXN: Final = 26

TRANSPORT: Final = -195
"""librdkafka's error for "the connection broke": the mock broker closes it instead of answering."""


class MockBrokerMissing(Exception):  # noqa: N818 - nothing failed, something is to be installed
    """The wheel that has the mock cluster is not installed, or is built without it."""


class MockBroker:
    """A broker on a free port of 127.0.0.1, from construction to `close()` (or as a context manager).

    `topics` maps names to partition counts; other topics are made at their first use, with four partitions.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self._lib = _library()
        text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        conf = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set_log_cb(conf, None)  # it would warn on stderr that it knows no broker
        self._handle = self._lib.rd_kafka_new(_PRODUCER_TYPE, conf, text, ctypes.c_size_t(_ERROR_TEXT_BYTES))
        if not self._handle:
            raise OSError(f"the mock broker did not start: {text.value.decode()}")
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self._lib.rd_kafka_destroy(self._handle)
            raise OSError("the mock broker did not start")
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    @property
    def bootstrap(self) -> str:
        """`host:port`, for a client's bootstrap servers."""
        servers: bytes = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic. Raises OSError where it exists."""
        self._command(
            f"topic {name} was not made", "rd_kafka_mock_topic_create", name.encode(), partitions, 1
        )

    def push_request_errors(self, api_key: int, errors: Sequence[int]) -> None:
        """Answer the next requests of this kind with these error codes, one each (0: answer well)."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(api_key), ctypes.c_size_t(len(errors)), codes
        )

    def set_leader(self, topic: str, partition: int, broker_id: int) -> None:
        """Give a partition another leader; -1 leaves it without one."""
        which = (topic.encode(), partition, broker_id)
        self._command(f"no leader for {topic}/{partition}", "rd_kafka_mock_partition_set_leader", *which)

    def advertise(self, host: str, port: int) -> None:
        """Tell clients to look for the broker elsewhere, as a wrong advertised.listeners does."""
        self._lib.rd_kafka_mock_broker_set_host_port(self._cluster, 1, host.encode(), port)

    def set_delay(self, milliseconds: int) -> None:
        """Answer every request so much later."""
        self._command("no delay", "rd_kafka_mock_broker_set_rtt", 1, milliseconds)

    def set_down(self) -> None:
        """Close every connection and refuse new ones."""
        self._command("not taken down", "rd_kafka_mock_broker_set_down", 1)

    def set_up(self) -> None:
        """Serve again."""
        self._command("not brought up", "rd_kafka_mock_broker_set_up", 1)

    def close(self) -> None:
        """End it; may be called again."""
        if self._handle:
            with self._awake():
                self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
            self._lib.rd_kafka_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self, otherwise: str, function: str, *arguments: object) -> None:
        with self._awake():
            code = getattr(self._lib, function)(self._cluster, *arguments)
        if code:
            reason: bytes = self._lib.rd_kafka_err2str(code)
            raise OSError(f"{otherwise}: {reason.decode()}")

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        """Knock until it is done: the mock's thread sees a command when a socket stirs, else once a second."""
        host, port = self.bootstrap.rsplit(":", 1)
        done = threading.Event()

        def knock() -> None:
            while not done.wait(0.001):
                with contextlib.suppress(OSError):
                    socket.create_connection((host, int(port)), timeout=1).close()

        thread = threading.Thread(target=knock, name="mock broker's door", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _library() -> ctypes.CDLL:
    """Librdkafka out of the wheel, with the signatures that are not plain ints."""
    found = importlib.util.find_spec("confluent_kafka")
    package = found and found.submodule_search_locations
    files = sorted(Path(package[0]).parent.glob("confluent_kafka.libs/librdkafka*")) if package else []
    lib = None
    with contextlib.suppress(OSError):
        lib = ctypes.CDLL(str(files[0])) if files else None
    if lib is None or not hasattr(lib, "rd_kafka_mock_cluster_new"):
        raise MockBrokerMissing(
            "the embedded broker is not installed: pip install 'falco-streamer[demo]' (it comes with confluent-kafka)"
        )
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set_log_cb", None, [pointer, pointer]),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_err2str", ctypes.c_char_p, [ctypes.c_int]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, pointer],
        ),
        (
            "rd_kafka_mock_partition_set_leader",
            ctypes.c_int,
            [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32],
        ),
        (
            "rd_kafka_mock_broker_set_host_port",
            None,
            [pointer, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int],
        ),
        ("rd_kafka_mock_broker_set_rtt", ctypes.c_int, [pointer, ctypes.c_int32, ctypes.c_int]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
