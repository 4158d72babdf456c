"""The grammar of matchers, and what is said where a text is not of it (docs/decisions/0017).

matcher  = name operator value [ "or" "absent" ]
name     = "rule" | "priority" | "source" | "hostname" | "tags" | a Falco field | a quoted key of output_fields
operator = "=" | "!=" | "=~" | "!~", and for priority also ">=" | "<=" | ">" | "<"
value    = text in double quotes, with the escapes of JSON; the name of a priority also without quotes
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import orjson
import re2

from streamer.model import Priority

TOP_LEVEL: Final = ("rule", "priority", "source", "hostname", "tags")
"""The names of an alert that are not keys of `output_fields`."""
_ALWAYS_PRESENT: Final = frozenset({"rule", "priority", "source"})
_PRIORITIES: Final = tuple(priority.label for priority in Priority)
_EQUALITY: Final = ("=", "!=", "=~", "!~")
ORDER: Final = (">=", "<=", ">", "<")
"""For priority: what is greater is more urgent."""
_MEANT: Final = {
    "==": "=",
    "===": "=",
    "~": "=~",
    "~=": "=~",
    "!==": "!=",
    "<>": "!=",
    "=>": ">=",
    "=<": "<=",
}

_SPACE: Final = re.compile(r"[ \t\r\n]*")
# A field of Falco's: an argument in brackets may hold anything; transformers put it in parentheses.
_NAME: Final = re.compile(r"(?:[\w.()/@:-]|\[[^\]]*\])+")
_PREFIX: Final = "output_fields."
_OPERATOR: Final = re.compile(r"[=!~<>]+")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OTHER_QUOTES: Final = re.compile(r"['`\u2018-\u201f]([^'`\u2018-\u201f]*)['`\u2018-\u201f]")
_WORD: Final = re.compile(r"[^\s\"]+")
_OR_ABSENT: Final = re.compile(r"or[ \t\r\n]+absent\b")
_BROKEN_ESCAPE: Final = re.compile(
    r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(\\(?:u[0-9a-fA-F]{0,3}|.))', re.DOTALL
)
_RAW_CONTROL: Final = re.compile(r"[\x00-\x1f]")


class MatcherError(ValueError):
    """A matcher that cannot be read: `reason` is why, and what is right; `start` and `end` are the faulty part."""

    def __init__(self, reason: str, start: int, end: int) -> None:
        self.reason = reason
        self.start = start
        self.end = max(end, start + 1)
        super().__init__(f"column {start + 1}: {reason}")


_LONGEST: Final = 60
"""A longer value is not repeated in an error."""


class Parts(NamedTuple):
    """What a matcher consists of."""

    name: str
    operator: str
    value: str
    quoted: bool
    """Whether the name was given in quotes: a key of `output_fields`, whatever it is."""
    or_absent: bool


def read(text: str) -> Parts:
    """Read a matcher; raises `MatcherError`."""
    return _Parser(text).matcher()


def quote(text: str) -> str:
    """Text as a value of a matcher."""
    return orjson.dumps(text).decode()


def expression(pattern: str) -> Any:
    """A regular expression of RE2's in which `.` matches newlines, too; raises `re2.error`."""
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return re2.compile(pattern, options)


