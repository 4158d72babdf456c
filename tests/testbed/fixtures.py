"""Fixtures of real parts, for a conftest to import: a part is built at its first use, started once a run."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from tests.testbed import PartMissing
from tests.testbed.apiserver import ExternalApiServer, KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.identity_provider import IdentityProvider
from tests.testbed.image import Image, Images
from tests.testbed.kafka import ExternalKafka, Kafka, Quorum
from tests.testbed.kubelet import Kubelet
from tests.testbed.secure_kafka import USER, SecureKafka

CLIENT_SECRET = "s3cr:t+/% ok"
"""With what has to be encoded on its way to the token endpoint."""


@contextlib.contextmanager
def parts_or_skip() -> Iterator[None]:
    """Turn a missing toolchain into a skip, but never in CI: there a green run has to mean that it ran."""
    try:
        yield
    except PartMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to have every part of the test bed: {missing}", pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for all tests: its topics have names of their own (create_topic), nobody stops it."""
    given = os.environ.get("TESTBED_KAFKA")
    with parts_or_skip(), ExternalKafka(given) if given else Kafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def identity_provider() -> Iterator[IdentityProvider]:
    """It knows one client, by CLIENT_SECRET."""
    with IdentityProvider({USER: CLIENT_SECRET}) as provider:
        yield provider


@pytest.fixture(scope="session")
def secure_kafka(identity_provider: IdentityProvider) -> Iterator[SecureKafka]:
    """One broker with TLS, SASL and ACLs for all tests; ACLs are for topics of their own."""
    with parts_or_skip(), SecureKafka(identity_provider) as broker:
        yield broker


@pytest.fixture
def private_kafka() -> Iterator[Kafka]:
    """A broker for one test, which may stop, kill and freeze it (about 4 s)."""
    with parts_or_skip(), Kafka() as broker:
        yield broker


@pytest.fixture
def kafka_brokers() -> Iterator[Sequence[Kafka]]:
    """Three brokers of one cluster for one test, which may stop, kill and freeze them (about 8 s)."""
    quorum = Quorum(3)
    with parts_or_skip(), contextlib.ExitStack() as stack:
        brokers = [Kafka(quorum=quorum, node_id=node_id) for node_id in quorum.ports]
        for broker in brokers:
            stack.callback(broker.close)
        for broker in brokers:
            broker.spawn()
        for broker in brokers:
            broker.wait_ready()
        yield brokers


@pytest.fixture(scope="session")
def api_server() -> Iterator[KubeApiServer | ExternalApiServer]:
    """One API server for all tests: each works in a namespace of its own (cluster), nobody stops it."""
    given = os.environ.get("TESTBED_KUBECONFIG")
    if given:
        yield ExternalApiServer(Path(given))
        return
    with parts_or_skip(), KubeApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def kubelet(api_server: KubeApiServer | ExternalApiServer) -> Iterator[Kubelet]:
    """The log endpoint of all nodes of that API server."""
    if isinstance(api_server, ExternalApiServer):
        pytest.skip(
            "this test writes pod logs, which it cannot in another's cluster: unset TESTBED_KUBECONFIG"
        )
    with parts_or_skip(), Kubelet(api_server.authority) as endpoint:
        yield endpoint


@pytest.fixture
async def api(api_server: KubeApiServer | ExternalApiServer) -> AsyncIterator[KubeApi]:
    """The API as its administrator."""
    async with KubeApi(api_server.kubeconfig) as admin:
        yield admin


@pytest.fixture
async def cluster(api: KubeApi, kubelet: Kubelet) -> AsyncIterator[FalcoCluster]:
    """An empty Falco installation for one test: a namespace and a node."""
    async with FalcoCluster(api, kubelet) as installation:
        yield installation


@pytest.fixture
def private_api_server() -> Iterator[KubeApiServer]:
    """An API server for one test, which may stop, kill and freeze it (about 4 s)."""
    with parts_or_skip(), KubeApiServer() as server:
        yield server


@pytest.fixture
async def private_cluster(private_api_server: KubeApiServer) -> AsyncIterator[FalcoCluster]:
    """A Falco installation on that API server, with a kubelet that the test may kill, too."""
    with parts_or_skip(), Kubelet(private_api_server.authority) as kubelet:
        async with (
            KubeApi(private_api_server.kubeconfig) as admin,
            FalcoCluster(admin, kubelet) as installation,
        ):
            yield installation


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """A store with stand-ins for the base images (1 to 2 min the first time, then 15 s)."""
    with parts_or_skip(), Images() as store:
        yield store


@pytest.fixture(scope="session")
def image(images: Images) -> Image:
    """The image, built from the Dockerfile (about 25 s)."""
    return images.build("falco-streamer", RUNTIME="localhost/runtime", REVISION="0123abc")
