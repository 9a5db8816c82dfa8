"""Identity and config space of a PCI device: a type-0 header and its capabilities, as registers.

Source: PCI Local Bus 3.0, 6.1 and 6.2. BAR sizing needs no code: the address bits of a BAR are
writable down to its size, those below are not. What software writes by right although it changes
nothing (sizing, the ROM BAR, STATUS beside COMMAND) has mode ``ignore`` and is not flagged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .capabilities import CONVENTIONAL, EXPRESS, EXTENDED, Capability, capability_registers, place
from .errors import DescriptionError
from .mistakes import BARS, integer, slot_problems
from .registers import Bar, Block, Field, Register
from .rom import rom_register

__all__ = ["PciId", "config_block", "function_controls"]

_LIMITS = {"class_code": 0xFFFFFF, "revision": 0xFF}  # of numbers that have not 16 bits


@dataclass(frozen=True)
class PciId:
    """Who the device is; ``class_code`` is base class, subclass, programming interface: 0xFF0000.

    ``subsystem_vendor`` and ``subsystem`` are those of the device when they are 0.
    Raises DescriptionError with everything that is no number or out of range.
    """

    vendor: int
    device: int
    class_code: int = 0xFF0000
    revision: int = 0
    subsystem_vendor: int = 0
    subsystem: int = 0

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, value in list(vars(self).items()):
            limit = _LIMITS.get(name, 0xFFFF)
            number = integer(value, name, problems)
            if not 0 <= number <= limit:
                problems.append(f"{name} {number:#x} is out of range (0 to {limit:#x})")
            object.__setattr__(self, name, number)
        if self.vendor == 0xFFFF:
            problems.append("vendor 0xffff means that no device is there")
        if problems:
            raise DescriptionError("PciId", problems)
        # Filled in here so that what is shown is what the guest reads.
        object.__setattr__(self, "subsystem_vendor", self.subsystem_vendor or self.vendor)
        object.__setattr__(self, "subsystem", self.subsystem or self.device)

    def __str__(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"


def config_block(
    pci_id: PciId,
    bars: Mapping[int, type[Bar]],
    interrupt_pin: int = 0,
    capabilities: Sequence[Capability] = (),
    rom: int = 0,
) -> Block:
    """Return the config space as a Block named "config": 256 bytes, 4096 with a PCI Express capability.

    ``bars``: slot 0 to 5 -> Bar class; ``interrupt_pin``: 0 none, 1 INTA to 4 INTD; ``rom``: bytes of the
    option ROM, a power of two, or 0. Bytes without a register read as 0 and take writes without remark.
    Raises DescriptionError with every mistake.
    """
    problems = [f"BAR {slot}: slots are 0 to {BARS - 1}" for slot in bars if not 0 <= slot < BARS]
    problems += slot_problems({slot: bar.bits for slot, bar in bars.items()})
    if not 0 <= interrupt_pin <= 4:
        problems.append(f"interrupt pin {interrupt_pin}, expected 0 (none) to 4 (INTD)")
    wrong = {number: found for number, one in enumerate(capabilities) if (found := list(one.problems()))}
    problems += [problem for found in wrong.values() for problem in found]
    starts = place([one for number, one in enumerate(capabilities) if number not in wrong], problems)
    if problems:
        raise DescriptionError(f"the config space of {pci_id}", problems)
    placed = list(zip(capabilities, starts, strict=True))
    listed = [start for one, start in placed if not one.extended]
    express = any(one.cap_id == EXPRESS and not one.extended for one in capabilities)
    registers = {
        **_identity(pci_id),
        **_control(bars, bool(listed), rom),
        **_bar_registers(bars),
        **_rest(interrupt_pin, listed[0] if listed else 0),
        "EXPANSION_ROM": rom_register(rom),
        **capability_registers(capabilities, starts),
    }
    size = EXTENDED.limit if express else CONVENTIONAL.limit
    block = Block("config", size, registers, holes="ignore", doc="Configuration space")
    if block.problems:
        raise DescriptionError(f"the config space of {pci_id}", block.problems)
    return block


def _identity(pci_id: PciId) -> dict[str, Register]:
    code = pci_id.class_code
    return {
        "VENDOR_ID": Register(0x00, 16, "ro", reset=pci_id.vendor),
        "DEVICE_ID": Register(0x02, 16, "ro", reset=pci_id.device),
        "REVISION_ID": Register(0x08, 8, "ro", reset=pci_id.revision),
        "PROG_IF": Register(0x09, 8, "ro", reset=code & 0xFF, doc="Class code, programming interface"),
        "SUBCLASS": Register(0x0A, 8, "ro", reset=code >> 8 & 0xFF, doc="Class code, subclass"),
        "BASE_CLASS": Register(0x0B, 8, "ro", reset=code >> 16, doc="Class code, base class"),
        "SUBSYSTEM_VENDOR_ID": Register(0x2C, 16, "ro", reset=pci_id.subsystem_vendor),
        "SUBSYSTEM_ID": Register(0x2E, 16, "ro", reset=pci_id.subsystem),
    }


def _control(bars: Mapping[int, type[Bar]], capabilities: bool, rom: int) -> dict[str, Register]:
    kinds = {bar.kind for bar in bars.values()} | ({"memory"} if rom else set())
    # The error bits exist for hooks to poke; nothing here sets them.
    command = Register(
        0x04, 16, "ignore",
        IO_SPACE=Field(0, mode="rw" if "io" in kinds else None),
        MEMORY_SPACE=Field(1, mode="rw" if "memory" in kinds else None),
        BUS_MASTER=Field(2, mode="rw"),
        SPECIAL_CYCLES=Field(3),
        MEMORY_WRITE_AND_INVALIDATE=Field(4, mode="rw"),
        VGA_PALETTE_SNOOP=Field(5),
        PARITY_ERROR_RESPONSE=Field(6, mode="rw"),
        SERR_ENABLE=Field(8, mode="rw"),
        FAST_BACK_TO_BACK_ENABLE=Field(9),
        INTERRUPT_DISABLE=Field(10, mode="rw"),
    )  # fmt: skip
    status = Register(
        0x06, 16, "ignore",
        IMMEDIATE_READINESS=Field(0),
        INTERRUPT_STATUS=Field(3),
        CAPABILITIES_LIST=Field(4, reset=int(capabilities)),
        CAPABLE_66_MHZ=Field(5),
        FAST_BACK_TO_BACK_CAPABLE=Field(7),
        MASTER_DATA_PARITY_ERROR=Field(8, mode="w1c"),
        DEVSEL_TIMING=Field(9, 2, enum={"FAST": 0, "MEDIUM": 1, "SLOW": 2}),
        SIGNALED_TARGET_ABORT=Field(11, mode="w1c"),
        RECEIVED_TARGET_ABORT=Field(12, mode="w1c"),
        RECEIVED_MASTER_ABORT=Field(13, mode="w1c"),
        SIGNALED_SYSTEM_ERROR=Field(14, mode="w1c"),
        DETECTED_PARITY_ERROR=Field(15, mode="w1c"),
    )  # fmt: skip
    return {"COMMAND": command, "STATUS": status}


def _bar_registers(bars: Mapping[int, type[Bar]]) -> dict[str, Register]:
    registers: dict[str, Register] = {}
    for slot in range(BARS):
        offset, bar = 0x10 + 4 * slot, bars.get(slot)
        if bar is not None:
            registers[f"BAR{slot}"] = _bar_low(offset, bar)
            if bar.bits == 64:
                registers[f"BAR{slot}_HIGH"] = Register(offset + 4, 32, "ignore", **_address(bar.size >> 32))
        elif f"BAR{slot - 1}_HIGH" not in registers:
            registers[f"BAR{slot}"] = Register(offset, 32, "ignore", doc="Not there: sizes to 0")
    return registers


def _bar_low(offset: int, bar: type[Bar]) -> Register:
    fields: dict[str, Any] = {"SPACE": Field(0, enum={"MEMORY": 0, "IO": 1}, reset=int(bar.kind == "io"))}
    if bar.kind == "memory":
        fields["TYPE"] = Field(1, 2, enum={"BITS_32": 0, "BITS_64": 2}, reset=2 if bar.bits == 64 else 0)
        fields["PREFETCHABLE"] = Field(3, reset=int(bar.prefetchable))
    if bar.size < 1 << 32:
        fields |= _address(bar.size)
    return Register(offset, 32, "ignore", doc=bar.doc, **fields)


def _address(size: int) -> dict[str, Any]:
    """Return the address bits of one BAR dword: those at and above its (power of two) size."""
    low = max(size, 1).bit_length() - 1
    return {"ADDRESS": Field(low, 32 - low, "rw")}


def _rest(interrupt_pin: int, pointer: int) -> dict[str, Register]:
    return {
        "CACHE_LINE_SIZE": Register(0x0C, 8, "rw", doc="In units of 4 bytes"),
        "LATENCY_TIMER": Register(0x0D, 8, "rw"),
        "HEADER_TYPE": Register(0x0E, 8, "ro"),
        "BIST": Register(0x0F, 8, "ignore"),
        "CARDBUS_CIS": Register(0x28, 32, "ignore"),
        "CAPABILITIES_POINTER": Register(0x34, 8, "ignore", reset=pointer),
        "INTERRUPT_LINE": Register(0x3C, 8, "rw", doc="For system software; means nothing to the device"),
        "INTERRUPT_PIN": Register(0x3D, 8, "ro", reset=interrupt_pin),
        "MIN_GNT": Register(0x3E, 8, "ro"),
        "MAX_LAT": Register(0x3F, 8, "ro"),
    }


def function_controls(block: Block) -> tuple[int, int]:
    """Return where PMCSR and Device Control are in a config space, 0 for each that is not there.

    Found by walking the capability list as a guest does, so that capabilities made by hand act too.
    Device Control counts when Device Capabilities say that the function can be reset (bit 28).
    """
    config = block.segments()[0].planes["value"]
    found: dict[int, int] = {}
    at = config[0x34] & ~3 if config[0x06] & 0x10 else 0
    for _ in range(48):  # as many as there is room for
        if at:
            found.setdefault(config[at], at)
            at = config[at + 1] & ~3
    power, express = found.get(0x01, 0), found.get(EXPRESS, 0)
    resettable = express and express + 10 <= len(config) and config[express + 7] & 0x10
    return power + 4 if 0 < power <= len(config) - 8 else 0, express + 8 if resettable else 0
