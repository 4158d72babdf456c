"""The models written out: the reference file with every key, and the JSON Schema for editors."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from streamer.config.outline import Shape, shape, unwrapped
from streamer.config.section import Section
from streamer.config.settings import Settings

_WIDTH: Final = 100
_PLAIN: Final = re.compile(r"[A-Za-z_<][A-Za-z0-9_.<>/-]*")
_WORDS_OF_YAML: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_BOUNDS: Final = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
"""pydantic's own names, which it leaves in the JSON Schema of a value that a function converts first."""
_HEAD: Final = """\
# yaml-language-server: $schema=streamer.schema.json
#
# Every setting with its default. Generated from the models (python -m tools.settings_docs reference);
# a test holds the two equal. A file of your own needs only what differs, see examples/.
#
# Each key can also be given as a flag (--set kafka.shards=16) or as a variable
# (FALCO_STREAMER__KAFKA__SHARDS=16): flags win over variables, variables over the file. In values,
# ${VAR} and ${VAR:-default} stand for variables of the environment, $${ for a plain ${.
"""


def reference() -> str:
    """The text of config/streamer.yaml. Keys that are required have an example for a value."""
    return _HEAD + "\n".join(_section(Settings, {}, 0)) + "\n"


def schema() -> str:
    """The text of config/streamer.schema.json."""
    generated = _as_loaded(Settings.model_json_schema())
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "falco-streamer's configuration",
    }
    return json.dumps({**generated, **head}, indent=2, ensure_ascii=False) + "\n"


def _section(model: type[Section], given: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if depth == 0:
            yield ""
        yield from _comment(words(field), depth)
        kind = shape(field.annotation)
        if kind is Shape.SECTION:
            yield _indented(f"{name}:", depth)
            yield from _section(unwrapped(field.annotation), given.get(name, {}), depth + 1)
        elif kind is Shape.MAPPING:
            yield _indented(f"{name}:", depth)
            # The loader takes all values here as text, so that numbers need no quotes.
            yield from (_indented(f"{key}: {value}", depth + 1) for key, value in field.default.items())
        elif kind is Shape.LISTS:
            yield _indented(f"{name}:", depth)
            for key, value in field.default.items():
                yield from _value_lines(key, value, depth + 1)
        elif kind is Shape.LIST and shape(item := get_args(unwrapped(field.annotation))[0]) is Shape.SECTION:
            yield _indented(f"{name}: []", depth)
            yield from _items(item, field.examples or [], depth)
        else:
            required = "Required." in (field.description or "")
            default = field.examples[0] if required and field.examples else field.default
            yield from _value_lines(name, given.get(name, default), depth)


def _items(model: type[Section], examples: list[Any], depth: int) -> Iterator[str]:
    """An example of the list's items, as a comment that works once it is uncommented."""
    for item in examples[0] if examples else ():
        dash = _indented("- ", depth)
        for line in _section(model, item, depth + 2):
            first, dash = (dash, "") if dash and not line.lstrip().startswith("#") else ("", dash)
            yield f"# {first}{line.strip()}" if first else f"# {line[2:]}"


def words(field: FieldInfo) -> str:
    """What a key means, with its choices or bounds."""
    words = field.description or ""
    annotation = unwrapped(field.annotation)
    if get_origin(annotation) is Literal:
        words += f" One of: {', '.join(get_args(annotation))}."
    bounds = [*field.metadata, *(part for each in field.metadata for part in getattr(each, "metadata", ()))]
    low = next((bound for bound in bounds if isinstance(bound, Ge | Gt)), None)
    high = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    if low is not None and high is not None:
        words += f" From {low.ge} to {high}." if isinstance(low, Ge) else f" Above {low.gt}, up to {high}."
    return words


def _comment(words: str, depth: int) -> list[str]:
    lines = textwrap.wrap(words, _WIDTH - 2 * depth - 2, break_on_hyphens=False, break_long_words=False)
    return [_indented(f"# {line}", depth) for line in lines]


def _indented(text: str, depth: int) -> str:
    return "  " * depth + text


def _value_lines(name: str, given: Any, depth: int) -> list[str]:
    line = _indented(f"{name}: {value(given)}", depth)
    if len(line) <= _WIDTH or not isinstance(given, tuple | list):
        return [line]
    items = ", ".join(map(_quoted, given))
    wrapped = textwrap.wrap(items, _WIDTH - 2 * depth - 2, break_on_hyphens=False, break_long_words=False)
    return [
        _indented(f"{name}: [", depth),
        *(_indented(part, depth + 1) for part in wrapped),
        _indented("]", depth + 1),
    ]


def value(given: Any) -> str:
    """A value as YAML, on one line."""
    if isinstance(given, tuple | list):
        return f"[{', '.join(map(_quoted, given))}]"
    if isinstance(given, str) and _PLAIN.fullmatch(given) and given.lower() not in _WORDS_OF_YAML:
        return given
    return json.dumps(given, ensure_ascii=False)


def _quoted(item: Any) -> str:
    if isinstance(item, str) and '"' in item and "'" not in item and item.isprintable():
        return f"'{item}'"
    return json.dumps(item, ensure_ascii=False)


def _as_loaded(schema: Any) -> Any:
    """The schema of what the loader accepts.

    That is `${VAR}` wherever the text of a value is constrained, and null for a mapping whose keys are all comments.
    """
    if isinstance(schema, list):
        return [_as_loaded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {
        _BOUNDS.get(key, key) if isinstance(each, int | float) else key: each for key, each in schema.items()
    }
    if schema.get("type") == "object":
        schema["type"] = ["object", "null"]
    constraints = {"enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum"}
    if schema.get("type") in ("integer", "number", "boolean") or constraints & schema.keys():
        about = {key: schema[key] for key in ("title", "description", "default", "examples") if key in schema}
        value = {key: each for key, each in schema.items() if key not in about}
        return {**about, "anyOf": [value, {"type": "string", "pattern": r"\$\{"}]}
    return {key: _as_loaded(each) for key, each in schema.items()}
