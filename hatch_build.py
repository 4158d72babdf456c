"""Compiles the core with mypyc into wheels that are built with HATCH_BUILD_HOOKS_ENABLE=true.

Any other wheel, and an editable install, is pure Python and does the same (docs/decisions/0021-compiled-core.md).
Needed are a C compiler and Python's headers; what is missing fails the build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES: Final = ("streamer/model", "streamer/transform")
"""Their modules: pure, typed, and where a worker's time goes."""
_INTERPRETED: Final = {
    "__init__.py",  # Python reads a package before its modules
    "position.py",  # a subclass of bytes has no native form
}
_SETUP: Final = """\
import sys
from mypyc.build import mypycify
from setuptools import setup

# Libraries that are not there while a wheel is built are used without their types, as they were not there.
arguments = ["--config-file=", "--ignore-missing-imports", *sys.argv[1:]]
modules = mypycify(arguments, group_name="streamer.core", debug_level="0")
setup(name="core", packages=[], ext_modules=modules, script_args=["build_ext", "--build-lib", "made"])
"""


class CompiledCore(BuildHookInterface[Any]):
    """The hook; hatchling finds it by this file's name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a folder of its own: nothing is written next to the source."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="falco-streamer-core-")
        folder = Path(self._folder.name)
        shutil.copytree(
            Path(self.root) / "streamer", folder / "streamer", ignore=shutil.ignore_patterns("*.pyc", "*.so")
        )
        modules = sorted(
            str(path.relative_to(folder))
            for package in PACKAGES
            for path in (folder / package).glob("*.py")
            if path.name not in _INTERPRETED
        )
        self.app.display_info(f"compiling {len(modules)} modules")
        # The same source gives the same bytes: mypyc has sets of names.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-c", _SETUP, *modules]
        subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603 - all of it is ours
        made = folder / "made"
        for path in sorted(made.rglob("*.so")):
            build_data["force_include"][str(path)] = str(path.relative_to(made))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was made, once it is in the wheel."""
        if version != "editable":
            self._folder.cleanup()
