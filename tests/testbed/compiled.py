"""`python -m tests.testbed.compiled [pytest's arguments]`: the core's tests on its compiled form, the image's."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.testbed.parts import BuildError, Part, PartMissing, run

ROOT = Path(__file__).parents[2]
_TESTS = ["tests/unit/transform", "tests/unit/model", "tests/model", "tests/adversarial"]
_CHECK = "from streamer.telemetry.build import CORE; assert CORE == 'compiled', CORE"


def _build(_part: Part, into: Path) -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(compiler):
        raise PartMissing(f"the core is compiled with {compiler}: apt-get install gcc libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise PartMissing("the core is compiled with Python's headers: apt-get install python3-dev")
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", name]
        run(command, where=ROOT, environment={"HATCH_BUILD_HOOKS_ENABLE": "true"})
        (wheel,) = Path(name).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into, [name for name in archive.namelist() if name.endswith(".so")])


def libraries() -> Path:
    """Return the folder of what is compiled of this source; PartMissing without a compiler."""
    packages = [ROOT / "streamer/model", ROOT / "streamer/transform"]
    inputs = [path for package in packages for path in package.glob("*.py")]
    inputs += [ROOT / "hatch_build.py", ROOT / "requirements/dev.txt"]
    version = str(sys.implementation.cache_tag)
    return Part("compiled-core", version, inputs, [], takes="1 min", build=_build).folder()


@contextlib.contextmanager
def installed() -> Iterator[dict[str, str]]:
    """Give the environment in which `streamer` is this source with its core compiled. Raises as `libraries` does."""
    compiled = libraries()
    with tempfile.TemporaryDirectory(prefix="falco-streamer-compiled-") as name:
        shutil.copytree(ROOT / "streamer", Path(name, "streamer"))
        shutil.copytree(compiled, name, dirs_exist_ok=True)
        # Before the source, to which the editable install leads: and that folder is not to be looked into first.
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONSAFEPATH": "1"}
        subprocess.run([sys.executable, "-c", _CHECK], cwd=ROOT, env=environment, check=True)
        yield environment


def main() -> int:
    """Return pytest's exit code; 0 with one line on stderr where the core cannot be compiled, in CI 1."""
    try:
        with installed() as environment:
            tests = [sys.executable, "-m", "pytest", "-q", "-n", "auto", *(sys.argv[1:] or _TESTS)]
            return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode
    except (PartMissing, BuildError) as failure:
        sys.stderr.write(f"testbed: {failure}\n")
        return 1 if os.environ.get("CI") or isinstance(failure, BuildError) else 0


if __name__ == "__main__":
    sys.exit(main())
