"""edu: QEMU's device for teaching how drivers are written: a factorial, interrupts, DMA.

Linux has no driver for it, writing one is the point; ``uio_pci_generic`` lets a program be the driver.
The buffer of the DMA engine is memory that the guest may map, too; QEMU's is reached by DMA alone.
A transfer that cannot be done is left undone and said in the log, where QEMU ends.

Source: QEMU ``docs/specs/edu.rst``.
"""

import math

import numpy as np
import numpy.typing as npt

import workbench as wb

BUFFER, BUFFER_SIZE = 0x40000, 0x1000
FACTORIAL_DONE, DMA_DONE = 0x1, 0x100  # bits of IRQ_STATUS


class Edu(wb.Device):
    """The teaching device. ``delay`` is how long a factorial or a transfer takes, in ms."""

    id = wb.PciId(vendor=0x1234, device=0x11E8, class_code=0x00FF00, revision=0x10)
    irq = wb.Interrupts(intx=True, msi=1)
    dma_mask = (1 << 28) - 1  #: addresses have 28 bits, a driver has to ask for such memory
    delay = 1.0

    class bar0(wb.Bar, size=1 << 20, mmap=[(BUFFER, BUFFER_SIZE)]):
        """Registers, and from 0x40000 on the 4096 bytes that DMA reads and writes."""

        # fmt: off
        ID = wb.Register(0x00, mode="const", reset=0x010000ED, doc="Version 1.0, edu")
        LIVENESS = wb.Register(0x04, doc="Reads as the complement of what was written")
        FACTORIAL = wb.Register(0x08, doc="A number, and when STATUS.COMPUTING is 0 its factorial")
        STATUS = wb.Register(0x20, COMPUTING=wb.Field(0, mode="ro"),
                             INTERRUPT=wb.Field(7, doc="Interrupt when the factorial is there"))
        IRQ_STATUS = wb.Register(0x24, mode="ro", doc="Why: 0x1 factorial, 0x100 DMA, or as raised")
        IRQ_RAISE = wb.Register(0x60, mode="wo", doc="Sets these bits of IRQ_STATUS and interrupts")
        IRQ_ACK = wb.Register(0x64, mode="wo", doc="Clears these bits; a handler's last act")
        DMA_SOURCE = wb.Register(0x80, 64, doc="An address in RAM, or 0x40000 to 0x40fff")
        DMA_DESTINATION = wb.Register(0x88, 64, doc="The other of the two")
        DMA_COUNT = wb.Register(0x90, 64, doc="Bytes, at most 4096")
        DMA_COMMAND = wb.Register(0x98, 64,
                                  START=wb.Field(0, mode="w1s", doc="Is 1 until the transfer is done"),
                                  TO_RAM=wb.Field(1), INTERRUPT=wb.Field(2, doc="When it is done"))
        # fmt: on

    @bar0.LIVENESS.on_write
    def invert(self, access: wb.Access) -> None:
        """Answer with the complement."""
        self.bar0.LIVENESS.poke(self.bar0.LIVENESS.value ^ 0xFFFFFFFF)

    def on_restore(self, state: object) -> None:
        """Go on with what a snapshot has under way: timers are no part of it."""
        if self.bar0.STATUS.COMPUTING:
            self.after(self.delay, self.finish_factorial)
        if self.bar0.DMA_COMMAND.START:
            self.after(self.delay, self.transfer)

    # -- the factorial, computed while the guest does something else --

    @bar0.FACTORIAL.on_write
    def start_factorial(self, access: wb.Access) -> None:
        """Begin; while one is computed another number is not taken."""
        if self.bar0.STATUS.COMPUTING:
            self.bar0.FACTORIAL.poke(access.old)
        else:
            self.bar0.STATUS.COMPUTING.value = 1
            self.after(self.delay, self.finish_factorial)

    def finish_factorial(self) -> None:
        """Show the low 32 bits, which are 0 from 34 on."""
        number = self.bar0.FACTORIAL.value
        self.bar0.FACTORIAL.poke(math.factorial(min(number, 34)) & 0xFFFFFFFF)
        self.bar0.STATUS.COMPUTING.value = 0
        if self.bar0.STATUS.INTERRUPT:
            self.interrupt(FACTORIAL_DONE)

    # -- interrupts --

    def interrupt(self, causes: int) -> None:
        """Show the causes and interrupt: by a message each time, or by INTx until all are acknowledged."""
        self.bar0.IRQ_STATUS.poke(causes, causes)
        if self.irq.mode == "INTx":
            self.irq.assert_()
        else:
            self.irq.trigger()

    @bar0.IRQ_RAISE.on_write
    def raise_interrupt(self, access: wb.Access) -> None:
        """Interrupt because the guest wants it."""
        if access.value:
            self.interrupt(access.value)

    @bar0.IRQ_ACK.on_write
    def acknowledge(self, access: wb.Access) -> None:
        """Clear causes; without any INTx goes down."""
        self.bar0.IRQ_STATUS.poke(0, access.value)
        if not self.bar0.IRQ_STATUS:
            self.irq.deassert()

    # -- DMA --

    @bar0.DMA_COMMAND.on_write
    def start_transfer(self, access: wb.Access) -> None:
        """Begin when START goes from 0 to 1."""
        if self.bar0.DMA_COMMAND.START and not access.old & 1:
            self.after(self.delay, self.transfer)

    def transfer(self) -> None:
        """Copy between the guest's RAM and the buffer."""
        source, destination = self.bar0.DMA_SOURCE.value, self.bar0.DMA_DESTINATION.value
        command = self.bar0.DMA_COMMAND
        try:
            if command.TO_RAM:
                self.dma.write(destination & self.dma_mask, self.buffer(source))
            else:
                self.dma.read_into(source & self.dma_mask, self.buffer(destination))
        except (wb.DmaError, IndexError) as error:
            self.logger.warning("the driver's transfer was not done: %s", str(error))
        command.START.value = 0
        if command.INTERRUPT:
            self.interrupt(DMA_DONE)

    def buffer(self, address: int) -> npt.NDArray[np.uint8]:
        """Return DMA_COUNT bytes of the buffer. Raises IndexError where there are not so many."""
        count, start = self.bar0.DMA_COUNT.value, address - BUFFER
        if not 0 <= start <= start + count <= BUFFER_SIZE:
            raise IndexError(f"{count} bytes at {address:#x} are not in the buffer of 4096 bytes at 0x40000")
        memory: npt.NDArray[np.uint8] = self.bar0.memory
        return memory[start : start + count]
