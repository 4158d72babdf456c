"""Settings: lists of matchers, which filters and routes share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

from streamer.config.faults import Fault, FaultsError
from streamer.config.section import NotEmpty, TakesOne
from streamer.transform.matcher import Matcher
from streamer.transform.matcher_syntax import MatcherError

WHAT_MATCHERS_ARE: Final = (
    "Matchers, all of which must match: a name (rule, priority, source, hostname, tags or a key of output_fields), one "
    "of =, !=, =~ and !~, for priority also >=, <=, > and <, and a value in double quotes. Regular expressions match "
    "whole values. An absent field matches nothing, unless `or absent` follows."
)


def _readable(text: str) -> str:
    try:
        Matcher.parse(text)
    except MatcherError as error:
        raise FaultsError([Fault((), str(error), part=(error.start, error.end))]) from error
    return text


MatcherText = Annotated[str, AfterValidator(_readable)]
Matchers = Annotated[tuple[MatcherText, ...], TakesOne, NotEmpty]
