"""What the models know of their keys, asked by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from streamer.config.secret import HiddenText
from streamer.config.section import Section

Path = tuple[str | int, ...]


class Shape(Enum):
    """How a key's value is written."""

    SECTION = "section"
    MAPPING = "mapping"
    LISTS = "lists"  # a mapping whose values are lists
    LIST = "list"
    VALUE = "value"
    SECRET = "secret"  # noqa: S105 (the name of a shape)
    UNKNOWN = "unknown"


def shape(annotation: Any) -> Shape:
    """The shape of values of a type."""
    bare = unwrapped(annotation)
    origin = get_origin(bare)
    if isinstance(bare, type) and origin is None and issubclass(bare, Section):
        return Shape.SECTION
    if origin is Mapping:
        lists = get_origin(unwrapped(get_args(bare)[1])) is tuple
        return Shape.LISTS if lists else Shape.MAPPING
    if origin is tuple:
        return Shape.LIST
    return Shape.SECRET if HiddenText in (bare, *get_args(bare)) else Shape.VALUE


def shape_at(model: type[Section], keys: Sequence[str]) -> tuple[Shape, int]:
    """The shape of the key that a path names, and how many parts lead to it (fewer, if it goes on in a mapping)."""
    for depth, key in enumerate(keys, start=1):
        if key not in model.model_fields:
            return Shape.UNKNOWN, depth
        annotation = model.model_fields[key].annotation
        section = section_of(annotation)
        if section is None:
            return shape(annotation), depth
        model = section
    return Shape.SECTION, len(keys)


def known_keys(model: type[Section], path: Path) -> list[str]:
    """The keys that are valid in the section at a path."""
    here: Any = model
    for key in path:
        bare = unwrapped(here)
        if isinstance(key, int):
            here = next(iter(get_args(bare)), None)
        elif (section := section_of(here)) is not None and key in section.model_fields:
            here = section.model_fields[key].annotation
        else:
            return []
    section = section_of(here)
    return [] if section is None else list(section.model_fields)


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a type is, or may be if it is not null."""
    bare = unwrapped(annotation)
    choices = get_args(bare) if get_origin(bare) is UnionType else (bare,)
    return next((unwrapped(choice) for choice in choices if shape(choice) is Shape.SECTION), None)


def unwrapped(annotation: Any) -> Any:
    """A type without what is annotated to it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
