"""Settings: the Kafka cluster, and how we write to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamer.config.section import Matching, Number, Section, TakesCommas, Whole
from streamer.config.security import Security

_PORT = r":(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"

Server = Annotated[
    str,
    Matching(
        rf"([A-Za-z0-9_-]{{1,63}}(\.[A-Za-z0-9_-]{{1,63}})*\.?|\[[0-9A-Fa-f:.]+\]){_PORT}",
        "a broker's address such as `kafka:9092` or `[::1]:9092`, without `ssl://` or another protocol before it",
    ),
]
ClientId = Annotated[str, Matching(r"[A-Za-z0-9._-]{1,200}", "1 to 200 of A-Z, a-z, 0-9, `.`, `_` and `-`")]
InstanceId = Annotated[
    str, Matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "1 to 249 of A-Z, a-z, 0-9, `.`, `_` and `-`")
]


class Commit(Section):
    """When what was read is committed to Kafka; whichever comes first."""

    interval_seconds: Number = Field(
        default=0.05,
        ge=0,
        le=10,
        description="Commit when this many seconds have passed since the first line not yet committed: the "
        "larger part of the delay to the consumer.",
    )
    quiet_interval_seconds: Number = Field(
        default=0.25,
        ge=0,
        le=10,
        description="While fewer than 8 lines wait in a shard, commit about every so many seconds only, all shards "
        "together: a transaction costs the worker and the brokers as much for one line as for a hundred. An alert "
        "after a silence does not wait for it. Less than interval_seconds has no effect.",
    )
    max_lines: Whole = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Commit earlier when this many lines wait in a shard; bounds memory.",
    )
    max_bytes: Whole = Field(
        default=4_194_304,
        ge=4_096,
        le=268_435_456,
        description="Commit earlier when lines of this many bytes wait in a shard; bounds memory.",
    )


class Kafka(Section):
    """The Kafka cluster that takes the alerts."""

    bootstrap_servers: Annotated[tuple[Server, ...], TakesCommas] = Field(
        default=(),
        examples=[["kafka:9092"]],
        description="Required. Addresses, as host:port, of one broker or more; the others are found through them.",
    )
    client_id: ClientId = Field(
        default="falco-streamer", description="The name under which brokers log, meter and quota this client."
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once",
        description="exactly_once writes in transactions; at_least_once is for brokers or ACLs that forbid them: "
        "nothing is lost, but a fault may repeat records (with the same ce_id).",
    )
    shards: Whole = Field(
        default=8,
        ge=1,
        le=1_024,
        description="Into how many shards the pods are divided: the partitions of the state topic, and the most "
        "workers that can share the load. Once the state topic exists, `falco-streamer state reshard` "
        "changes it.",
    )
    group_instance_id: InstanceId | None = Field(
        default=None,
        examples=["falco-streamer-0"],
        description="A name in the group of workers that is this worker's alone and stays over restarts, such as its "
        "pod's: started again within 10 s of a crash, it has its shards back at once. Null: a crash costs 10 s. No "
        "two workers may share one.",
    )
    compression: Literal["zstd", "none", "gzip", "snappy", "lz4"] = Field(
        default="zstd", description="How batches of records are compressed."
    )
    commit: Commit = Field(default=Commit(), description="When a shard commits what it has read.")
    security: Security = Field(
        default=Security(), description="Encryption and authentication of the connection to the brokers."
    )
