"""The capabilities that PCI defines, as data: power management, PCI Express, AER and others.

Fields without a mode are hard-wired: they read as given and take writes without remark, since drivers
save and restore whole capabilities. Sources: PCI Power Management Interface 1.2, 3.2; PCI Local Bus 3.0,
appendix H; PCI Express Base 3.0, 7.8 (PCI Express), 7.10 (AER), 7.12 (Device Serial Number).
"""

from collections.abc import Collection, Iterator
from typing import Any

from .capabilities import CONVENTIONAL, EXPRESS, EXTENDED, Capability, refuse
from .mistakes import flag, integer, shown
from .registers import Field, Register

__all__ = [
    "AdvancedErrorReporting", "PciExpress", "PowerManagement", "RawCapability", "SerialNumber",
    "VendorSpecific",
]  # fmt: skip

PME_STATES = ("D0", "D1", "D2", "D3hot", "D3cold")
POWER_STATES = {"D0": 0, "D1": 1, "D2": 2, "D3HOT": 3}
PORTS = {"endpoint": 0, "legacy": 1, "integrated": 9}
PAYLOADS = {f"BYTES_{128 << number}": number for number in range(6)}


class PowerManagement(Capability):
    """Power management, version 3 (id 0x01): PMC and PMCSR.

    ``d1``, ``d2``: the optional states are supported; ``pme``: states ("D0" ... "D3cold") that can
    signal PME. The guest's POWER_STATE acts by itself: in D1 to D3hot the function answers config space
    only. Going from D3hot back to D0 keeps every register, or with ``soft_reset`` resets the function
    and runs ``on_reset("d3hot")``. Raises DescriptionError for an unknown state.
    """

    def __init__(
        self,
        d1: bool = False,
        d2: bool = False,
        pme: Collection[str] = (),
        *,
        soft_reset: bool = False,
        at: int | None = None,
    ) -> None:
        wrong: list[str] = []
        d1, d2 = flag(d1, "d1", wrong), flag(d2, "d2", wrong)
        soft_reset = flag(soft_reset, "soft_reset", wrong)
        if isinstance(pme, str) or not isinstance(pme, Collection):
            wrong.append(f"pme {shown(pme)}, expected a tuple of states, such as ('D0',)")
            pme = ()
        unknown = [str(state) for state in pme if state not in PME_STATES]
        if unknown:
            wrong.append(f"pme: unknown {', '.join(unknown)}; states: {', '.join(PME_STATES)}")
        refuse("PowerManagement", wrong)
        support = sum(1 << number for number, state in enumerate(PME_STATES) if state in pme)
        pmc = Register(
            2, 16, "ignore", doc="Power Management Capabilities",
            VERSION=Field(0, 3, reset=3),
            PME_CLOCK=Field(3),
            IMMEDIATE_READINESS=Field(4),
            DEVICE_SPECIFIC_INITIALIZATION=Field(5),
            AUX_CURRENT=Field(6, 3),
            D1_SUPPORT=Field(9, reset=int(d1)),
            D2_SUPPORT=Field(10, reset=int(d2)),
            PME_SUPPORT=Field(11, 5, reset=support),
        )  # fmt: skip
        pmcsr = Register(
            4, 16, "ignore", doc="Power Management Control/Status",
            POWER_STATE=Field(0, 2, "rw", enum=POWER_STATES),
            NO_SOFT_RESET=Field(3, reset=int(not soft_reset)),
            PME_ENABLE=Field(8, mode="rw" if support else "ignore", sticky=bool(support)),
            DATA_SELECT=Field(9, 4),
            DATA_SCALE=Field(13, 2),
            PME_STATUS=Field(15, mode="w1c" if support else "ignore", sticky=bool(support)),
        )  # fmt: skip
        super().__init__(0x01, {"PMC": pmc, "PMCSR": pmcsr}, 8, name="PM", at=at)


class VendorSpecific(Capability):
    """Vendor-specific capability (id 0x09): a length byte, then ``data``, one register a byte.

    ``mode`` holds for the data: "ro" unless the driver may write it.
    """

    def __init__(self, data: bytes, *, mode: str = "ro", at: int | None = None) -> None:
        data = _bytes(data, "data", "VendorSpecific")
        registers = {f"DATA{i}": Register(3 + i, 8, mode, reset=byte) for i, byte in enumerate(data)}
        length = Register(2, 8, "ignore", reset=min(3 + len(data), 0xFF))
        super().__init__(0x09, {"LENGTH": length, **registers}, 3 + len(data), name="VENDOR", at=at)


