"""What all sections of the settings share: strictness, and the kinds of values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from streamer.config.faults import Fault, FaultsError


class Section(BaseModel):
    """A mapping of the configuration: frozen, and without room for a key that nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_nothing_as_defaults(cls, given: Any) -> Any:
        # `kafka:` with every line below it commented out is YAML for null.
        return {} if given is None else given


@dataclass(frozen=True, slots=True)
class Matching:
    """Text must match `pattern` as a whole; `words` say what that means."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise FaultsError([Fault((), f"expected {self.words}")])
        return text


def _no_boolean(given: Any) -> Any:
    # Python counts True as 1; nobody who writes `shards: true` means one shard.
    if isinstance(given, bool):
        raise PydanticCustomError("int_type", "a number is expected")
    return given


def _only_true_and_false(given: Any) -> Any:
    # YAML 1.2's words. Those of YAML 1.1 (yes, no, on, off) and 0 and 1 are refused, not guessed at.
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return given.lower() == "true"
    raise PydanticCustomError("bool_type", "true or false is expected")


def _one_is_a_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _commas_make_a_list(given: Any) -> Any:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


@dataclass(frozen=True, slots=True)
class _FromText:
    """A list that may be given as text; the JSON Schema has both."""

    convert: Callable[[Any], Any]
    item: bool
    """Whether the text is one item, and so has an item's constraints."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.convert, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        items = handler(schema)
        return {"anyOf": [items, items["items"] if self.item else {"type": "string"}]}


def _not_empty(items: tuple[Any, ...]) -> tuple[Any, ...]:
    # pydantic's own min_length counts the valid items only, and so would tell of one fault as of two.
    if not items:
        raise FaultsError([Fault((), "expected at least one entry")])
    return items


def _named(path: Path) -> Path:
    if path in {Path(), Path("/")}:
        raise FaultsError([Fault((), "expected the path of a file")])
    # No shell does it: `--set a.b=~/c` and YAML leave the tilde as it is.
    return Path(os.path.expanduser(path))  # pathlib raises where there is no home


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Flag = Annotated[bool, BeforeValidator(_only_true_and_false)]
FilePath = Annotated[Path, AfterValidator(_named)]
Text = Annotated[str, Matching(r"[\s\S]*\S[\s\S]*", "text that is not empty")]
NotEmpty = AfterValidator(_not_empty)
TakesOne = _FromText(_one_is_a_list, item=True)
TakesCommas = _FromText(_commas_make_a_list, item=False)
Names = Annotated[tuple[Text, ...], TakesOne]
SourceName = Annotated[str, Matching(r"[A-Za-z0-9_-]+", "the name of one of Falco's event sources")]
FieldsBySource = Annotated[
    Mapping[SourceName, Names],
    BeforeValidator(lambda given: {} if given is None else given),
    PlainSerializer(dict),
]
