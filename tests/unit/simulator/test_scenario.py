import orjson

from streamer.simulator.logs import LogReader
from streamer.simulator.pods import Pod
from streamer.simulator.scenario import OLD_LABELS, Scenario

START = 1_795_168_800_000_000_000


def scenario(**settings: float) -> Scenario:
    return Scenario(seed=1, clock_ns=lambda: START, **settings)  # type: ignore[arg-type]


def everything(pod: Pod) -> bytes:
    container = pod.containers["falco"]
    instances = [i for i in (container.last, container.current) if i is not None]
    return b"".join(LogReader(i.log, timestamps=False).read(1 << 30) for i in instances)


def test_alerts_come_at_the_rate_however_time_is_cut() -> None:
    slow, quick = scenario(rate_per_second=100), scenario(rate_per_second=100)
    for tenth in range(41):
        slow.advance(tenth / 10)
    quick.advance(4)
    for one in (slow, quick):
        assert one.printed.alerts + one.printed.text_alerts + one.printed.broken == 400
    assert slow.printed == quick.printed


def test_pods_are_spread_over_namespaces_and_one_has_the_old_labels() -> None:
    pods = list(scenario(pods=6, namespaces=3).cluster.pods.values())
    assert sorted(pod.namespace for pod in pods) == ["falco"] * 2 + ["falco-2"] * 2 + ["falco-3"] * 2
    assert len({pod.node for pod in pods}) == 6
    assert all((pod.labels == OLD_LABELS) == (pod.namespace == "falco-2") for pod in pods)
    assert all(
        pod.labels.get("app.kubernetes.io/name") == "falco" for pod in pods if pod.labels != OLD_LABELS
    )


def test_what_was_printed_is_counted_as_what_it_is() -> None:
    one = scenario(rate_per_second=500, broken_every=50, text_every=40)
    one.advance(3)
    lines = b"".join(map(everything, one.cluster.pods.values())).splitlines()
    alerts = 0
    damaged = 0
    for line in lines:
        if line.startswith(b"{"):
            try:
                orjson.loads(line)
                alerts += 1
            except orjson.JSONDecodeError:
                damaged += 1
    assert (alerts, damaged) == (one.printed.alerts, one.printed.broken)
    assert len(lines) == one.printed.lines
    assert one.printed.broken == 30
    assert one.printed.text_alerts > 0


def test_a_container_restarts_with_farewell_and_banner() -> None:
    one = scenario(rate_per_second=10)
    one.advance(6)
    [pod] = [pod for pod in one.cluster.pods.values() if pod.containers["falco"].restart_count]
    container = pod.containers["falco"]
    assert container.last is not None
    assert container.current is not None
    former = LogReader(container.last.log, timestamps=False).read()
    assert b"SIGINT received" in former
    assert b"Triggered rules by rule name:" in former
    assert LogReader(container.current.log, timestamps=False).read().splitlines()[0].endswith(b"(x86_64)")


def test_a_pod_is_deleted_with_grace_and_replaced_on_its_node() -> None:
    one = scenario(rate_per_second=10, pods=3)
    before = {pod.name: pod for pod in one.cluster.pods.values()}
    one.advance(9)
    [leaving] = [pod for pod in one.cluster.pods.values() if pod.deletion_ns is not None]
    assert leaving.containers["falco"].current is not None
    assert not leaving.containers["falco"].current.log.ended
    one.advance(11)
    after = {pod.name: pod for pod in one.cluster.pods.values()}
    [new] = set(after) - set(before)
    assert set(before) - set(after) == {leaving.name}
    assert (after[new].node, after[new].namespace) == (leaving.node, leaving.namespace)
    assert leaving.containers["falco"].current.log.ended


def test_it_goes_on_every_minute() -> None:
    one = scenario(rate_per_second=1)
    one.advance(200)
    assert max(pod.containers["falco"].restart_count for pod in one.cluster.pods.values()) == 4


async def test_it_runs_in_real_time() -> None:
    one = scenario(rate_per_second=1000)
    await one.run(seconds=0.2)
    assert one.printed.alerts > 0
