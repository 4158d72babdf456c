"""Exec plug-ins are run as kubectl runs them: by what they are given, and by what is said where they fail."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.source.credentials import ApiConfigError, Credentials
from streamer.source.exec_plugin import ExecPlugin, PluginError
from tests.testbed.certs import Authority

VERSION = "client.authentication.k8s.io/v1"
EXTENSION = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "06e3"}}


def write_plugin(path: Path, more: str = "") -> Path:
    """One that leaves what it was given where it stands, and gives a token."""
    credential = json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": "t"}})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!/bin/sh\n{more}\n"
        f'echo "$KUBERNETES_EXEC_INFO" > {path}.info; echo "$ZONE" > {path}.zone; echo "$*" > {path}.args\n'
        f"cat > {path}.stdin; echo '{credential}'\n"
    )
    path.chmod(0o755)
    return path


def given(plugin: Path, what: str) -> str:
    """What it was given when it was last run."""
    return Path(f"{plugin}.{what}").read_text().strip()


def kubeconfig(
    path: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **section: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    user = {"exec": {"apiVersion": VERSION, **section}} | (user or {})
    content = {
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(yaml.safe_dump(content))
    return path


async def header(path: Path) -> str:
    credentials = Credentials(path, None)
    await credentials.load()
    await credentials.fresh()
    return credentials.header


async def test_a_command_with_a_slash_is_relative_to_the_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = write_plugin(tmp_path / "bin/plugin")
    path = kubeconfig(
        tmp_path / "kube/config",
        command="../bin/plugin",
        args=["get", "token"],
        env=[{"name": "ZONE", "value": "eu"}],
        interactiveMode="IfAvailable",
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert await header(path) == "Bearer t"
    assert [given(plugin, what) for what in ("zone", "args", "stdin")] == ["eu", "get token", ""]
    info = json.loads(given(plugin, "info"))
    assert info == {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}


async def test_a_name_alone_is_looked_up_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path / "bin/our-plugin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert await header(kubeconfig(tmp_path / "config", command="our-plugin", env=None)) == "Bearer t"


@pytest.mark.parametrize("as_file", [True, False])
async def test_the_cluster_is_described_to_a_plugin_that_asks_for_it(tmp_path: Path, as_file: bool) -> None:
    plugin = write_plugin(tmp_path / "plugin")
    authority = Authority(tmp_path / "certs").certificate
    data = base64.b64encode(authority.read_bytes()).decode()
    cluster = {
        "server": "https://127.0.0.1:1",
        "tls-server-name": "kube.example.test",
        "proxy-url": "http://proxy.example.test:3128",
        "extensions": [{"name": "other", "extension": {"x": 1}}, EXTENSION],
        **({"certificate-authority": "certs/ca.crt"} if as_file else {"certificate-authority-data": data}),
    }
    await header(kubeconfig(tmp_path / "config", cluster, command=str(plugin), provideClusterInfo=True))
    assert json.loads(given(plugin, "info"))["spec"]["cluster"] == {
        "server": "https://127.0.0.1:1",
        "tls-server-name": "kube.example.test",
        "certificate-authority-data": data,
        "proxy-url": "http://proxy.example.test:3128",
        "config": {"audience": "06e3"},
    }


async def test_a_token_of_the_user_comes_before_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = kubeconfig(tmp_path / "config", user={"tokenFile": "token"}, command="/nowhere/plugin")
    assert await header(path) == "Bearer from-file"


ALWAYS = (
    "true asks questions (interactiveMode: Always), and standard input is not a terminal; start us at one, or use "
    "credentials that need no answers"
)
HINT = "Install it:\n\x1b[1msee https://example.test/login\x1b[0m"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (
            {"command": "no-such-plugin", "installHint": HINT},
            "no-such-plugin cannot be run: no such file or directory; Install it: see https://example.test/login",
        ),
        ({"command": "true", "interactiveMode": "Always"}, ALWAYS),
        (
            {"command": "true", "interactiveMode": "Sometimes"},
            "true has interactiveMode `Sometimes`, which is not one of Never, IfAvailable, Always",
        ),
    ],
)
async def test_what_keeps_a_plugin_from_being_run(
    section: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(PluginError) as caught:
        await ExecPlugin.of({"apiVersion": VERSION, **section}, Path(), {}).run(5)
    assert str(caught.value) == f"its exec plug-in {told}"


ASKED = """
import asyncio, sys
from pathlib import Path
from streamer.source.exec_plugin import ExecPlugin
section = {"apiVersion": sys.argv[1], "command": sys.argv[2], "interactiveMode": sys.argv[3]}
print(asyncio.run(ExecPlugin.of(section, Path(), {}).run(10)))
"""


@pytest.mark.parametrize(("mode", "interactive"), [("Always", True), ("IfAvailable", True), ("Never", False)])
def test_at_a_terminal_a_plugin_may_ask_unless_its_mode_forbids_it(
    tmp_path: Path, mode: str, interactive: bool
) -> None:
    plugin = write_plugin(tmp_path / "plugin", "echo 'open https://example.test/device' >&2; read code")
    outer, inner = pty.openpty()
    try:
        os.write(outer, b"123\n\x04")
        command = [sys.executable, "-c", ASKED, VERSION, str(plugin), mode]
        ended = subprocess.run(command, stdin=inner, capture_output=True, text=True, timeout=30, check=True)
    finally:
        os.close(outer)
        os.close(inner)
    assert ended.stdout == "{'token': 't'}\n"
    assert ("open https://example.test/device" in ended.stderr) == interactive
    assert json.loads(given(plugin, "info"))["spec"]["interactive"] is interactive


async def test_a_child_that_keeps_stderr_open_does_not_keep_a_plugin_from_its_end(tmp_path: Path) -> None:
    """One that starts a helper for its cache, as kubectl accepts it."""
    plugin = write_plugin(tmp_path / "plugin", "sleep 60 >/dev/null </dev/null & echo $! > child")
    plugin.write_text(plugin.read_text().replace("> child", f"> {tmp_path}/child"))
    try:
        async with asyncio.timeout(20):
            assert await header(kubeconfig(tmp_path / "config", command=str(plugin))) == "Bearer t"
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


async def test_what_a_plugin_says_last_is_heard_though_a_child_keeps_stderr_open(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\nsleep 60 >/dev/null </dev/null & echo $! > {tmp_path}/child\necho no key >&2; exit 3\n"
    )
    plugin.chmod(0o755)
    try:
        with pytest.raises(ApiConfigError, match="process returned 3: no key"):
            await header(kubeconfig(tmp_path / "config", command=str(plugin)))
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)
