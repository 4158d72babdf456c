"""The image, built from the Dockerfile by the real buildah.

No registry of images can be counted on here, so Debian's packages stand in for what would be pulled from one, put
together by mmdebstrap: BASE has Python with its venv module and headers, a C compiler and a shell, as python:3 has;
RUNTIME is like a distroless image: Python and libraries, no shell, no pip, no package manager. What pip and uv need on
this machine to reach the package registry goes into the stand-in for BASE, where a company's own base image would have
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.testbed.parts import BuildError, Part, PartMissing, run

ROOT = Path(__file__).parents[2]

# Its Python, 3.11, is the oldest that we support.
_SUITE = "bookworm"
_BUILD = ["--variant=essential"]
_BUILD += ["--include=python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates,libstdc++6"]
# `extract` unpacks these packages and what they need, and not even all that Debian calls essential.
_RUNTIME = ["--variant=extract", "--include=python3.11,libstdc++6"]
_RUNTIME += ['--extract-hook=ln -s python3.11 "$1/usr/bin/python3" && cd "$1" && rm usr/bin/dpkg* bin/tar']
_QUICK = ["--quiet", "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"]
_QUICK += ["--dpkgopt=path-exclude=/usr/share/locale/*"]

# Variables that say where the package registry is and whom to trust.
_REGISTRY = re.compile(
    r"PIP_(CERT|(EXTRA_)?INDEX_URL|PROXY|TRUSTED_HOST|DEFAULT_TIMEOUT)"
    r"|UV_((DEFAULT_)?INDEX|(EXTRA_)?INDEX_URL|INSECURE_HOST|HTTP_TIMEOUT)"
    r"|SSL_CERT_FILE|(HTTPS?|NO)_PROXY|(https?|no)_proxy"
)
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def needs(*programs: str) -> None:
    """Raise PartMissing unless this machine has these programs and lets us be root."""
    packages = ", ".join(programs)
    if os.geteuid() != 0:
        raise PartMissing(f"the image is built and run as root, by {packages}: run the tests as root")
    if missing := [program for program in programs if not shutil.which(program)]:
        raise PartMissing(f"the image is built and run by {packages}: apt-get install {' '.join(missing)}")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "true"]
    if subprocess.run(namespaces, capture_output=True, check=False).returncode:
        raise PartMissing("the image is built and run in namespaces: run the tests where root may make them")


def _bootstrap(_part: Part, into: Path) -> None:
    needs("buildah", "mmdebstrap")
    for name, packages in (("base", _BUILD), ("runtime", _RUNTIME)):
        command = ["mmdebstrap", *_QUICK, *packages, _SUITE, str(into / f"{name}.tar")]
        # Every file's time: the same packages are the same archive.
        run(command, where=into, environment={"SOURCE_DATE_EPOCH": "1700000000"})


def _stand_ins() -> Path:
    """Return the folder with both bases' files, as archives."""
    flags = [*_QUICK, *_BUILD, *_RUNTIME]
    return Part("image-bases", _SUITE, [], flags, takes="1 to 2 min", build=_bootstrap).folder()


@dataclass(frozen=True)
class Image:
    """One that was built."""

    store: Images
    name: str
    config: Mapping[str, Any]
    """What the OCI image specification calls that: User, Env, Entrypoint, Cmd, Labels, ExposedPorts."""
    log: str
    """What was printed while it was built."""

    @contextlib.contextmanager
    def files(self) -> Iterator[Path]:
        """Its files, with a layer of their own to write to."""
        container = self.store.buildah("from", "--pull-never", self.name)
        try:
            yield Path(self.store.buildah("mount", container))
        finally:
            self.store.buildah("rm", container)


class Images:
    """A store of images of its own, with the bases in it, as a context manager; close() removes it."""

    def __init__(self) -> None:
        needs("buildah", "mmdebstrap", "runc")
        self._bases = _stand_ins()
        self.folder = Path(tempfile.mkdtemp(prefix="falco-streamer-images-"))

    def build(self, name: str, **arguments: str) -> Image:
        """Build the repository's Dockerfile anew, with nothing of an earlier build; BuildError if that fails."""
        given = {"BASE": "localhost/base", "RUNTIME": "localhost/base", **arguments}
        flags = [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]
        # One time for all files: when it was built is not what is compared.
        how = ["--isolation", "chroot", "--pull-never", "--no-cache", "--timestamp", "0"]
        log = self.buildah("bud", *how, *flags, "--tag", f"localhost/{name}", str(ROOT), with_errors=True)
        described = json.loads(self.buildah("inspect", "--type", "image", f"localhost/{name}"))
        return Image(self, f"localhost/{name}", described["OCIv1"]["config"], log)

    def buildah(self, *arguments: str, with_errors: bool = False) -> str:
        """Run buildah on this store; what it printed."""
        command = ["buildah", "--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise BuildError(f"buildah {arguments[0]} ended with {done.returncode}:\n{last}")
        return (done.stdout + done.stderr if with_errors else done.stdout).strip()

    def _import(self, name: str, archive: Path, *changes: Sequence[str]) -> None:
        container = self.buildah("from", "scratch")
        self.buildah("add", container, str(archive), "/")
        for command, *rest in changes:
            self.buildah(command, *[container if word == "CONTAINER" else word for word in rest])
        self.buildah("commit", "--timestamp", "0", container, f"localhost/{name}")
        self.buildah("rm", container)

    def _for_the_registry(self) -> Iterator[list[str]]:
        """How this machine reaches the package registry, as steps of buildah."""
        given = {name: value for name, value in os.environ.items() if value and _REGISTRY.fullmatch(name)}
        copies = {path: path for path in map(Path, given.values()) if path.is_file()}
        if _AUTHORITIES.is_file():
            copies[_AUTHORITIES] = _AUTHORITIES
        for tool, name in (("pip", "pip.conf"), ("uv", "uv.toml")):
            theirs, all_users = Path.home() / ".config" / tool / name, Path("/etc") / name
            target = Path("/etc") / name if tool == "pip" else Path("/etc/uv") / name
            copies |= {found: target for found in (all_users, target, theirs) if found.is_file()}
        for source, target in copies.items():
            yield ["copy", "CONTAINER", str(source), str(target)]
        for name, value in given.items():
            yield ["config", "--env", f"{name}={value}", "CONTAINER"]

    def close(self) -> None:
        """Remove it, with all images."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Fill it with the bases."""
        try:
            self._import("base", self._bases / "base.tar", *self._for_the_registry())
            self._import("runtime", self._bases / "runtime.tar")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
