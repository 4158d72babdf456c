"""The image, really built from the Dockerfile, on stand-ins for the registry's base images: what is in it."""

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import streamer
from tests.testbed.container import Container
from tests.testbed.image import ROOT, Image, Images

# The first time, the stand-ins are made.
pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

APPLICATION = "opt/falco-streamer"
MEGABYTES = 155
"""What we add to a base: 139, of which 75 are the Kubernetes client, of which there is no smaller one that renews
tokens. What grows this by a tenth has to be wanted."""

POD: dict[str, Any] = {
    "metadata": {"name": "look"},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
            }
        ],
    },
}


@pytest.fixture(scope="module")
def root(image: Image) -> Iterator[Path]:
    with image.files() as files:
        yield files


Done = subprocess.CompletedProcess[str]


def run(image: Image, root: Path, folder: Path, **given: object) -> Done:
    """Run it without volumes, as a container that is given these keys."""
    (container,) = POD["spec"]["containers"]
    pod = {**POD, "spec": {**POD["spec"], "containers": [container | given]}}
    return Container(folder, image, root, pod, volumes={}, variables={}).run()


def printed(done: Done) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def content(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Each file of ours: its mode, owner, time, and a digest of what it holds."""
    found = {}
    for path in sorted((root / APPLICATION).rglob("*")):
        about = path.lstat()
        if path.is_symlink():
            holds = os.readlink(path)
        else:
            holds = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (about.st_mode, about.st_uid, int(about.st_mtime), holds)
    return found


def test_it_says_what_it_is_and_how_it_is_run(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["falco-streamer"]
    assert image.config["Cmd"] == ["run", "--config", "/etc/falco-streamer/streamer.yaml"]
    assert image.config["ExposedPorts"] == {"8080/tcp": {}}
    ours = {
        key: value for key, value in image.config["Labels"].items() if key.startswith("org.opencontainers.")
    }
    assert ours == {
        "org.opencontainers.image.title": "falco-streamer",
        "org.opencontainers.image.description": "Falco's alerts from Kubernetes pod logs to Kafka, exactly once.",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": streamer.__version__,
        "org.opencontainers.image.revision": "0123abc",
    }


def test_nothing_of_the_builders_machine_is_in_it(image: Image) -> None:
    names = {line.partition("=")[0] for line in image.config["Env"]}
    assert names == {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def test_it_was_tried_while_it_was_built(image: Image) -> None:
    assert f"\nfalco-streamer {streamer.__version__}\n" in image.log


def test_it_runs_with_nothing_to_write_to(image: Image, root: Path, tmp_path: Path) -> None:
    assert printed(run(image, root, tmp_path, args=["version"])) == f"falco-streamer {streamer.__version__}\n"


def test_its_core_is_compiled(image: Image, root: Path, tmp_path: Path) -> None:
    assert (
        json.loads(printed(run(image, root, tmp_path, args=["version", "-o", "json"])))["core"] == "compiled"
    )


def test_without_arguments_it_looks_for_its_settings_where_they_are_mounted(
    image: Image, root: Path, tmp_path: Path
) -> None:
    done = run(image, root, tmp_path)
    assert done.returncode == 78
    assert "/etc/falco-streamer/streamer.yaml" in done.stderr


def test_it_has_what_the_requirements_name_and_nothing_else(image: Image, root: Path, tmp_path: Path) -> None:
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    other_python = {"async-timeout"}  # for Python before 3.11.3, Debian's is 3.11.2
    listing = "import importlib.metadata as m; [print(d.name.lower(), d.version) for d in m.distributions()]"
    lines = printed(run(image, root, tmp_path, command=["python", "-c", listing])).splitlines()
    installed = {name.replace("_", "-"): version for name, version in map(str.split, lines)}
    assert installed.pop("falco-streamer") == streamer.__version__
    assert installed.keys() - other_python == {name for name, _ in pins} - other_python
    assert installed.items() <= set(pins)


def test_no_tool_to_build_or_install_with_and_no_shell_is_in_it_nor_missed(root: Path) -> None:
    programs = {
        path.name
        for folder in (f"{APPLICATION}/bin", "bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin")
        for path in (root / folder).glob("*")
    }
    assert {"falco-streamer", "python3"} <= programs
    tools = re.compile(
        r"pip\d?.*|uv|uvx|gcc.*|cc|c\+\+|g\+\+.*|make|ld|as|apt.*|dpkg|curl|wget|git|sh|bash|dash|busybox"
    )
    assert {name for name in programs if tools.fullmatch(name)} == set()
    assert not list(root.rglob("ensurepip/_bundled/*.whl"))
    assert not list((root / "usr/share").glob("python-wheels/*"))
    assert not any((root / path).exists() for path in ("src", "dist", "opt/uv", "root/.cache"))


def test_nobody_but_root_could_write_to_our_files_and_none_makes_its_user_another(root: Path) -> None:
    for path in [root / APPLICATION, *(root / APPLICATION).rglob("*")]:
        about = path.lstat()
        assert (about.st_uid, about.st_gid) == (0, 0), path
        if not path.is_symlink():
            assert not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID), path


def test_all_that_a_worker_loads_is_compiled(image: Image, root: Path, tmp_path: Path) -> None:
    # Nothing can be written beside it later, so it would be compiled anew at each start.
    looking = """
import os, sys, streamer.app, streamer.cli.run
ours = [m for m in list(sys.modules.values()) if (getattr(m, "__file__", None) or "").startswith("/opt/")]
print(*[m.__file__ for m in ours if m.__file__.endswith(".py") and not os.path.exists(m.__cached__)])
print(len(ours))
"""
    looked = printed(run(image, root, tmp_path, command=["python", "-c", looking]))
    uncompiled, loaded = looked.splitlines()
    assert uncompiled == ""
    assert int(loaded) > 500


def test_what_we_add_to_the_base_is_small(root: Path) -> None:
    files = [path for path in (root / APPLICATION).rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    print(f"{size / 1e6:.0f} MB in {len(files)} files")  # noqa: T201  # for whoever raises the bound
    assert size < MEGABYTES * 1e6


def test_the_same_commit_is_the_same_image_whichever_base_it_runs_on(images: Images, root: Path) -> None:
    # Anew, with its default: what it was built on is what it runs on.
    again = images.build("again", REVISION="0123abc")
    assert f"\nfalco-streamer {streamer.__version__}\n" in again.log
    with again.files() as files:
        assert content(files) == content(root)
