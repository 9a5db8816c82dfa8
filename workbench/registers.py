"""Field, Register, Bar: what a device looks like, as data; compiled to the engine's planes.

::

    class bar0(Bar, size=4096):
        CTRL = Register(0x00, ENABLE=Field(0), PERIOD=Field(8, 16))
        STATUS = Register(0x04, mode="ro", DONE=Field(1, mode="w1c"))

Offsets and sizes are bytes, widths and positions bits. Mistakes are collected and raised together,
as one DescriptionError, when the Bar class is made; a Field or Register alone never raises.
"""

import copy
import inspect
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from . import mistakes
from .errors import DescriptionError
from .fields import Field, spell
from .hookslot import HookSlot
from .mistakes import MOST_ELEMENTS, flag, integer, shown, text
from .pages import Area, covering, mapped_areas, unmappable
from .planes import WRITES, Segment, compile_register, compile_segments

__all__ = ["Bar", "Block", "Field", "Located", "Register", "Segment"]


class Register:
    """``width`` bits (8, 16, 32, 64) at byte ``offset``; keyword arguments are its fields.

    Without fields it is one number. With fields, bits that none covers are reserved: they read as
    reset and writes to them are flagged. ``count`` > 1 makes an array, one element every ``stride``
    bytes (default: its size). ``mode`` and ``sticky`` hold for fields that say nothing of their own.
    ``sticky`` bits keep their value when the client resets the device, over a function-level reset and
    from D3hot to D0 (PCI Express Base, 6.6.2); ``dev.reset()`` is a power cycle and resets them too.
    """

    #: A client may signal writes to it by eventfd: see Doorbell.
    signalled: ClassVar[bool] = False

    def __init__(
        self,
        offset: int,
        width: int = 32,
        mode: str = "rw",
        *,
        reset: int = 0,
        count: int = 1,
        stride: int | None = None,
        sticky: bool = False,
        doc: str = "",
        **fields: Field,
    ) -> None:
        wrong: list[str] = []
        self.name = ""
        self.block: Block | None = None  #: the first block that took it in
        self.offset = integer(offset, "offset", wrong)
        self.width = integer(width, "width", wrong, 64)
        self.size = max(self.width // 8, 1)  #: bytes
        self.mode = mode
        self.reset = integer(reset, "reset", wrong)
        self.count = integer(count, "count", wrong, 1)
        self.stride = self.size if stride is None else integer(stride, "stride", wrong, self.size)
        self.sticky = flag(sticky, "sticky", wrong)
        self.doc = text(doc, "doc", wrong)
        #: Methods that asked to be hooks of a class that is not finished yet, with their slots.
        self.tagged: list[tuple[str, Callable[..., Any]]] = []
        self.fields = {
            name: self._adopt(name, field) for name, field in fields.items() if isinstance(field, Field)
        }
        #: Mistakes, one line each; the Bar reports them under the register's name.
        self.problems: tuple[str, ...] = (*wrong, *mistakes.register_problems(self, fields))
        if not self.problems:
            self._complete()

    def _adopt(self, name: str, field: Field) -> Field:
        own = copy.copy(field)  # one Field may be used in several registers
        own.name = name
        own.mode = self.mode if field.mode is None else field.mode
        own.sticky = self.sticky if field.sticky is None else field.sticky
        return own

    def _complete(self) -> None:
        for field in self.fields.values():
            if field.reset is not None:
                self.reset = field.insert(self.reset, field.reset)
        for field in self.fields.values():
            field.reset = field.extract(self.reset)

    def __set_name__(self, owner: type, name: str) -> None:
        problem = f"{name} is the same Register object: describe it a second time"
        if self.name and self.name != name and problem not in self.problems:
            self.problems += (problem,)
        self.name = self.name or name

    if TYPE_CHECKING:  # in a device's methods self.bar0.CTRL is the RegisterHandle made from this

        def __getattr__(self, name: str) -> Any: ...

    @property
    def is_array(self) -> bool:
        """Several elements: ``bar0.DB[2]``."""
        return self.count > 1

    @property
    def end(self) -> int:
        """The first byte behind the last element."""
        return self.offset + (self.count - 1) * self.stride + self.size

    @cached_property
    def _planes(self) -> dict[str, int]:
        return compile_register(self.mode, self.width, self.reset, self.fields.values(), self.sticky)

    @cached_property
    def plane_bytes(self) -> dict[str, bytes]:
        """The bytes of one element in every engine plane that is not all 0."""
        return {name: mask.to_bytes(self.size, "little") for name, mask in self._planes.items()}

    def plane_mask(self, plane: str) -> int:
        """Return the bits set in an engine plane, named as in ``wb.h``: "wo", "readable" ..."""
        return self._planes.get(plane, 0)

    @cached_property
    def stored_mask(self) -> int:
        """The bits that live in the VALUE plane; not write-only ones, nor reserved ones among those."""
        claimed = self.plane_mask("readable") | self.written_mask
        return claimed & ~self.plane_mask("wo")

    @cached_property
    def written_mask(self) -> int:
        """The bits that a guest's write can change."""
        mask = 0
        for plane in WRITES:
            mask |= self.plane_mask(plane)
        return mask

    @property
    def modes(self) -> str:
        """The mode, or those of the fields where they differ: "ro/w1c"."""
        found = dict.fromkeys(str(field.mode) for field in self.fields.values())
        return "/".join(found) or str(self.mode)

    def element_offset(self, index: int) -> int:
        """Return an element's byte offset in the block; IndexError outside the array."""
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} elements, no number {index}")
        return self.offset + index * self.stride

    def element_name(self, index: int) -> str:
        """Return "DB[2]", or "CTRL" when the register is no array."""
        return f"{self.name}[{index}]" if self.is_array else self.name

    def decode(self, value: int) -> dict[str, int | str]:
        """Return the fields of a value by name, enum names where known; empty without fields."""
        numbers = {name: (field, field.extract(value)) for name, field in self.fields.items()}
        return {name: field.name_of(number) or number for name, (field, number) in numbers.items()}

    def spell(self, value: int) -> str:
        """Return the fields of a value in words: "ENABLE=1 SPEED=FAST GAIN=0x80"; "" without fields."""
        said = self.decode(value).items()
        return " ".join(f"{name}={text if isinstance(text, str) else spell(text)}" for name, text in said)

    def moved(self, offset: int) -> "Register":
        """Return a nameless copy ``offset`` bytes further on, for blocks that are put together."""
        other = copy.copy(self)
        other.name, other.block, other.offset = "", None, self.offset + offset
        other.tagged = []
        return other

    @property
    def on_read(self) -> HookSlot:
        """Decorate a Device's method: it runs before each guest read of this register."""
        return HookSlot(partial(self._tag, "read"))

    @property
    def on_write(self) -> HookSlot:
        """Decorate a Device's method: it runs after each guest write to this register was stored."""
        return HookSlot(partial(self._tag, "write"))

    def _tag(self, slot: str, function: Any) -> None:
        if problem := self._tag_problem(function, slot):
            raise DescriptionError(self.name, [problem])
        self.tagged.append((slot, function))
        tags: list[tuple[Register, str]] = vars(function).setdefault("workbench_hooks", [])
        tags.append((self, slot))

    def _tag_problem(self, function: Any, slot: str) -> str | None:
        if hasattr(function, "workbench_native"):
            return None
        if isinstance(function, (staticmethod, classmethod, property)):
            return f"on_{slot} hooks a plain method (self, access): leave @{type(function).__name__} out"
        if not inspect.isfunction(function):
            return f"on_{slot} hooks a method (self, access), not {shown(function)}: write def or lambda"
        name = function.__qualname__.rpartition("<locals>.")[2]
        if "." in name:
            return None
        handle = f"dev.{self.block.name if self.block else 'bar0'}.{self.name}"
        return f"{name} is no method of a class: hook an instance, as in @{handle}.on_{slot}"

    def __repr__(self) -> str:
        many = f", {self.count} elements every {self.stride:#x}" if self.is_array else ""
        return f"<Register {self.name} {self.width} bits at {self.offset:#x}{many} {self.mode}>"


