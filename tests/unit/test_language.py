"""Phrases that the texts of the project avoid, which are more than one word; tools/words.txt has the words."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ = ["*.md", "config", "k8s", "examples", "bench", "tools", "streamer"]
LATER = ("streamer/source/", "streamer/view/")
"""Not in this language yet."""
PHRASES = {
    r"(?<![Tt]here )\b(is|are) no (?!longer|more|other|such|need|way|place|alerts|one|previous)\w": "is not a",
    r"\bsay a gap\b": "report a gap",
    r"\byet will not do\b": "cannot be used",
    r"\bis it so\b": "status",
}


def files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *READ], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [name for name in listed if not name.startswith(LATER)]


@pytest.mark.parametrize(("phrase", "instead"), PHRASES.items())
def test_a_phrase_is_nowhere(phrase: str, instead: str) -> None:
    found = []
    for name in files():
        text = (ROOT / name).read_bytes().decode(errors="replace")
        found += [f"{name}: {match[0]!r}: {instead}" for match in re.finditer(phrase, text)]
    assert found == []
