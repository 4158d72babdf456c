"""Kafka's batches of records, format 2.

Ours instead of aiokafka's: a batch is compressed when it is made, not when it is sent, so that its size is known, and
judged, before a transaction begins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.util import calc_crc32c

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
