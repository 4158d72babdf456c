"""Settings: the static fields of records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from streamer.config.faults import Fault, FaultsError
from streamer.config.section import Matching
from streamer.model import CORE_FIELDS

_MOST_FIELDS: Final = 20
_LONGEST_VALUE: Final = 256


def _readable(text: str) -> str:
    # Headers are shown in terminals and in logs: no control characters, and no invisible ones.
    if not text.isprintable() or text != text.strip() or not 0 < len(text) <= _LONGEST_VALUE:
        reason = f"expected 1 to {_LONGEST_VALUE} printable characters, without a space at either end"
        raise FaultsError([Fault((), reason)])
    return text


def _apart(name: str) -> str:
    if name in CORE_FIELDS or name.startswith("ce_"):
        raise FaultsError([Fault((), f"`{name}` is a field of the records already; choose another name")])
    return name


def _few(fields: Mapping[str, str]) -> Mapping[str, str]:
    if len(fields) > _MOST_FIELDS:
        raise FaultsError([Fault((), f"expected at most {_MOST_FIELDS} fields, got {len(fields)}")])
    return fields


_Name = Annotated[
    str,
    Matching(r"[a-z][a-z0-9_]{0,62}", "a name of 1 to 63 characters: a-z, 0-9 and `_`, a letter first"),
    AfterValidator(_apart),
]
_Value = Annotated[str, Field(json_schema_extra={"maxLength": _LONGEST_VALUE}), AfterValidator(_readable)]
RecordFields = Annotated[
    Mapping[_Name, _Value],
    BeforeValidator(lambda given: {} if given is None else given),
    AfterValidator(_few),
    PlainSerializer(dict),
]
