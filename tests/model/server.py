"""An API server in this process and in virtual time: logs as the kubelet serves them, and all that goes wrong.

It stands in for `streamer.source.api.KubernetesApi`. The files and their reader, with the real one's faults, are the
simulator's; this module does to an answer what networks, kubelets and proxies do to it.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, cast

import aiohttp

from streamer.simulator import Cluster
from streamer.simulator.logs import ContainerLog, LogFile, LogReader
from streamer.simulator.pods import Instance, Pod
from streamer.simulator.status import ApiError as SimulatedError
from streamer.simulator.streams import choose_container, choose_instance
from streamer.source.api import ApiError, KubernetesApi, LogAnswer, LogQuery
from streamer.source.budget import Lane
from streamer.source.pods import PodView, view
from streamer.source.podset import PodChange

End = Literal["clean", "dirty", "dirty, and what had arrived is lost"]
ENDS: Final[tuple[End, ...]] = ("clean", "dirty", "dirty, and what had arrived is lost")
STREAM_LIMIT_SECONDS: Final = 4 * 3600.0
NOON_NS: Final = 1_790_000_000_000_000_000
KUBELET_TEXTS: Final = (
    b"failed to create fsnotify watcher: too many open files",
    b'failed to try resolving symlinks in path "/x": lstat /x: no such file or directory',
    b"unable to retrieve container logs for containerd://" + 64 * b"0",
    b'rpc error: code = NotFound desc = an error occurred when try to find container "%s": not found'
    % (64 * b"0"),
)
HTML: Final = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\n<body>no</body>\n</html>\n"


class Body:
    """An answer's body, with those methods of aiohttp.StreamReader that are used of it, and its habits."""

    def __init__(self, capacity: int) -> None:
        self._buffer = bytearray()
        self._capacity = capacity
        self._at_end = False
        self._exception: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._waited_at = asyncio.get_running_loop().time()
        self.longest_delay = 0.0
        """How long there was always something to read, in seconds: its reader was behind."""

    async def readany(self) -> bytes:
        if self._exception is not None:
            raise self._exception
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        while not self._buffer and not self._at_end and self._exception is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if clock() > asked_at:
            self._waited_at = clock()
        self.longest_delay = max(self.longest_delay, clock() - self._waited_at)
        return self.read_nowait()

    def read_nowait(self) -> bytes:
        if self._exception is not None:
            raise self._exception
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._room.set()
        return taken

    def exception(self) -> BaseException | None:
        return self._exception

    async def feed(self, piece: bytes) -> None:
        """Wait for room, as TCP does."""
        while len(self._buffer) >= self._capacity:
            self._room.clear()
            await self._room.wait()
        self._buffer += piece
        self._wake()

    def end(self, how: End, *, at_newline: bool = False) -> None:
        """`at_newline`: the kubelet sends line by line, so what was on its way seldom ends within one."""
        if self._at_end or self._exception is not None:
            return
        if at_newline and b"\n" in self._buffer:
            del self._buffer[self._buffer.rfind(b"\n") + 1 :]
        if how == "clean":
            self._at_end = True
            self._wake()
            return
        if how == ENDS[2]:
            self._buffer.clear()
        self._exception = aiohttp.ClientPayloadError("the connection was reset")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._exception)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True)
class Weather:
    """How often a request meets what, from 0 to 1, and how fast answers are."""

    refused: float = 0.0
    cut: float = 0.0
    stalled: float = 0.0
    text: float = 0.0
    slow: float = 0.0
    rotation_bugs: bool = False
    pipe_bytes: int = 1 << 20
    piece_bytes: int = 1 << 16
    status_lag_seconds: float = 0.0
    watch_lag_seconds: float = 0.0
    end_lag_seconds: float = 0.0
    """The kubelet's reader looks every second whether a container it follows is over."""


@dataclass
class _Script:
    """What will happen to one answer."""

    after_bytes: int | None = None
    at_newline: bool = False
    """It happens only at the next newline."""
    then: End | Literal["stall"] | bytes = "clean"


@dataclass(eq=False)
class _Open:
    body: Body
    pump: asyncio.Task[None]
    follow: bool
    log: ContainerLog
    stalled: bool = False


