"""Load settings: defaults, below the file, below the environment, below the command line's flags."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamer.config import outline
from streamer.config.document import Node, lines_of, parse
from streamer.config.error_messages import expectation, finding, unknown
from streamer.config.errors import ConfigError, Place, Problem, Source
from streamer.config.faults import MISSING, USELESS, WRONG, Fault, FaultsError
from streamer.config.interpolation import interpolate
from streamer.config.overrides import PREFIX, from_environment, from_flags
from streamer.config.settings import Settings

REQUIRED: Final = ("cluster", "kafka.bootstrap_servers")
"""The keys that `run` cannot do without."""


def load(
    path: Path | None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    *,
    require: Collection[str] = REQUIRED,
) -> Settings:
    """The settings from all places. `require` names the keys that must be given; others have defaults.

    Raises ConfigError with everything that is wrong.
    """
    problems: list[Problem] = []
    root = _read(path, problems) if path is not None else None
    unreadable = bool(problems)
    tree = root or Node({}, Place(Source("")))
    for overlay in (*from_environment(environ, problems), *from_flags(overrides, problems)):
        tree = _merge(tree, overlay)
    interpolate(tree, environ, problems)
    if not unreadable:
        problems += _missing(tree, require)
    try:
        settings = Settings.model_validate(_plain(tree))
    except ValidationError as error:
        problems += _explain(error, tree)
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return settings


def _read(path: Path, problems: list[Problem]) -> Node | None:
    reason = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text (byte {error.start + 1})"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if reason:
        problems.append(
            Problem(f"cannot read the configuration {path}", None, reason[0].lower() + reason[1:])
        )
        return None
    source = Source(str(path), lines_of(text))
    root = parse(text, source, problems)
    if root is None or isinstance(root.value, dict):
        return root
    if root.value is not None:
        problems.append(Problem("the configuration must be a mapping", root.place, "expected `key: value`"))
    return Node({}, Place(source))


def _merge(base: Node, over: Node) -> Node:
    """Keys of `over` win; mappings are merged, lists and all else are replaced."""
    if over.broken:
        return base
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, base.place, base.key_place, base.plain, base.secret)


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(child) for child in node.value]
    return node.value


def _missing(tree: Node, require: Collection[str]) -> list[Problem]:
    problems = []
    for key in require:
        path = tuple(key.split("."))
        node, reached = _find(tree, path)
        if len(reached) < len(path) or node.value == []:
            # Reported at the section where it belongs; at the file as a whole if that has no such section.
            place = node.key_place if node.key_place and node.key_place.source.lines else None
            place = place or (Place(tree.place.source) if tree.place.source.name else None)
            variable = PREFIX + key.upper().replace(".", "__")
            file = "the file" if tree.place.source.name else "a file (--config)"
            label = f"give it in {file}, as `--set {key}=…`, or as {variable}"
            problems.append(Problem(f"{MISSING} `{key}`", place, label))
    return problems


def _find(tree: Node, path: outline.Path) -> tuple[Node, outline.Path]:
    """The node at a path, or the last one on the way to it, and how far that is."""
    node = tree
    for depth, key in enumerate(path):
        child: Node | None = None
        if isinstance(node.value, dict):
            child = node.value.get(str(key))
        elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
            child = node.value[key]
        if child is None:
            return node, path[:depth]
        node = child
    return node, path


def _explain(error: ValidationError, tree: Node) -> list[Problem]:
    problems = []
    for details in error.errors(include_url=False):
        path, unknown_key = details["loc"], details["type"] == "extra_forbidden"
        # pydantic's mark for a fault of the key itself; an unknown key may have that very name.
        of_key = path[-1:] == ("[key]",) and not unknown_key
        path = path[:-1] if of_key else path
        for fault in _faults(details):
            at = _resolve(path, fault.at)
            node, reached = _find(tree, at)
            if not node.broken:
                found = node if reached == at else None
                problems.append(_problem(fault, details, at, found, node, of_key or unknown_key))
    return problems


def _faults(details: ErrorDetails) -> Sequence[Fault]:
    context = details.get("ctx", {})
    if isinstance(found := context.get("error"), FaultsError):
        return found.faults
    headline = {"missing": MISSING, "extra_forbidden": "unknown key"}.get(details["type"], WRONG)
    return [Fault((), expectation(details["type"], context, details["msg"]), headline)]


def _problem(
    fault: Fault, details: ErrorDetails, at: outline.Path, node: Node | None, nearest: Node, on_key: bool
) -> Problem:
    on_key = on_key or fault.headline == USELESS
    place = (nearest.key_place if on_key or node is None else None) or nearest.place
    if details["type"] == "extra_forbidden":
        label = unknown(str(at[-1]), outline.known_keys(Settings, at[:-1]))
        _hide(nearest)
    else:
        label = finding(fault.reason, details["type"], details.get("ctx", {}), None if on_key else node)
        place = _part(place, node, fault.part)
    return Problem(
        f"{fault.headline} `{'.'.join(map(str, at))}`", place if place.source.name else None, label
    )


def _part(place: Place, node: Node | None, part: tuple[int, int] | None) -> Place:
    """The faulty part of a text, where its line holds the text as it is, without escapes."""
    if part is None or node is None or place.line is None or place.line >= len(place.source.lines):
        return place
    start, end = part
    line = place.source.lines[place.line]
    found = line.find(str(node.value), place.column, place.column + place.width)
    if found < 0 or not node.value:
        return place
    return replace(place, column=found + start, width=end - start)


def _hide(node: Node) -> None:
    """What an unknown key holds is not shown: it may be a secret whose key is misspelt."""
    place = node.place
    if place.line is not None and not node.secret:
        place.source.hide(place.line, place.column, place.column + place.width, "…")


def _resolve(path: outline.Path, at: outline.Path) -> outline.Path:
    """Where a fault is. Only its own `..` leads up: in the path, it is a key that somebody wrote."""
    resolved: list[str | int] = [*path]
    for key in at:
        if key == "..":
            resolved.pop()
        else:
            resolved.append(key)
    return tuple(resolved)
