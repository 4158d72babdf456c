"""The sets of objects that somebody may apply: each overlay, and the chart with each of its ci values."""

import copy
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from streamer.config import Settings, load
from tests.testbed import chart, parts

Object = dict[str, Any]

OVERLAYS = sorted(folder.name for folder in (chart.K8S / "overlays").iterdir())
CI_VALUES = sorted(file.name.removesuffix("-values.yaml") for file in (chart.CHART / "ci").iterdir())
SETS = ["base", *(f"overlay {name}" for name in OVERLAYS), *(f"chart {name}" for name in CI_VALUES)]

MINIMAL = ("--values", str(chart.CHART / "ci/minimal-values.yaml"))
"""Arguments of helm: the values that are required."""

ELSEWHERE: Mapping[str, list[tuple[str, str]]] = {
    "overlay production": [("Secret", "kafka-cluster-ca-cert"), ("Secret", "falco-streamer")],
    "chart all": [("Secret", "kafka-cluster-ca-cert"), ("Secret", "streamer")],
}
"""What has to be there already."""


def objects_of(name: str) -> list[Object]:
    """The objects of a set, rendered by the program that its user would take."""
    how, _, which = name.partition(" ")
    if how == "chart":
        text = chart.template("--values", chart.CHART / f"ci/{which}-values.yaml")
    else:
        text = kustomize(chart.K8S / ("overlays" if which else "") / (which or how))
    return [one for one in yaml.safe_load_all(text) if one]


def kustomize(folder: Path) -> str:
    """Render a kustomization."""
    command = [str(parts.kubectl()), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [one for one in objects if one["kind"] == kind]


def worker(objects: list[Object]) -> Object:
    """The worker's Deployment; a set may have another one."""
    (found,) = [
        one
        for one in of_kind(objects, "Deployment")
        if one["metadata"]["labels"]["app.kubernetes.io/name"] == chart.NAME
    ]
    return copy.deepcopy(found)


def container(objects: list[Object]) -> Object:
    """The worker's container."""
    found, *_ = worker(objects)["spec"]["template"]["spec"]["containers"]
    assert found["name"] == chart.NAME
    return dict(found)


def settings_of(objects: list[Object], folder: Path) -> Settings:
    """The settings that the worker gets from its ConfigMap and its variables."""
    volumes = {volume["name"]: volume for volume in worker(objects)["spec"]["template"]["spec"]["volumes"]}
    name = volumes["config"]["configMap"]["name"]
    (config,) = [one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == name]
    file = folder / "streamer.yaml"
    file.write_text(config["data"]["streamer.yaml"])
    variables = container(objects).get("env", [])
    return load(file, environ={one["name"]: one.get("value", "from-the-pod") for one in variables})
