"""Settings: what passes once and is counted then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from streamer.config.alert_fields import GROUP_FIELDS, OTHER, VOLATILE_FIELDS
from streamer.config.faults import Fault, FaultsError
from streamer.config.section import (
    FieldsBySource,
    Flag,
    Names,
    NotEmpty,
    Number,
    Section,
    TakesCommas,
    Whole,
)

DEFAULT: Final = "<default>"

_VARIANT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {OTHER: ("*",)}

WindowSeconds = Annotated[Number, Field(gt=0, le=86_400)]
WindowLengths = Annotated[tuple[WindowSeconds, ...], TakesCommas, NotEmpty]


def _ascending(lengths: tuple[float, ...] | None) -> tuple[float, ...] | None:
    for at, (one, next_one) in enumerate(zip(lengths or (), (lengths or ())[1:], strict=False), start=1):
        if next_one <= one:
            raise FaultsError([Fault((at,), f"expected more than the {one:g} before it")])
    if lengths is not None and len(lengths) > 8:
        raise FaultsError([Fault((), f"expected at most 8 lengths, got {len(lengths)}")])
    return lengths


class DedupeOverride(Section):
    """What is different for some rules; the first override whose globs match a rule has it."""

    rules: Annotated[Names, NotEmpty] = Field(
        json_schema_extra={"minItems": 1},
        description="Globs over the rule's name, such as `Drop and execute*`.",
    )
    enabled: Flag | None = Field(
        default=None, description="Whether they are deduplicated. Null: as set above."
    )
    window_seconds: WindowLengths | None = Field(
        default=None, description="Their windows' lengths. Null: as set above."
    )
    max_variants: Annotated[Whole, Field(ge=0, le=100)] | None = Field(
        default=None, description="How many of their variants pass. Null: as set above."
    )
    group_fields: Names | None = Field(
        default=None,
        description="Their group's fields, given together with variant_fields. Null: as set above.",
    )
    variant_fields: Names | None = Field(
        default=None,
        description="Their variants' fields, given together with group_fields. Null: as set above.",
    )

    _window_seconds = field_validator("window_seconds")(_ascending)

    @model_validator(mode="after")
    def _fields_come_together(self) -> DedupeOverride:
        if (self.group_fields is None) != (self.variant_fields is None):
            reason = "`group_fields` and `variant_fields` decide together: give both"
            raise FaultsError(
                [Fault(("group_fields" if self.variant_fields is None else "variant_fields",), reason)]
            )
        return self


class Dedupe(Section):
    """What passes once and is counted then."""

    enabled: Flag = Field(
        default=True,
        description="Whether alerts are deduplicated. Falco's own reports (`Falco internal: …`) never are.",
    )
    window_seconds: WindowLengths = Field(
        default=(60, 300, 1800),
        json_schema_extra={"minItems": 1, "maxItems": 8},
        description="The lengths of a group's windows, ascending: a group that stays busy moves on to longer ones, so "
        "that constant noise makes two summaries an hour. The first one is also the time within which a variant that "
        "was not published is reported, however long the window is.",
    )
    max_variants: Whole = Field(
        default=10,
        ge=0,
        le=100,
        description="How many variants of a group are published in a window in addition to its first alert: ten are "
        "enough to see what is going on, and no flood. More are counted, and reported in a summary within the first of "
        "window_seconds. It does not bind limits.protected: of these, each variant is published.",
    )
    group_fields: FieldsBySource = Field(
        default=dict(GROUP_FIELDS),
        description="Which output_fields (globs) make a group, in addition to cluster, Falco pod, host, rule, "
        "priority and source, which always do: who did it, and where. By Falco's source, laid over the defaults "
        "shown; `other` is for sources without an entry.",
    )
    variant_fields: FieldsBySource = Field(
        default=dict(_VARIANT_FIELDS),
        description="Which output_fields (globs) tell the variants of a group apart: all of them, so that no harmless "
        "alert can stand for another one. By source, as group_fields.",
    )
    volatile_fields: Names = Field(
        default=VOLATILE_FIELDS,
        description="Fields (globs) that differ each time without meaning anything: they tell no variants apart, "
        "unless variant_fields has them by their full names. In a list given here, `<default>` stands for this one.",
    )
    normalisers: Annotated[
        tuple[Literal["client_port", "temporary_name", "process_id"], ...], TakesCommas
    ] = Field(
        default=("client_port", "temporary_name", "process_id"),
        description="What is taken out of values before they are compared: a client's port from 1024 on "
        "(`10.0.0.7:51234->…`), the random part of a temporary file's name (`/tmp/tmp.Ab12Cd`), the number in "
        "`/proc/4711/`.",
    )
    max_windows: Whole = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="How many windows are kept, in the whole cluster: about 300 bytes each, and 512 on average at "
        "most. Beyond, the one not used for longest is reported and forgotten.",
    )
    max_evidence_bytes: Whole = Field(
        default=67_108_864,
        ge=1,
        le=68_719_476_736,
        description="How much memory samples and variants' fields for summaries may take, in the whole cluster. "
        "Beyond, summaries are published early.",
    )
    overrides: tuple[DedupeOverride, ...] = Field(
        default=(),
        examples=[[{"rules": ["Drop and execute*"], "window_seconds": [60], "max_variants": 100}]],
        description="What is different for some rules; the first one that matches a rule has it.",
    )

    _window_seconds = field_validator("window_seconds")(_ascending)

    @field_validator("volatile_fields")
    @classmethod
    def _with_defaults(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        expanded = [part for name in given for part in (VOLATILE_FIELDS if name == DEFAULT else (name,))]
        return tuple(dict.fromkeys(expanded))

    @field_validator("group_fields")
    @classmethod
    def _over_group_fields(cls, given: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        return {**GROUP_FIELDS, **given}

    @field_validator("variant_fields")
    @classmethod
    def _over_variant_fields(cls, given: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        return {**_VARIANT_FIELDS, **given}