@dataclass(frozen=True)
class _Answer:
    content: aiohttp.StreamReader
    release: Callable[[], object]

    def settle(self) -> None:
        """It has no slots."""


@dataclass(frozen=True)
class Targets:
    """What a watch shows at one time, by `Target.id`, and what it has shown and how that left."""

    present: Mapping[str, PodView]
    departed: Mapping[str, PodView]

    def changes_to(self, later: Targets) -> list[PodChange]:
        """What discovery hands over in between."""
        appeared = [
            PodChange(found, present=True)
            for identity, found in later.present.items()
            if self.present.get(identity) != found
        ]
        left = [
            PodChange(later.departed[identity], present=False)
            for identity in self.present.keys() - later.present.keys()
        ]
        return appeared + left


@dataclass
class Born:
    """An instance as it began: the first of its log's files leads to the others."""

    uid: str
    instance: Instance
    first: LogFile


class ModelServer(KubernetesApi):
    """The cluster, the API in front of it, and its watch. `clock_offset_ns` is how wrong the node's clock is."""

    def __init__(self, weather: Weather, seed: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock_offset_ns = 0
        self.cluster = Cluster(clock_ns=self.now_ns, seed=seed, history=10)
        self.weather = weather
        self.outage: ApiError | None = None
        self.kubelet_back_at = 0.0
        """A kubelet that was killed, which ends streams cleanly, takes no pod away before it is back."""
        self.requests: Counter[int] = Counter()  # by virtual minute
        self.requests_at: tuple[float, int] = (0.0, 0)
        self.hot = False
        self.born: list[Born] = []
        self.targets = Targets({}, {})
        self.on_change: Callable[[PodChange], None] | None = None
        self._random = random.Random(seed)
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._status_due: deque[tuple[tuple[str, str], str, dict[str, Any]]] = deque()
        self._targets_due: deque[Targets] = deque()
        self._departed: dict[str, PodView] = {}
        self._open: set[_Open] = set()
        self._known: set[int] = set()
        self.longest_delay = 0.0
        """How long a stream was behind its log, in seconds: sent, or read behind what had arrived."""
        self.unlabelled: set[tuple[str, str]] = set()
        self.finished: set[str] = set()
        """The pods that start no container again. The others' phase is Running until they are deleted."""
        self.lost: set[int] = set()
        """The instances that the runtime has forgotten, by id()."""

    def now_ns(self) -> int:
        """The node's clock."""
        return NOON_NS + int(self._loop.time() * 1e9) + self.clock_offset_ns

    @property
    def open_streams(self) -> int:
        return sum(opened.follow for opened in self._open)

    # What the API shows

    def publish(self) -> None:
        """After every change of the cluster: objects change at once, their status and the watch a little later."""
        now: dict[tuple[str, str], Pod] = dict(self.cluster.pods)
        for key in self._objects.keys() - now.keys():
            self._gone(key)
        for key, pod in now.items():
            for container in pod.containers.values():
                self._remember(pod, container.current)
            item = copy.deepcopy(pod.to_json())
            if pod.uid not in self.finished and pod.deletion_ns is None and pod.phase != "Pending":
                item["status"]["phase"] = "Running"
            old = self._objects.get(key)
            if old is not None and old["metadata"]["uid"] != pod.uid:
                self._gone(key)
                old = None
            self._status_due.append((key, pod.uid, item["status"]))
            self._objects[key] = item | {"status": old["status"] if old else {"phase": "Pending"}}
            self._loop.call_later(self.weather.status_lag_seconds, self._publish_status)
        self._tell()

    def set_label(self, key: tuple[str, str], *, there: bool) -> None:
        """Let the watch show a pod, or tell of its departure although it lives on."""
        if there:
            self.unlabelled.discard(key)
        elif key in self._objects and key not in self.unlabelled:
            self.unlabelled.add(key)
            last = view(self._objects[key], "falco")
            assert last is not None
            self._departed = self._departed | {last.target.id: last}
        self._tell()

    def lose_ended(self) -> None:
        """Let the runtime forget the containers that have ended; statuses go on naming them."""
        self.lost |= {id(item.instance) for item in self.born if item.instance.finished_ns is not None}

    def _gone(self, key: tuple[str, str]) -> None:
        self.unlabelled.discard(key)
        last = view(self._objects.pop(key), "falco")
        assert last is not None
        self._departed = self._departed | {last.target.id: last}

    def _remember(self, pod: Pod, instance: Instance | None) -> None:
        if instance is not None and id(instance) not in self._known:
            self._known.add(id(instance))
            self.born.append(Born(pod.uid, instance, instance.log.current))

    def _publish_status(self) -> None:
        key, uid, status = self._status_due.popleft()
        item = self._objects.get(key)
        if item is not None and item["metadata"]["uid"] == uid and item["status"] != status:
            self._objects[key] = item | {"status": status}
            self._tell()

    def _tell(self) -> None:
        views = [view(item, "falco") for key, item in self._objects.items() if key not in self.unlabelled]
        self._targets_due.append(
            Targets({found.target.id: found for found in views if found}, dict(self._departed))
        )
        self._loop.call_later(self.weather.watch_lag_seconds, self._deliver)

    def _deliver(self) -> None:
        before, self.targets = self.targets, self._targets_due.popleft()
        if self.on_change is not None:
            for change in before.changes_to(self.targets):
                self.on_change(change)

    # Requests

    async def renew_token(self) -> None:
        return

    async def pod(self, namespace: str, name: str, *, node: str = "") -> dict[str, Any]:  # noqa: ARG002
        await self._receive(f'pods "{name}"')
        item = self._objects.get((namespace, name))
        if item is None:
            raise ApiError(404, f'pods "{name}" not found', kind="pods")
        return copy.deepcopy(item)

    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        query: LogQuery,
        *,
        node: str = "",  # noqa: ARG002
        lane: Lane = Lane.OPEN,  # noqa: ARG002
    ) -> LogAnswer:
        await self._receive("log")
        found = self.cluster.pods.get((namespace, pod))
        if found is None:
            raise ApiError(404, f'pods "{pod}" not found', kind="pods")
        try:
            instance = choose_instance(found, choose_container(found, container), previous=query.previous)
        except SimulatedError as error:
            raise ApiError(error.code, str(error)) from error
        reader = LogReader(
            instance.log,
            follow=query.follow,
            tail_lines=query.tail_lines,
            since_ns=None if query.since_ns is None else query.since_ns // 1_000_000_000 * 1_000_000_000,
            rotation_bugs=self.weather.rotation_bugs,
        )
        body = Body(self.weather.pipe_bytes)
        script = (
            _Script(0, then=KUBELET_TEXTS[2]) if id(instance) in self.lost else self._script(instance.log)
        )
        pump = asyncio.create_task(self._answer(body, reader, script))
        opened = _Open(body, pump, query.follow, instance.log)
        self._open.add(opened)
        return _Answer(cast(aiohttp.StreamReader, body), partial(self._close, opened))

    def _close(self, opened: _Open) -> None:
        self._open.discard(opened)
        self.longest_delay = max(self.longest_delay, opened.body.longest_delay)
        opened.pump.cancel()

    async def _receive(self, what: str) -> None:
        now = self._loop.time()
        self.requests[int(now // 60)] += 1
        at, count = self.requests_at
        self.requests_at = (now, count + 1 if at == now else 1)
        if self.requests_at[1] > 100:  # a loop that lets no time pass would never end
            self.hot = True
            await asyncio.sleep(1.0)
        await self._delay()
        if self.outage is not None:
            raise self.outage
        if self._strikes(self.weather.refused):
            if self._random.random() < 0.2:
                await asyncio.sleep(30.0)
                raise ApiError(0, "no answer within 30 s")
            raise self._refusal(what)

    def _refusal(self, what: str) -> ApiError:
        status = self._random.choice((401, 403, 404, 429, 500, 503, 0))
        kind = "pods/log" if status == 404 and what == "log" else ""
        if status == 404 and not kind:  # that a pod is not there is never said in error
            status = 500
        retry_after = 1.0 if status in (429, 503) and self._random.random() < 0.5 else None
        return ApiError(status, "refused", kind=kind, retry_after_seconds=retry_after)

    async def _delay(self) -> None:
        if self.weather.slow:
            slow = self._random.random() < self.weather.slow
            await asyncio.sleep(self._random.random() * (3.0 if slow else 0.02))

    def _strikes(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def _script(self, log: ContainerLog) -> _Script:
        size = len(log.current.data)
        after = self._random.randint(0, size + 200) if self._random.random() < 0.7 else size
        at_newline = self._random.random() < 0.5
        if self._strikes(self.weather.cut):
            return _Script(after, at_newline, self._random.choice(ENDS))
        if self._strikes(self.weather.stalled):
            return _Script(after, at_newline, "stall")
        if self._strikes(self.weather.text):
            if self._random.random() < 0.2:
                return _Script(0, then=HTML)
            return _Script(self._random.choice((0, size)), then=self._random.choice(KUBELET_TEXTS))
        return _Script()

    async def _answer(self, body: Body, reader: LogReader, script: _Script) -> None:
        try:
            async with asyncio.timeout(STREAM_LIMIT_SECONDS):
                await self._send(body, reader, script)
        except TimeoutError:
            body.end("clean")

    async def _send(self, body: Body, reader: LogReader, script: _Script) -> None:
        sent, behind_since = 0, self._loop.time()
        while True:
            self.longest_delay = max(self.longest_delay, self._loop.time() - behind_since)
            if script.after_bytes is not None and sent >= script.after_bytes:
                await self._strike(body, script, reader.log)
                return
            chunk = reader.read(min(self.weather.piece_bytes, self.weather.pipe_bytes))
            if not chunk:
                if reader.finished:
                    if behind_since < self._loop.time():  # else it had ended before it was asked for
                        await asyncio.sleep(self._random.random() * self.weather.end_lag_seconds)
                    body.end("clean")
                    return
                await reader.log.changed()
                behind_since = self._loop.time()
                continue
            if script.after_bytes is not None and sent + len(chunk) > script.after_bytes:
                left = script.after_bytes - sent
                if script.at_newline:
                    left = chunk.find(b"\n", left) + 1 or len(chunk)
                    script = replace(script, after_bytes=sent + left)
                chunk = chunk[:left]
            for piece in self._pieces(chunk):
                await body.feed(piece)
                sent += len(piece)
                await self._delay_piece()

    def _pieces(self, chunk: bytes) -> list[bytes]:
        most = self.weather.piece_bytes
        if most >= 1 << 16:
            return [chunk]
        pieces = []
        while chunk:
            size = self._random.randint(1, most)
            pieces.append(chunk[:size])
            chunk = chunk[size:]
        return pieces

    async def _delay_piece(self) -> None:
        if self.weather.slow and self._random.random() < 0.1:
            await self._delay()

    async def _strike(self, body: Body, script: _Script, log: ContainerLog) -> None:
        if isinstance(script.then, bytes):
            await body.feed(script.then)
            body.end("clean")
        elif script.then == "stall":
            if self._random.random() < 0.5:
                await asyncio.sleep(45.0)  # the API server's own ping found the kubelet hung
                body.end(_end_of_stalled("clean", log))
            else:
                await asyncio.Event().wait()
        else:
            body.end(script.then)

    # What happens to open streams

    def cut(self, how: End) -> None:
        """End every open answer."""
        if how == "clean":
            self.kubelet_back_at = self._loop.time() + 2.0
        for opened in self._open:
            opened.pump.cancel()
            ending = _end_of_stalled(how, opened.log) if opened.stalled else how
            opened.body.end(ending, at_newline=self._random.random() < 0.5)

    def stall(self) -> None:
        """Let every open answer fall silent for ever."""
        for opened in self._open:
            opened.stalled = True
            opened.pump.cancel()


def _end_of_stalled(how: End, log: ContainerLog) -> End:
    """How an answer that has stalled can end.

    Cleanly only while its container runs: a kubelet that is hung or dead, whose answers the API server ends cleanly,
    takes no container away; one that is neither ends a stream with its container, and has missed no file (the model's
    own `rotation_bugs` apart).
    """
    return ENDS[1] if how == "clean" and log.ended else how
