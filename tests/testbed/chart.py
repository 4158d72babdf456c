"""The Helm chart: rendered by the real helm, for tests and for `make manifests`, which writes all that is generated:
what kustomize takes, the schema of the chart's `config`, and the table of its values.

`python -m tests.testbed.chart` writes those files.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.testbed import chart_values, parts

K8S = Path(__file__).parents[2] / "k8s"
CHART = K8S / "helm/falco-streamer"
VALUES = K8S / "base/values.yaml"
NAME = "falco-streamer"

KUSTOMIZED = {
    "base": ["serviceaccount", "rbac", "deployment", "networkpolicy", "poddisruptionbudget", "service"],
    "components/monitoring": ["servicemonitor", "prometheusrule", "dashboard"],
    "components/strimzi": ["strimzi"],
}
"""Which of the chart's templates are rendered into which folder of k8s/."""


def helm(*arguments: str | Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, without the settings and caches of the user."""
    return subprocess.run(
        [str(parts.helm()), *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home or "/nonexistent")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def template(*arguments: str | Path, namespace: str = NAME) -> str:
    """Render the chart as the release `falco-streamer`; ValueError with helm's words when it refuses."""
    done = helm("template", NAME, CHART, "--namespace", namespace, *arguments)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return done.stdout


def kustomized() -> dict[Path, str]:
    """The files that kustomize takes, by path, as they have to be."""
    return {
        K8S / folder / f"{name}.yaml": _for_kustomize(template("--values", VALUES, *_only([name])))
        for folder, names in KUSTOMIZED.items()
        for name in names
    }


def generated() -> dict[Path, str]:
    """The chart's own files that are generated, by path, as they have to be."""
    schema = CHART / "values.schema.json"
    return {
        schema: chart_values.with_settings(schema.read_text()),
        CHART / "README.md": chart_values.readme((CHART / "values.yaml").read_text()),
    }


def _only(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in ("--show-only", f"templates/{name}.yaml")]


def _for_kustomize(rendered: str) -> str:
    """Without what only Helm sets: kustomize says itself who manages an object, and which version it is of."""
    lines = re.sub(
        r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", "", rendered, flags=re.MULTILINE
    )
    source = re.compile(r"^---\n# Source: (.*)\n", re.MULTILINE)
    path = source.search(lines)
    assert path, "helm names the template of each object"
    objects = [text.strip("\n") for text in source.split(lines)[2::2]]
    return f"# Rendered by `make manifests` from k8s/helm/{path[1]}\n" + "\n---\n".join(objects) + "\n"


def main() -> None:
    """Write the files."""
    for files in (generated, kustomized):  # the schema first: helm reads it
        for path, text in files().items():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                sys.stdout.write(f"{path.relative_to(K8S.parent)}\n")


if __name__ == "__main__":
    main()
