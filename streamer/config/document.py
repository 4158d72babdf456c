"""YAML text as a tree that knows the place of each key and value.

Scalars stay text: the models decide what a text means, so that `no` or `0123` never turn into something else,
and a value is the same from a file, a variable or a flag. Null is the one scalar with a meaning of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import yaml

from streamer.config.errors import Place, Problem, Source, hide_by_name

_NULLS: Final = {"", "~", "null", "Null", "NULL"}
_SECRET_KEY: Final = re.compile(r"(?i)(?:pass|pwd|secret|token|credential)(?!.*_(?:file|endpoint)$)")
_PLAIN_TAGS: Final = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

Value: TypeAlias = "str | list[Node] | dict[str, Node] | None"


@dataclass(slots=True, eq=False)
class Node:
    """A value, where it stands, and where its key stands if it has one."""

    value: Value
    place: Place
    key_place: Place | None = None
    plain: bool = True
    secret: bool = False
    literal: bool = False
    """Holds no variables to fill in, whatever it looks like."""
    broken: bool = False
    """Its fault was reported; what follows from that is not reported too."""


_IPV6_SERVER: Final = re.compile(r"\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]:\d{1,5}(?![^\0\s,\]}])")
_IPV6_SERVER_MOST: Final = 64


class _Loader(yaml.SafeLoader):
    # None: all plain scalars stay text.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def fetch_flow_sequence_start(self) -> None:
        # `[::1]:9092` is not meant as a YAML list, but as the address.
        server = _IPV6_SERVER.match(self.prefix(_IPV6_SERVER_MOST))
        if server is None:
            super().fetch_flow_sequence_start()
            return
        if not self.flow_level:
            self.fetch_plain()
            return
        # Within a list, a plain text of YAML's would end at the bracket.
        self.save_possible_simple_key()
        self.allow_simple_key = False
        start = self.get_mark()
        self.forward(server.end())
        self.tokens.append(yaml.ScalarToken(server[0], True, start, self.get_mark()))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Aliases can swell a small file without bound, and make one value stand in two places.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not supported; repeat the value", mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.Node) and node.tag not in _PLAIN_TAGS:
            raise yaml.composer.ComposerError(None, None, "tags are not supported", node.start_mark)
        return node


def parse(text: str, source: Source, problems: list[Problem]) -> Node | None:
    """The tree of a YAML document; None, and a problem, if it is none. An empty document is null."""
    try:
        root = yaml.compose(text, _Loader)
        if root is None:
            return Node(None, Place(source))
        return _Builder(source, problems).build(root)
    except yaml.reader.ReaderError as error:
        before = lines_of(text[: error.position])
        place = Place(source, len(before) - 1, len(before[-1])) if source.lines else Place(source)
        problems.append(Problem("not valid YAML", place, "this character is not allowed"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line, mark.column) if mark and source.lines else Place(source)
        problems.append(Problem("not valid YAML", place, _reason(text, error)))
    except RecursionError:
        problems.append(Problem("not valid YAML", Place(source), "it is nested too deeply"))
    except (ValueError, OverflowError):  # PyYAML lets some through: "\UFFFFFFFF", %YAML 1.<5000 digits>
        problems.append(Problem("not valid YAML", Place(source), "it holds an escape or number out of range"))
    hide_by_name(source)
    return None


def _reason(text: str, error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if r"found character '\t'" in problem:
        return "a tab; YAML takes spaces alone before a key"
    if "expected <block end>" in problem:
        return "the indentation fits no line above"
    if problem == "mapping values are not allowed here":
        return f"{problem}; quote a value that holds `: `"
    if "while parsing a flow" in (error.context or "") and "$" in _line(text, error):
        problem += "; between brackets, a value that holds `${…}` needs quotes"
    between = " " if problem.startswith("but ") else ": "
    return between.join(part for part in (error.context, problem) if part)


def _line(text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    lines = lines_of(text)
    return lines[mark.line] if mark and mark.line < len(lines) else ""


def lines_of(text: str) -> tuple[str, ...]:
    """Lines as YAML counts them."""
    return tuple(re.split("\r\n|[\n\r\x85\u2028\u2029]", text))


class _Builder:
    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self._source = source
        self._problems = problems

    def build(self, node: yaml.Node, *, secret: bool = False) -> Node:
        place = self._place(node)
        if isinstance(node, yaml.MappingNode):
            return Node(self._mapping(node, secret=secret), place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.build(item, secret=secret) for item in node.value], place)
        if secret:
            self.hide(node)
        assert isinstance(node, yaml.ScalarNode)
        plain = node.style is None
        text: str = node.value
        if not _encodable(text):
            self._problems.append(Problem("not valid YAML", place, "this is not valid Unicode text"))
            return Node(None, place, broken=True)
        return Node(None if plain and text in _NULLS else text, place, None, plain, secret)

    def hide(self, node: yaml.Node, mark: str | None = None) -> None:
        start, end = node.start_mark, node.end_mark
        for number in range(start.line, min(end.line + 1, len(self._source.lines))):
            first = start.column if number == start.line else 0
            last = end.column if number == end.line else len(self._source.lines[number])
            self._source.hide(number, first, last, *([mark] if mark else []))

    def _mapping(self, node: yaml.MappingNode, *, secret: bool) -> dict[str, Node]:
        mapping: dict[str, Node] = {}
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode) or not _encodable(key.value):
                self._problems.append(
                    Problem("a key must be text", place, "expected a name, such as `cluster`")
                )
                self.hide(value, "…")
            elif (first := mapping.get(key.value)) is not None:
                assert first.key_place is not None
                line = first.key_place.line
                label = "given before" if line is None else f"first given in line {line + 1}"
                self._problems.append(Problem(f"duplicate key `{key.value}`", place, label))
                self.hide(value, "…")
            else:
                child = self.build(value, secret=secret or _SECRET_KEY.search(key.value) is not None)
                child.key_place = place
                mapping[key.value] = child
        return mapping

    def _place(self, node: yaml.Node) -> Place:
        if not self._source.lines:
            return Place(self._source)
        start, end = node.start_mark, node.end_mark
        if end.line != start.line:
            # Of what goes on over lines, mark what stands in its first.
            length = len(self._source.lines[start.line].rstrip()) - start.column
            return Place(self._source, start.line, start.column, max(1, length))
        return Place(self._source, start.line, start.column, max(1, end.column - start.column))


def _encodable(text: str) -> bool:
    # An escape such as "\ud800" makes half a character, which neither pydantic nor a terminal takes.
    return not any("\ud800" <= c <= "\udfff" for c in text)
