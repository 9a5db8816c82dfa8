"""vfio-user messages decoded for people: what the wire trace shows, one line a message.

``describe`` takes any bytes and never raises: what is wrong with a message is part of its description.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import protocol
from .protocol import (
    DEVICE_INFO,
    DMA_ACCESS,
    DMA_MAP,
    DMA_UNMAP,
    FEATURE,
    FEATURE_STATE,
    HEADER,
    IO_EVENTFD,
    IO_FDS,
    IRQ_INFO,
    IRQ_SET,
    MIGRATION_DATA,
    MULTI_COUNT,
    MULTI_WRITE,
    REGION_ACCESS,
    REGION_INFO,
    VERSION,
    Command,
    Feature,
    MessageFlag,
    MigrationState,
    command_name,
    irq_name,
    region_name,
)

__all__ = ["WireMessage", "describe"]

SHOWN_BYTES = 16  # of data in a line
SHOWN_WRITES = 4  # of a REGION_WRITE_MULTI
_LENGTH_REMARKS = ("truncated:", "has ", "says ")

Fields = dict[str, Any]


@dataclass(frozen=True)
class WireMessage:
    """A message of the conversation. ``fields``: its payload in words; ``odd``: what is wrong with it."""

    from_server: bool
    id: int
    command: int
    name: str
    flags: str
    size: int
    nfds: int
    error: str = ""
    fields: Fields = field(default_factory=dict)
    odd: tuple[str, ...] = ()

    @property
    def direction(self) -> str:
        """``client→server`` or ``server→client``."""
        return "server→client" if self.from_server else "client→server"

    def __str__(self) -> str:
        parts = [f"{'<-' if self.from_server else '->'} #{self.id:<5} {self.name} {self.flags}".rstrip()]
        parts += [self.error] * bool(self.error)
        parts += [f"{key}={_text(value)}" for key, value in self.fields.items()]
        parts += [f"+{self.nfds} fd{'s' * (self.nfds > 1)}"] * bool(self.nfds)
        parts += [f"[{'; '.join(self.odd)}]"] * bool(self.odd)
        return " ".join(parts)


def describe(message: bytes, from_server: bool, nfds: int = 0, length: int | None = None) -> WireMessage:
    """Decode one message, header included, that came with ``nfds`` file descriptors.

    ``length``: how many bytes it had when only the first of them were kept.
    """
    message = bytes(message)
    kept_part = length is not None and length > len(message)
    if len(message) < HEADER.size:
        short = f"truncated: has {len(message)} of {HEADER.size} bytes"
        return WireMessage(from_server, 0, 0, "?", "", len(message), nfds, odd=(short,))
    number, command, size, flags, error = HEADER.unpack_from(message)
    odd = _odd_header(message, size, flags)
    fields: Fields = {}
    payload = message[HEADER.size :]
    if not flags & MessageFlag.ERROR:
        try:
            fields = _payload(command, payload, bool(flags & MessageFlag.REPLY), odd)
        except (ValueError, ConnectionError) as problem:  # ours, and protocol.py's ProtocolError
            odd.append(str(problem))
    if kept_part:  # then what is missing is our doing
        odd = [one for one in odd if not one.startswith(_LENGTH_REMARKS)]
    text = f"refused with {protocol.errno_name(error)}" if flags & MessageFlag.ERROR else ""
    name, words = command_name(command), _flags(flags)
    return WireMessage(from_server, number, command, name, words, size, nfds, text, fields, tuple(odd))


def _odd_header(message: bytes, size: int, flags: int) -> list[str]:
    odd = []
    if len(message) < size:
        odd.append(f"truncated: has {len(message)} of {size} bytes")
    elif len(message) > size:
        odd.append(f"says {size} bytes, has {len(message)}")
    if flags & 0xF > MessageFlag.REPLY:
        odd.append(f"unknown message type {flags & 0xF}")
    if flags & ~0x3F:
        odd.append(f"unknown flags {flags & ~0x3F:#x}")
    if flags & MessageFlag.ERROR and not flags & MessageFlag.REPLY:
        odd.append("an error that is no reply")
    return odd


def _flags(flags: int) -> str:
    words = ["reply"] * bool(flags & MessageFlag.REPLY) + ["no-reply"] * bool(flags & MessageFlag.NO_REPLY)
    return " ".join(words + ["error"] * bool(flags & MessageFlag.ERROR))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:SHOWN_BYTES].hex(" ", -4) + f"...{len(value)} bytes" * (len(value) > SHOWN_BYTES)
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# ---- payloads: each decoder fills in words, and says what is odd


def _payload(command: int, payload: bytes, reply: bool, odd: list[str]) -> Fields:
    decode = _DECODERS.get(command)
    if decode is not None:
        # A reply without payload is how DMA_MAP, SET_IRQS, RESET and MIG_DATA_WRITE say yes.
        return decode(payload, reply, odd) if payload or not reply else {}
    if payload and command == Command.DEVICE_RESET:
        odd.append(f"{len(payload)} bytes of payload where none belong")
    return {"data": payload} if payload else {}


def _unpack(layout: Any, payload: bytes) -> tuple[int, ...]:
    if len(payload) < layout.size:
        raise ValueError(f"truncated: has {len(payload)} of {layout.size} bytes of payload")
    return tuple(layout.unpack_from(payload))


def _version(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    major, minor = _unpack(VERSION, payload)
    try:
        capabilities = protocol.unpack_version(payload)[2]
    except ConnectionError as problem:
        odd.append(str(problem))
        return {"version": f"{major}.{minor}", "text": payload[VERSION.size :]}
    return {"version": f"{major}.{minor}", "capabilities": capabilities}


def _dma_map(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, offset, iova, size = _unpack(DMA_MAP, payload)
    _argsz(argsz, DMA_MAP.size, odd)
    access = _words(flags, {1: "read", 2: "write"})
    return {"iova": hex(iova), "size": hex(size), "access": access, "offset": hex(offset)}


def _dma_unmap(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, iova, size = _unpack(DMA_UNMAP, payload)
    _argsz(argsz, DMA_UNMAP.size, odd)
    words = {"flags": _words(flags, {1: "dirty-bitmap", 2: "all"})} if flags else {}
    return {"iova": hex(iova), "size": hex(size), **words}


def _device_info(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, regions, irqs = _unpack(DEVICE_INFO, payload)
    _argsz(argsz, DEVICE_INFO.size, odd)
    if not reply:
        return {"argsz": argsz}
    return {"flags": _words(flags, {1: "reset", 2: "pci"}), "regions": regions, "irqs": irqs}


def _region_info(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, index, _, size, offset = _unpack(REGION_INFO, payload)
    _argsz(argsz, REGION_INFO.size, odd)
    fields: Fields = {"region": region_name(index), "argsz": argsz}
    if not reply:
        return fields
    fields |= {"size": hex(size), "flags": _words(flags, {1: "read", 2: "write", 4: "mmap", 8: "caps"})}
    fields |= {"offset": hex(offset)} if offset else {}
    for one in protocol.region_capabilities(payload):
        areas = protocol.sparse_areas(one) if one.id == protocol.SPARSE_MMAP else None
        name = "mmap_areas" if areas is not None else f"capability_{one.id}"
        fields[name] = one.data if areas is None else [f"{at:#x}+{size:#x}" for at, size in areas]
    return fields


def _io_fds(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, index, count = _unpack(IO_FDS, payload)
    _argsz(argsz, IO_FDS.size, odd)
    fields: Fields = {"region": region_name(index), "flags": hex(flags), "count": count}
    entries = range(IO_FDS.size, len(payload) - IO_EVENTFD.size + 1, IO_EVENTFD.size) if reply else ()
    if entries:
        found = [IO_EVENTFD.unpack_from(payload, at) for at in entries]
        fields["eventfds"] = [f"{at:#x}+{size:#x}" for at, size, *_ in found]
    return fields


def _irq_info(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, index, count = _unpack(IRQ_INFO, payload)
    _argsz(argsz, IRQ_INFO.size, odd)
    if not reply:
        return {"irq": irq_name(index)}
    words = {1: "eventfd", 2: "maskable", 4: "automasked", 8: "noresize"}
    return {"irq": irq_name(index), "count": count, "flags": _words(flags, words)}


def _irq_set(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    argsz, flags, index, start, count = _unpack(IRQ_SET, payload)
    _argsz(argsz, IRQ_SET.size, odd)
    words = {1: "none", 2: "bool", 4: "eventfd", 8: "mask", 16: "unmask", 32: "trigger"}
    if (flags & 7).bit_count() != 1 or (flags & 0x38).bit_count() != 1:
        odd.append("wants one kind of data and one action")
    data = {"data": payload[IRQ_SET.size :]} if len(payload) > IRQ_SET.size else {}
    return {"irq": irq_name(index), "set": _words(flags, words), "start": start, "count": count, **data}


def _region_read(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    fields = _region_access(payload)
    return {**fields, "data": payload[REGION_ACCESS.size :]} if reply else fields


def _region_write(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    fields, data = _region_access(payload), payload[REGION_ACCESS.size :]
    if not reply and len(data) != fields["count"]:
        odd.append(f"has {len(data)} bytes of data, says {fields['count']}")
    return fields if reply else {**fields, "data": data}


def _region_access(payload: bytes) -> Fields:
    offset, index, count = _unpack(REGION_ACCESS, payload)
    return {"at": f"{region_name(index)}+{offset:#x}", "count": count}


def _dma_access(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    iova, count = _unpack(DMA_ACCESS, payload)
    data = payload[DMA_ACCESS.size :]
    return {"iova": hex(iova), "count": count, **({"data": data} if data else {})}


def _write_multi(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    (count,) = _unpack(MULTI_COUNT, payload)
    if reply:
        return {"done": count}
    room = (len(payload) - MULTI_COUNT.size) // MULTI_WRITE.size
    if MULTI_COUNT.size + count * MULTI_WRITE.size != len(payload):
        odd.append(f"says {count} writes, has room for {room}")
    writes = []
    for at in range(min(count, room, SHOWN_WRITES)):
        offset, index, size, data = MULTI_WRITE.unpack_from(payload, MULTI_COUNT.size + at * MULTI_WRITE.size)
        writes.append(f"{region_name(index)}+{offset:#x}:{data[: min(size, 8)].hex()}")
    return {"writes": count, "first": writes}


def _feature(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    _, flags = _unpack(FEATURE, payload)
    words = _words(flags >> 16, {1: "get", 2: "set", 4: "probe"})
    number, data = flags & 0xFFFF, payload[FEATURE.size :]
    fields: Fields = {"feature": Feature(number).name if number in set(Feature) else number, "flags": words}
    if number == Feature.MIG_DEVICE_STATE and len(data) >= FEATURE_STATE.size:
        state, _ = FEATURE_STATE.unpack_from(data)
        return fields | {"state": MigrationState(state).name if state in set(MigrationState) else state}
    return fields | ({"data": data} if data else {})


def _migration_data(payload: bytes, reply: bool, odd: list[str]) -> Fields:
    _, size = _unpack(MIGRATION_DATA, payload)
    data = payload[MIGRATION_DATA.size :]
    return {"size": size, **({"data": data} if data else {})}


_DECODERS: dict[int, Callable[[bytes, bool, list[str]], Fields]] = {
    Command.VERSION: _version,
    Command.DMA_MAP: _dma_map,
    Command.DMA_UNMAP: _dma_unmap,
    Command.DEVICE_GET_INFO: _device_info,
    Command.DEVICE_GET_REGION_INFO: _region_info,
    Command.DEVICE_GET_REGION_IO_FDS: _io_fds,
    Command.DEVICE_GET_IRQ_INFO: _irq_info,
    Command.DEVICE_SET_IRQS: _irq_set,
    Command.REGION_READ: _region_read,
    Command.REGION_WRITE: _region_write,
    Command.DMA_READ: _dma_access,
    Command.DMA_WRITE: _dma_access,
    Command.REGION_WRITE_MULTI: _write_multi,
    Command.DEVICE_FEATURE: _feature,
    Command.MIG_DATA_READ: _migration_data,
    Command.MIG_DATA_WRITE: _migration_data,
}


def _words(bits: int, names: dict[int, str]) -> str:
    known = [name for bit, name in names.items() if bits & bit]
    rest = bits & ~sum(names)
    return "|".join(known + [hex(rest)] * bool(rest)) or "none"


def _argsz(argsz: int, needed: int, odd: list[str]) -> None:
    if argsz < needed:
        odd.append(f"argsz {argsz} is less than {needed}")
