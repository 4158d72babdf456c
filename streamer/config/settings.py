"""The settings as a whole, and the smaller sections."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from streamer.config.dedupe import Dedupe
from streamer.config.faults import FaultsError
from streamer.config.filters import MIN_PRIORITY, FilterRule, unique_names
from streamer.config.kafka import Kafka
from streamer.config.kubernetes import Kubernetes
from streamer.config.limits import Limits, PriorityName
from streamer.config.matchers import WHAT_MATCHERS_ARE, Matchers
from streamer.config.naming import TopicNames, TopicSpec
from streamer.config.record_fields import RecordFields
from streamer.config.section import Flag, Matching, Number, Section, Text, Whole
from streamer.config.topics import Topics, TopicTemplate

ClusterName = Annotated[
    str,
    Matching(
        r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?",
        "1 to 63 of a-z, 0-9, `.` and `-`, a letter or digit at each end",
    ),
]


Url = Annotated[
    str, Matching(r"https?://[^\s\"<>]{1,1000}", "an address that begins with http:// or https://")
]


class Records(Section):
    """The shape of the Kafka records."""

    fields: RecordFields = Field(
        default={},
        examples=[{"environment": "production", "team": "platform"}],
        description="Static fields, such as `environment` or `team`: a header of each record. A name has 1 to 63 of "
        "a-z, 0-9 and `_`, begins with a letter, and is not one that records have anyway; a value has 1 to 256 "
        "printable characters.",
    )
    annotate: Flag = Field(
        default=False,
        description="Whether an object `falco_streamer` (id, cluster, node, kind, and `records.fields`) is added as "
        "the last key of each alert and summary, for consumers that cannot read headers. The alert's own bytes stay "
        "as they are.",
    )


class Route(Section):
    """An exception to the topics by priority."""

    match: Matchers = Field(json_schema_extra={"minItems": 1}, description=WHAT_MATCHERS_ARE)
    topic: TopicTemplate = Field(
        description="The topic for these alerts; `<prefix>` and `<cluster>` stand for those settings."
    )


class DeadLetters(Section):
    """How many dead letters are published, for each target and reason; the rest is counted in a health record."""

    rate_per_minute: Number = Field(
        default=60,
        gt=0,
        le=1_000_000,
        description="How many are published per minute in the long run, for each target and reason: one a second "
        "keeps all that a Falco in text mode says in calm times, and its storms off the topic.",
    )
    burst: Whole = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="How many are published at once before the rate takes hold.",
    )


class Health(Section):
    """What is reported on the health topic, besides gaps, storms and Falco's own reports."""

    coverage_seconds: Number | None = Field(
        default=300,
        ge=1,
        le=86_400,
        description="How often each target's coverage is reported: whether its alerts would arrive (following, silent, "
        "text or blind). Each change is reported at once. Null: never.",
    )


class Http(Section):
    """The server for health, metrics, the ledger and the status page."""

    host: Text | None = Field(default=None, description="The address to listen at. Null: all interfaces.")
    port: Whole = Field(default=8080, ge=0, le=65_535, description="The port to listen at. 0: any free one.")
    view_url: Url | None = Field(
        default=None,
        examples=["https://alerts.example.com/"],
        description="Where `falco-streamer view` is served: the status page links to it.",
    )


