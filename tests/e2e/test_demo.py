"""`falco-streamer demo` as a newcomer sees it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import orjson

from tests.e2e.program import COMMAND, Program, environment, run

ALERT = re.compile(
    r"^\d\d:\d\d:\d\d\.\d{3}  (NOTICE|WARNING|ERROR|CRITICAL|INFORMATIONAL|DEBUG) +\S", re.MULTILINE
)


def test_it_runs_by_itself_and_accounts_for_every_line(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    done = run("demo", "--seconds", "3", "--ledger", ledger)
    out, said = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, said
    found = orjson.loads(ledger.read_bytes())
    assert found["balanced"] is True
    assert found["published"] == len(ALERT.findall(out)) > 0
    assert re.fullmatch(r"The alerts are at http://127\.0\.0\.1:\d+/", said.splitlines()[0])
    assert "at least once" in said
    assert "\x1b" not in out + said
    assert said.splitlines()[-1].endswith("balanced")
    assert re.search(r"^(\d+) of \1 records read back", said, re.MULTILINE)


def test_on_a_terminal_it_has_colours_and_the_ledger_and_ctrl_c_ends_it_in_order() -> None:
    with Program("demo", "--rate", "30", terminal=True) as demo:
        demo.until(r"\x1b\[3\dm(WARNING|ERROR|NOTICE)")
        demo.until(r"\d+ lines[^\n]*published, [^\n]*balanced")
        demo.type(b"\x03")
        assert demo.end() == 0, demo.text
    plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", demo.text)
    assert "balanced" in plain.splitlines()[-1]
    # Of all that is rewritten in place nothing is wider than the terminal: it would leave its beginning behind.
    rows = [
        row for line in plain.split("\r\n") for row in line.split("\r") if "lines;" in row or "lines =" in row
    ]
    assert len(rows) > 1
    assert all(len(row) < 80 for row in rows[:-1])


def test_whoever_has_seen_enough_may_close_the_pipe() -> None:
    with subprocess.Popen(
        [*COMMAND, "demo", "--rate", "50"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert ALERT.match(process.stdout.readline().decode())
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(timeout=20) == 0, said
    assert "Traceback" not in said
