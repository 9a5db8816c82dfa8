"""Refuses config spaces and regions that crash or hang QEMU, or that no guest could use.

Looks at the compiled bytes, not at the description, so that pokes and hand-made registers are
caught as well. Every line says what is wrong and how to mend it. What QEMU does with each was
observed with QEMU 11.1: an assertion, a segmentation fault, an endless loop, or a refusal.
"""

from collections.abc import Iterator, Mapping, Sequence

from .mistakes import BARS, NARROW, SMALLEST, slot_problems

__all__ = ["lint"]

CONFIG, ROM, REGIONS = 7, 6, 9
MSIX_IRQ = 2  #: index of MSI-X among the interrupt kinds
STATUS, HEADER_TYPE, CAPABILITY_POINTER, INTERRUPT_PIN = 0x06, 0x0E, 0x34, 0x3D
HAS_LIST = 0x10
MSI, PCIE, MSIX = 0x05, 0x10, 0x11
NAMES = {0x01: "power management", MSI: "MSI", 0x09: "vendor-specific", PCIE: "PCI Express", MSIX: "MSI-X"}
UNIQUE = (0x01, MSI, PCIE, MSIX)
MAX_ROM = 1 << 20  #: QEMU fetches it in one message
KIB = 1 << 10


def lint(
    config: bytes, regions: Mapping[int, int], irqs: Mapping[int, int] | Sequence[int] | None = None
) -> list[str]:
    """Return what is wrong, one line each; an empty list lets the device be served.

    ``config``: the bytes of the config space; ``regions``: VFIO region index -> size in bytes (0: none);
    ``irqs``: vectors of each VFIO IRQ index, checked against the capabilities when given.
    """
    problems = [*_region_problems(regions, len(config))]
    if len(config) not in (256, 4096):
        problems.append(f"the config space has {len(config)} bytes: give it 256, or 4096 for PCI Express")
    if len(config) < 256:
        return problems  # the rest cannot be read
    problems.extend(_header_problems(config))
    present = [slot for slot in range(BARS) if regions.get(slot, 0)]
    for slot in present:
        problems.extend(_bar_problems(slot, config, regions))
    problems += slot_problems({slot: 64 if config[0x10 + 4 * slot] & 7 == 4 else 32 for slot in present})
    found: list[tuple[int, int]] = []
    problems.extend(_walk(config, found))
    problems.extend(_capability_problems(config, found))
    for cap_id, at in found:
        if cap_id == MSIX and at + 12 <= 256:
            problems.extend(_msix_problems(config, at, regions, irqs))
    if len(config) == 4096:
        problems.extend(_walk_extended(config))
    return problems


def _region_problems(regions: Mapping[int, int], config_size: int) -> Iterator[str]:
    for index, size in sorted(regions.items()):
        if not 0 <= index < REGIONS:
            yield f"region {index}: a PCI device has regions 0 to {REGIONS - 1}; remove it"
        elif index == CONFIG and size != config_size:
            yield f"the config region has {size} bytes and the config space {config_size}: make them equal"
    rom = regions.get(ROM, 0)
    if rom and (rom & (rom - 1) or not 2 * KIB <= rom <= MAX_ROM):
        yield f"the ROM has {rom:#x} bytes: make it a power of two from 0x800 to {MAX_ROM:#x}"


def _header_problems(config: bytes) -> Iterator[str]:
    if kind := config[HEADER_TYPE] & 0x7F:
        yield f"header type {kind} (config byte 0x0e): QEMU aborts; write 0, the type of an endpoint"
    if (pin := config[INTERRUPT_PIN]) > 4:
        yield f"interrupt pin {pin} (config byte 0x3d): write 0 for none, or 1 (INTA) to 4 (INTD)"


def _bar_problems(slot: int, config: bytes, regions: Mapping[int, int]) -> Iterator[str]:
    size, low = regions[slot], config[0x10 + 4 * slot]
    is_io, is_wide = low & 1, low & 7 == 4
    if size & (size - 1):
        larger = 1 << size.bit_length()
        yield f"bar{slot} has {size:#x} bytes, no power of two: QEMU aborts; make it {larger:#x}"
    elif size < (least := SMALLEST["io" if is_io else "memory"]):
        yield f"bar{slot} has {size:#x} bytes: the least is {least} for {'I/O' if is_io else 'memory'}"
    if is_io and size > 64 * KIB:
        yield f"bar{slot} has {size:#x} bytes of I/O: there are 64 KiB in all; use a memory BAR"
    if not is_io and not is_wide and size > NARROW:
        yield f"bar{slot} has {size:#x} bytes and 32 bits: above 2 GiB say bits=64"