class Log(Section):
    """What the worker says about itself, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe messages that are written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="One JSON object a line, or text for people. auto: by whether it is a terminal.",
    )


class Shutdown(Section):
    """How the worker leaves after SIGTERM."""

    grace_seconds: Number = Field(
        default=25,
        gt=0,
        le=3_600,
        description="How many seconds there are to drain and commit before the worker gives up; keep it below the "
        "pod's terminationGracePeriodSeconds (30).",
    )


class Settings(Section):
    """Everything that can be set."""

    cluster: ClusterName = Field(
        default="local",
        examples=["prod-eu-1"],
        description="Required. The Kubernetes cluster's name: it stands in headers, in the state topic's name and "
        "in the consumer group's, and distinguishes clusters that share one Kafka.",
    )
    kubernetes: Kubernetes = Field(
        default=Kubernetes(), description="The API server, and which pods' logs are followed."
    )
    kafka: Kafka = Field(default=Kafka(), description="The Kafka cluster that takes the alerts.")
    topics: Topics = Field(
        default=Topics(),
        description="The topics that are written. In their names, `<prefix>` and `<cluster>` stand for those settings.",
    )
    records: Records = Field(default=Records(), description="The shape of the Kafka records.")
    dead_letters: DeadLetters = Field(
        default=DeadLetters(),
        description="How many dead letters are published, for each target and reason; the rest is counted in a "
        "health record.",
    )
    min_priority: PriorityName = Field(
        default="debug",
        description="The least urgent priority that is wanted. Less urgent alerts are filtered, by the name "
        "`min_priority`, unless a filter keeps them; Falco's own reports always pass. debug: every alert is wanted.",
    )
    filters: Annotated[tuple[FilterRule, ...], AfterValidator(unique_names)] = Field(
        default=(),
        examples=[
            [
                {
                    "action": "drop",
                    "match": ['rule = "Terminal shell in container"', 'k8s.ns.name =~ "dev-.*"'],
                    "reason": "developers work in their own namespaces",
                    "expires": "2027-01-31T00:00:00Z",
                }
            ]
        ],
        description="Which alerts are not wanted. The first filter that matches an alert decides; where none does, it "
        "is kept. Falco's own reports are dropped by nothing but a filter that names their rule.",
    )
    dedupe: Dedupe = Field(default=Dedupe(), description="What passes once and is counted then.")
    limits: Limits = Field(
        default=Limits(),
        description="What passes only so often; what is more goes to the overflow topic, whole.",
    )
    health: Health = Field(
        default=Health(),
        description="What is reported on the health topic, besides gaps, storms and Falco's own reports.",
    )
    http: Http = Field(
        default=Http(), description="The server for health, metrics, the ledger and the status page."
    )
    log: Log = Field(default=Log(), description="What the worker says about itself, on stderr.")
    shutdown: Shutdown = Field(default=Shutdown(), description="How the worker leaves after SIGTERM.")
    routes: tuple[Route, ...] = Field(
        default=(),
        examples=[
            [{"match": ['rule =~ "Terminal shell.*"', 'tags = "container"'], "topic": "<prefix>.shells"}]
        ],
        description="Exceptions to the topics by priority; the first route that matches an alert has it. No alert "
        "can name a topic by itself.",
    )

    @field_validator("routes")
    @classmethod
    def _legal_topics(cls, routes: tuple[Route, ...], info: ValidationInfo) -> tuple[Route, ...]:
        # At the last field, so that clashes are reported along with the other faults of this level.
        topics, cluster = (info.data.get(name) for name in ("topics", "cluster"))
        if isinstance(topics, Topics) and isinstance(cluster, str):
            names = TopicNames(topics, cluster, [route.topic for route in routes])
            faults = names.faults(topics)
            if faults:
                raise FaultsError([fault._replace(at=("..", *fault.at)) for fault in faults])
        return routes

    @property
    def every_filter(self) -> tuple[FilterRule, ...]:
        """All filters in their order; `min_priority` is the last one."""
        if self.min_priority == "debug":
            return self.filters
        rule = FilterRule(
            name=MIN_PRIORITY,
            action="drop",
            match=(f"priority < {self.min_priority}",),
            reason="less urgent than min_priority",
        )
        return (*self.filters, rule)

    @cached_property
    def topic_names(self) -> TopicNames:
        """Which topic is written for what, all places filled in."""
        return TopicNames(self.topics, self.cluster, [route.topic for route in self.routes])

    @cached_property
    def topic_specs(self) -> tuple[TopicSpec, ...]:
        """Every topic that can be written, as it is to be made where it is missing."""
        return self.topic_names.specs(self.topics, self.kafka.shards)
