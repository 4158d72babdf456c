"""Settings: the topics, and how they are made where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from streamer.config.faults import Fault, FaultsError
from streamer.config.section import Flag, Matching, Section, Whole

TopicClass = Literal["alerts", "summaries", "overflow", "dead_letter", "health", "state"]

TopicTemplate = Annotated[
    str,
    Matching(
        r"([A-Za-z0-9._-]|<prefix>|<cluster>)+",
        "a topic's name: A-Z, a-z, 0-9, `.`, `_`, `-`, and the places `<prefix>` and `<cluster>`",
    ),
]
PriorityTemplate = Annotated[
    str,
    Matching(
        r"([A-Za-z0-9._-]|<prefix>|<cluster>|<priority>)+",
        "a topic's name: A-Z, a-z, 0-9, `.`, `_`, `-`, and the places `<prefix>`, `<cluster>` and `<priority>`",
    ),
]
Prefix = Annotated[str, Matching(r"[A-Za-z0-9._-]{1,200}", "1 to 200 of A-Z, a-z, 0-9, `.`, `_` and `-`")]
_ConfigName = Annotated[str, Matching(r"[a-z]+(\.[a-z]+)*", "the name of a topic's setting")]
# Numbers and booleans need no quotes in a file: values are text there anyway.
_ConfigValue = Annotated[str | None, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
TopicConfig = Annotated[
    Mapping[_ConfigName, _ConfigValue],
    BeforeValidator(lambda given: {} if given is None else given),
    PlainSerializer(dict),
]

_WEEK: Final = {"cleanup.policy": "delete", "retention.ms": "604800000"}
OPTIONAL_SETTINGS: Final = {
    "segment.bytes": "33554432",
    "segment.ms": "3600000",
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": "86400000",
}
"""Of the state topic: they keep it small, so that it loads fast. Managed services refuse some of them."""
_COMPACT: Final = {"cleanup.policy": "compact", **OPTIONAL_SETTINGS}
_DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "alerts": _WEEK,
    "summaries": _WEEK,
    "overflow": _WEEK,
    "dead_letter": _WEEK,
    "health": _WEEK,
    "state": _COMPACT,
}


_BY_PRIORITY: Final = "<prefix>.alerts.<priority>"


class AlertTopics(Section):
    """The topic of each priority; several may share one. Text in place of the keys is a pattern for all of them."""

    emergency: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Emergency.")
    alert: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Alert.")
    critical: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Critical.")
    error: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Error.")
    warning: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Warning.")
    notice: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Notice.")
    informational: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Informational.")
    debug: PriorityTemplate = Field(default=_BY_PRIORITY, description="For Debug.")

    @model_validator(mode="before")
    @classmethod
    def _take_one_pattern(cls, given: Any) -> Any:
        if isinstance(given, str):
            _PATTERN.validate_python(given)  # here, so that a fault in it is one error and not eight
            return dict.fromkeys(cls.model_fields, given)
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        pattern = {"description": "One pattern for all priorities.", **_PATTERN.json_schema()}
        return {"anyOf": [pattern, handler(schema)]}


_PATTERN: Final[TypeAdapter[str]] = TypeAdapter(PriorityTemplate)


class TopicConfigs(Section):
    """Kafka's own settings for topics that are made here, over the defaults shown; null takes one away."""

    alerts: TopicConfig = Field(
        default=_DEFAULTS["alerts"],
        description="For the topics of the priorities and of the routes.",
    )
    summaries: TopicConfig = Field(default=_DEFAULTS["summaries"], description="For the summaries topic.")
    overflow: TopicConfig = Field(default=_DEFAULTS["overflow"], description="For the overflow topic.")
    dead_letter: TopicConfig = Field(
        default=_DEFAULTS["dead_letter"], description="For the dead-letter topic."
    )
    health: TopicConfig = Field(default=_DEFAULTS["health"], description="For the health topic.")
    state: TopicConfig = Field(
        default=_DEFAULTS["state"],
        description="For the state topic: compacted, in small segments, so that it loads in moments.",
    )

    @field_validator("*")
    @classmethod
    def _lay_over_defaults(cls, given: Mapping[str, str | None], info: ValidationInfo) -> Mapping[str, str]:
        merged = {**_DEFAULTS[str(info.field_name)], **given}
        return {name: value for name, value in merged.items() if value is not None}

    @field_validator("state")
    @classmethod
    def _stays_compacted(cls, config: Mapping[str, str]) -> Mapping[str, str]:
        if config.get("cleanup.policy") != "compact":
            reason = "the state topic must be compacted: with any other policy Kafka would delete positions"
            raise FaultsError([Fault(("cleanup.policy",), reason)])
        return config


class Topics(Section):
    """The topics that are written. In their names, `<prefix>` and `<cluster>` stand for those settings."""

    prefix: Prefix = Field(default="falco", description="What `<prefix>` stands for in the names below.")
    create: Flag = Field(
        default=False, description="Whether missing topics are made at start; if not, they are an error."
    )
    partitions: Whole = Field(
        default=-1,
        ge=-1,
        le=100_000,
        description="Partitions of topics made here, but for the state topic, which has kafka.shards. -1: the "
        "broker's default.",
    )
    replication_factor: Whole = Field(
        default=-1, ge=-1, le=32_767, description="Replicas of topics made here. -1: the broker's default."
    )
    alerts: AlertTopics = Field(
        default=AlertTopics(),
        description="The topic of each priority: a mapping as here, or text, which is one pattern for all. "
        "`<priority>` stands for the priority in lower case.",
    )
    summaries: TopicTemplate = Field(
        default="<prefix>.summaries", description="The topic for summaries of what deduplication counted."
    )
    overflow: TopicTemplate = Field(
        default="<prefix>.overflow", description="The topic for alerts that a limit diverted."
    )
    dead_letter: TopicTemplate = Field(
        default="<prefix>.dead-letter", description="The topic for lines that are not valid alerts."
    )
    health: TopicTemplate = Field(
        default="<prefix>.health",
        description="The topic for what is to be known about the stream itself: gaps, limits, coverage.",
    )
    state: TopicTemplate = Field(
        default="falco-streamer.<cluster>.state",
        description="The internal topic that holds the read positions; must be this cluster's alone.",
    )
    config: TopicConfigs = Field(
        default=TopicConfigs(),
        description="Kafka's own settings for topics made here, by the topic's class, laid over the defaults shown; "
        "null takes a default away. They have no effect on topics that exist.",
    )

    @field_validator("partitions", "replication_factor")
    @classmethod
    def _no_zero(cls, count: int) -> int:
        if count == 0:
            raise FaultsError([Fault((), "expected at least 1, or -1 for the broker's default, got 0")])
        return count