def _walk(config: bytes, found: list[tuple[int, int]]) -> Iterator[str]:
    """Follow the capability list as a guest does; put (id, offset) of each into ``found``."""
    if not config[STATUS] & HAS_LIST:
        return
    at, came_from, seen = config[CAPABILITY_POINTER], CAPABILITY_POINTER, set[int]()
    while at:
        if at < 0x40 or at % 4:
            yield (
                f"the capability pointer at {came_from:#x} says {at:#x}: capabilities start at multiples of 4"
                " from 0x40 to 0xfc"
            )
            return
        if at in seen:
            yield (
                f"the capability list loops: the pointer at {came_from:#x} leads back to {at:#x} and QEMU"
                " never ends; let the last one be 0"
            )
            return
        seen.add(at)
        found.append((config[at], at))
        at, came_from = config[at + 1], at + 1


def _length(config: bytes, cap_id: int, at: int) -> int:
    """Return the bytes of a capability; the header's two where the id does not tell."""
    if cap_id == MSI:
        control = config[at + 2]
        return 10 + (4 if control & 0x80 else 0) + (10 if config[at + 3] & 1 else 0)
    if cap_id == PCIE:
        return 60 if config[at + 2] & 0xF > 1 else 20
    if cap_id == 0x09:
        return max(config[at + 2], 3)
    return {0x01: 8, MSIX: 12}.get(cap_id, 2)


def _capability_problems(config: bytes, found: list[tuple[int, int]]) -> Iterator[str]:
    ends: list[tuple[int, int, str]] = []
    for cap_id, at in found:
        name = NAMES.get(cap_id, f"id {cap_id:#04x}")
        if cap_id in UNIQUE and [other for other, _ in found].index(cap_id) != found.index((cap_id, at)):
            yield f"the {name} capability at {at:#x} is the second of its kind: remove one"
        end = at + _length(config, cap_id, at)
        if end > 256:
            yield f"the {name} capability at {at:#x} ends at {end - 1:#x}, behind 0xff: move it down"
        for low, high, other in ends:
            if at < high and low < end:
                yield (
                    f"the {other} ({low:#x}-{high - 1:#x}) and {name} ({at:#x}-{end - 1:#x}) capabilities"
                    " overlap: move one"
                )
        ends.append((at, end, name))
        port = config[at + 2] >> 4
        if cap_id == PCIE and port not in (0, 1, 9):
            yield (
                f"PCI Express port type {port} at {at + 2:#x}: QEMU refuses it; make it 0 (endpoint),"
                " 1 (legacy) or 9 (root complex integrated)"
            )


def _msix_problems(
    config: bytes, at: int, regions: Mapping[int, int], irqs: Mapping[int, int] | Sequence[int] | None
) -> Iterator[str]:
    vectors = (int.from_bytes(config[at + 2 : at + 4], "little") & 0x7FF) + 1
    table = _msix_range(config, at + 4, 16 * vectors)
    pending = _msix_range(config, at + 8, 8 * ((vectors + 63) // 64))
    for name, (bar, low, high) in (("table", table), ("PBA", pending)):
        size = regions.get(bar, 0) if bar < BARS else 0
        if not size:
            yield f"the MSI-X {name} is in bar{bar}, which is not there: QEMU crashes; name a memory BAR"
        elif config[0x10 + 4 * bar] & 1:
            yield f"the MSI-X {name} is in bar{bar}, an I/O BAR: name a memory BAR"
        elif high > size:
            yield f"the MSI-X {name} ({low:#x}-{high - 1:#x}) is beyond bar{bar}'s {size:#x} bytes: move it"
    if table[0] == pending[0] and table[1] < pending[2] and pending[1] < table[2]:
        yield (
            f"the MSI-X table ({table[1]:#x}-{table[2] - 1:#x}) and PBA ({pending[1]:#x}-{pending[2] - 1:#x})"
            f" overlap in bar{table[0]}: move one"
        )
    if irqs is not None:
        have = irqs.get(MSIX_IRQ, 0) if isinstance(irqs, Mapping) else [*irqs, 0, 0, 0][MSIX_IRQ]
        if have < vectors:
            yield f"the MSI-X capability has {vectors} vectors and the device {have}: make them equal"


def _msix_range(config: bytes, at: int, size: int) -> tuple[int, int, int]:
    word = int.from_bytes(config[at : at + 4], "little")
    return word & 7, word & ~7, (word & ~7) + size


def _walk_extended(config: bytes) -> Iterator[str]:
    at, seen = 0x100, set[int]()
    while at:
        if at < 0x100 or at % 4:
            yield f"an extended capability pointer says {at:#x}: say a multiple of 4 from 0x100 to 0xffc"
            return
        if at in seen:
            yield (
                f"the extended capability list loops back to {at:#x} and QEMU never ends; let the last"
                " pointer be 0"
            )
            return
        seen.add(at)
        at = int.from_bytes(config[at : at + 4], "little") >> 20
