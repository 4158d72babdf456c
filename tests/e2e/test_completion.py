"""Tab in a real bash, as the script of `falco-streamer completion` makes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import environment

BASH = shutil.which("bash")
_TAB = """
source <(falco-streamer completion bash) || exit 1
complete -p falco-streamer >/dev/null || exit 2
read -r -a COMP_WORDS <<<"$LINE"
case $LINE in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_falco_streamer_completion falco-streamer
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(BASH is None, reason="bash is not there: install it")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("falco-streamer to", ["topics"]),
        ("falco-streamer topics ", ["acls", "create", "list", "verify"]),
        ("falco-streamer tap --priority e", ["emergency", "error"]),
        ("falco-streamer replay --to ", ["kafka", "stdout", "null"]),
        ("falco-streamer zz", [""]),
    ],
)
def test_tab_offers_what_can_come_next(line: str, offered: list[str]) -> None:
    folder = Path(sys.executable).parent
    environ = environment({"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "LINE": line})
    done = subprocess.run(
        [str(BASH), "--norc", "-c", _TAB], capture_output=True, text=True, check=False, env=environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == offered
