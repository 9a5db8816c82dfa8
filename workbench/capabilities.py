"""PCI capabilities as data: registers with offsets from the capability's start, put into a list.

A new capability is a subclass (or an instance) of Capability: its id, its length in bytes, and its
registers from offset 2 on; the id byte and the pointer to the next one are added here. In the config
space its registers get the capability's name in front: ``PM_PMCSR``.
Source: PCI Local Bus 3.0, 6.7 and appendix H; PCI Power Management Interface 1.2, 3.2.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from .errors import DescriptionError
from .mistakes import flag, integer, shown, text
from .registers import Field, Register

__all__ = ["Capability", "PowerManagement", "VendorSpecific", "capability_registers", "place"]

FIRST, LIMIT = 0x40, 0x100  #: capabilities live in these bytes of the config space
PME_STATES = ("D0", "D1", "D2", "D3hot", "D3cold")
POWER_STATES = {"D0": 0, "D1": 1, "D2": 2, "D3HOT": 3}


class Capability:
    """One capability: ``length`` bytes with header, ``registers`` at offsets from its start.

    ``at`` fixes its place in the config space; otherwise it gets the first that is free.
    ``name`` stands in front of its registers' names.
    """

    def __init__(
        self,
        cap_id: int,
        registers: Mapping[str, Register],
        length: int,
        *,
        name: str = "CAP",
        at: int | None = None,
    ) -> None:
        self.wrong: list[str] = []  #: types that cannot be used, one line each
        self.cap_id = integer(cap_id, "capability id", self.wrong, 1)
        self.length = integer(length, "length", self.wrong, LIMIT - FIRST)
        self.name = text(name, "name", self.wrong) or "CAP"
        self.at = None if at is None else integer(at, "at", self.wrong, FIRST)
        self.registers = self._sorted_out(registers)

    def _sorted_out(self, registers: object) -> dict[str, Register]:
        if not isinstance(registers, Mapping):
            self.wrong.append(f"registers {shown(registers)}, expected a dict of names and Registers")
            return {}
        for name, one in registers.items():
            if not (isinstance(name, str) and isinstance(one, Register)):
                self.wrong.append(f"registers: {shown(name)} is {shown(one)}, expected a Register")
        return {name: one for name, one in registers.items() if isinstance(one, Register)}

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it by itself."""
        yield from (f"{self.name}: {problem}" for problem in self.wrong)
        if not self.name.isidentifier():
            yield f"{shown(self.name)} cannot stand in front of registers' names"
        if not 1 <= self.cap_id <= 0xFF:
            yield f"{self.name}: capability id {self.cap_id:#x}, expected 0x1 to 0xff"
        if not 2 <= self.length <= LIMIT - FIRST:
            yield f"{self.name}: length {self.length:#x}, expected 0x2 to {LIMIT - FIRST:#x} bytes"
        for name, register in self.registers.items():
            yield from (f"{self.name}: {name}: {problem}" for problem in register.problems)
            if register.problems:
                continue
            if register.offset < 2 or register.end > self.length:
                place = f"{name} ({register.offset:#x}-{register.end - 1:#x})"
                yield f"{self.name}: {place} is not inside the capability's 0x2-{self.length - 1:#x}"
        if self.at is not None and (self.at % 4 or not FIRST <= self.at < LIMIT):
            yield f"{self.name}: at={self.at:#x}, expected a multiple of 4 from {FIRST:#x} to {LIMIT - 4:#x}"

    def __repr__(self) -> str:
        return f"<Capability {self.name} id {self.cap_id:#04x}, {self.length} bytes>"


