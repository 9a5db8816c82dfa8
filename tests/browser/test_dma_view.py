"""DMA in JupyterLab: the panel's tab and ``dev.dma`` in a cell, while the device copies."""

import re

import pytest
from panel import Panel
from playwright.sync_api import expect

DEVICE = (
    "import workbench as wb\n"
    "if 'dev' in globals(): guest.disconnect(); dev.close()\n"
    "class Copier(wb.Device):\n"
    "    id = wb.PciId(vendor=0x1234, device=0x0B14)\n"
    "    class bar0(wb.Bar, size=4096):\n"
    "        FROM = wb.Register(0)\n"
    "    @bar0.FROM.on_write\n"
    "    def copy(self, access):\n"
    "        self.dma.write(0x2000, self.dma.read(access.value, 8))\n"
    "dev = Copier()\n"
    "guest = dev.connect()\n"
    "guest.memory[0x1000:0x1008] = b'question'"
)
ABOUT = re.compile("bus master is (on|off)")


@pytest.fixture
def book(notebook):
    book = notebook(DEVICE, "dev", "dev.dma")
    book.run(0)
    return book


def test_the_panel_follows_what_the_device_copies(book):
    book.run(1)
    panel = Panel(book).wait()
    panel.tab("DMA")
    expect(panel.root.get_by_text("✕ bus master is off")).to_be_visible()
    expect(panel.root.get_by_role("grid", name="Regions that the guest mapped")).to_contain_text("✓ mapped")
    expect(panel.root.get_by_text("Nothing was copied yet")).to_be_visible()
    book.ask("guest.enable(); guest.bar0.write32(0, 0x1000)")
    copies = panel.root.get_by_role("grid", name="The last copies, newest first")
    expect(copies.locator(".wb-scroll-row").first).to_contain_text("▶ to the guest")
    expect(copies.locator(".wb-scroll-row").last).to_contain_text("0x6e6f697473657571")
    book.ask("guest.memory.unmap(0)\ntry: dev.dma.read(0x1000, 1)\nexcept wb.DmaError: pass")
    expect(copies.locator(".wb-flagged")).to_contain_text("! refused: not mapped (EFAULT)")
    expect(panel.root.get_by_text("No guest memory is mapped now")).to_be_visible()
    assert book.errors == []


def test_dma_in_a_cell_is_live(book):
    book.run(2)
    view = Panel(book).root
    expect(view.get_by_text(ABOUT)).to_be_visible()
    book.ask("guest.enable(); guest.memory.map(0x200000, 0x1000, shared=False)")
    expect(view.get_by_role("grid", name="Regions that the guest mapped")).to_contain_text("✉ messages")
    saved = book.outputs(2)[0]["data"]["text/html"]
    assert "1 region, 1 MiB" in saved
