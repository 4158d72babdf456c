"""Settings: which alerts are dropped because somebody said so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from streamer.config.faults import USELESS, Fault, FaultsError
from streamer.config.matchers import WHAT_MATCHERS_ARE, Matchers
from streamer.config.section import Matching, Number, Section, Text

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


def _with_zone(given: Any) -> Any:
    # pydantic alone would take bare numbers and times of no zone, which mean something else on each machine.
    if not isinstance(given, str):
        return given
    if _MOMENT.fullmatch(given) is None:
        raise FaultsError([Fault((), "expected a time with its zone, such as 2027-01-31T00:00:00Z")])
    try:
        return datetime.fromisoformat(given)
    except ValueError as error:
        raise FaultsError([Fault((), f"expected a time that there is ({error})")]) from error


Moment = Annotated[datetime, BeforeValidator(_with_zone)]


class FilterRule(Section):
    """A filter: drops or keeps the alerts that all its matchers match."""

    name: Annotated[str, Matching(r"[\w.-]{1,63}", "1 to 63 letters, digits, `_`, `.` and `-`")] | None = (
        Field(
            default=None,
            description="What metrics, the log and the status page call it. Null: its place, such as `filters[2]`, "
            "which changes with the filters before it. The first is `filters[0]`.",
        )
    )
    action: Literal["drop", "keep"] = Field(
        description="drop: counted as filtered, not published. keep: no later filter drops it."
    )
    match: Matchers = Field(json_schema_extra={"minItems": 1}, description=WHAT_MATCHERS_ARE)
    reason: Text = Field(description="Required. Why the filter is there.")
    expires: Moment | None = Field(
        default=None,
        description="The filter does not match alerts from this time on, by the time of their lines. Null: it does "
        "not expire.",
    )
    max_share: Number | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The largest share of all alerts that the filter is meant to drop, such as 0.2. Above it, the "
        "alert FalcoStreamerFilterShare fires; the filter goes on. Null: no bound.",
    )

    @model_validator(mode="after")
    def _only_what_drops_has_a_share(self) -> FilterRule:
        if self.action == "keep" and self.max_share is not None:
            raise FaultsError([Fault(("max_share",), "only a filter that drops has one", USELESS)])
        return self


MIN_PRIORITY: Final = "min_priority"
"""The name of the filter that the setting of this name adds."""


def names_of(filters: Sequence[FilterRule]) -> tuple[str, ...]:
    """The filters' names: the given ones, else those of their places."""
    return tuple(rule.name or f"filters[{at}]" for at, rule in enumerate(filters))


def unique_names(filters: tuple[FilterRule, ...]) -> tuple[FilterRule, ...]:
    """Check that no name is given twice, or is `min_priority`; raises `FaultsError` with every fault."""
    first: dict[str, int] = {}
    faults = []
    for at, rule in enumerate(filters):
        if rule.name == MIN_PRIORITY:
            faults.append(Fault((at, "name"), "the setting `min_priority` is a filter of this name"))
        elif rule.name is not None and (before := first.setdefault(rule.name, at)) != at:
            faults.append(
                Fault((at, "name"), f"expected a name of its own: `filters.{before}` has the same one")
            )
    if faults:
        raise FaultsError(faults)
    return filters
