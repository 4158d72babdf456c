"""The grammar of matchers, and what they match."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.model import Alert, Priority
from streamer.transform.matcher import Matcher
from streamer.transform.matcher_syntax import TOP_LEVEL, MatcherError
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.unit.strategies import ALERT_BODIES
from tests.unit.transform.samples import START_NS, alert


def read(body: bytes) -> Alert:
    found = parse(body, START_NS, StampReader())
    assert isinstance(found, Alert)
    return found


FIELDS: dict[str, Any] = {
    "k8s.ns.name": "dev-7",
    "proc.name": None,
    "proc.args": "a\nb",
    "proc.exeline": "",
    "proc.aname[2]": "sshd",
    "json.value[/a b/c]": "deep",
    "user.uid": 0,
    "proc.is_exe_upper_layer": True,
    "k8s.pod.labels": ["app:web", "tier:front"],
    "k8s.svc.name": [],
    "team": "blue",
    "rule": "the field, not the rule",
    "toupper(proc.pname)": "BASH",
}
SAMPLE = read(alert(output_fields=FIELDS))


def of_priority(priority: Priority) -> Alert:
    return read(alert(priority=priority.name, output_fields=FIELDS))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('rule = "Terminal shell in container"', True),
        ('rule="Terminal shell in container"', True),
        ('rule = "Terminal shell"', False),
        ('rule =~ "Terminal.*"', True),
        ('rule =~ "shell"', False),
        ('priority = "notice"', True),
        ("priority = Notice", True),
        ("priority = info", False),
        ("priority != Informational", True),
        ('priority != "notice"', False),
        (r'priority =~ "\\S+"', True),
        ('priority =~ "Not.*|Warning"', True),
        ('source="syscall"', True),
        ('hostname != "node-1"', False),
        ('tags = "container"', True),
        ('tags != "container"', False),
        ('tags =~ "mitre_.*"', True),
        ('k8s.ns.name =~ "dev-[0-9]+"', True),
        ('k8s.ns.name !~ "dev-[0-9]+"', False),
        ('user.uid = "0"', True),
        ('proc.is_exe_upper_layer = "true"', True),
        ('k8s.pod.labels = "tier:front"', True),
        ('k8s.pod.labels = "tier"', False),
        ('k8s.pod.labels != "tier"', True),
        ('proc.args =~ "a.b"', True),
        ('proc.args = "a\nb"', True),
        (r'proc.args = "a\nb"', True),
        ('  proc.args   !~   "c"  ', True),
        ('proc.aname[2] = "sshd"', True),
        ('json.value[/a b/c] = "deep"', True),
        ('toupper(proc.pname) = "BASH"', True),
        ('"team" = "blue"', True),
        ('"rule" =~ "the field.*"', True),
        ('rule =~ "the field.*"', False),
    ],
)
def test_a_matcher_compares(text: str, matches: bool) -> None:
    assert Matcher.parse(text).compile()(SAMPLE) is matches


@pytest.mark.parametrize("name", ["absent.field", "proc.name", "k8s.svc.name", '"absent"'])
@pytest.mark.parametrize("condition", ['= ""', '= "x"', '!= "x"', '=~ ".*"', '!~ "x"'])
def test_nothing_matches_an_absent_field_unless_it_is_asked_for(name: str, condition: str) -> None:
    assert not Matcher.parse(f"{name} {condition}").compile()(SAMPLE)
    assert Matcher.parse(f"{name} {condition} or absent").compile()(SAMPLE)


def test_or_absent_changes_nothing_where_the_field_is_there() -> None:
    assert not Matcher.parse('k8s.ns.name = "x" or absent').compile()(SAMPLE)
    assert Matcher.parse('k8s.ns.name != "x" or absent').compile()(SAMPLE)


def test_empty_text_is_not_absent() -> None:
    assert Matcher.parse('proc.exeline = ""').compile()(SAMPLE)
    assert Matcher.parse('proc.exeline != "x"').compile()(SAMPLE)


def test_tags_and_the_host_may_be_absent() -> None:
    bare = read(b'{"rule":"r","priority":"Notice"}')
    for text in 'tags != "x"', 'hostname != "x"':
        assert not Matcher.parse(text).compile()(bare)
        assert Matcher.parse(f"{text} or absent").compile()(bare)


@pytest.mark.parametrize("bound", Priority)
@pytest.mark.parametrize("quotes", ["", '"'])
def test_a_more_urgent_priority_is_greater(bound: Priority, quotes: str) -> None:
    for given_priority in Priority:
        one = of_priority(given_priority)
        urgency, least = -given_priority, -bound
        expected = {
            ">=": urgency >= least,
            "<=": urgency <= least,
            ">": urgency > least,
            "<": urgency < least,
        }
        for operator, holds in expected.items():
            text = f"priority {operator} {quotes}{bound.label}{quotes}"
            assert Matcher.parse(text).compile()(one) is holds, text


def test_warning_and_above_are_what_one_expects() -> None:
    matches = Matcher.parse("priority >= warning").compile()
    above = [priority.label for priority in Priority if matches(of_priority(priority))]
    assert above == ["emergency", "alert", "critical", "error", "warning"]


@pytest.mark.parametrize(
    ("text", "part", "why"),
    [
        ("", "", 'expected a name; write `name = "value"`'),
        ('= "x"', "=", "expected a name"),
        ('Rule = "x"', "Rule", "there is no `Rule`: write `rule`"),
        ('priorty = "error"', "priorty", "write `priority`"),
        ('namespace = "x"', "namespace", "another key of output_fields is written in quotes"),
        ('"" = "x"', '""', "expected a name in the quotes"),
        ("rule", "", "expected one of `=`, `!=`, `=~`, `!~`"),
        ('rule == "x"', "==", 'write `rule = "value"`'),
        ('proc.name ~ "x"', "~", 'write `proc.name =~ "value"`'),
        ('proc.name !! "x"', "!!", "`!!` is not an operator; they are `=`, "),
        ('proc.name in ("a", "b")', "in", "expected one of `=`, `!=`, `=~`, `!~`"),
        ('user.uid >= "1000"', ">=", "`>=` is for `priority` only"),
        ('rule < "x"', "<", "is for `priority` only"),
        ('"priority" >= "error"', ">=", "is for `priority` only"),
        ("priority => error", "=>", 'write `priority >= "value"`'),
        ("rule =", "", 'a value is missing; write `rule = "value"`'),
        ("rule = x", "x", 'a value stands in double quotes; write `rule = "x"`'),
        ("rule = Terminal shell", "Terminal shell", 'write `rule = "Terminal shell"`'),
        ("rule = 'a b'", "'a b'", 'write `rule = "a b"`'),
        ("priority =~ error", "error", 'write `priority =~ "error"`'),
        ('"my team" ~ "x"', "~", 'write `"my team" =~ "value"`'),
        ('"my team" = x', "x", 'write `"my team" = "x"`'),
        (f"rule = {'x' * 99}", "x" * 99, 'write `rule = "value"`'),
        ("rule = “a b”", "“a b”", 'write `rule = "a b"`'),
        ('output_fields.proc.name = "x"', "output_fields.proc.name", "write `proc.name`"),
        ("priority > = debug", "= debug", "a value stands in double quotes"),
        ('rule is not "x"', "is", "expected one of"),
        ('rule = "x', '"x', "does not end"),
        ('rule = "x" y', "y", "expected the end of the matcher"),
        ('rule = "x" and source = "y"', 'and source = "y"', "one entry holds one matcher"),
        ('rule = "x" or absent', "or absent", "every alert has a rule"),
        ('proc.name != "x" or missing', "or missing", "expected the end"),
        ("priority = hihg", "hihg", "`hihg` is not a priority; they are emergency, alert, "),
        ('priority >= "warnin" ', '"warnin"', "did you mean `warning`?"),
        ('priority =~ "Criticl"', '"Criticl"', "matches no priority"),
        (r'rule =~ "a\.b"', r"\.", r"a backslash is written `\\`"),
        (r'rule = "\ud800"', r'"\ud800"', "a value is not text"),
        ('rule =~ "("', '"("', "regular expression is broken: missing"),
        ('rule =~ "(?=a)b"', '"(?=a)b"', "regular expression is broken: invalid"),
        ('rule = "\udc80"', "\udc80", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_right_form(text: str, part: str, why: str) -> None:
    with pytest.raises(MatcherError) as caught:
        Matcher.parse(text)
    error = caught.value
    assert why in error.reason
    assert text[error.start : error.end] == part
    assert str(error) == f"column {error.start + 1}: {error.reason}"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
FIELD_NAMES = st.sampled_from(
    ["proc.name", "proc.aname[2]", "json.value[/a b]", "ka.user.name", "len(fd.name)"]
)
FIELD_MATCHERS = st.builds(
    Matcher, FIELD_NAMES, st.sampled_from(["=", "!="]), TEXTS, st.booleans(), st.booleans()
)
QUOTED_MATCHERS = st.builds(
    Matcher, TEXTS.filter(bool), st.sampled_from(["=", "!="]), TEXTS, st.just(True), st.booleans()
)
EXPRESSIONS = st.builds(
    Matcher, FIELD_NAMES, st.sampled_from(["=~", "!~"]), st.sampled_from([".*", r"a\.b|\"", "[^/]+\n"])
)
PRIORITIES = st.builds(
    Matcher,
    st.just("priority"),
    st.sampled_from(["=", "!=", ">=", "<=", ">", "<"]),
    st.sampled_from([priority.label for priority in Priority]),
)
TOPS = st.builds(Matcher, st.sampled_from(["rule", "source"]), st.sampled_from(["=", "!="]), TEXTS)


@given(FIELD_MATCHERS | QUOTED_MATCHERS | EXPRESSIONS | PRIORITIES | TOPS)
def test_a_matcher_that_is_printed_reads_as_the_same(matcher: Matcher) -> None:
    assert Matcher.parse(str(matcher)) == matcher


PIECES = st.sampled_from(
    [
        *TOP_LEVEL,
        "proc.name",
        "==",
        "=",
        "=~",
        "!~",
        ">=",
        '"',
        '"x"',
        "'",
        "\\",
        " ",
        "or absent",
        "[",
        "(",
        "\0",
    ]
)


@given(st.text() | st.lists(PIECES, max_size=9).map("".join))
@example('a.b = "' + "\\" * 3 + '"')
@example("\ud800")
def test_any_text_is_a_matcher_or_an_error_with_its_place(text: str) -> None:
    fault = None
    try:
        matcher = Matcher.parse(text)
    except MatcherError as error:
        fault = error
    else:
        assert Matcher.parse(str(matcher)) == matcher
    if fault is not None:
        assert 0 <= fault.start < fault.end
        assert fault.start <= len(text)
        assert fault.reason


@given(ALERT_BODIES, FIELD_MATCHERS | QUOTED_MATCHERS | EXPRESSIONS | PRIORITIES | TOPS)
def test_any_alert_can_be_asked(body: bytes, matcher: Matcher) -> None:
    assert matcher.compile()(read(body)) in {True, False}


class TestNestedValues:
    """orjson reads 1,024 levels; an attacker who names a file or a label so must not stop the worker."""

    @staticmethod
    def sample(opening: bytes, closing: bytes, levels: int, inside: bytes = b'"x"') -> Alert:
        body = alert(output_fields={"k8s.pod.labels": "here"})
        return read(body.replace(b'"here"', opening * levels + inside + closing * levels))

    def test_are_flattened(self) -> None:
        found = self.sample(b"[", b"]", 8)
        assert Matcher.parse('k8s.pod.labels = "x"').compile()(found)
        assert not Matcher.parse('k8s.pod.labels != "x"').compile()(found)

    @pytest.mark.parametrize("levels", [520, 900, 1010])
    @pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    @pytest.mark.parametrize(
        "text",
        [
            'k8s.pod.labels = "x"',
            'k8s.pod.labels =~ ".*x.*"',
            'k8s.pod.labels != "y"',
            'k8s.pod.labels !~ "y"',
            'k8s.pod.labels = "y" or absent',
            'k8s.pod.labels != "y" or absent',
        ],
    )
    def test_that_are_too_deep_are_there_and_match_nothing(
        self, text: str, brackets: tuple[bytes, bytes], levels: int
    ) -> None:
        opening, closing = brackets
        found = self.sample(opening, closing, levels // len(closing))
        assert Matcher.parse(text).compile()(found) is False

    def test_match_by_what_is_not_too_deep(self) -> None:
        found = self.sample(b"[", b"]", 1, b'"a",' + b"[" * 900 + b"]" * 900)
        assert Matcher.parse('k8s.pod.labels = "a"').compile()(found)
        assert not Matcher.parse('k8s.pod.labels != "b"').compile()(found)

    def test_objects_are_compared_as_json(self) -> None:
        found = self.sample(b"", b"", 0, b'{"b":1,"a":[true,null]}')
        assert Matcher.parse(r'k8s.pod.labels = "{\"b\":1,\"a\":[true,null]}"').compile()(found)

    def test_never_stop_an_alert_or_count_as_absent(self) -> None:
        for levels in (31, 32, 33, 126, 127, 128, 252, 253, 254, 255, 256, 507, 510):
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
                found = self.sample(opening, closing, levels)
                assert not Matcher.parse('k8s.pod.labels = "y" or absent').compile()(found)
