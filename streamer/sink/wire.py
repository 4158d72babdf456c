"""Kafka's record batch, format 2, as bytes.

Our own encoder instead of aiokafka's builder, for two reasons. It is cheaper: what many records share, their
headers above all, is encoded once. And a batch is compressed when it is made, not when it is sent, so that its
size is known, and judged, before a transaction begins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.util import calc_crc32c

from streamer.model.record import Headers

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH_FROM: Final = 12
_CRC_AT: Final = 17
_ATTRIBUTES_AT: Final = 21
_TRANSACTIONAL: Final = 0x10
_MAGIC: Final = 2
HEADER_BYTES: Final = _HEADER.size

# Level 1 of zstd costs two thirds of level 3, Kafka's default, and packs alerts as well.
_CODECS: Final[dict[str, tuple[int, Callable[[bytes], bytes]]]] = {
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, partial(lz4_encode, level=1)),
    "zstd": (4, partial(zstd_encode, level=1)),
}

_OWN_HEADERS: Final = 2
"""The core puts a record's own headers (`ce_id`, `ce_time`) first; the rest is the same for many records."""

_REMEMBERED: Final = 4_096


def _varint(number: int) -> bytes:
    """A number as Kafka's records have it: zigzag, seven bits a byte."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_TABLE: Final = 16_384
_SMALL: Final = [_varint(number) for number in range(_TABLE)]
_NULL: Final = _varint(-1)


def varint(number: int) -> bytes:
    """A number as Kafka's records have it; lengths and offsets mostly come out of a table."""
    return _SMALL[number] if 0 <= number < _TABLE else _varint(number)


class HeaderEncoder:
    """Encodes headers, remembering the wire form of those that come again and again."""

    __slots__ = ("_names", "_shared")

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}
        self._shared: dict[int, tuple[Headers, bytes, bytes]] = {}

    def encode(self, headers: Headers) -> bytes:
        """The headers of one record."""
        if len(headers) <= _OWN_HEADERS:
            return varint(len(headers)) + self._plain(headers)
        # The identity only finds the candidate; equality, quick among the same objects, decides.
        known = self._shared.get(id(headers[_OWN_HEADERS]))
        if known is None or known[0] != headers[_OWN_HEADERS:]:
            known = self._remember(headers)
        _, count, shared = known
        first, one = headers[0]
        second, two = headers[1]
        return b"".join(
            (
                count,
                self._names.get(first) or self._name(first),
                _SMALL[len(one)] if len(one) < _TABLE else _varint(len(one)),
                one,
                self._names.get(second) or self._name(second),
                _SMALL[len(two)] if len(two) < _TABLE else _varint(len(two)),
                two,
                shared,
            )
        )

    def _remember(self, headers: Headers) -> tuple[Headers, bytes, bytes]:
        if len(self._shared) >= _REMEMBERED:
            self._shared.clear()
        shared = headers[_OWN_HEADERS:]
        known = (shared, varint(len(headers)), self._plain(shared))
        self._shared[id(shared[0])] = known
        return known

    def _plain(self, headers: Headers) -> bytes:
        return b"".join(part for name, value in headers for part in (self._name(name), prefixed(value)))

    def _name(self, name: str) -> bytes:
        known = self._names.get(name)
        if known is None:
            known = prefixed(name.encode())
            if len(self._names) < _REMEMBERED:
                self._names[name] = known
        return known


def prefixed(text: bytes) -> bytes:
    """Bytes with their length before them."""
    return varint(len(text)) + text


def record_body(offset: int, delta_ms: int, key: bytes, value: bytes | None, headers: bytes = b"\0") -> bytes:
    """One record without its length; `offset` and `delta_ms` count from the batch's first.

    `key` has its length before it, `headers` are encoded.
    """
    if value is None:
        size, value = _NULL, b""
    else:
        length = len(value)
        size = _SMALL[length] if length < _TABLE else _varint(length)
    return b"".join(
        (
            b"\0",
            _SMALL[delta_ms] if 0 <= delta_ms < _TABLE else _varint(delta_ms),
            _SMALL[offset] if offset < _TABLE else _varint(offset),
            key,
            size,
            value,
            headers,
        )
    )


class RecordBatch:
    """An encoded batch, in the shape that aiokafka's accumulator takes for a batch builder.

    `parts` are the records' bodies, each after its length. What depends on the producer, its id, epoch and
    sequence, is filled in when the batch is sent.
    """

    __slots__ = ("_attributes", "_buffer", "_count", "_first_ms", "_last_ms", "_payload", "_producer")

    def __init__(
        self,
        parts: Sequence[bytes],
        *,
        count: int,
        first_ms: int,
        last_ms: int,
        compression: str | None,
        transactional: bool,
    ) -> None:
        payload = b"".join(parts)
        self._attributes = _TRANSACTIONAL if transactional else 0
        if compression is not None:
            codec, compress = _CODECS[compression]
            packed = compress(payload)
            if len(packed) < len(payload):
                payload = packed
                self._attributes |= codec
        self._payload = payload
        self._count = count
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._producer = (-1, -1, -1)
        self._buffer: bytes | None = None

    def size(self) -> int:
        """Bytes as sent, which is what a topic's max.message.bytes limits."""
        return HEADER_BYTES + len(self._payload)

    def record_count(self) -> int:
        """How many records."""
        return self._count

    def closed(self) -> bool:
        """No record can be added: do not wait for more."""
        return True

    def close(self) -> None:
        """It is."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:
            buffer = bytearray(HEADER_BYTES)
            _HEADER.pack_into(
                buffer,
                0,
                0,
                self.size() - _LENGTH_FROM,
                -1,
                _MAGIC,
                0,
                self._attributes,
                self._count - 1,
                self._first_ms,
                self._last_ms,
                *self._producer,
                self._count,
            )
            buffer += self._payload
            struct.pack_into(">I", buffer, _CRC_AT, calc_crc32c(memoryview(buffer)[_ATTRIBUTES_AT:]))
            self._buffer = bytes(buffer)
            self._payload = b""
        return self._buffer
