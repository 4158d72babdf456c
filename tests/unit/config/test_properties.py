"""Whatever is written, the answer is settings or a ConfigError that can be printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.config import ConfigError, Settings, load
from streamer.config.overrides import PREFIX

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
quick = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

KEYS = ("cluster", "kafka", "topics", "kubernetes", "routes", "match", "rules", "topic", "commit", "security")
LEAVES = (
    "sasl",
    "password",
    "config",
    "state",
    "shards",
    "max_lines",
    "http",
    "port",
    "selectors",
    "cleanup.policy",
    "filters",
    "dedupe",
    "group_fields",
    "syscall",
    "window_seconds",
    "overrides",
    "limits",
    "per_topic",
    "expires",
)
words = st.sampled_from((*KEYS, *LEAVES)) | st.text(max_size=6)
scalars = (
    words | st.integers().map(str) | st.sampled_from(["${A}", "${A:-x}", "$${", "null", "true", "<prefix>"])
)
trees = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(words, x, max_size=4), max_leaves=12
)
marks = ": |:\n  |\n|- |[|]|{|}|, |'|&a |*a|!!int |#|---|\t|${|%YAML 1.2\n|? |<<: |\\x|\ufeff|\u2028|\x07|>-\n |@|`"
pieces = st.sampled_from([*KEYS, *LEAVES, *marks.split("|"), "|\n", '"', '"\\ud800"'])

MATCHER_PIECES = (
    "rule",
    "Rule",
    "proc.name",
    " ",
    "=",
    "!=",
    "=~",
    ">=",
    '"',
    "'",
    "x",
    "\\",
    "(",
    "[",
    "or absent",
)
LEAF_KEYS = (
    "cluster",
    "dedupe.max_windows",
    "dedupe.window_seconds",
    "http.port",
    "kafka.client_id",
    "kafka.commit.interval_seconds",
    "kafka.shards",
    "kubernetes.context",
    "kubernetes.namespaces",
    "limits.by",
    "limits.overall.burst",
    "log.level",
    "topics.create",
    "topics.partitions",
    "topics.state",
)
values = st.text(max_size=12) | st.sampled_from(
    ["8", "0.5", "true", "null", "~", "", "debug", "0x10", "on", "local"]
)


def outcome(
    path: Path | None, flags: list[str] | None = None, environ: dict[str, str] | None = None
) -> Settings | None:
    try:
        return load(path, flags or [], environ or {}, require=())
    except ConfigError as error:
        printed = str(error).encode().decode()
    assert printed.startswith("error: ")
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamer.yaml"


@quick
@given(st.text() | st.lists(pieces, max_size=20).map("".join))
@example('"\\UFFFFFFFF"')
@example("%YAML 1." + "1" * 5000 + "\n---\na: b")
@example("a: !<tag:yaml.org,2002:int> x")
@example("a: &a [*a]")
def test_any_text_gives_settings_or_a_config_error(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    outcome(path)


@quick
@given(st.binary(max_size=60))
def test_any_bytes_give_settings_or_a_config_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    outcome(path)


@quick
@given(trees)
def test_any_tree_gives_settings_or_a_config_error(path: Path, tree: object) -> None:
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", newline="")
    outcome(path)


@quick
@given(st.lists(st.text() | st.builds("{}={}".format, words, scalars), max_size=3))
def test_any_flags_give_settings_or_a_config_error(flags: list[str]) -> None:
    outcome(None, flags)


@quick
@given(st.dictionaries(st.builds(f"{PREFIX}{{}}".format, words), scalars, max_size=3))
@example({f"{PREFIX}..": "cluster"})  # `..` is what leads up in our own paths
def test_any_variables_give_settings_or_a_config_error(environ: dict[str, str]) -> None:
    outcome(None, environ=environ)


@quick
@given(st.sampled_from(LEAF_KEYS), values)
def test_a_value_is_the_same_from_the_file_a_flag_and_a_variable(path: Path, key: str, value: str) -> None:
    # One line, plain where it can be.
    style = None if value.isprintable() else '"'
    dumped = yaml.safe_dump(value, width=10_000, allow_unicode=True, default_style=style)
    line = dumped.removesuffix("\n").removesuffix("\n...")
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    text += f"{'  ' * len(sections)}{name}: {line}\n"
    path.write_text(text, encoding="utf-8", newline="")
    from_file = outcome(path)
    assert outcome(None, [f"{key}={line}"]) == from_file
    assert outcome(None, environ={PREFIX + key.upper().replace(".", "__"): line}) == from_file


@quick
@given(st.text(max_size=30) | st.lists(st.sampled_from(MATCHER_PIECES), max_size=8).map("".join))
@example('rule = "${A}"')
@example('a.b = "\\')
def test_any_matcher_gives_settings_or_an_error_at_its_place(path: Path, text: str) -> None:
    rule = {"action": "drop", "match": [text], "reason": "r"}
    path.write_text(yaml.safe_dump({"filters": [rule], "routes": [{"match": text, "topic": "t"}]}), "utf-8")
    try:
        settings = load(path, environ={}, require=())
    except ConfigError as error:
        problems = error.problems
    else:
        assert settings.filters[0].match == settings.routes[0].match
        return
    lines = path.read_text("utf-8").splitlines()
    for problem in problems:
        assert str(problem).encode()
        assert problem.place is not None
        assert problem.place.line is not None
        assert 0 <= problem.place.column <= len(lines[problem.place.line]) + 1
