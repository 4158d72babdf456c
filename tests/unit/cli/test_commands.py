"""The commands' contract as far as it needs no process: help, usage, exit codes of a wrong configuration."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer import __version__
from streamer.cli import main
from streamer.cli.main import main as group

COMMANDS = sorted(group.commands)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_told(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (0, f"falco-streamer {__version__}\n")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "version"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_examples_that_begin_with_the_command(command: str, flag: str) -> None:
    done = invoke(command, flag)
    assert done.exit_code == 0
    _, found, examples = done.stdout.partition("Examples:\n")
    assert found
    assert all("falco-streamer" in one or "kubectl" in one for one in examples.strip().splitlines())
    assert f"falco-streamer {command}" in examples


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
