"""Values from `--set key.path=value` and from `FALCO_STREAMER__KEY__PATH`, as trees like the file's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from streamer.config.document import Node, parse
from streamer.config.errors import Place, Problem, Source
from streamer.config.outline import Shape, shape_at
from streamer.config.settings import Settings

PREFIX: Final = "FALCO_STREAMER__"
"""With two underscores: Kubernetes itself sets FALCO_STREAMER_PORT and the like for a Service of that name."""


def from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[Node]:
    """One tree for each variable with our prefix; a section's variable comes before those of its keys."""
    for name in sorted(environ):
        if name.startswith(PREFIX):
            keys = name.removeprefix(PREFIX).lower().split("__")
            kind, depth = shape_at(Settings, keys)
            if keys[:2] == ["topics", "config"] and kind is Shape.MAPPING and len(keys) > depth:
                # A variable's name has no dots, a topic setting's no underscores: RETENTION_MS is retention.ms.
                keys[depth:] = [".".join(keys[depth:]).replace("_", ".")]
            yield _tree(keys, kind, environ[name], Source(f"environment variable {name}"), problems)


def from_flags(flags: Sequence[str], problems: list[Problem]) -> Iterator[Node]:
    """One tree for each `key.path=value`, in the order given."""
    for flag in flags:
        path, equals, text = flag.partition("=")
        keys = path.strip().split(".")
        kind, depth = shape_at(Settings, keys)
        if not equals or not path.strip():
            # Not shown if it is not a key: it may be a secret that lost its own.
            place = Place(Source(f"--set {path}")) if kind is not Shape.UNKNOWN else None
            problems.append(Problem("malformed --set", place, "expected `--set key.path=value`"))
            continue
        if kind in {Shape.MAPPING, Shape.LISTS} and len(keys) > depth:
            keys[depth:] = [".".join(keys[depth:])]
        yield _tree(keys, kind, text, Source(f"--set {path.strip()}"), problems)


def _tree(keys: list[str], kind: Shape, text: str, source: Source, problems: list[Problem]) -> Node:
    if kind is Shape.SECRET:
        # Taken as it is: a password must not be read as YAML, nor a `${` in it as a variable.
        tree = Node(text, Place(source), secret=True, literal=True)
    else:
        tree = parse(text, source, problems) or Node(None, Place(source), broken=True)
    for key in reversed(keys):
        tree.key_place = Place(source)
        tree = Node({key: tree}, Place(source))
    return tree
