"""The Bochs display, as QEMU's ``secondary-vga``: a frame buffer that the guest maps, and a few registers.

Linux binds it with its own ``bochs`` driver and puts its console there: ``dev.image()`` is what the guest
shows. No access to the pixels in BAR0 reaches us; the guest and we share the pages. BAR2 has the monitor's
EDID, VGA ports, the display interface of Bochs (DISPI) and what QEMU added. 8 bits a pixel are shown as
grey (there is no palette); DISPI's GETCAPS, for which Linux does not ask, is not there.

Source: QEMU ``docs/specs/standard-vga.rst``; Bochs "VBE DISPI interface"; VESA E-EDID 1.4, DMT 1.13.
"""

import numpy as np
import numpy.typing as npt

import workbench as wb

MEMORY = 16 << 20  #: bytes
#: Format and bytes of a pixel by DISPI's bits per pixel.
PIXELS = {8: ("R8", 1), 15: ("XRGB1555", 2), 16: ("RGB565", 2), 24: ("RGB888", 3), 32: ("XRGB8888", 4)}
ENDIAN = {"LITTLE": 0x1E1E1E1E, "BIG": 0xBEBEBEBE}


def edid() -> bytes:
    """Return what the monitor says of itself (E-EDID 1.4, 3): 128 bytes, whose sum is 0 modulo 256."""
    # fmt: off
    data = bytes.fromhex(
        "00ffffffffffff00"                      # this is an EDID
        "5c58 1111 01000000 0024 0104"          # maker "WBX", product, serial, made in 2026, EDID 1.4
        "a0 20 18 78 06"                        # digital, 8 bits a colour; 32 × 24 cm; gamma 2.2; sRGB
        "ee91a3544c99260f5054"                  # where sRGB's colours lie
        "210800"                                # 640 × 480, 800 × 600 and 1024 × 768 at 60 Hz
        "01010101010101010101010101010101"      # no more of those
        "6419 004041 002630 18883600"           # preferred: 65 MHz, 1024 + 320 × 768 + 38, syncs
        "40f010 0000 18"                        # 320 × 240 mm, no border, sync pulses negative
        "000000fc00") + b"Workbench\n   " + bytes.fromhex(
        "000000100000000000000000000000000000"  # unused
        "000000100000000000000000000000000000"
        "00")                                   # no extension follows
    # fmt: on
    return data + bytes([-sum(data) % 256])


class Framebuffer(wb.Device):
    """A screen that a guest draws on: ``image()`` is what it shows, ``bar0.memory`` are its pixels."""

    id = wb.PciId(0x1234, 0x1111, class_code=0x038000, revision=2, subsystem_vendor=0x1AF4, subsystem=0x1100)

    class bar0(wb.Bar, size=MEMORY, mmap=True, prefetchable=True):
        """The pixels."""

    class bar2(wb.Bar, size=4096):
        """EDID, VGA ports 0x3C0 to 0x3DF, DISPI's registers of 16 bits, QEMU's own."""

        # fmt: off
        EDID = wb.Register(0x000, 8, "ro", count=128)
        VIDEO = wb.Register(0x400, 8, INDEX=wb.Field(0, 5), ON=wb.Field(5, doc="0: the screen is black"),
                            doc="VGA's attribute controller: its index")
        MISC = wb.Register(0x402, 8, doc="VGA's miscellaneous output: where STATUS is found")
        STATUS = wb.Register(0x41A, 8, "ro", doc="VGA's input status 1: a read makes VIDEO an index")
        ID = wb.Register(0x500, 16, "ro", reset=0xB0C5, doc="DISPI's version")
        XRES = wb.Register(0x502, 16, doc="Pixels shown in a row")
        YRES = wb.Register(0x504, 16, doc="Rows shown")
        BPP = wb.Register(0x506, 16, reset=32, doc="Bits a pixel")
        ENABLE = wb.Register(0x508, 16, ENABLED=wb.Field(0), GETCAPS=wb.Field(1), DAC8=wb.Field(5),
                             LINEAR=wb.Field(6), NOCLEAR=wb.Field(7, doc="Keep what is in memory"))
        BANK = wb.Register(0x50A, 16, doc="Of the window at 0xA0000, which is not there")
        VIRT_WIDTH = wb.Register(0x50C, 16, doc="Pixels in memory from a row to the next")
        VIRT_HEIGHT = wb.Register(0x50E, 16)
        X_OFFSET = wb.Register(0x510, 16, doc="The pixel of memory that is shown at the top left")
        Y_OFFSET = wb.Register(0x512, 16, doc="And its row")
        MEMORY_64K = wb.Register(0x514, 16, "ro", reset=MEMORY >> 16, doc="Memory, in 64 KiB")
        EXTENDED = wb.Register(0x600, 32, "ro", reset=8, doc="Bytes of QEMU's own registers")
        ENDIAN = wb.Register(0x604, ORDER=wb.Field(0, 32, enum=ENDIAN, reset=ENDIAN["LITTLE"]))
        # fmt: on

    def __init__(self, name: str | None = None, **options: bool) -> None:
        super().__init__(name, **options)
        self.on_reset("start")

    def on_reset(self, kind: str) -> None:
        """Tell about the monitor again. The pixels stay: memory is not reset."""
        self.bar2.poke(0, edid())

    def pixel(self) -> tuple[str, int]:
        """Return format and bytes of a pixel, as the guest has set them."""
        bits = int(self.bar2.BPP)
        if bits == 32 and self.bar2.ENDIAN.ORDER == "BIG":
            return "BGRX8888", 4
        return PIXELS.get(bits, PIXELS[8])

    def image(self) -> npt.NDArray[np.uint8]:
        """Return what the guest shows now: (height, width, 3) of red, green, blue; black while it is off.

        Before the guest has set a mode it has no pixels. Raises ValueError when the mode does not fit BAR0.
        """
        dispi, (name, size) = self.bar2, self.pixel()
        width, height = int(dispi.XRES), int(dispi.YRES)
        stride = max(int(dispi.VIRT_WIDTH), width) * size
        offset = int(dispi.Y_OFFSET) * stride + int(dispi.X_OFFSET) * size
        shown = self.bar0.picture(width, height, name, offset=offset, stride=stride)
        return shown if dispi.ENABLE.ENABLED and dispi.VIDEO.ON else np.zeros_like(shown)

    @bar2.ENABLE.on_write
    def enable(self, access: wb.Access) -> None:
        """Switched on, it shows memory from its first byte on, and that is cleared."""
        if access.value & ~access.old & 1:
            dispi, (_, size) = self.bar2, self.pixel()
            width, height = int(dispi.XRES), int(dispi.YRES)
            dispi.VIRT_WIDTH.poke(width)
            dispi.VIRT_HEIGHT.poke(height)
            dispi.X_OFFSET.poke(0)
            dispi.Y_OFFSET.poke(0)
            if not dispi.ENABLE.NOCLEAR:
                self.bar0.memory[: width * height * size] = 0
