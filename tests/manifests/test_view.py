"""The viewer's Deployment in the chart: off by default, closed by default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streamer.cli import main
from tests.manifests.sets import MINIMAL
from tests.testbed import chart
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", autouse=True)
def _programs() -> Iterator[None]:
    with parts_or_skip():
        chart.helm("version")
        yield


def viewer(**view: Any) -> dict[str, Any]:
    """The viewer's objects, by kind."""
    given = ["--set-json", f"view={json.dumps(view)}"] if view else []
    objects = [one for one in yaml.safe_load_all(chart.template(*MINIMAL, *given)) if one]
    return {one["kind"]: one for one in objects if one["metadata"]["name"].endswith("-view")}


def test_there_is_none_by_default() -> None:
    assert viewer() == {}


def test_it_can_be_reached_by_port_forwarding_only() -> None:
    found = viewer(enabled=True)
    assert list(found) == ["Deployment"]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["args"] == ["view", "--config=/etc/falco-streamer/streamer.yaml", "--since=24h"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "readinessProbe" not in container


def test_with_a_token_it_has_a_service_that_selects_it_alone() -> None:
    found = viewer(enabled=True, tokenSecret="page")
    template = found["Deployment"]["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert container["args"][-2:] == [
        "--host=0.0.0.0",
        "--token-file=/var/run/secrets/falco-streamer-view/token",
    ]
    assert {"name": "token", "secret": {"secretName": "page", "defaultMode": 0o440}} in template["spec"][
        "volumes"
    ]
    selector = found["Service"]["spec"]["selector"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert selector["app.kubernetes.io/name"] == "falco-streamer-view"


def test_the_command_takes_its_arguments() -> None:
    [container] = viewer(enabled=True, tokenSecret="page")["Deployment"]["spec"]["template"]["spec"][
        "containers"
    ]
    done = CliRunner().invoke(main, container["args"])
    assert "the token file /var/run/secrets/falco-streamer-view/token" in done.stderr
