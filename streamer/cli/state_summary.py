"""A summary of the stored state, as JSON and as tables: each shard, and each target in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import click

from streamer.cli.show import escape
from streamer.transform.load import load
from streamer.transform.stamp import to_rfc3339
from streamer.transform.state import ShardState, StateUnreadableError, TargetState

if TYPE_CHECKING:
    from streamer.sink.group import Member
    from streamer.transform.export import Export

_SECOND_NS: Final = 1_000_000_000
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def summarize_state(
    export: Export, members: Iterable[Member], now_ns: int, pods: Sequence[str]
) -> dict[str, Any]:
    """The state as one JSON object. With `pods`, only targets whose `namespace/pod` matches one of these globs."""
    owners = {shard: member for member in members for shard in member.shards}
    shards = []
    for index, stored in sorted(export.shards.items()):
        owner = owners.get(index)
        shard: dict[str, Any] = {
            "shard": index,
            "worker": None if owner is None else {"name": owner.name, "host": owner.host},
            "records": len(stored),
            "bytes": sum(len(key) + len(raw) for key, raw in stored.items()),
        }
        try:
            state = load(export.cluster, stored.items())
        except StateUnreadableError as error:
            shards.append({**shard, "error": str(error), "targets": []})
        else:
            shards.append({**shard, "error": None, **_shard(state, now_ns, pods)})
    return {"cluster": export.cluster, "topic": export.topic, "shards": shards}


def _shard(state: ShardState, now_ns: int, pods: Sequence[str]) -> dict[str, Any]:
    targets = [_target(tracked, now_ns) for _, tracked in sorted(state.tracked.items())]
    return {
        "commits": state.sequence,
        "ledger": state.ledger.as_dict(),
        "windows": sum(target["windows"] for target in targets),
        "counted": sum(target["counted"] for target in targets),
        "targets": [target for target in targets if _wanted(target, pods)],
    }


def _wanted(target: Mapping[str, Any], pods: Sequence[str]) -> bool:
    return not pods or any(fnmatchcase(f"{target['namespace']}/{target['pod']}", glob) for glob in pods)


def _target(tracked: TargetState, now_ns: int) -> dict[str, Any]:
    target, position, windows = tracked.target, tracked.position, tracked.windows
    last_ns = position.last_ns
    return {
        "namespace": target.namespace,
        "pod": target.pod,
        "uid": target.uid,
        "container": target.container,
        "node": target.node,
        "status": position.status,
        "lines": position.lines,
        "remembered_lines": position.ring.lines,
        "last_line": to_rfc3339(last_ns) if last_ns else None,
        "age_seconds": round(max(0, now_ns - last_ns) / _SECOND_NS, 3) if last_ns else None,
        "restart_count": None if position.instance is None else position.instance.restart_count,
        "windows": len(windows),
        "counted": windows.counted,
        "limits": len(tracked.limits),
        "storms": sum(bucket.storm for bucket in tracked.limits.values())
        + (tracked.shares is not None and tracked.shares.storm.storm),
        "dead_letters_held": sum(bucket.held for bucket in tracked.dead_letters.values()),
    }


def summary_table(shown: Mapping[str, Any], members: Iterable[Member] | None) -> Iterator[str]:
    """The summary as tables. `members` is None if Kafka was not queried. Names are escaped: others choose them."""
    yield f"cluster {shown['cluster']}, state topic {shown['topic']}"
    yield ""
    if members is not None:
        workers = [(member.name, member.host, _ranges(member.shards)) for member in members]
        yield from _rows(("WORKER", "HOST", "SHARDS"), workers, "no workers in the group")
        yield ""
    shards = [
        (
            shard["shard"],
            "-" if shard["worker"] is None else shard["worker"]["host"],
            *(_number(shard.get(name)) for name in ("commits", "records", "bytes", "windows", "counted")),
        )
        for shard in shown["shards"]
    ]
    yield from _rows(("SHARD", "WORKER", "COMMITS", "RECORDS", "BYTES", "WINDOWS", "COUNTED"), shards, "")
    yield ""
    targets = [
        (
            shard["shard"],
            f"{target['namespace']}/{target['pod']}",
            target["container"],
            target["status"],
            _number(target["lines"]),
            _age(target["age_seconds"]),
            _number(target["windows"]),
            _number(target["counted"]),
        )
        for shard in shown["shards"]
        for target in shard["targets"]
    ]
    titles = ("SHARD", "POD", "CONTAINER", "STATUS", "LINES", "LAST LINE", "WINDOWS", "COUNTED")
    yield from _rows(titles, targets, "no positions stored")


def unreadable_shards(shown: Mapping[str, Any]) -> Iterator[str]:
    """One message for each shard whose state cannot be read."""
    for shard in shown["shards"]:
        if shard["error"] is not None:
            yield f"shard {shard['shard']} cannot be processed: {escape(shard['error'])}"


def _rows(titles: tuple[str, ...], rows: Sequence[tuple[Any, ...]], nothing: str) -> Iterator[str]:
    if not rows and nothing:
        yield nothing
        return
    texts = [tuple(escape(str(cell)) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
    for number, row in enumerate([titles, *texts]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield click.style(line, bold=True) if not number else line


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _age(seconds: float | None) -> str:
    """How long ago, in the largest unit that fits."""
    if seconds is None:
        return "-"
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), (1, "s"))
    return f"{seconds / size:.0f}{unit} ago"


def _ranges(shards: Sequence[int]) -> str:
    """Such as 0-3,6."""
    found: list[list[int]] = []
    for shard in shards:
        if found and shard == found[-1][-1] + 1:
            found[-1][1:] = [shard]
        else:
            found.append([shard])
    return ",".join("-".join(map(str, ends)) for ends in found) or "-"
