"""Kafka's records, format 2, as bytes.

Our own encoder instead of aiokafka's builder, because it is cheaper: what many records share, their headers above
all, is encoded once.
"""

from __future__ import annotations

from typing import Final

from streamer.model import Record, SharedHeaders

_OWN_HEADERS: Final = 2
"""A record's own headers (`ce_id`, `ce_time`) come first; the rest is the same for many records."""

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


class SharedEncoder:
    """Encodes the headers that many records share, and remembers their wire form."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[SharedHeaders, tuple[bytes, bytes]] = {}

    def encode(self, shared: SharedHeaders) -> tuple[bytes, bytes]:
        """What stands before the value of `ce_id`, and what after that of `ce_time`.

        The first is the number of headers and the name of `ce_id`, the second all shared headers.
        """
        known = self._known.get(shared)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            count = varint(_OWN_HEADERS + len(shared.headers))
            parts = [
                part for name, value in shared.headers for part in (prefixed(name.encode()), prefixed(value))
            ]
            known = self._known[shared] = (count + prefixed(b"ce_id"), b"".join(parts))
        return known


def prefixed(text: bytes) -> bytes:
    """Bytes with their length before them."""
    return varint(len(text)) + text


_CE_TIME: Final = prefixed(b"ce_time")


def record_body(offset: int, delta_ms: int, key: bytes, record: Record, shared: tuple[bytes, bytes]) -> bytes:
    """A record without its length; `offset` and `delta_ms` count from the batch's first.

    `key` has its length before it; `shared` is what `SharedEncoder` makes of its headers.
    """
    _, _, value, time, _, _, identity = record
    size, ce_id, ce_time = len(value), identity.encode(), time.encode()
    before, after = shared
    # Written out instead of calls of `varint` and `prefixed`: this is done for each record.
    return b"".join(
        (
            b"\0",
            _SMALL[delta_ms] if 0 <= delta_ms < _TABLE else _varint(delta_ms),
            _SMALL[offset],
            key,
            _SMALL[size] if size < _TABLE else _varint(size),
            value,
            before,
            _SMALL[len(ce_id)],
            ce_id,
            _CE_TIME,
            _SMALL[len(ce_time)],
            ce_time,
            after,
        )
    )


def change_body(offset: int, key: bytes, value: bytes | None) -> bytes:
    """The same for a change of state, which has no headers; no value is a tombstone."""
    wire_value = _NULL if value is None else prefixed(value)
    return b"".join((b"\0\0", varint(offset), prefixed(key), wire_value, b"\0"))
