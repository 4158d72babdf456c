"""The commands' contract as far as it needs no process: help, usage, exit codes of a wrong configuration."""

from __future__ import annotations

import platform
import shlex
import socket
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from streamer import __version__
from streamer.cli import main
from streamer.cli.doctor import findings_of
from streamer.cli.main import main as group
from streamer.config import REQUIRED, Settings
from streamer.model import Verdict

COMMANDS = sorted(group.commands)


def _paths(command: click.Command, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from _paths(one, (*above, name))


EVERY = sorted(_paths(group))
"""Every command with its sub-commands, the program itself first."""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_told(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (0, f"falco-streamer {__version__}\n")


def test_the_version_is_told_to_programs_too() -> None:
    done = invoke("version", "-o", "json")
    assert done.exit_code == 0
    told = orjson.loads(done.stdout)
    assert (told["name"], told["version"]) == ("falco-streamer", __version__)
    assert told["python"] == platform.python_version()
    assert told["libraries"].keys() == {"aiohttp", "aiokafka", "kubernetes", "orjson", "pydantic", "uvloop"}
    assert all(told["libraries"].values())
    assert told["state_format"] >= 1
    assert told["core"] in {"compiled", "python"}


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_examples_that_begin_with_the_command(command: tuple[str, ...], flag: str) -> None:
    done = invoke(*command, flag)
    assert done.exit_code == 0
    _, found, examples = done.stdout.partition("Examples:\n")
    assert found
    assert all("falco-streamer" in one or "kubectl" in one for one in examples.strip().splitlines())
    assert all(len(line) <= 120 for line in done.stdout.splitlines())
    assert " ".join(("falco-streamer", *command)) in examples


@pytest.mark.parametrize("command", [(), ("topics",), ("state",)], ids=" ".join)
def test_in_a_list_of_commands_each_has_a_whole_sentence(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"], env={"COLUMNS": "80"}).stdout
    _, found, listed = shown.partition("Commands:\n")
    assert found
    rows = listed.partition("\n\n")[0].splitlines()
    assert all(row.endswith(".") and not row.endswith("...") for row in rows), rows


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_example_can_be_given(command: tuple[str, ...]) -> None:
    """Its options are there and take such values; nothing is run."""
    examples = invoke(*command, "--help").stdout.partition("Examples:\n")[2]
    for example in examples.strip().splitlines():
        if "falco-streamer" not in example.replace("--kubeconfig", ""):
            continue
        words = shlex.split(example.replace("<(", "").rstrip(")"))
        ours = words[len(words) - words[::-1].index("falco-streamer") :]
        given = list(takewhile(lambda word: word not in {"|", ">"}, ours))
        chosen: click.Command = group
        context = click.Context(group, resilient_parsing=True)
        while isinstance(chosen, click.Group):
            chosen = chosen.commands[given.pop(0)]
        values, _, _ = chosen.make_parser(context).parse_args(given)
        for option in chosen.params:
            found = values.get(str(option.name))
            for value in found if isinstance(found, list) else [found]:
                if isinstance(value, str) and not isinstance(option.type, click.Path):
                    option.type.convert(value, option, context)


def test_help_names_every_command() -> None:
    shown = invoke("--help").stdout
    assert all(f"\n  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_a_usage_error(command: str) -> None:
    done = invoke(command, "--no-such-flag")
    assert done.exit_code == 2
    assert "No such option" in done.stderr
    assert "--no-such-flag" in done.stderr


def test_an_unknown_command_is_a_usage_error() -> None:
    assert invoke("stream").exit_code == 2


def test_replay_wants_a_file() -> None:
    assert invoke("replay", "--to", "null").exit_code == 2
    assert invoke("replay", "--to", "nowhere", "x").exit_code == 2


def test_run_without_its_keys_names_every_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.options.DEFAULT_CONFIG", Path("/nowhere/streamer.yaml"))
    done = invoke("run")
    assert done.exit_code == 78
    assert done.stdout == ""
    assert "missing key `cluster`" in done.stderr
    assert "missing key `kafka.bootstrap_servers`" in done.stderr


def test_run_tells_all_errors_of_a_configuration_at_once(tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    config.write_text("cluster: UPPER\nkafka: {bootstrap_servers: [kafka:9092], shards: many}\nlimit: 1\n")
    done = invoke("run", "--config", str(config), "--set", "kafka.compresion=zstd")
    assert done.exit_code == 78
    assert done.stderr.count("error: ") >= 4
    for wrong in ("cluster", "shards", "limit", "compresion"):
        assert wrong in done.stderr


def test_replay_to_kafka_needs_to_know_where(tmp_path: Path) -> None:
    done = invoke("replay", "--to", "kafka", str(tmp_path / "alerts.json"))
    assert done.exit_code == 78
    assert "kafka.bootstrap_servers" in done.stderr


@pytest.mark.parametrize("rate", ["0", "-1", "many"])
def test_a_rate_that_is_none_is_a_usage_error(rate: str) -> None:
    assert invoke("demo", "--rate", rate).exit_code == 2


def test_simulating_on_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = invoke("simulate", "--port", port, "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "in use" in line


def test_a_kubeconfig_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "no" / "kubeconfig"
    done = invoke("simulate", "--kubeconfig", str(path))
    assert done.exit_code == 1
    assert done.stderr == f"error: {path}: No such file or directory\n"


TOPICS = sorted(group.commands["topics"].commands)  # type: ignore[attr-defined]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    path.write_text("cluster: prod\nkafka: {bootstrap_servers: [kafka:9092]}\n")
    return path


def test_a_valid_configuration_is_told_in_one_line(config: Path) -> None:
    done = invoke("check", "--config", str(config))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "ok: cluster prod, 13 topics, 0 routes, 0 filters\n"


def test_check_tells_all_errors_at_once_with_their_places(config: Path) -> None:
    config.write_text("cluster: prod\nkafka:\n  shard: 3\n  compression: zst\n")
    done = invoke("check", "--config", str(config))
    assert (done.exit_code, done.stdout) == (78, "")
    assert f"{config}:3:3" in done.stderr
    assert f"{config}:4:16" in done.stderr
    assert "did you mean `shards`?" in done.stderr
    assert "did you mean `zstd`?" in done.stderr


GIVEN = {"cluster": "prod", "kafka.bootstrap_servers": ["kafka:9092"]}
"""Every required key with a valid value."""
LEFT_OUT = object()


def write_given(path: Path, given: dict[str, object]) -> None:
    tree: dict[str, object] = {}
    for key, value in given.items():
        *above, last = key.split(".")
        section: Any = tree
        for name in above:
            section = section.setdefault(name, {})
        if value is not LEFT_OUT:
            section[last] = value
    path.write_text(yaml.safe_dump(tree) if tree else "")


def test_the_tests_know_every_required_key() -> None:
    assert set(GIVEN) == set(REQUIRED)


@pytest.mark.parametrize(
    "value", [LEFT_OUT, None, "", []], ids=["left out", "null", "empty text", "empty list"]
)
@pytest.mark.parametrize("key", REQUIRED)
def test_check_refuses_what_run_refuses_with_the_same_message(config: Path, key: str, value: object) -> None:
    write_given(config, GIVEN | {key: value})
    run, check = (invoke(command, "--config", str(config)) for command in ("run", "check"))
    assert (run.exit_code, check.exit_code) == (78, 78)
    assert f"`{key}" in run.stderr
    assert check.stderr == run.stderr
    assert check.stdout == ""


def test_an_empty_file_is_refused_by_check_as_by_run(config: Path) -> None:
    config.write_text("")
    run, check = (invoke(command, "--config", str(config)) for command in ("run", "check"))
    assert (run.exit_code, check.exit_code) == (78, 78)
    assert check.stderr == run.stderr
    for key in REQUIRED:
        assert f"missing key `{key}`" in check.stderr


def test_a_part_of_a_configuration_is_checked_when_that_is_asked_for(config: Path) -> None:
    config.write_text('filters: [{action: drop, match: [rule = "x"], reason: y}]\n')
    assert invoke("check", "--config", str(config)).exit_code == 78
    done = invoke("check", "--partial", "--config", str(config))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "ok, as a part of a configuration, 13 topics, 0 routes, 1 filters\n"
    config.write_text('filters: [{action: dropp, match: [rule = "x"], reason: y}]\n')
    wrong = invoke("check", "--partial", "--config", str(config))
    assert wrong.exit_code == 78
    assert "did you mean `drop`?" in wrong.stderr


def test_what_is_in_effect_can_be_shown_and_read_again(config: Path) -> None:
    flags = ("kafka.security.protocol=sasl_ssl", "kafka.security.sasl.username=me")
    secret = "kafka.security.sasl.password=hunter2"
    arguments = [word for flag in (*flags, secret) for word in ("--set", flag)]
    done = invoke("check", "--config", str(config), "--show", *arguments)
    assert done.exit_code == 0
    assert "hunter2" not in done.stdout
    shown = yaml.safe_load(done.stdout)
    assert shown["kafka"]["security"]["sasl"]["password"] == "(secret)"
    config.write_text(done.stdout)
    again = invoke("check", "--config", str(config), "--show")
    assert yaml.safe_load(again.stdout) == shown


def test_what_may_be_wrong_beyond_the_configuration_is_a_warning(tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    config.write_text(
        "cluster: prod\n"
        "kafka:\n"
        "  bootstrap_servers: [kafka:9092]\n"
        "  security:\n    protocol: sasl_ssl\n    ca_file: /nowhere/ca\n"
        "    sasl: {username: me, password_file: /nowhere/password}\n"
        "kubernetes: {kubeconfig: /nowhere/kubeconfig}\n"
        "filters:\n"
        "  - {action: drop, match: ['rule = \"x\"'], reason: the old days, expires: 2020-01-01T00:00:00Z}\n"
        "  - {action: drop, match: ['prco.name != \"bash\"'], reason: misspelt}\n"
    )
    done = invoke("check", "--config", str(config))
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "warning: `kubernetes.kubeconfig`: cannot read /nowhere/kubeconfig: No such file or directory",
        "warning: `kafka.security.ca_file`: cannot read /nowhere/ca: No such file or directory",
        "warning: `kafka.security.sasl.password_file`: cannot read /nowhere/password: No such file or directory",
        (
            "warning: `filters.1.match`: no known source of Falco's has a field `prco.name`; did you mean "
            "`proc.name`?; correct the name; a field of a plugin of your own is written in quotes, or named in "
            "dedupe.group_fields"
        ),
        (
            "warning: `filters.0` has expired (the old days): it matches nothing any more; remove the filter, or "
            "give it another `expires`"
        ),
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = invoke("completion", shell)
    assert done.exit_code == 0
    assert "_FALCO_STREAMER_COMPLETE" in done.stdout


def test_what_could_come_next_is_completed() -> None:
    environ = {
        "_FALCO_STREAMER_COMPLETE": "bash_complete",
        "COMP_WORDS": "falco-streamer topics ",
        "COMP_CWORD": "2",
    }
    done = CliRunner().invoke(main, [], env=environ, prog_name="falco-streamer")
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == set(TOPICS)


def test_acls_are_printed_without_asking_kafka(config: Path) -> None:
    done = invoke("topics", "acls", "--config", str(config), "--principal", "User:worker")
    assert done.exit_code == 0
    assert all(
        line.startswith("kafka-acls.sh --bootstrap-server kafka:9092 ") for line in done.stdout.splitlines()
    )
    consumer = invoke("topics", "acls", "--config", str(config), "--consumer", "--group", "siem-")
    assert "falco-streamer.prod.state" not in consumer.stdout
    assert "--group siem-" in consumer.stdout
    user = invoke("topics", "acls", "--config", str(config), "-o", "strimzi", "--kafka", "main")
    assert yaml.safe_load(user.stdout)["metadata"]["labels"] == {"strimzi.io/cluster": "main"}


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (
            'rule == "x"',
            ['1 | rule == "x"', '  |      ^^ `==` is not an operator; write `rule = "value"`'],
        ),
        ("Rule = 'x'", ["1 | Rule = 'x'", "  | ^^^^ there is no `Rule`: write `rule`"]),
        (
            "priority >= warnin",
            ["  |             ^^^^^^ `warnin` is not a priority; did you mean `warning`?"],
        ),
        ("proc.name = \x1b[2J", ["1 | proc.name =  [2J"]),
    ],
)
def test_tap_shows_where_a_condition_is_wrong(where: str, told: list[str]) -> None:
    done = invoke("tap", "--where", where)
    assert done.exit_code == 2
    assert "--where" in done.stderr
    assert "\x1b" not in done.stderr
    for line in told:
        assert line in done.stderr


def test_tap_warns_of_a_field_that_no_source_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.options.DEFAULT_CONFIG", Path("/nowhere/streamer.yaml"))
    done = invoke("tap", "--where", 'prco.name != "x"', "--where", 'proc.name = "x"')
    assert done.exit_code == 78  # nobody said where Kafka is
    assert done.stderr.startswith(
        "warning: no known source of Falco's has a field `prco.name`; did you mean `proc.name`?\n"
    )
    assert done.stderr.count("warning:") == 1


async def test_doctor_begins_with_what_looks_wrong_in_the_configuration() -> None:
    rule = {"name": "n", "action": "drop", "match": 'k8s.ns.nme != "x"', "reason": "r"}
    settings = Settings.model_validate({"filters": [rule]})
    finding = await anext(findings_of(settings))
    assert (finding.check, finding.verdict) == ("filters", Verdict.WARNING)
    assert finding.what.endswith("has a field `k8s.ns.nme`; did you mean `k8s.ns.name`?")
    assert finding.fix
