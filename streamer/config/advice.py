"""What a valid configuration may still get wrong: matchers on fields that no Falco source has, expired filters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from streamer.config.error_messages import suggestion
from streamer.config.falco_fields import FIELDS, OPEN_PREFIXES, WITH_ARGUMENT
from streamer.config.settings import Settings
from streamer.model import Finding, Verdict
from streamer.transform.matcher import Matcher

_ARGUMENT: Final = re.compile(r"\[[^\]]*\]")
_TRANSFORMER: Final = re.compile(r"\w+\((.*)\)")


def advice(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Warnings on filters and routes; `now` is by the wall clock."""
    configured = {
        name
        for fields in (settings.dedupe.group_fields, settings.dedupe.variant_fields)
        for names in fields.values()
        for name in names
    }
    for key, texts in (
        *((f"filters.{at}.match", rule.match) for at, rule in enumerate(settings.filters)),
        *((f"routes.{at}.match", route.match) for at, route in enumerate(settings.routes)),
    ):
        for text in texts:
            if (why := unknown_field(Matcher.parse(text), configured)) is not None:
                yield Finding("filters", Verdict.WARNING, f"`{key}`: {why}", HOW_TO_QUOTE)
    for at, rule in enumerate(settings.filters):
        if rule.expires is not None and rule.expires <= now:
            text = f"`filters.{at}` has expired ({rule.reason}): it matches nothing any more"
            yield Finding("filters", Verdict.WARNING, text, "remove the filter, or give it another `expires`")


HOW_TO_QUOTE: Final = (
    "correct the name; a field of a plugin of your own is written in quotes, or named in dedupe.group_fields"
)


def unknown_field(matcher: Matcher, configured: Collection[str] = ()) -> str | None:
    """Why a matcher's field looks misspelt; None if it does not. `configured` are fields that the settings name."""
    name = matcher.name
    if matcher.quoted or not matcher.is_field or name in configured or _is_known(name):
        return None
    return f"no known source of Falco's has a field `{name}`{suggestion(_bare(name), FIELDS, '; ')}"


def _is_known(name: str) -> bool:
    bare = _bare(name)
    return (
        bare in FIELDS
        or bare.startswith(OPEN_PREFIXES)
        or any(bare.startswith(f"{field}.") for field in WITH_ARGUMENT)
    )


def _bare(name: str) -> str:
    """A field without arguments and transformers: `toupper(proc.aname[2])` is `proc.aname`."""
    while (transformed := _TRANSFORMER.fullmatch(name)) is not None:
        name = transformed[1]
    return _ARGUMENT.sub("", name)
