"""Answers that go on: the log of a container, and what every open stream has in common."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from streamer.simulator.logs import LogReader
from streamer.simulator.status import ApiError, invalid_log_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamer.simulator.faults import StreamFault
    from streamer.simulator.logs import ContainerLog
    from streamer.simulator.pods import Container, Instance, Pod

CHUNK_BYTES = 1 << 18


@dataclass(eq=False)
class OpenStream:
    """A log or watch that is being answered: `cut` ends it cleanly, `abort` resets its connection.

    `hang` leaves it half open: nothing comes any more, and neither side notices, until `resume`. A log's `node` may
    hang from the start: not even the headers are answered then.
    """

    path: str
    request: web.Request
    wake: Callable[[], None]
    node: str = ""
    is_cut: bool = False
    fault: StreamFault | None = field(default=None)
    _resumed: asyncio.Event | None = field(default=None)

    def cut(self) -> None:
        """End the body at what has been sent so far."""
        self.is_cut = True
        if self.fault is not None:
            self.fault.gate.set()
        self.wake()

    def hang(self) -> None:
        """Send nothing from now on."""
        self._resumed = self._resumed or asyncio.Event()
        self.wake()

    def resume(self) -> None:
        """Go on."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def check(self) -> None:
        """Return, unless the stream hangs."""
        while self._resumed is not None:
            await self._resumed.wait()

    def abort(self) -> None:
        """Reset the connection, with what the client has not yet received."""
        if self.request.transport is not None:
            self.request.transport.abort()


def choose_container(pod: Pod, name: str) -> Container:
    """The container that a log request means; 400 if it names none and there are several."""
    regular = [container for container in pod.containers.values() if not container.sidecar]
    if not name and len(regular) == 1:
        return regular[0]
    if not name:
        names = f"[{' '.join(pod.containers)}]"
        if pod.init_containers:
            names += f" or one of the init containers: [{' '.join(pod.init_containers)}]"
        raise ApiError(400, f"a container name must be specified for pod {pod.name}, choose one of: {names}")
    if name not in pod.containers:
        raise ApiError(400, f"container {name} is not valid for pod {pod.name}")
    return pod.containers[name]


def choose_instance(pod: Pod, container: Container, *, previous: bool) -> Instance:
    """The instance whose log is served, in the order in which the kubelet decides.

    While a container waits for its restart, its last instance answers without `previous` as well.
    """
    if previous:
        if container.last is None:
            text = f'previous terminated container "{container.name}" in pod "{pod.name}" not found'
            raise ApiError(400, text)
        return container.last
    if container.waiting_reason is None and container.current is not None:
        return container.current
    if container.last is not None:
        return container.last
    text = f'container "{container.name}" in pod "{pod.name}" is waiting to start: {container.waiting_reason}'
    raise ApiError(400, text)


@dataclass(frozen=True)
class LogOptions:
    """The parameters of a log request, checked; 400 or 422 otherwise."""

    container: str
    follow: bool
    previous: bool
    timestamps: bool
    since_ns: int | None
    tail_lines: int | None
    limit_bytes: int | None

    @classmethod
    def parse(cls, query: Mapping[str, str], pod: str, now_ns: int) -> LogOptions:
        """Read the query of a log request for a pod."""
        if "stream" in query and query["stream"] != "All":
            raise invalid_log_options(pod, "stream", "Forbidden: may not be specified", "FieldValueForbidden")
        if "sinceTime" in query and "sinceSeconds" in query:
            text = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            raise invalid_log_options(pod, "[]", f"Forbidden: {text}", "FieldValueForbidden")
        since_ns: int | None = None
        if query.get("sinceTime"):
            # The API server hands the time on in whole seconds, whatever precision it was given.
            since_ns = _parse_time(query["sinceTime"]) * 1_000_000_000
        elif "sinceSeconds" in query:
            since_ns = now_ns - _integer(query, "sinceSeconds", pod, least=1) * 1_000_000_000
        return cls(
            container=query.get("container", ""),
            follow=boolean(query, "follow"),
            previous=boolean(query, "previous"),
            timestamps=boolean(query, "timestamps"),
            since_ns=since_ns,
            tail_lines=_integer(query, "tailLines", pod, least=0) if "tailLines" in query else None,
            limit_bytes=_integer(query, "limitBytes", pod, least=1) if "limitBytes" in query else None,
        )

    def reader(self, log: ContainerLog, *, rotation_bugs: bool) -> LogReader:
        """A reader of a log with these options."""
        return LogReader(
            log,
            follow=self.follow,
            timestamps=self.timestamps,
            since_ns=self.since_ns,
            tail_lines=self.tail_lines,
            limit_bytes=self.limit_bytes,
            rotation_bugs=rotation_bugs,
        )


def boolean(query: Mapping[str, str], name: str) -> bool:
    """A parameter as the API server reads it: whatever is there and does not say no, says yes."""
    return query.get(name, "false").lower() not in {"false", "0"}


def _integer(query: Mapping[str, str], name: str, pod: str, *, least: int) -> int:
    try:
        value = int(query[name])
    except ValueError:
        text = f'strconv.ParseInt: parsing "{query[name]}": invalid syntax'
        raise ApiError(400, text) from None
    if value < least:
        text = f"must be greater than {'or equal to ' if least == 0 else ''}0"
        raise invalid_log_options(pod, name, f"Invalid value: {value}: {text}")
    return value


def _parse_time(text: str) -> int:
    """An RFC 3339 time in whole seconds since the epoch, its fraction cut off."""
    try:
        at = dt.datetime.fromisoformat(text)
        if at.tzinfo is None or "T" not in text:
            raise ValueError
    except ValueError:
        message = f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"'
        raise ApiError(400, message) from None
    return int(at.replace(microsecond=0).timestamp())


async def send_log(stream: OpenStream, response: web.StreamResponse, reader: LogReader) -> None:
    """Send a log to the end of the request, of the container, or of what the stream's fault allows."""
    sent = 0
    while not stream.is_cut:
        await stream.check()
        fault = stream.fault
        chunk = reader.read(CHUNK_BYTES)
        if fault is not None and _strikes(fault, sent, chunk):
            stream.fault = None
            left = 0 if fault.after_bytes is None else fault.after_bytes - sent
            await response.write(chunk[:left])
            if await _strike(stream, response, fault):
                return
            chunk = chunk[left:]
            sent += left
        if chunk:
            await response.write(chunk)
            sent += len(chunk)
        elif reader.finished:
            return
        else:
            await reader.log.changed()


def _strikes(fault: StreamFault, sent: int, chunk: bytes) -> bool:
    if fault.after_bytes is None:
        return not chunk
    return sent + len(chunk) >= fault.after_bytes


async def _strike(stream: OpenStream, response: web.StreamResponse, fault: StreamFault) -> bool:
    """Let a fault happen; True if the stream is over."""
    fault.struck = True
    if fault.text:
        await response.write(fault.text)
    if fault.then == "abort":
        # An abort throws away what is buffered, and `after_bytes` are to arrive.
        transport = stream.request.transport
        while transport is not None and transport.get_write_buffer_size():  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.001)
        stream.abort()
        return True
    if fault.then == "stall":
        stream.fault = fault  # so that `cut` finds its gate
        await fault.gate.wait()
        stream.fault = None
        return stream.is_cut
    return True