class PciExpress(Capability):
    """PCI Express capability, version 2 (id 0x10, 60 bytes); the config space gets 4096 bytes with it.

    ``port``: "endpoint", "legacy" (an endpoint with I/O BARs) or "integrated" (in the root complex, without
    a link). ``flr``: the guest may reset the function (DEVICE_CONTROL.INITIATE_FLR), which runs
    ``on_reset("flr")``. ``max_payload``: bytes, 128 to 4096. The link is x1 at 2.5 GT/s.
    Raises DescriptionError for anything else.
    """

    def __init__(
        self, port: str = "endpoint", *, flr: bool = True, max_payload: int = 128, at: int | None = None
    ) -> None:
        wrong: list[str] = []
        kind = PORTS.get(port) if isinstance(port, str) else None
        if kind is None:
            wrong.append(f"port {shown(port)}, expected one of {', '.join(map(repr, PORTS))}")
        flr = flag(flr, "flr", wrong)
        payload = PAYLOADS.get(f"BYTES_{integer(max_payload, 'max_payload', wrong, 128)}")
        if payload is None:
            wrong.append(
                f"max_payload {shown(max_payload)}, expected 128, 256, 512, 1024, 2048 or 4096 bytes"
            )
        refuse("PciExpress", wrong)
        registers = {
            "CAPABILITIES": Register(
                2, 16, "ignore",
                VERSION=Field(0, 4, reset=2),
                PORT_TYPE=Field(4, 4, reset=kind, enum=_PORT_TYPES),
                SLOT_IMPLEMENTED=Field(8),
                INTERRUPT_MESSAGE=Field(9, 5),
            ),
            **_express_device(payload or 0, flr),
            **(_NO_LINK if port == "integrated" else _LINK),
            **_EXPRESS_2,
        }  # fmt: skip
        super().__init__(EXPRESS, registers, 60, name="PCIE", at=at)


_PORT_TYPES = {"ENDPOINT": 0, "LEGACY_ENDPOINT": 1, "ROOT_COMPLEX_INTEGRATED": 9}


def _express_device(payload: int, flr: bool) -> dict[str, Register]:
    """Device Capabilities, Control and Status (7.8.3 to 7.8.5). What FLR has to keep is sticky (6.6.2)."""
    return {
        "DEVICE_CAPABILITIES": Register(
            4, 32, "ignore",
            MAX_PAYLOAD_SUPPORTED=Field(0, 3, reset=payload, enum=PAYLOADS),
            EXTENDED_TAG_SUPPORTED=Field(5),
            L0S_LATENCY=Field(6, 3),
            L1_LATENCY=Field(9, 3),
            ROLE_BASED_ERROR_REPORTING=Field(15, reset=1),
            FLR_CAPABLE=Field(28, reset=int(flr)),
        ),
        "DEVICE_CONTROL": Register(
            8, 16, "ignore",
            CORRECTABLE_ERROR_ENABLE=Field(0, mode="rw"),
            NON_FATAL_ERROR_ENABLE=Field(1, mode="rw"),
            FATAL_ERROR_ENABLE=Field(2, mode="rw"),
            UNSUPPORTED_REQUEST_ENABLE=Field(3, mode="rw"),
            RELAXED_ORDERING=Field(4, mode="rw", reset=1),
            MAX_PAYLOAD=Field(5, 3, "rw", enum=PAYLOADS, sticky=True),
            NO_SNOOP=Field(11, mode="rw", reset=1),
            MAX_READ_REQUEST=Field(12, 3, "rw", reset=2, enum=PAYLOADS),
            INITIATE_FLR=Field(15, mode="pulse" if flr else "ignore"),
        ),
        "DEVICE_STATUS": Register(
            10, 16, "ignore",
            CORRECTABLE_ERROR=Field(0, mode="w1c"),
            NON_FATAL_ERROR=Field(1, mode="w1c"),
            FATAL_ERROR=Field(2, mode="w1c"),
            UNSUPPORTED_REQUEST=Field(3, mode="w1c"),
            AUX_POWER=Field(4),
            TRANSACTIONS_PENDING=Field(5),
        ),
    }  # fmt: skip


