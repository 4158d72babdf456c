"""What keeps a worker from Kafka, or Kafka from taking records: brokers and topics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from streamer.config import Settings
from tests.testbed.planted import Setup, Table
from tests.testbed.planted.servers import html_page, silent, slamming
from tests.testbed.proxy import BlackHole
from tests.testbed.topics import create_topic

KAFKA = Table()


@KAFKA.fault("cannot listen at http.port ")
async def a_port_that_is_taken(setup: Setup) -> None:
    setup.part("http")["port"] = await html_page(setup.stack)


@KAFKA.fault("cannot reach 127.0.0.1:1: connection refused")
async def nobody_listens(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = ["127.0.0.1:1"]


@KAFKA.fault("cannot reach kafka.invalid:9092: the name is not known")
async def a_name_that_nobody_knows(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = ["kafka.invalid:9092"]


@KAFKA.fault("no answer")
async def connections_that_are_never_answered(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = [f"127.0.0.1:{setup.stack.enter_context(silent())}"]


@KAFKA.fault("no answer")
async def packets_that_are_dropped(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = [f"127.0.0.1:{setup.stack.enter_context(BlackHole()).port}"]


@KAFKA.fault("no answer")
async def three_brokers_whose_packets_are_dropped(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = [
        f"127.0.0.1:{setup.stack.enter_context(BlackHole()).port}" for _ in range(3)
    ]


@KAFKA.fault("it closed the connection, which was opened as plaintext")
async def connections_that_are_closed_at_once(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = [f"127.0.0.1:{await slamming(setup.stack)}"]


@KAFKA.fault("it closed the connection, which was opened as plaintext")
async def a_web_server(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = [f"127.0.0.1:{await html_page(setup.stack)}"]


@KAFKA.fault("it closed the connection, which was opened as ssl")
async def tls_to_a_plain_port(setup: Setup) -> None:
    setup.kafka["security"] = {"protocol": "ssl"}


@KAFKA.fault("its listener takes no passwords")
async def a_password_where_none_is_asked_for(setup: Setup) -> None:
    sasl = {"username": "u", "password": "p"}
    setup.kafka["security"] = {"protocol": "sasl_plaintext", "sasl": sasl}


@KAFKA.fault("missing topics: ")
async def no_topics(setup: Setup) -> None:
    setup.own_topics()
    setup.topics["create"] = False


@KAFKA.fault("missing topics: ")
async def one_topic_is_missing(setup: Setup) -> None:
    settings = await topics_of(setup, leave_out="health")
    setup.topics["create"] = False
    assert settings.topic_names.health.startswith(setup.name)


@KAFKA.fault("replication factor", run="Kafka refuses to create the topics")
async def more_replicas_than_brokers(setup: Setup) -> None:
    setup.own_topics()
    setup.topics["replication_factor"] = 3


@KAFKA.fault("has 2 partitions, but kafka.shards is 5")
async def another_number_of_shards(setup: Setup) -> None:
    await topics_of(setup)
    setup.kafka["shards"] = 5


async def _topic_with(kind: str, config: dict[str, str], setup: Setup) -> None:
    await topics_of(setup, configs={kind: config})


KAFKA.add(
    "a state topic that forgets",
    partial(_topic_with, "state", {"cleanup.policy": "delete"}),
    "has cleanup.policy=delete, which would forget read positions",
)
KAFKA.add(
    "topics that keep one record of each pod",
    partial(_topic_with, "alerts", {"cleanup.policy": "compact"}),
    "has cleanup.policy=compact, which keeps but one record of each pod",
)
KAFKA.add(
    "topics that want more replicas than there are",
    partial(_topic_with, "alerts", {"min.insync.replicas": "2"}),
    "min.insync.replicas is 2: it takes no record",
)
KAFKA.add(
    "a state topic that wants more replicas than there are",
    partial(_topic_with, "state", {"min.insync.replicas": "2"}),
    "min.insync.replicas is 2: it takes no record",
)
KAFKA.add(
    "topics that take no alert for its size",
    partial(_topic_with, "alerts", {"max.message.bytes": "200"}),
    "max.message.bytes is 200, so that longer alerts become dead letters",
    run="longer alerts become dead letters",
)


async def topics_of(
    setup: Setup, *, leave_out: str = "", configs: Mapping[str, Mapping[str, str]] | None = None
) -> Settings:
    """Make its own topics as they should be, but for some settings by their kind."""
    setup.own_topics()
    settings = setup.write()
    for spec in settings.topic_specs:
        if spec.kind != leave_out:
            config = {**spec.config, **(configs or {}).get(spec.kind, {})}
            await create_topic(
                setup.servers.kafka.bootstrap, spec.name, partitions=max(1, spec.partitions), config=config
            )
    return settings
