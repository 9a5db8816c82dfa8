"""ACCES PCI-IDIO-16: 16 isolated outputs and 16 isolated inputs behind byte registers in BAR2.

Linux binds it with its own ``gpio-pci-idio-16`` driver: lines 0 to 15 are OUT0..OUT15, 16 to 31 are
IIN0..IIN15. As in MUSER's sample each input toggles on every third read, so twelve reads of IIN0
give 0 0 0 1 1 1 0 0 0 1 1 1.

Source: ACCES PCI-IDIO-16 manual; Linux ``drivers/gpio/gpio-pci-idio-16.c`` and ``gpio-idio-16.h``.
"""

import workbench as wb


class PciIdio16(wb.Device):
    """A PCI-IDIO-16 whose inputs toggle on every third read."""

    id = wb.PciId(vendor=0x494F, device=0x0DC8, class_code=0xFF0000)
    irq = wb.Interrupts(intx=True)

    class bar2(wb.Bar, size=256):
        """The card's registers, one byte each."""

        OUT0_7 = wb.Register(0x0, 8, doc="Outputs 0 to 7, a bit each")
        IN0_7 = wb.Register(0x1, 8, "ro", doc="Inputs 0 to 7")
        CLEAR = wb.Register(0x1, 8, "wo", doc="Any write clears the interrupt")
        IRQ_ENABLE = wb.Register(0x2, 8, "ro", doc="A read enables the change-of-state interrupt")
        IRQ_DISABLE = wb.Register(0x2, 8, "wo", doc="A write disables it")
        FILTER = wb.Register(0x3, 8, doc="A read switches the input filters on, a write off")
        OUT8_15 = wb.Register(0x4, 8, doc="Outputs 8 to 15")
        IN8_15 = wb.Register(0x5, 8, "ro", doc="Inputs 8 to 15")
        IRQ_STATUS = wb.Register(0x6, 8, "ro", CHANGED=wb.Field(2, doc="An input changed while enabled"))

    def __init__(self, name: str | None = None, **options: bool) -> None:
        super().__init__(name, **options)
        self.on_reset("start")

    def on_reset(self, kind: str) -> None:
        """Forget the reads; the interrupt is disabled."""
        self.reads = {"IN0_7": 0, "IN8_15": 0}
        self.irq_enabled = False

    @bar2.IN0_7.on_read
    @bar2.IN8_15.on_read
    def sample(self, access: wb.Access) -> int:
        """Toggle the eight inputs of a port on every third read."""
        name = access.register.name
        value = 0xFF if self.reads[name] // 3 % 2 else 0x00
        self.reads[name] += 1
        return value

    @bar2.IRQ_ENABLE.on_read
    def enable(self, access: wb.Access) -> None:
        """Reading enables the interrupt."""
        self.irq_enabled = True

    @bar2.IRQ_DISABLE.on_write
    def disable(self, access: wb.Access) -> None:
        """Writing disables the interrupt."""
        self.irq_enabled = False

    @bar2.CLEAR.on_write
    def clear(self, access: wb.Access) -> None:
        """Any write drops the interrupt."""
        self.bar2.IRQ_STATUS.poke(0)
        self.irq.deassert()

    def change_inputs(self) -> str:
        """An input changed by itself: interrupt, if the driver enabled it; say what became of it.

        Linux 6.12's driver calls the handlers of all of IIN0..IIN15, and its interrupt thread dies unless
        each has an edge set in sysfs.
        """
        if not self.irq_enabled:
            return "not enabled by the driver"
        self.bar2.IRQ_STATUS.CHANGED.value = 1
        return str(self.irq.assert_())
