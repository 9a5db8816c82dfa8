"""A device with state of every sort, for the tests of snapshots and migration."""

import workbench as wb

FRAME = 1 << 20


class Stateful(wb.Device):
    """Registers of many modes, mapped pages, MSI-X and INTx, state of its own beside them."""

    id = wb.PciId(vendor=0x1234, device=0x0B17, class_code=0xFF0000)
    irq = wb.Interrupts(intx=True, msix=4)

    class bar0(wb.Bar, size=8192):
        CTRL = wb.Register(0x00, ENABLE=wb.Field(0), SPEED=wb.Field(4, 2, enum={"SLOW": 0, "FAST": 2}))
        COUNT = wb.Register(0x04, mode="rc", reset=7)
        KEY = wb.Register(0x08, mode="wo")
        LOCK = wb.Register(0x0C, mode="w1")
        PORTS = wb.Register(0x100, width=8, count=16)
        FAR = wb.Register(0x1000)

    class bar2(wb.Bar, size=FRAME, mmap=True):
        pass

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.steps = 0
        self.restored = []

    @bar0.CTRL.on_write
    def switch(self, access):
        self.steps += 1

    def on_snapshot(self):
        return {"steps": self.steps}

    def on_restore(self, state):
        self.steps = state["steps"]
        self.restored.append(state)
