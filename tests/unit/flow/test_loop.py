"""The loop's TLS: that it is TLS, and that a connection which has brought much keeps little of it."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from streamer.flow.loop import READ_BYTES, Loop
from tests.testbed.certs import Authority

MUCH: Final = 1024 * 1024
CONNECTIONS: Final = 20

# A process of its own, so that nothing else is in what it measures.
MEASURED: Final = f"""
import asyncio, ctypes, ssl, sys
from streamer.flow.loop import Loop

class Heap(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

def allocated():
    heap = mallinfo2()
    return heap.uordblks + heap.hblkhd

class Taking(asyncio.Protocol):
    def __init__(self):
        self.missing, self.all = {MUCH}, asyncio.Event()

    def data_received(self, data):
        self.missing -= len(data)
        if not self.missing:
            self.all.set()

async def main(port, authority):
    context = ssl.create_default_context(cafile=authority)
    before, kept = 0, []
    for n in range({CONNECTIONS} + 1):
        transport, protocol = await loop().create_connection(Taking, "127.0.0.1", port, ssl=context)
        kept.append(transport)
        transport.write(b"?")
        await protocol.all.wait()
        before = before or allocated()
    print((allocated() - before) // {CONNECTIONS})

loop = asyncio.get_running_loop
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Heap
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main(int(sys.argv[1]), sys.argv[2]))
"""


@asynccontextmanager
async def echo(authority: Authority) -> AsyncIterator[int]:
    """A server that gives back what it gets, and for a question mark much; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(bytes(MUCH) if data == b"?" else data)
            await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.server("127.0.0.1")
    context.load_cert_chain(pair.public, pair.key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_what_is_sent_arrives_in_order_and_the_end_is_heard(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    sent = os.urandom(3 * MUCH + 1)

    async def work() -> None:
        context = ssl.create_default_context(cafile=authority.certificate)
        async with echo(authority) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)

            async def send() -> None:
                for at in range(0, len(sent), 100_000):
                    writer.write(sent[at : at + 100_000])
                    await writer.drain()

            sending = asyncio.create_task(send())
            assert await reader.readexactly(len(sent)) == sent
            await sending
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.close()
            await writer.wait_closed()
            assert await reader.read() == b""

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work(), 30))


def test_a_connection_that_is_not_read_holds_little_and_loses_nothing(tmp_path: Path) -> None:
    """asyncio's TLS goes on reading up to 256 KiB of ciphertext, which makes 256 MiB for a thousand streams."""
    authority = Authority(tmp_path)

    class Pausing(asyncio.Protocol):
        def __init__(self) -> None:
            self.received, self.all = 0, asyncio.Event()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            transport.pause_reading()

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            if self.received == MUCH:
                self.all.set()

    async def work() -> None:
        context = ssl.create_default_context(cafile=authority.certificate)
        loop = asyncio.get_running_loop()
        async with echo(authority) as port:
            transport, protocol = await loop.create_connection(Pausing, "127.0.0.1", port, ssl=context)
            tls = transport._ssl_protocol  # type: ignore[attr-defined]
            transport.write(b"?")
            while not tls._ssl_reading_paused:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0.01)
            held_bytes = tls._incoming.pending
            transport.resume_reading()
            await protocol.all.wait()
            transport.close()
        assert READ_BYTES <= held_bytes <= 2 * READ_BYTES

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work(), 30))


@pytest.mark.parametrize(
    ("trusted", "name", "cause"),
    [(False, "127.0.0.1", "certificate verify failed"), (True, "falco.example", "Hostname mismatch")],
)
def test_a_server_is_not_believed_that_cannot_show_who_it_is(
    tmp_path: Path, trusted: bool, name: str, cause: str
) -> None:
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")

    async def work() -> None:
        context = ssl.create_default_context(cafile=(authority if trusted else other).certificate)
        async with echo(authority) as port:
            with pytest.raises(ssl.SSLCertVerificationError, match=cause):
                await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work(), 30))


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def work() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionAbortedError, match="handshake is taking longer"):
                await asyncio.open_connection(
                    "127.0.0.1", port, ssl=ssl.create_default_context(), ssl_handshake_timeout=0.1
                )

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work(), 30))


def test_an_idle_connection_keeps_little_of_what_it_has_brought(tmp_path: Path) -> None:
    """With uvloop's own TLS it is more than 600 KiB; OpenSSL's write buffer alone would be another 16."""
    if sys.platform != "linux":
        pytest.skip("glibc's mallinfo2 is needed")
    authority = Authority(tmp_path)

    async def measure() -> int:
        async with echo(authority) as port:
            arguments = ["-c", MEASURED, str(port), str(authority.certificate)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            return int(out)

    assert asyncio.run(asyncio.wait_for(measure(), 60)) < 56 * 1024
