"""The chart's memory request and limit follow from the settings' defaults as docs/deployment.md, "Sizing", says."""

import math
import re
from collections.abc import Iterator
from functools import reduce

import pytest

from streamer.config import Settings
from tests.manifests.sets import container, objects_of, settings_of
from tests.testbed import chart
from tests.testbed.fixtures import parts_or_skip

pytestmark = pytest.mark.real

DOCS = chart.K8S.parent / "docs"
MIB, STEP_MIB = 2**20, 64
UNITS = {"byte": 1, "bytes": 1, "KiB": 2**10, "MiB": MIB}
PODS = "followed containers"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with parts_or_skip():
        yield settings_of(objects_of("chart minimal"), tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def memory_mib() -> Iterator[dict[str, int]]:
    """The chart's request and limit."""
    with parts_or_skip():
        resources = container(objects_of("chart minimal"))["resources"]
        yield {name: int(resources[name]["memory"].removesuffix("Mi")) for name in ("requests", "limits")}


def section() -> str:
    text = (DOCS / "deployment.md").read_text()
    return text.partition("\n## Sizing\n")[2].partition("\n## ")[0]


def rows(cells: int) -> list[list[str]]:
    """The rows of the section's table with so many columns, without its head."""
    lines = re.findall(r"^\| (.*) \|$", section(), re.MULTILINE)
    return [row for row in (re.split(r" ?\| ?", line) for line in lines) if len(row) == cells][1:]


def sum_mib(settings: Settings, pods: int | None = None) -> float:
    return sum(mib for _, mib, _ in terms(settings, pods))


def terms(settings: Settings, pods: int | None = None) -> list[tuple[str, float, int]]:
    """Each term of the formula: what it is, its MiB with these settings, and what the table says that it is."""
    found = []
    for what, many, each, said in rows(4)[:-1]:
        number, unit = each.split()
        keys = re.findall(r"`([\w.]+)`", many)
        count = float(math.prod(value_of(settings, key) for key in keys))
        if not keys:
            count = float(pods if pods and what == PODS else many.split()[0].replace(",", ""))
        found.append((what, count * float(number) * UNITS[unit] / MIB, int(said)))
    return found


def value_of(settings: Settings, key: str) -> int:
    found = reduce(getattr, key.split("."), settings)
    assert isinstance(found, int)
    return found


def rounded_up(mib: float) -> int:
    return math.ceil(mib / STEP_MIB) * STEP_MIB


def test_each_term_is_what_the_settings_make_of_it(settings: Settings) -> None:
    assert len(terms(settings)) == 6
    assert [(what, round(mib)) for what, mib, _ in terms(settings)] == [
        (what, said) for what, _, said in terms(settings)
    ]


def test_the_charts_limit_is_the_sum(settings: Settings, memory_mib: dict[str, int]) -> None:
    assert memory_mib["limits"] == rounded_up(sum_mib(settings))
    what, *_, said = rows(4)[-1]
    assert f"{memory_mib['limits']}Mi" in what
    assert said == f"**{round(sum_mib(settings))}**"


def test_the_charts_request_is_what_a_worker_uses_at_rest(
    settings: Settings, memory_mib: dict[str, int]
) -> None:
    base, pods, uncommitted, *_ = (mib for _, mib, _ in terms(settings))
    assert base + pods + uncommitted / 2 <= memory_mib["requests"] <= memory_mib["limits"]


def test_the_limits_for_other_numbers_of_pods_follow(settings: Settings) -> None:
    table = {int(pods.replace(",", "")): limit for pods, limit in rows(2)}
    assert len(table) == 4
    assert table == {pods: f"{rounded_up(sum_mib(settings, pods))}Mi" for pods in table}


def test_the_measured_terms_are_those_of_the_benchmarks(settings: Settings) -> None:
    page = (DOCS / "benchmarks.md").read_text().partition("\n### Idle streams")[2]
    measured = {
        int(streams.replace(",", "")): (int(total), each)
        for streams, total, each in re.findall(
            r"^\| ([\d,]+) \| (\d+) MiB[^|]*\| ?(\d* ?[KM]?i?B?)", page, re.MULTILINE
        )
    }
    base, pods = (row[2] for row in rows(4)[:2])
    assert base == f"{measured[0][0]} MiB"
    assert pods == measured[max(measured)][1]


def test_the_production_overlay_has_room_for_5000_pods(settings: Settings) -> None:
    with parts_or_skip():
        memory = container(objects_of("overlay production"))["resources"]["limits"]["memory"]
    assert memory == "1Gi"
    assert sum_mib(settings, 5_000) <= 1024
