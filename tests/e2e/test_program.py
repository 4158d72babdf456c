"""The program as a process, whatever the command: how it is interrupted, and where its output cannot go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.program import COMMAND, environment, heed_interrupts, run

SCRIPT = Path(sys.executable).with_name("falco-streamer")


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN], ids=["in front", "as a shell starts jobs"])
def inherited(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a shell without job control does with Ctrl-C for `make test &` must not decide a test."""
    former = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("inherited")
@pytest.mark.parametrize("command", [COMMAND, [str(SCRIPT)]], ids=["module", "script"])
def test_interrupted_while_it_loads_it_ends_without_a_word(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)\n")
    with subprocess.Popen(
        [*command, "version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment({"PYTHONPATH": str(tmp_path)}),
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # the child has one thread
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("command", [COMMAND, [str(SCRIPT)]], ids=["module", "script"])
def test_it_is_one_program_by_both_names(command: list[str]) -> None:
    done = subprocess.run([*command, "version"], capture_output=True, check=True, env=environment())
    assert done.stdout == run("version").stdout


@pytest.mark.parametrize("arguments", [["version"], ["check", "--partial", "--show"], ["run", "--help"]])
def test_a_disk_that_is_full_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, check=False, env=environment()
        )
    *_, line = done.stderr.decode().splitlines()
    assert (done.returncode, line) == (1, "error: standard output: No space left on device")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["version"], ["check", "--partial", "--show"], ["--help"]])
def test_a_pipe_that_nobody_reads_is_no_matter_for_words(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, check=False, env=environment()
    )
    os.close(writing)
    assert done.returncode == 1
    assert not [line for line in done.stderr.splitlines() if not line.startswith(b"warning: ")]