class PowerManagement(Capability):
    """Power management, version 3 (id 0x01): PMC and PMCSR.

    ``d1``, ``d2``: the optional states are supported; ``pme``: states ("D0" ... "D3cold") that can
    signal PME. The guest may write any POWER_STATE: a hook decides what it does. Going back to D0
    keeps every register (NO_SOFT_RESET). Raises DescriptionError for an unknown state.
    """

    def __init__(
        self, d1: bool = False, d2: bool = False, pme: Collection[str] = (), *, at: int | None = None
    ) -> None:
        wrong: list[str] = []
        d1, d2 = flag(d1, "d1", wrong), flag(d2, "d2", wrong)
        if isinstance(pme, str) or not isinstance(pme, Collection):
            wrong.append(f"pme {shown(pme)}, expected a tuple of states, such as ('D0',)")
            pme = ()
        unknown = [str(state) for state in pme if state not in PME_STATES]
        if unknown:
            wrong.append(f"pme: unknown {', '.join(unknown)}; states: {', '.join(PME_STATES)}")
        if wrong:
            raise DescriptionError("PowerManagement", wrong)
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
            NO_SOFT_RESET=Field(3, reset=1),
            PME_ENABLE=Field(8, mode="rw" if support else "ignore"),
            DATA_SELECT=Field(9, 4),
            DATA_SCALE=Field(13, 2),
            PME_STATUS=Field(15, mode="w1c" if support else "ignore"),
        )  # fmt: skip
        super().__init__(0x01, {"PMC": pmc, "PMCSR": pmcsr}, 8, name="PM", at=at)


class VendorSpecific(Capability):
    """Vendor-specific capability (id 0x09): a length byte, then ``data``, one register a byte.

    ``mode`` holds for the data: "ro" unless the driver may write it.
    """

    def __init__(self, data: bytes, *, mode: str = "ro", at: int | None = None) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise DescriptionError("VendorSpecific", [f"data {shown(data)}, expected bytes"])
        data = bytes(data)
        registers = {f"DATA{i}": Register(3 + i, 8, mode, reset=byte) for i, byte in enumerate(data)}
        length = Register(2, 8, "ignore", reset=min(3 + len(data), 0xFF))
        super().__init__(0x09, {"LENGTH": length, **registers}, 3 + len(data), name="VENDOR", at=at)


def place(capabilities: Sequence[Capability], problems: list[str]) -> list[int]:
    """Return a start for each capability, 4-aligned; what does not fit goes to ``problems``."""
    taken: list[tuple[int, int, str]] = []
    for one in capabilities:
        if one.at is None:
            continue
        end = one.at + one.length
        for low, high, other in taken:
            if one.at < high and low < end:
                problems.append(
                    f"capabilities {other} ({low:#x}-{high - 1:#x}) and {one.name}"
                    f" ({one.at:#x}-{end - 1:#x}) overlap"
                )
        taken.append((one.at, end, one.name))
        if FIRST <= one.at < LIMIT < end:
            problems.append(
                f"{one.name} ({one.at:#x}-{end - 1:#x}) is beyond the config space's {LIMIT:#x} bytes"
            )
    return [_free(one, taken, problems) if one.at is None else one.at for one in capabilities]


def _free(one: Capability, taken: list[tuple[int, int, str]], problems: list[str]) -> int:
    for start in range(FIRST, LIMIT - one.length + 1, 4):
        if all(start >= high or low >= start + one.length for low, high, _ in taken):
            taken.append((start, start + one.length, one.name))
            return start
    problems.append(f"{one.name}: no {one.length:#x} free bytes left in {FIRST:#x}-{LIMIT - 1:#x}")
    return FIRST


def capability_registers(capabilities: Sequence[Capability], starts: Sequence[int]) -> dict[str, Register]:
    """Return every register of the list, headers included, named and placed in the config space."""
    registers: dict[str, Register] = {}
    following = [*starts[1:], 0][: len(starts)]
    for one, start, after in zip(capabilities, starts, following, strict=True):
        prefix = one.name
        number = 1
        while f"{prefix}_CAP_ID" in registers:  # the second of a kind is VENDOR_2 ...
            number += 1
            prefix = f"{one.name}_{number}"
        registers[f"{prefix}_CAP_ID"] = Register(start, 8, "ignore", reset=one.cap_id)
        registers[f"{prefix}_NEXT"] = Register(start + 1, 8, "ignore", reset=after)
        registers.update({f"{prefix}_{name}": part.moved(start) for name, part in one.registers.items()})
    return registers