class _Parser:
    """Reads one matcher from left to right; each part knows what to say where it is wrong."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MatcherError("this is not UTF-8 text", error.start, error.end) from error
        self._skip()

    def matcher(self) -> Parts:
        name, quoted = self._name()
        shown, is_priority = quote(name) if quoted else name, name == "priority" and not quoted
        found = self._operator(shown, ordered=is_priority)
        value = self._value(shown, found, is_priority=is_priority)
        or_absent = self._or_absent(name, always=name in _ALWAYS_PRESENT and not quoted)
        if self._at < len(self._text):
            raise self._fault(
                "expected the end of the matcher; one entry holds one matcher, and a list of them is joined by `and`",
                len(self._text),
            )
        return Parts(name, found, value, quoted, or_absent)

    def _name(self) -> tuple[str, bool]:
        if self._text.startswith('"', self._at):
            return self._quoted("a name"), True
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._fault('expected a name; write `name = "value"`', self._at + 1)
        name = found[0]
        if name not in TOP_LEVEL and not re.search(r"[.\[(]", name):
            known = ", ".join(f"`{each}`" for each in TOP_LEVEL)
            near = _near(name, TOP_LEVEL)
            hint = f"write `{near}`" if near else f"known are {known} and Falco's fields, such as `proc.name`"
            raise self._fault(
                f'there is no `{name}`: {hint}; another key of output_fields is written in quotes, `"{name}"`',
                found.end(),
            )
        if name.startswith(_PREFIX):
            raise self._fault(
                f"a field is named without `{_PREFIX}`; write `{name[len(_PREFIX) :]}`", found.end()
            )
        self._advance(found.end())
        return name, False

    def _operator(self, name: str, *, ordered: bool) -> str:
        known = (*_EQUALITY, *ORDER) if ordered else _EQUALITY
        listed = ", ".join(f"`{each}`" for each in known)
        found = _OPERATOR.match(self._text, self._at)
        if found is None:
            word = _WORD.match(self._text, self._at)
            raise self._fault(
                f'expected one of {listed}; write `{name} = "value"`', word.end() if word else self._at
            )
        if found[0] not in known:
            if found[0] in ORDER or _MEANT.get(found[0]) in ORDER:
                why = f"`{found[0]}` is for `priority` only; here it is one of {listed}"
                if ordered:
                    why = f'`{found[0]}` is not an operator; write `{name} {_MEANT[found[0]]} "value"`'
            elif meant := _MEANT.get(found[0]):
                why = f'`{found[0]}` is not an operator; write `{name} {meant} "value"`'
            else:
                why = f"`{found[0]}` is not an operator; they are {listed}"
            raise self._fault(why, found.end())
        self._advance(found.end())
        return found[0]

    def _value(self, name: str, operator: str, *, is_priority: bool) -> str:
        start = self._at
        if self._text.startswith('"', start):
            value = self._quoted("a value")
        else:
            word = _WORD.match(self._text, start)
            if word is None:
                raise self._fault(
                    f'a value is missing; write `{name} {operator} "value"`, or `""` for empty text',
                    start + 1,
                )
            value = word[0]
            if not is_priority or "~" in operator or not value.isalpha():
                given = self._text[start:].rstrip()
                other = _OTHER_QUOTES.match(given)
                meant = quote(other[1] if other else given if len(given) <= _LONGEST else "value")
                raise self._fault(
                    f"a value stands in double quotes; write `{name} {operator} {meant}`", start + len(given)
                )
            self._advance(word.end())
        if "~" in operator:
            self._check_expression(value, start, is_priority=is_priority)
        elif is_priority:
            priority = Priority.parse(value)
            if priority is None:
                near = _near(value, _PRIORITIES)
                hint = f"did you mean `{near}`?" if near else f"they are {', '.join(_PRIORITIES)}"
                raise MatcherError(f"`{value}` is not a priority; {hint}", start, self._end_of(start))
            value = priority.label  # `Info` is Informational to Falco's own configuration as well
        return value

    def _check_expression(self, value: str, start: int, *, is_priority: bool) -> None:
        try:
            pattern = expression(f"(?i:{value})" if is_priority else value)
        except re2.error as error:
            why = error.args[0].decode() if error.args else "RE2 gives no reason"
            raise MatcherError(
                f"this regular expression is broken: {why}", start, self._end_of(start)
            ) from error
        if is_priority and not any(map(pattern.fullmatch, _PRIORITIES)):
            raise MatcherError(
                f"this matches no priority; they are {', '.join(_PRIORITIES)}", start, self._end_of(start)
            )

    def _or_absent(self, name: str, *, always: bool) -> bool:
        found = _OR_ABSENT.match(self._text, self._at)
        if found is None:
            return False
        if always:
            raise self._fault(f"every alert has a {name}; leave `or absent` out", found.end())
        self._advance(found.end())
        return True

    def _quoted(self, what: str) -> str:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise self._fault(f'{what} in double quotes does not end; add a `"`', len(self._text))
        start = self._at
        inside = found[0]
        for escape in _BROKEN_ESCAPE.finditer(inside):
            if escape[1]:
                raise MatcherError(
                    f"`{escape[1]}` is not an escape; a backslash is written `\\\\`",
                    start + escape.start(),
                    start + escape.end(),
                )
        escaped = _RAW_CONTROL.sub(lambda control: f"\\u{ord(control[0]):04x}", inside)
        try:
            text = orjson.loads(escaped)
        except orjson.JSONDecodeError as error:  # half of a surrogate pair
            raise MatcherError(f"{what} is not text: {error.msg}", start, found.end()) from error
        assert isinstance(text, str)
        if what == "a name" and not text:
            raise MatcherError("expected a name in the quotes", start, found.end())
        self._advance(found.end())
        return text

    def _advance(self, to: int) -> None:
        self._at = to
        self._skip()

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()

    def _end_of(self, start: int) -> int:
        """Where the part that was just read ends, without the space behind it."""
        return start + len(self._text[start : self._at].rstrip())

    def _fault(self, reason: str, end: int) -> MatcherError:
        return MatcherError(reason, self._at, end)


def _near(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return near[0] if near else ""
