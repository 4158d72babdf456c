"""What the test bed is made of: each part built once, from pinned inputs, into a cache of its own.

The cache is outside the repository: FALCO_STREAMER_CACHE, else the user's cache folder.
A part's folder in the cache is named after its version and the hash of everything it is built from, so a
changed pin is a new folder and an old checkout finds its own again. A folder with that name is always whole:
it is built beside and renamed.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


class PartMissing(Exception):  # noqa: N818 - it is not a fault, a fixture makes it a skip
    """A part cannot be had on this machine; the message is one line that says what to install."""


class BuildError(Exception):
    """The toolchain is there but refused; the message ends with the last lines it said."""


@dataclass(frozen=True)
class Part:
    """One thing to build: `build` fills an empty folder, which then is the part."""

    name: str
    version: str
    inputs: Sequence[Path]
    flags: Sequence[str]
    takes: str
    """How long the first time takes, for the line of progress."""
    build: Callable[["Part", Path], None]

    def folder(self) -> Path:
        """Return the part's folder, building it first if this machine has never had it.

        Raises PartMissing without the toolchain, BuildError when it fails.
        """
        digest = hashlib.sha256("\0".join([platform.machine(), *self.flags]).encode())
        for path in sorted(self.inputs):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        folder = cache() / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"
        if not folder.is_dir():
            with _locked(self.name):
                if not folder.is_dir():  # another run may have built it while this one waited
                    self._build(folder)
        return folder

    def _build(self, folder: Path) -> None:
        for left_behind in folder.parent.glob(f"{self.name}-*.building-*"):
            shutil.rmtree(left_behind)  # of a run that was killed: we hold the lock, so nobody is at it
        building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))
        began = time.monotonic()
        _say(f"building {self.name} {self.version} ({self.takes}, once) ...")
        try:
            self.build(self, building)
            building.rename(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        _say(f"{self.name} {self.version} is built ({time.monotonic() - began:.0f} s)")


def _say(progress: str) -> None:
    sys.stderr.write(f"testbed: {progress}\n")
    sys.stderr.flush()


def cache() -> Path:
    """Return the folder that everything is built into."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "falco-streamer"
    folder = Path(os.environ.get("FALCO_STREAMER_CACHE") or user) / "testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    # The kernel drops the lock with its holder, however that ends; the empty file may stay.
    with (cache() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another run is building {name}, waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], *, where: Path, environment: Mapping[str, str]) -> None:
    """Run a step of building; BuildError with its last words if it fails."""
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise BuildError(f"{' '.join(command[:3])} ... ended with {done.returncode}:\n{last}")


# ---- Go: modules below go/, each with a go.sum that names everything

# Local: a Go that is too old is to be named, not replaced by a download. Readonly: go.mod and go.sum are the
# pins, a build that would change them is refused. Without cgo the programs need no C compiler.
GO = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "CGO_ENABLED": "0"}


@dataclass(frozen=True)
class _Program:
    """A main package of one of the modules."""

    module: str
    package: str
    pinned_by: str
    """The requirement in go.mod whose version is the program's."""
    takes: str
    source: str = ""
    """The package to build, where it is another module's: a `tool` of go.mod."""

    @property
    def where(self) -> Path:
        return HERE / "go" / self.module

    @property
    def pins(self) -> str:
        return (self.where / "go.mod").read_text()

    def path(self, symbols: str = "") -> Path:
        """Return the program, built."""
        part = Part(
            name=self.package,
            version=self.version,
            inputs=[self.where / "go.mod", self.where / "go.sum", *(self.where / self.package).glob("*.go")],
            flags=["-trimpath", "-buildvcs=false", f"-ldflags=-s -w{symbols}"],
            takes=self.takes,
            build=self._build,
        )
        return part.folder() / self.package

    @property
    def version(self) -> str:
        pin = re.search(rf"^(?:require )?\s*{re.escape(self.pinned_by)} (v\S+)", self.pins, re.MULTILINE)
        assert pin, f"{self.where}/go.mod does not pin {self.pinned_by}"
        return pin[1]

    def _build(self, part: Part, into: Path) -> None:
        self._check_toolchain()
        source = self.source or f"./{self.package}"
        command = ["go", "build", *part.flags, "-o", str(into / self.package), source]
        run(command, where=self.where, environment=GO)

    def _check_toolchain(self) -> None:
        wanted = re.search(r"^go (\d+)\.(\d+)", self.pins, re.MULTILINE)
        assert wanted, f"{self.where}/go.mod has no go directive"
        need = f"the test bed's {self.package} is built with Go {wanted[1]}.{wanted[2]} or newer"
        if not shutil.which("go"):
            raise PartMissing(f"{need}: install it and have `go` on PATH")
        asked = ["go", "env", "GOVERSION"]
        said = subprocess.run(asked, env={**os.environ, **GO}, capture_output=True, text=True, check=False)
        found = re.match(r"go(\d+)\.(\d+)", said.stdout)
        if found and (int(found[1]), int(found[2])) < (int(wanted[1]), int(wanted[2])):
            raise PartMissing(f"{need}, found {said.stdout.strip()}: install a newer one")


