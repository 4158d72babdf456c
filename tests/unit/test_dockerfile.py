"""What can be told of the image without building it; tests/integration/test_image.py builds it."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, from either of the two forms."""
        return [*map(str, json.loads(self.text))] if self.text.startswith("[") else shlex.split(self.text)


def instructions() -> list[Instruction]:
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1] != "#")
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, rest.strip()))
    return found


def named(name: str, *, last_stage: bool = False) -> list[Instruction]:
    everything = instructions()
    last = everything[-1].stage
    return [one for one in everything if one.name == name and (one.stage == last or not last_stage)]


def only(name: str) -> Instruction:
    (found,) = named(name, last_stage=True)
    return found


def copied() -> list[str]:
    """What comes from the repository."""
    copies = [one.words for one in named("COPY")]
    return [source for words in copies if not words[0].startswith("--from=") for source in words[:-1]]


def options(command: str, name: str) -> Iterator[str]:
    return (match[1] for match in re.finditer(rf"{name} (\S+)", command))


def sent_to_the_build(path: str) -> bool:
    """What .dockerignore says, as far as the patterns that it has."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        parts = path.split("/") if "**/" in line else path.split("/")[:1]
        if any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            sent = line.startswith("!")
    return sent


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("what is the repository's is known from git: run it in a clone")
    return listed.stdout.splitlines()


def hadolint(text: str) -> str:
    """What the linter has to say of it."""
    program = str(Path(sys.executable).with_name("hadolint"))
    command = [program, "--no-color", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_linter_finds_nothing() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert hadolint(text) == ""
    assert "DL3002" in hadolint(text.replace("USER 65532:65532", "USER root"))
    assert "DL3025" in hadolint(text.replace('ENTRYPOINT ["falco-streamer"]', "ENTRYPOINT falco-streamer"))


def test_the_bases_are_the_builders_to_choose() -> None:
    assert [one.text for one in named("FROM")] == ["${BASE} AS build", "${RUNTIME}"]
    base, runtime = instructions()[:2]
    assert {base.name, runtime.name} == {"ARG"}
    assert base.text.startswith("BASE=python:3.")
    # What compiles stays behind: the same Python at the same path, in the smaller image.
    release = base.text.removeprefix("BASE=python:").removesuffix("-bookworm")
    assert runtime.text == f"RUNTIME=python:{release}-slim-bookworm"


def test_what_is_copied_is_there_and_sent() -> None:
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert sent_to_the_build(path), path


def test_nothing_is_sent_that_is_not_copied() -> None:
    roots = {path.split("/")[0] for path in copied()}
    strangers = {path for path in tracked() if sent_to_the_build(path) and path.split("/")[0] not in roots}
    assert not strangers
    assert not sent_to_the_build(".git/config")
    assert not sent_to_the_build(".venv/bin/python")
    assert not sent_to_the_build("streamer/model/__pycache__/ledger.cpython-311.pyc")


def test_all_that_is_installed_is_held_to_hashes() -> None:
    installs = [
        command.strip()
        for run in named("RUN")
        for command in run.text.split("&&")
        if re.search(r"pip\b.* install|uv build", command)
    ]
    requirements = [
        file
        for command in installs
        for file in [*options(command, "-r"), *options(command, "--build-constraints")]
    ]
    assert requirements == ["requirements/uv.txt", "requirements/run.txt", "requirements/dev.txt"]
    assert set(requirements) <= set(copied())
    *hashed, wheel = installs
    assert all("--require-hashes" in command for command in hashed)
    assert wheel.endswith("--no-deps /dist/*.whl")  # our own, just built


def test_what_builds_the_wheel_has_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = (ROOT / "requirements/dev.txt").read_text()
    (hook,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"].values()
    for requirement in [*project["build-system"]["requires"], *hook["dependencies"]]:
        assert re.search(rf"^{re.escape(requirement)} \\\n +--hash=", pins, re.MULTILINE), requirement


def test_the_copied_files_are_enough_for_the_wheel(tmp_path: Path) -> None:
    for path in copied():
        source, target = ROOT / path, tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    built = subprocess.run(build, cwd=tmp_path / "src", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")  # compiled only where that is asked for
    with zipfile.ZipFile(wheel) as archive:
        entry_points = next(name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        assert "falco-streamer = streamer.__main__:main" in archive.read(entry_points).decode()
        packed = {name for name in archive.namelist() if name.startswith("streamer/")}
    ours = (path for path in (ROOT / "streamer").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert packed == {str(path.relative_to(ROOT)) for path in ours}


def test_the_core_is_compiled() -> None:
    (build,) = [one.text for one in named("RUN") if "uv build" in one.text]
    assert "HATCH_BUILD_HOOKS_ENABLE=true /opt/uv/bin/uv build" in build
    assert "hatch_build.py" in copied()


def test_it_starts_a_script_that_the_package_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (script,) = only("ENTRYPOINT").words
    assert only("ENTRYPOINT").text.startswith("[")  # no shell between the kubelet's SIGTERM and us
    assert script in project["project"]["scripts"]


def test_it_is_tried_as_the_user_that_runs_it() -> None:
    last = [one for one in instructions() if one.stage == named("FROM")[-1].stage]
    (tried,) = [one for one in last if one.name == "RUN"]
    assert tried.words == ["falco-streamer", "version"]
    assert last.index(only("USER")) < last.index(tried)


def test_user_arguments_and_port_are_those_of_the_deployment() -> None:
    pod = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user, group = map(int, only("USER").text.split(":"))
    assert (user, group) == (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"])
    assert user > 0
    assert only("CMD").words == container["args"]
    assert [int(only("EXPOSE").text)] == [port["containerPort"] for port in container["ports"]]


def test_nothing_of_the_build_is_left_but_the_environment() -> None:
    (from_build,) = named("COPY", last_stage=True)
    assert from_build.words == ["--from=build", "/opt/falco-streamer", "/opt/falco-streamer"]
    assert "/opt/falco-streamer/bin:" in only("ENV").text