#: Link Capabilities, Control and Status (7.8.6 to 7.8.8): x1, 2.5 GT/s, no ASPM.
_LINK = {
    "LINK_CAPABILITIES": Register(
        12, 32, "ignore",
        MAX_SPEED=Field(0, 4, reset=1),
        MAX_WIDTH=Field(4, 6, reset=1),
        ASPM_SUPPORT=Field(10, 2),
        PORT_NUMBER=Field(24, 8),
    ),
    "LINK_CONTROL": Register(
        16, 16, "ignore",
        ASPM=Field(0, 2, "rw", sticky=True),
        READ_COMPLETION_BOUNDARY=Field(3, mode="rw", sticky=True),
        COMMON_CLOCK=Field(6, mode="rw", sticky=True),
        EXTENDED_SYNCH=Field(7, mode="rw", sticky=True),
    ),
    "LINK_STATUS": Register(
        18, 16, "ignore",
        SPEED=Field(0, 4, reset=1),
        WIDTH=Field(4, 6, reset=1),
        SLOT_CLOCK=Field(12, reset=1),
    ),
}  # fmt: skip

_NO_LINK = {
    "LINK_CAPABILITIES": Register(12, 32, "ignore"),
    "LINK_CONTROL": Register(16, 16, "ignore"),
    "LINK_STATUS": Register(18, 16, "ignore"),
}

#: What version 2 adds, and what only ports have: hard-wired to 0.
_EXPRESS_2 = {
    name: Register(offset, width, "ignore")
    for name, offset, width in (
        ("SLOT_CAPABILITIES", 20, 32), ("SLOT_CONTROL", 24, 16), ("SLOT_STATUS", 26, 16),
        ("ROOT_CONTROL", 28, 16), ("ROOT_CAPABILITIES", 30, 16), ("ROOT_STATUS", 32, 32),
        ("DEVICE_CAPABILITIES_2", 36, 32), ("DEVICE_CONTROL_2", 40, 16), ("DEVICE_STATUS_2", 42, 16),
        ("LINK_CAPABILITIES_2", 44, 32), ("LINK_CONTROL_2", 48, 16), ("LINK_STATUS_2", 50, 16),
        ("SLOT_CAPABILITIES_2", 52, 32), ("SLOT_CONTROL_2", 56, 16), ("SLOT_STATUS_2", 58, 16),
    )
}  # fmt: skip


class SerialNumber(Capability):
    """Device serial number (extended, id 0x0003): ``number`` is an EUI-64, up to 64 bits."""

    def __init__(self, number: int, *, at: int | None = None) -> None:
        wrong: list[str] = []
        number = integer(number, "number", wrong)
        if number < 0:
            wrong.append(f"number {number:#x} is below 0")
        refuse("SerialNumber", wrong)
        registers = {
            "LOWER": Register(4, 32, "ignore", reset=number & 0xFFFFFFFF),
            "UPPER": Register(8, 32, "ignore", reset=number >> 32),
        }
        super().__init__(0x0003, registers, 12, name="DSN", at=at, extended=True)


#: name -> bit, of the errors that a plain endpoint may report (7.10.2 and 7.10.5).
_UNCORRECTABLE = {
    "DATA_LINK_PROTOCOL": 4, "POISONED_TLP": 12, "FLOW_CONTROL_PROTOCOL": 13, "COMPLETION_TIMEOUT": 14,
    "COMPLETER_ABORT": 15, "UNEXPECTED_COMPLETION": 16, "RECEIVER_OVERFLOW": 17, "MALFORMED_TLP": 18,
    "UNSUPPORTED_REQUEST": 20,
}  # fmt: skip
_FATAL = ("DATA_LINK_PROTOCOL", "FLOW_CONTROL_PROTOCOL", "RECEIVER_OVERFLOW", "MALFORMED_TLP")
_CORRECTABLE = {
    "RECEIVER": 0, "BAD_TLP": 6, "BAD_DLLP": 7, "REPLAY_ROLLOVER": 8, "REPLAY_TIMEOUT": 12,
    "ADVISORY_NON_FATAL": 13,
}  # fmt: skip