class Located(NamedTuple):
    """One element of a register; the index is 0 unless the register is an array."""

    register: Register
    index: int  # type: ignore[assignment]  # hides tuple.index(), which nobody asks of this


class Block:
    """``size`` bytes with registers in them: a BAR or the config space.

    ``registers`` are kept in order of offset and get their names and this block from here.
    ``holes="ignore"`` makes bytes without a register known: they read as 0 and take writes without remark.
    ``mapped`` are the areas of whole pages that the guest maps, as (start, size): no rule holds there.
    Size 0 means that it is not known: nothing is looked up then.
    It never raises: mistakes are in ``problems``.
    """

    def __init__(
        self,
        name: str,
        size: int,
        registers: Mapping[str, Register],
        *,
        holes: str = "flag",
        doc: str = "",
        mapped: tuple[Area, ...] = (),
    ) -> None:
        self.name = name
        self.size = size
        self.doc = doc
        self.holes = holes
        self.mapped = mapped
        for title, register in registers.items():
            register.__set_name__(type(self), title)
            register.block = register.block or self
        self.registers = dict(sorted(registers.items(), key=lambda item: item[1].offset))
        problems = list(mistakes.block_problems(size, self.registers.values()))
        # Registers with mistakes of their own would only add noise about their neighbours.
        sound = [one for one in self.registers.values() if not one.problems and one.end <= size]
        if sum(one.count for one in sound) > MOST_ELEMENTS:
            sound = []
        located = [
            (one.element_offset(index), Located(one, index)) for one in sound for index in range(one.count)
        ]
        located.sort(key=lambda item: item[0])
        self._starts = [start for start, _ in located]
        self._elements = [element for _, element in located]
        overlaps = mistakes.overlaps(self._elements, self._starts)
        mapped_wrong = unmappable(mapped, sound)
        self.problems = tuple(dict.fromkeys([*problems, *overlaps, *mapped_wrong]))

    def mapped_area(self, offset: int, size: int = 1) -> Area | None:
        """Return the mapped area that holds all of the bytes, or None."""
        return covering(self.mapped, offset, size)

    def at(self, offset: int, size: int) -> list[Located]:
        """Return every register element that one of the bytes belongs to, in order of offset."""
        # An element has at most 8 bytes, so none that begins earlier can reach in.
        first = bisect_left(self._starts, offset - 7)
        last = bisect_left(self._starts, offset + size)
        return [
            element
            for start, element in zip(self._starts[first:last], self._elements[first:last], strict=True)
            if start + element.register.size > offset
        ]

    def segments(self) -> list[Segment]:
        """Compile to byte planes: ascending, apart, and only bytes that are covered."""
        segments = compile_segments(self._elements, self._starts)
        return segments if self.holes == "flag" else [self._filled(segments)]

    def _filled(self, segments: list[Segment]) -> Segment:
        # What no register covers is readable, accepted and known.
        planes = {name: bytearray(b"\xff" * self.size) for name in ("readable", "accept", "known")}
        for segment in segments:
            end = segment.offset + len(segment.planes["known"])
            for name in planes.keys() | segment.planes.keys():
                data = segment.planes.get(name, bytes(end - segment.offset))
                planes.setdefault(name, bytearray(self.size))[segment.offset : end] = data
        return Segment(0, {name: bytes(data) for name, data in planes.items()})

    def __repr__(self) -> str:
        return f"<Block {self.name}: {self.size:#x} bytes, {len(self.registers)} registers>"


