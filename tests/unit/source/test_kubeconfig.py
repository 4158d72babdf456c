"""What people read when a kubeconfig leads nowhere: one line that names the file, the cause and the fix."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.source.api import ApiConfigError, connect


def kubeconfig(**more: Any) -> dict[str, Any]:
    """A sound one, with what a test puts in place of its keys."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": more.pop("user", {"token": "t"})}],
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("prod-eu", "staging")
        ],
        "current-context": "prod-eu",
        **more,
    }


def write(path: Path, **more: Any) -> None:
    path.write_text(yaml.safe_dump(kubeconfig(**more)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


async def told(path: Path | None, context: str | None = None) -> str:
    """What is said, without its beginning."""
    with pytest.raises(ApiConfigError) as caught:
        async with connect(path, context):
            pass
    text = str(caught.value)
    assert "\n" not in text
    beginning, text = text[:30], text[30:]
    assert beginning == "no way to the Kubernetes API: "
    return text


async def test_a_sound_one_is_taken_also_by_another_context(path: Path) -> None:
    write(path)
    for context in (None, "staging"):
        async with connect(path, context) as api:
            assert api.host == "http://127.0.0.1:1"


async def test_a_file_that_is_not_there(path: Path) -> None:
    assert await told(path) == f"there is no file {path}; set kubernetes.kubeconfig to yours"


async def test_no_kubeconfig_at_all(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        "kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / ".kube/config")
    )
    fix = "set kubernetes.kubeconfig, or run in a pod with a service account (automountServiceAccountToken)"
    assert await told(None) == f"no service account, as pods have it, and no {tmp_path}/.kube/config; {fix}"
    monkeypatch.setenv("KUBECONFIG", str(path))
    beginning = f"no service account, as pods have it, and KUBECONFIG names {path}, which is not there; "
    assert await told(None) == beginning + fix


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", " is empty"),
        (b"# nothing\n", " is empty"),
        (b"just words\n", " is not a kubeconfig: expected a mapping"),
        (b"- a\n", " is not a kubeconfig: expected a mapping"),
        (b"clusters:\n\t- name: c\n", ":2:1 is not valid YAML: found character '\\t' that cannot start any token"),
        (b"\xff\xfe\x00binary", " is not text"),
        (b"a: b\n", ": it has no contexts: is it a kubeconfig?"),
    ],
)  # fmt: skip
async def test_files_that_are_no_kubeconfig(path: Path, content: bytes, cause: str) -> None:
    await asyncio.to_thread(path.write_bytes, content)
    assert await told(path) == f"{path}{cause}"


async def test_a_folder(tmp_path: Path) -> None:
    assert await told(tmp_path) == f"{tmp_path} cannot be read: is a directory"


async def test_a_context_that_there_is_not(path: Path) -> None:
    write(path)
    assert await told(path, "prod-us") == (
        f"{path}: it has no context `prod-us`, did you mean `prod-eu`?; set kubernetes.context to one of "
        "prod-eu, staging"
    )


@pytest.mark.parametrize(
    ("current", "cause"),
    [
        (None, "it has no current-context"),
        ("", "it has no current-context"),
        ("old", "its current-context `old` is not among its contexts"),
    ],
)
async def test_no_context_is_chosen(path: Path, current: str | None, cause: str) -> None:
    write(path, **{"current-context": current})
    assert await told(path) == f"{path}: {cause}; set kubernetes.context to one of prod-eu, staging"


async def test_a_certificate_that_is_not_there(path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": "/nowhere/ca.crt"}
    write(path, clusters=[{"name": "c", "cluster": cluster}])
    assert await told(path) == f"{path}: File does not exists: /nowhere/ca.crt"


async def test_an_authority_that_is_not_pem_is_named(path: Path, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("nothing")
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": str(authority)}
    write(path, clusters=[{"name": "c", "cluster": cluster}])
    wanted = (
        f"{path}: certificate-authority {authority} cannot be used; it must be a PEM file with certificates"
    )
    assert await told(path) == wanted


async def test_a_server_without_a_scheme_is_refused(path: Path) -> None:
    write(path, clusters=[{"name": "c", "cluster": {"server": "127.0.0.1:6443"}}])
    assert await told(path) == f"{path}: the cluster's server `127.0.0.1:6443` has no https:// before it"


@pytest.mark.parametrize(("name", "instead"), [("gcp", "gke-gcloud-auth-plugin"), ("azure", "kubelogin")])
async def test_a_provider_that_kubectl_dropped_is_refused(path: Path, name: str, instead: str) -> None:
    write(path, user={"auth-provider": {"name": name, "config": {}}})
    assert (
        f"its auth-provider {name} was dropped by kubectl 1.26; use the exec plug-in {instead}"
        in await told(path)
    )


async def test_an_exec_plugin_of_a_dropped_version_is_refused(path: Path) -> None:
    section = plugin("sh", "-c", "exit 1")
    section["exec"]["apiVersion"] = "client.authentication.k8s.io/v1alpha1"
    write(path, user=section)
    assert "has apiVersion client.authentication.k8s.io/v1alpha1, which kubectl 1.24 dropped" in await told(
        path
    )


def plugin(command: str, *arguments: str) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": command, "args": [*arguments]}}


CREDENTIAL = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {%s}}'


async def test_an_exec_plugin_that_works_is_run_once(path: Path, tmp_path: Path) -> None:
    credential = CREDENTIAL % '"token": "t"'
    write(path, user=plugin("sh", "-c", f"echo x >> {tmp_path}/ran; echo '{credential}'"))
    async with connect(path, None):
        assert (await asyncio.to_thread((tmp_path / "ran").read_text)) == "x\n"


@pytest.mark.parametrize(
    ("user", "cause"),
    [
        (plugin("no-such-plugin"), "no-such-plugin cannot be run: no such file or directory"),
        (
            plugin("sh", "-c", "echo trying; echo trying >&2; echo log in first >&2; exit 3"),
            "sh failed: process returned 3: log in first",
        ),
        (plugin("echo", "x"), "echo failed: failed to decode process output: Expecting value: line 1 column 1 (char 0)"),  # noqa: E501
        (plugin("echo", CREDENTIAL % ""), "echo gives neither token nor certificate"),
    ],
)  # fmt: skip
async def test_an_exec_plugin_that_fails_is_named_with_what_it_said(
    path: Path, user: dict[str, Any], cause: str
) -> None:
    write(path, user=user)
    by_hand = (
        "run the plug-in by hand: it must end by itself, without a question, and print an ExecCredential"
    )
    assert await told(path) == f"{path}: its exec plug-in {cause}; {by_hand}"