class AdvancedErrorReporting(Capability):
    """Advanced error reporting, version 2 (extended, id 0x0001). Poke its status bits to report an error."""

    def __init__(self, *, at: int | None = None) -> None:
        registers = {
            "UNCORRECTABLE_STATUS": _errors(4, _UNCORRECTABLE, "w1c"),
            "UNCORRECTABLE_MASK": _errors(8, _UNCORRECTABLE, "rw"),
            "UNCORRECTABLE_SEVERITY": _errors(12, _UNCORRECTABLE, "rw", _FATAL),
            "CORRECTABLE_STATUS": _errors(16, _CORRECTABLE, "w1c"),
            "CORRECTABLE_MASK": _errors(20, _CORRECTABLE, "rw", ("ADVISORY_NON_FATAL",)),
            "CONTROL": Register(24, 32, "ignore", FIRST_ERROR=Field(0, 5, sticky=True)),
            "HEADER_LOG": Register(28, 32, "ignore", count=4, sticky=True),
        }
        super().__init__(0x0001, registers, 44, name="AER", at=at, extended=True, version=2)


def _errors(offset: int, bits: dict[str, int], mode: str, set_: Collection[str] = ()) -> Register:
    fields: dict[str, Any] = {
        name: Field(bit, mode=mode, sticky=True, reset=int(name in set_)) for name, bit in bits.items()
    }
    return Register(offset, 32, "ignore", **fields)


class RawCapability(Capability):
    """Any other capability, by its bytes behind the header (id and next; 4 bytes when ``extended``).

    ``writable``, ``w1c`` and ``sticky`` are masks for the bytes of ``data`` from the first on; bits of
    none are hard-wired. ``version`` is of the header of an extended one. Raises DescriptionError for
    masks that are longer than the data or contradict each other.
    """

    def __init__(
        self,
        cap_id: int,
        data: bytes,
        *,
        writable: bytes = b"",
        w1c: bytes = b"",
        sticky: bytes = b"",
        extended: bool = False,
        version: int = 1,
        name: str = "RAW",
        at: int | None = None,
    ) -> None:
        data = _bytes(data, "data", "RawCapability")
        masks = {"writable": writable, "w1c": w1c, "sticky": sticky}
        given = {word: _bytes(mask, word, "RawCapability") for word, mask in masks.items()}
        refuse("RawCapability", list(_mask_problems(data, given)))
        header = (EXTENDED if extended is True else CONVENTIONAL).header
        filled = [mask.ljust(len(data), b"\0") for mask in given.values()]
        registers = {
            f"DATA{number}": _raw_byte(header + number, *parts)
            for number, parts in enumerate(zip(data, *filled, strict=True))
        }
        super().__init__(
            cap_id, registers, header + len(data), name=name, at=at, extended=extended, version=version
        )


def _bytes(data: object, what: str, kind: str) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        refuse(kind, [f"{what} {shown(data)}, expected bytes"])
    return bytes(data)  # type: ignore[call-overload,no-any-return]


def _mask_problems(data: bytes, masks: dict[str, bytes]) -> Iterator[str]:
    for word, mask in masks.items():
        if len(mask) > len(data):
            yield f"{word} has {len(mask)} bytes and the data {len(data)}"
    for number, (one, other) in enumerate(zip(masks["writable"], masks["w1c"], strict=False)):
        if one & other:
            yield f"byte {number}: bits {one & other:#04x} are both writable and w1c"


def _raw_byte(offset: int, value: int, writable: int, w1c: int, sticky: int) -> Register:
    """Return the register of one byte: a field for each bit that is not hard-wired."""
    modes = {bit: "rw" if writable >> bit & 1 else "w1c" if w1c >> bit & 1 else "ignore" for bit in range(8)}
    fields: dict[str, Any] = {
        f"BIT{bit}": Field(bit, mode=mode, sticky=bool(sticky >> bit & 1))
        for bit, mode in modes.items()
        if (writable | w1c | sticky) >> bit & 1
    }
    return Register(offset, 8, "ignore", reset=value, **fields)