class Bar:
    """Base of BAR descriptions: subclass it with ``class bar0(Bar, size=4096)``.

    ``size`` in bytes, a power of two; ``kind`` "memory" or "io"; ``bits`` 32 or 64 (a 64-bit BAR takes
    two slots); ``prefetchable`` when reads have no side effects. ``mmap=True``, or a list of (start, size)
    in whole pages: the guest maps them and no access there reaches us, for frame buffers and rings; a
    reset leaves them as they are. Writes to registers of such a BAR QEMU waits for, and INTx makes it take
    the mapping away: use MSI-X. A subclass of a Bar inherits its registers and what is not said anew.
    Raises DescriptionError with every mistake in it.
    """

    block: ClassVar[Block]
    size: ClassVar[int]
    kind: ClassVar[str] = "memory"
    bits: ClassVar[int] = 32
    prefetchable: ClassVar[bool] = False
    mapped: ClassVar[object] = False
    doc: ClassVar[str] = ""
    registers: ClassVar[dict[str, Register]] = {}

    if TYPE_CHECKING:  # in a device's methods self.bar0 is the BlockHandle made from this
        memory: ClassVar[Any]
        array: ClassVar[Callable[..., Any]]
        watch: ClassVar[Callable[..., Any]]
        picture: ClassVar[Callable[..., Any]]
        peek: ClassVar[Callable[..., Any]]
        poke: ClassVar[Callable[..., Any]]

    def __init_subclass__(
        cls,
        *,
        size: int | None = None,
        kind: str | None = None,
        bits: int | None = None,
        prefetchable: bool | None = None,
        mmap: bool | Sequence[Area] | None = None,
        doc: str | None = None,
        **unknown: object,
    ) -> None:
        super().__init_subclass__()
        wrong = [*mistakes.misplaced(vars(cls)), *mistakes.unknown_options(unknown)]
        bytes_ = cls._said_size(size, wrong)
        cls.kind = cls.kind if kind is None else kind
        cls.bits = integer(cls.bits if bits is None else bits, "bits", wrong, 32)
        said = cls.prefetchable if prefetchable is None else prefetchable
        cls.prefetchable = flag(said, "prefetchable", wrong)
        cls.doc = cls.__doc__ or "" if doc is None else text(doc, "doc", wrong)
        wrong += mistakes.bar_problems(bytes_, cls.kind, cls.bits, cls.prefetchable)
        cls.mapped = cls.mapped if mmap is None else mmap
        areas = mapped_areas(cls.mapped, bytes_, cls.kind, wrong)
        block = Block(cls.__name__, max(bytes_ or 0, 0), cls._described(), doc=cls.doc, mapped=areas)
        if problems := [*wrong, *block.problems]:
            raise DescriptionError(cls.__qualname__.rpartition("<locals>.")[2], problems)
        cls.size, cls.block, cls.registers = block.size, block, block.registers

    @classmethod
    def _said_size(cls, size: object, problems: list[str]) -> int | None:
        """Return the size in force as a plain int, or None when it is missing or none."""
        said = getattr(cls, "size", None) if size is None else size
        if said is None or isinstance(said, Register):  # a register called `size` is reported by its name
            problems.append("its size is missing: class bar0(Bar, size=4096)")
            return None
        before = len(problems)
        number = integer(said, "size", problems)
        return number if len(problems) == before else None

    @classmethod
    def _described(cls) -> dict[str, Register]:
        """Return the registers of the bases and of the class body, by name."""
        found: dict[str, Register] = {}
        for base in reversed(cls.__mro__):
            found.update({name: one for name, one in vars(base).items() if isinstance(one, Register)})
        return found
