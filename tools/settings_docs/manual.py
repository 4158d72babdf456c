"""The models written out for readers: docs/configuration.md, one table for each section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from streamer.config.difference import RELOADABLE
from streamer.config.outline import Shape, section_of, shape, unwrapped
from streamer.config.secret import HiddenText
from streamer.config.section import Section
from streamer.config.settings import Settings
from tools.settings_docs.reference import value, words

_TYPES: Final = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    HiddenText: "secret",
}
_HEAD: Final = """\
# Configuration

<!-- Generated from the models: python -m tools.settings_docs manual > docs/configuration.md -->

Every key with its type, its default and what it does; a test holds this page equal to the models. The same as a file
to start from is [streamer.yaml](../config/streamer.yaml); [examples](../config/examples) are minimal, secured, and for
several clusters. Only `cluster` and `kafka.bootstrap_servers` are required. Units stand in the names (`_seconds`,
`_bytes`). `falco-streamer check` reports all errors at once, each with file, line and column, and refuses what `run`
refuses; with `--partial` it accepts a part of a configuration, such as a file of filters.

## Where values come from

| given as | example |
|---|---|
| a flag | `--set kafka.shards=16` |
| a variable | `FALCO_STREAMER__KAFKA__SHARDS=16` |
| the file | `kafka: {shards: 16}` |
| the default | |

The upper wins over the lower. Sections are merged key by key, lists are replaced. Of the environment only names that
begin with `FALCO_STREAMER__` (two underscores) are read: what Kubernetes sets for a Service of our name changes
nothing.

In values, `${VAR}` and `${VAR:-default}` stand for variables of the environment, `$${` for a plain `${`. They are
filled in after the file is parsed, so that a variable's text never becomes a key or a list.

A secret can be given as text or, better, as the path of a file in the key of the same name with `_file` at its end.
The file is read again whenever the secret is used; a newline at its end is not part of it. Secrets are shown as
`(secret)`.

Sections that say so take effect at a reload, without a restart, see
[Changing the configuration](operations.md#changing-the-configuration); of the others, only the contents of the files
that they name (certificates, passwords) are taken over while the worker runs.
"""


def manual() -> str:
    """The text of docs/configuration.md."""
    plain = {key: field for key, field in Settings.model_fields.items() if _is_plain(field)}
    lines = ["", "## At the top", "", f"*{_when_at_the_top(plain)}*", "", *_table(plain)]
    for name, field in Settings.model_fields.items():
        if name not in plain:
            lines += ["", f"## {name}", "", f"{words(field)} *{_when(name)}*"]
            lines += _tables(name, field.annotation)
    return _HEAD + "\n".join(lines) + "\n"


def _tables(path: str, annotation: Any) -> Iterator[str]:
    """A section's own keys, then each section below it under its full name."""
    model, path = _below(path, annotation)
    plain = {key: field for key, field in model.model_fields.items() if _is_plain(field)}
    if plain:
        yield from ("", *_table({f"{path}.{key}": field for key, field in plain.items()}))
    for key, field in model.model_fields.items():
        if key not in plain:
            below = f"{path}.{key}"
            when = f" *{_when(below)}*" if below in RELOADABLE else ""
            yield from ("", f"### {below}", "", f"{words(field)}{when}")
            yield from _tables(below, field.annotation)


def _when(path: str) -> str:
    """Whether a section takes effect at a reload, or which one below it does."""
    if path in RELOADABLE:
        return "Takes effect at a reload."
    sooner = ", ".join(f"`{one}`" for one in sorted(RELOADABLE) if one.startswith(f"{path}."))
    return f"Needs a restart, all but {sooner}." if sooner else "Needs a restart."


def _when_at_the_top(keys: Iterable[str]) -> str:
    sooner = ", ".join(f"`{key}`" for key in keys if key in RELOADABLE)
    return f"Needs a restart, all but {sooner}."


def _table(fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for path, field in fields.items():
        cells = (f"`{path}`", _type(field.annotation), _default(field), words(field))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _is_plain(field: FieldInfo) -> bool:
    """Whether a key stands in its section's table, and has none of its own."""
    return _nested(field.annotation) is None


def _nested(annotation: Any) -> type[Section] | None:
    if (section := section_of(annotation)) is not None:
        return section
    return section_of(get_args(unwrapped(annotation))[0]) if shape(annotation) is Shape.LIST else None


def _below(path: str, annotation: Any) -> tuple[type[Section], str]:
    model = _nested(annotation)
    assert model is not None, path
    return model, f"{path}[]" if shape(annotation) is Shape.LIST else path


def _type(annotation: Any) -> str:
    bare = unwrapped(annotation)
    if get_origin(bare) in {Union, UnionType}:
        return " or ".join("null" if part is type(None) else _type(part) for part in get_args(bare))
    match shape(bare):
        case Shape.LIST:
            return f"list of {_type(get_args(bare)[0])}"
        case Shape.MAPPING:
            return "mapping to text"
        case Shape.LISTS:
            return "mapping to lists"
    return "choice" if get_origin(bare) is Literal else _TYPES.get(bare, "text")


def _default(field: FieldInfo) -> str:
    if field.is_required() or "Required." in (field.description or ""):
        return "required"
    if isinstance(field.default, dict) or shape(field.annotation) in {Shape.MAPPING, Shape.LISTS}:
        return "<br>".join(f"`{key}: {value(each)}`" for key, each in field.default.items()) or "`{}`"
    return f"`{value(field.default)}`"
