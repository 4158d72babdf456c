"""What people see of a long replay."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from streamer.cli.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, size in zip(paths, (3000, 1000), strict=True):
        path.write_bytes(b"x" * size)
    return [str(path) for path in paths]


def test_on_a_terminal_one_line_is_rewritten(files: list[str]) -> None:
    out, clock = Terminal(), Clock()
    progress = Progress(out, files, clock)
    clock.now += 0.1
    progress.show(5)
    assert out.getvalue() == ""
    clock.now += 9.9
    progress.at(1000)
    progress.show(20_000)
    assert out.getvalue() == "\r\x1b[K[#####---------------] 25%, 20,000 lines, 2,000 a second, 0:30 left"
    progress.end_file()
    progress.at(500)
    clock.now += 60
    progress.show(70_000)
    assert out.getvalue().endswith("88%, 70,000 lines, 1,000 a second, 0:10 left")
    progress.end()
    assert out.getvalue().endswith("\r\x1b[K")


def test_elsewhere_a_plain_line_comes_now_and_then(files: list[str]) -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, files, clock)
    progress.at(2000)
    for _ in range(25):
        clock.now += 1
        progress.show(1000)
    progress.end()
    assert out.getvalue().splitlines() == [
        "replay: 50%, 1,000 lines, 100 a second, 0:10 left",
        "replay: 50%, 1,000 lines, 50 a second, 0:20 left",
    ]


def test_of_standard_input_no_end_is_known(files: list[str]) -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, [*files, "-"], clock)
    clock.now += 10
    progress.show(100)
    assert out.getvalue() == "replay: 100 lines, 10 a second\n"
