"""A 16550A serial port behind PCI, as QEMU's ``pci-serial``: eight byte registers in an I/O BAR.

Linux's ``8250_pci`` takes any card of class 0x070002 that has one I/O BAR; it is ``/dev/ttyS2`` where a
PC has its own two. ``dev.tx`` is what the guest sends, ``dev.rx`` what it receives. The line is quick and
patient: a byte takes no time, and the other end waits while the guest's RTS is off or its FIFO is full.

Source: National Semiconductor PC16550D data sheet, section 8 (registers, interrupts, FIFOs).
"""

import workbench as wb

TRIGGER = (1, 4, 8, 14)  #: bytes in the FIFO for a DATA interrupt, by FCR.TRIGGER
CAUSES = {"LINE": 6, "DATA": 4, "TIMEOUT": 12, "SENT": 2, "MODEM": 0, "NONE": 1}
ENABLES = {"LINE": 4, "DATA": 1, "TIMEOUT": 1, "SENT": 2, "MODEM": 8}  #: bits of IER, most urgent first


class Uart16550(wb.Device):
    """A serial port. As on the chip, tx is what the guest sends and rx what it receives."""

    id = wb.PciId(vendor=0x1B36, device=0x0002, class_code=0x070002)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=8, kind="io"):
        """While LCR.DLAB is on, the divisor's bytes lie over RBR and THR, and over IER."""

        # fmt: off
        RBR = wb.Register(0, 8, "ro", doc="Receiver buffer: a read takes a byte out of the FIFO")
        THR = wb.Register(0, 8, "wo", doc="Transmitter holding: a write sends a byte")
        IER = wb.Register(1, 8, DATA=wb.Field(0), SENT=wb.Field(1), LINE=wb.Field(2), MODEM=wb.Field(3),
                          DIVISOR=wb.Field(4, 4, doc="Of the divisor alone: no interrupt"))
        IIR = wb.Register(2, 8, "ro", CAUSE=wb.Field(0, 4, enum=CAUSES, reset=1), FIFOS=wb.Field(6, 2))
        FCR = wb.Register(2, 8, "wo", ENABLE=wb.Field(0), CLEAR_RX=wb.Field(1), CLEAR_TX=wb.Field(2),
                          DMA=wb.Field(3), TRIGGER=wb.Field(6, 2))
        LCR = wb.Register(3, 8, BITS=wb.Field(0, 2), STOP=wb.Field(2), PARITY=wb.Field(3, 3),
                          BREAK=wb.Field(6), DLAB=wb.Field(7))
        MCR = wb.Register(4, 8, DTR=wb.Field(0), RTS=wb.Field(1), OUT1=wb.Field(2), OUT2=wb.Field(3),
                          LOOP=wb.Field(4))
        LSR = wb.Register(5, 8, "ro", DATA=wb.Field(0), OVERRUN=wb.Field(1, mode="rc"),
                          EMPTY=wb.Field(5, 2, reset=3, doc="FIFO and shift register"))
        MSR = wb.Register(6, 8, "ro", CHANGED=wb.Field(0, 4, mode="rc"), CTS=wb.Field(4, reset=1),
                          DSR=wb.Field(5, reset=1), RI=wb.Field(6), DCD=wb.Field(7, reset=1))
        SCR = wb.Register(7, 8, doc="Scratch")
        # fmt: on

    def __init__(self, name: str | None = None, **options: bool) -> None:
        super().__init__(name, **options)
        self.tx = wb.ByteStream()
        self.rx = wb.ByteStream(limit=None, on_write=lambda: self.hooks.event("rx", self.refill))
        self.on_reset("start")

    def on_reset(self, kind: str) -> None:
        """Empty the FIFO; what waits in the streams is outside and stays."""
        self.fifo = bytearray()
        self.due = {"SENT"}  # causes that happened and that the guest has not seen
        self.divisor_low, self.hidden = 12, 0  # 9600 baud; hidden: DLM or IER, whichever lies behind

    def on_snapshot(self) -> tuple[list[int], list[str], int, int]:
        """What no register holds."""
        return list(self.fifo), sorted(self.due), self.divisor_low, self.hidden

    def on_restore(self, state: tuple[list[int], list[str], int, int]) -> None:
        """Put it back; registers and the interrupt line are back already."""
        fifo, due, self.divisor_low, self.hidden = state
        self.fifo, self.due = bytearray(fifo), set(due)

    def on_takeover(self, older: "Uart16550") -> None:
        """Go on with the chip that the guest knows."""
        self.on_restore(older.on_snapshot())

    @property
    def baud(self) -> int:
        """The speed that the guest has set, bits a second; a clock of 1.8432 MHz."""
        high = self.bar0.IER.value if self.bar0.LCR.DLAB else self.hidden
        return 115200 // max(high << 8 | self.divisor_low, 1)

    @property
    def room(self) -> int:
        """How many bytes the FIFO still takes; without FIFOs it is a single byte."""
        return (16 if self.bar0.FCR.ENABLE else 1) - len(self.fifo)

    def refill(self) -> None:
        """Let bytes in from ``rx`` as far as the guest wants them, and tell it."""
        if self.bar0.MCR.RTS and not self.bar0.MCR.LOOP:
            self.fifo += self.rx.take(self.room)
        self.update()

    def loop(self, data: int) -> None:
        """Receive what was sent, as a chip in loopback does; a full FIFO is an overrun."""
        if self.room > 0:
            self.fifo.append(data)
        else:
            self.bar0.LSR.OVERRUN.value = 1
            self.due.add("LINE")

    def cause(self) -> str:
        """Return the most urgent cause that the guest has enabled; "NONE" if there is none."""
        level = TRIGGER[self.bar0.FCR.TRIGGER.value] if self.bar0.FCR.ENABLE else 1
        received = {"DATA" if len(self.fifo) >= level else "TIMEOUT"} if self.fifo else set()
        enabled = self.hidden if self.bar0.LCR.DLAB else self.bar0.IER.value
        found = (one for one, bit in ENABLES.items() if enabled & bit and one in self.due | received)
        return next(found, "NONE")

    def update(self) -> None:
        """Show whether data wait, and let the interrupt line follow the causes."""
        waiting, wanted = bool(self.fifo), self.cause() != "NONE"
        if waiting != self.bar0.LSR.DATA:
            self.bar0.LSR.DATA.value = waiting
        if wanted != self.irq.asserted:
            self.irq.assert_() if wanted else self.irq.deassert()

    @bar0.THR.on_write
    def send(self, access: wb.Access) -> None:
        """Send a byte. It is gone at once, so there is room for the next."""
        if self.bar0.LCR.DLAB:
            self.divisor_low = access.value
            return
        self.loop(access.value) if self.bar0.MCR.LOOP else self.tx.write(bytes([access.value]))
        self.due.add("SENT")
        self.update()

    @bar0.RBR.on_read
    def receive(self, access: wb.Access) -> int:
        """Take the oldest byte out of the FIFO; its place is free for the next."""
        if self.bar0.LCR.DLAB:
            return self.divisor_low
        data = self.fifo.pop(0) if self.fifo else 0
        self.refill()
        return data

    @bar0.IER.on_write
    def enable(self, access: wb.Access) -> None:
        """A transmitter that is idle says so again when its interrupt is switched on."""
        if not self.bar0.LCR.DLAB:
            if access.value > 0xF:
                self.bar0.IER.DIVISOR.value = 0
            if access.value & ~access.old & ENABLES["SENT"]:
                self.due.add("SENT")
            self.update()

    @bar0.IIR.on_read
    def identify(self, access: wb.Access) -> int:
        """Tell the cause; for SENT that is the acknowledge."""
        cause = self.cause()
        if cause == "SENT":
            self.due.remove(cause)
            self.update()
        return CAUSES[cause] | (0xC0 if self.bar0.FCR.ENABLE else 0)

    @bar0.LSR.on_read
    @bar0.MSR.on_read
    def status(self, access: wb.Access) -> None:
        """Reading LSR or MSR acknowledges its interrupt."""
        self.due.discard("LINE" if access.register.name == "LSR" else "MODEM")
        self.update()

    @bar0.FCR.on_write
    def set_fifos(self, access: wb.Access) -> None:
        """Switching the FIFOs on or off clears them, too."""
        if access.value & 2 or (access.value ^ access.old) & 1:
            self.fifo.clear()
        self.refill()

    @bar0.LCR.on_write
    def switch_bank(self, access: wb.Access) -> None:
        """Exchange IER and the divisor's high byte when DLAB changes."""
        if (access.value ^ access.old) & 0x80:
            shown, self.hidden = self.hidden, self.bar0.IER.value
            self.bar0.IER.poke(shown)

    @bar0.MCR.on_write
    def control(self, access: wb.Access) -> None:
        """In loopback the modem's four inputs are the four outputs; RI counts as changed when it falls."""
        mcr, old = access.value, self.bar0.MSR.value >> 4
        new = (mcr >> 1 & 1 | mcr << 1 & 2 | mcr & 0xC) if mcr & 0x10 else 0b1011  # CTS DSR RI DCD
        if changed := (old ^ new) & 0b1011 | old & ~new & 0b0100:
            self.due.add("MODEM")
        self.bar0.MSR.poke(new << 4 | self.bar0.MSR.CHANGED.value | changed)
        self.refill()