_ETCD = _Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "about 1 min")
_APISERVER = _Program("kubernetes", "kube-apiserver", "k8s.io/kubernetes", "4 to 6 min on 2 cores")
_KUBECTL = _Program("kubectl", "kubectl", "k8s.io/kubectl", "1 to 2 min")
_KUBELET = _Program("kubernetes", "kubelet", "k8s.io/cri-client", "seconds, after the API server")
_NODE_KUBELET = _Program(
    "kubernetes", "node-kubelet", "k8s.io/kubernetes", "1 to 2 min, after the API server"
)
_REMOVE_CONTAINER = _Program(
    "kubernetes", "remove-container", "k8s.io/cri-client", "seconds, after the kubelet"
)
_CONTAINERD, _CTR, _SHIM = (
    _Program(
        "containerd",
        package,
        "github.com/containerd/containerd/v2",
        takes,
        source=f"github.com/containerd/containerd/v2/cmd/{package}",
    )
    for package, takes in (
        ("containerd", "2 to 3 min"),
        ("ctr", "seconds, after containerd"),
        ("containerd-shim-runc-v2", "seconds, after containerd"),
    )
)
_PRINTER = _Program("containerd", "printer", "github.com/containerd/containerd/v2", "seconds")
_HELM = _Program("helm", "helm", "helm.sh/helm/v4", "1 to 3 min", source="helm.sh/helm/v4/cmd/helm")
_HELMFILE = _Program(
    "helmfile",
    "helmfile",
    "github.com/helmfile/helmfile",
    "about 4 min",
    source="github.com/helmfile/helmfile",
)


_PROMTOOL = _Program(
    "promtool",
    "promtool",
    "github.com/prometheus/prometheus",
    "3 to 5 min on 2 cores",
    source="github.com/prometheus/prometheus/cmd/promtool",
)


def promtool() -> Path:
    """Return Prometheus' own checker."""
    return _PROMTOOL.path()


def etcd() -> Path:
    """Return the etcd program."""
    return _ETCD.path()


def apiserver() -> Path:
    """Return the kube-apiserver program."""
    return _APISERVER.path(_stamp())


def node_kubelet() -> Path:
    """Return Kubernetes' own kubelet, of the API server's version."""
    return _NODE_KUBELET.path(_stamp())


def _stamp() -> str:
    # A release is stamped with its version by its build script; unstamped it calls itself v0.0.0-master.
    stamp = "k8s.io/component-base/version"
    major, minor, _ = _APISERVER.version.removeprefix("v").split(".", 2)
    values = {"gitVersion": _APISERVER.version, "gitMajor": major, "gitMinor": minor}
    return "".join(f" -X {stamp}.{name}={value}" for name, value in values.items())


def containerd() -> Path:
    """Return the containerd program."""
    return _CONTAINERD.path()


def shim() -> Path:
    """Return the program that containerd starts for each pod."""
    return _SHIM.path()


def ctr() -> Path:
    """Return containerd's own client."""
    return _CTR.path()


def remove_container() -> Path:
    """Return the program that removes containers as the kubelet's garbage collection does."""
    return _REMOVE_CONTAINER.path()


def printer() -> Path:
    """Return the program that the pods of a real node run."""
    return _PRINTER.path()


def kubectl() -> Path:
    """Return the kubectl at hand, else one that is built."""
    found = shutil.which("kubectl")
    return Path(found) if found else _KUBECTL.path()


def kubelet() -> Path:
    """Return our log endpoint with the kubelet's reader."""
    return _KUBELET.path()


def helm() -> Path:
    """Return the helm program."""
    return _HELM.path()


def helmfile() -> Path:
    """Return the helmfile program; it calls helm."""
    return _HELMFILE.path()


# ---- Kafka: jars by Maven coordinates

_POM = HERE / "pom.xml"


def java() -> str:
    """Return the Java to run Kafka with; PartMissing without one."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        raise PartMissing("the test bed's Kafka runs on Java 17 or newer: install it and have `java` on PATH")
    return found


def _copy_kafka(_part: Part, into: Path) -> None:
    java()
    copy_jars(_POM, into)


def copy_jars(pom: Path, into: Path) -> None:
    """Copy the jars that a POM names, and what they need, into a folder."""
    if not shutil.which("mvn"):
        raise PartMissing(f"{pom.relative_to(HERE)} is fetched by Maven: install it and have `mvn` on PATH")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={into}"]
    run(["mvn", "--batch-mode", "--quiet", "--file", str(pom), *goal], where=into, environment={})


def kafka() -> str:
    """Return the class path of the broker."""
    pin = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)", _POM.read_text())
    assert pin, "pom.xml does not pin Kafka"
    part = Part(name="kafka", version=pin[1], inputs=[_POM], flags=[], takes="about 10 s", build=_copy_kafka)
    return f"{part.folder()}/*"


# ---- npm: packages with a lock file that has their hashes

_NPM = HERE / "npm"


def _install_packages(_part: Part, into: Path) -> None:
    if not shutil.which("npm"):
        raise PartMissing("what checks pages is fetched by npm: install it and have `npm` on PATH")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_NPM / name, into)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], where=into, environment={})


def npm_package(name: str) -> Path:
    """Return the folder of one of the packages in npm/package.json."""
    inputs = [_NPM / "package.json", _NPM / "package-lock.json"]
    part = Part(name="npm", version="1", inputs=inputs, flags=[], takes="seconds", build=_install_packages)
    return part.folder() / "node_modules" / name
