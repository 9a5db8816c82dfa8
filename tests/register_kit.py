"""Descriptions to test with: a lamp, any sound description there is, and what each mode means."""

import enum

from hypothesis import strategies as st

from workbench.registers import Bar, Block, Field, Register

#: The planes a bit of each mode has to be in, written down a second time.
MEANING = {
    "ro": {"readable"},
    "rw": {"readable", "writable", "accept"},
    "wo": {"wo", "accept"},
    "w1c": {"readable", "w1c", "accept"},
    "w1s": {"readable", "w1s", "accept"},
    "w1t": {"readable", "w1t", "accept"},
    "w0c": {"readable", "w0c", "accept"},
    "w0s": {"readable", "w0s", "accept"},
    "w0t": {"readable", "w0t", "accept"},
    "wclr": {"readable", "wclr", "accept"},
    "wset": {"readable", "wset", "accept"},
    "rc": {"readable", "rc"},
    "rs": {"readable", "rs"},
    "rw1": {"readable", "once", "accept"},
    "w1": {"once", "accept"},
    "pulse": {"readable", "pulse", "accept"},
    "const": {"readable"},
    "rsvd": {"readable"},
    "ignore": {"readable", "accept"},
    "rw rc": {"readable", "writable", "accept", "rc"},
    "w1s rc": {"readable", "w1s", "accept", "rc"},
}


class Speed(enum.IntEnum):
    OFF = 0
    SLOW = 1
    FAST = 2


class lamp(Bar, size=4096, doc="A lamp"):
    CTRL = Register(0x00, ENABLE=Field(0), SPEED=Field(1, 2, enum=Speed), PERIOD=Field(8, 16, reset=3))
    STATUS = Register(0x04, mode="ro", LIT=Field(0), DONE=Field(1, mode="w1c"), reset=0x8000_0001)
    DB = Register(0x100, 64, "wo", count=4, stride=16, doc="Doorbells")
    RBR = Register(0x200, 8, "rc", reset=0x41)
    THR = Register(0x200, 8, "wo", reset=0x99)


modes = st.sampled_from(sorted(MEANING))


@st.composite
def registers(draw: st.DrawFn, at: int) -> Register:
    """One sound register at or behind a byte offset."""
    width = draw(st.sampled_from([8, 16, 32, 64]))
    size = width // 8
    fields, lsb = {}, 0
    for number in range(draw(st.integers(0, 4))):
        lsb += draw(st.integers(0, width // 4))
        length = draw(st.integers(1, max(1, width // 3)))
        if lsb + length > width:
            break
        reset = draw(st.none() | st.integers(0, (1 << length) - 1))
        fields[f"F{number}"] = Field(lsb, length, draw(st.none() | modes), reset=reset)
        lsb += length
    return Register(
        -(-at // size) * size + size * draw(st.integers(0, 1)),
        width,
        draw(modes),
        reset=draw(st.integers(0, (1 << width) - 1)),
        count=draw(st.integers(1, 3)),
        stride=size * draw(st.integers(1, 2)),
        **fields,
    )


@st.composite
def maps(draw: st.DrawFn) -> Block:
    chosen, at = {}, 0
    for number in range(draw(st.integers(0, 5))):
        register = draw(registers(at))
        chosen[f"R{number}"], at = register, register.end
    return Block("random", 4096, chosen)
