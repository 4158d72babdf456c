"""Settings: which alerts are dropped because somebody said so."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from streamer.config.faults import Fault, FaultsError
from streamer.config.section import NotEmpty, Section, TakesOne, Text
from streamer.transform.filter import Matcher, MatcherError

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


def _readable(text: str) -> str:
    try:
        Matcher.parse(text)
    except MatcherError as error:
        raise FaultsError([Fault((), str(error))]) from error
    return text


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


MatcherText = Annotated[str, AfterValidator(_readable)]
Moment = Annotated[datetime, BeforeValidator(_with_zone)]


class FilterRule(Section):
    """A filter: drops or keeps the alerts that all its matchers match."""

    action: Literal["drop", "keep"] = Field(
        description="drop: counted as filtered, not published. keep: no later filter drops it."
    )
    match: Annotated[tuple[MatcherText, ...], TakesOne, NotEmpty] = Field(
        json_schema_extra={"minItems": 1},
        description="Matchers, all of which must match: a name (rule, priority, source, hostname, tags or a key of "
        "output_fields), one of =, !=, =~ and !~, and a value in double quotes. Regular expressions match whole "
        "values.",
    )
    reason: Text = Field(description="Required. Why, for whoever reads this next year.")
    expires: Moment | None = Field(
        default=None,
        description="The filter does not match alerts from this time on, by the time of their lines. Null: it does "
        "not expire.",
    )
