"""What people read when a configuration is wrong, one golden text for each kind of error.

`GOLDEN=write pytest tests/unit/config/test_golden.py` writes them anew; read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from streamer.config import ConfigError, load

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def told(case: str) -> str:
    text = (GOLDEN / f"{case}.yaml").read_text(encoding="utf-8", errors="replace")
    flags = re.findall(r"^# set (.*)$", text, re.MULTILINE)
    environ = dict(re.findall(r"^# env (\w+)=(.*)$", text, re.MULTILINE))
    with pytest.raises(ConfigError) as caught:
        load(Path(f"{case}.yaml"), flags, environ)
    return f"{caught.value}\n"


@pytest.mark.parametrize("case", CASES)
def test_errors_read_as_in_the_golden_file(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    golden = GOLDEN / f"{case}.txt"
    text = told(case)
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_there_is_a_golden_text_for_every_case_and_no_other() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == CASES


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.startswith(("secret", "security", "overrides"))]
)
def test_no_secret_is_ever_shown(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert "hunter" not in told(case)
