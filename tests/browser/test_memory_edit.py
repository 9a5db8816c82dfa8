"""Memory edited in place, and writes as the guest, in the browser: a BAR, guest memory at an IOVA, fields."""

import re

import pytest
from panel import Panel
from playwright.sync_api import expect
from test_look import violations
from test_panel import DEVICE, SHOW


@pytest.fixture
def panel(notebook):
    book = notebook(DEVICE, SHOW)
    book.run(0, 1)
    return Panel(book).wait()


@pytest.fixture
def memory(panel):
    panel.tab("Memory")
    return Memory(panel)


class Memory:
    """The memory tab: its rows by address."""

    def __init__(self, panel):
        self.panel, self.book = panel, panel.book
        self.root = panel.root.locator(".wb-memory")
        self.about = self.root.get_by_role("status")

    def choose(self, space):
        self.root.get_by_role("combobox", name="What memory").select_option(space)

    def width(self, width):
        self.root.get_by_role("combobox", name="Bytes of a number").select_option(str(width))

    def jump(self, where):
        box = self.root.get_by_role("textbox", name="Jump to an address")
        box.fill(where)
        box.press("Enter")

    def row(self, address):
        head = self.panel.page.locator(".wb-mem-address", has_text=re.compile(f"^0*{address:x}$"))
        return self.root.locator(".wb-mem:visible").filter(has=head)

    def cell(self, address, width=1):
        cells = self.row(address & ~15).locator(".wb-mem-hex [role=gridcell]")
        return cells.nth((address & 15) // width)

    def edit(self, address, text, width=1):
        self.cell(address, width).click()
        box = self.root.get_by_role("group", name=re.compile(f"^Poke {width} byte")).locator("input")
        box.fill(text)
        box.press("Enter")


def test_a_byte_of_a_bar_is_poked_in_place(memory):
    memory.edit(0x13, "a5")
    expect(memory.cell(0x13)).to_have_text("a5")
    assert memory.book.ask("print(hex(guest.bar0.read32(0x10)))") == "0xa5000000\n"
    memory.panel.tab("Registers")
    memory.panel.expect_value("WIDE", 0xA5000000)
    told = "print([r.kind for r in dev.log if r.register == 'bar0.WIDE' and r.origin == 'notebook'])"
    assert memory.book.ask(told) == "['poke']\n"


def test_a_number_of_eight_bytes_is_edited_with_the_keyboard(memory):
    memory.width(8)
    try:
        memory.cell(0x10, 8).focus()
        memory.panel.page.keyboard.press("Enter")
        memory.panel.page.keyboard.type("fedcba9876543210")
        memory.panel.page.keyboard.press("Enter")
        expect(memory.cell(0x10, 8)).to_have_text("fedcba9876543210")
        assert memory.book.ask("print(hex(dev.bar0.WIDE.value))") == "0xfedcba9876543210\n"
        memory.cell(0x10, 8).click()
        box = memory.root.get_by_role("group", name=re.compile("^Poke 8 bytes")).locator("input")
        box.fill("1fedcba9876543210")
        box.press("Enter")
        expect(box).to_have_attribute("aria-invalid", "true")
        box.press("Escape")
        expect(memory.cell(0x10, 8)).to_have_text("fedcba9876543210")
    finally:
        memory.width(1)


def test_guest_memory_is_edited_at_its_iova(memory):
    memory.book.ask("guest.enable(); guest.memory.write(0x2340, b'letter from the guest')")
    memory.choose("iova")
    memory.jump("0x2340")
    expect(memory.row(0x2340)).to_contain_text("letter from the")
    memory.edit(0x2340, "4c")
    expect(memory.row(0x2340)).to_contain_text("Letter from the")
    assert memory.book.ask("print(guest.memory.read(0x2340, 6))") == "b'Letter'\n"
    memory.book.ask("guest.memory.write(0x2347, b'FROM')")
    expect(memory.row(0x2340)).to_contain_text("Letter FROM the")


def test_an_edit_of_guest_memory_is_the_workbenchs_and_needs_no_bus_mastering(memory):
    memory.book.ask("guest.enable(bus_master=False); guest.memory.write(0, bytes(4))")
    memory.choose("iova")
    expect(memory.cell(0)).to_have_text("00")
    memory.edit(0, "01")
    expect(memory.cell(0)).to_have_text("01")
    assert (
        memory.book.ask("print(guest.memory.read(0, 4).hex(), dev.log[-1].origin)") == "01000000 notebook\n"
    )


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_where_the_guest_mapped_a_part_that_part_is_shown(memory, theme):
    memory.book.theme(theme)
    try:
        memory.book.ask("guest.memory.write(0xffff8, b'the end.'); guest.memory.map(0x100000, 0x1000)")
        memory.book.ask("guest.memory.write(0x100000, b'one more')")
        memory.choose("iova")
        memory.jump("0xffff0")
        expect(memory.row(0xFFFF0)).to_contain_text("the end.")
        expect(memory.row(0x100000)).to_contain_text("one more")
        memory.book.ask("guest.memory.unmap(0x100000)")
        expect(memory.cell(0x100000)).to_have_text("··")
        expect(memory.row(0x100000)).not_to_contain_text("one more")
        expect(memory.row(0xFFFF0)).to_contain_text("the end.")
        expect(memory.about).to_contain_text("not mapped all")
        memory.book.picture(f"memory-gap-{theme.lower()}")
        assert violations(memory.panel.page) == []
    finally:
        memory.book.theme("Light")


def test_a_field_is_written_as_the_guest_from_its_own_row(panel):
    panel.row("CTRL").get_by_role("button", name="Fields of bar0.CTRL").click()
    panel.root.get_by_role("button", name="Write CTRL.ENABLE as the guest would").click()
    editor = panel.root.get_by_role("group", name="Write CTRL.ENABLE as the guest would")
    expect(editor).to_contain_text("guest writes")
    editor.get_by_role("combobox").select_option("1")
    editor.get_by_role("combobox").press("Enter")
    panel.expect_value("CTRL", 1)
    panel.expect_value("STATUS", 1)  # the hook ran
    panel.expect_value("COUNT", 1)
    told = "print([(r.kind, r.origin) for r in dev.log if r.register == 'bar0.CTRL'])"
    assert panel.book.ask(told) == "[('write', 'notebook')]\n"


def test_a_chip_pokes_and_the_control_beside_it_writes(panel):
    panel.set_field("CTRL", "ENABLE", "ON")
    panel.expect_value("CTRL", 1)
    assert panel.value("COUNT") == 0  # a poke runs no hook
    panel.write("CTRL", "0x201")
    panel.expect_value("COUNT", 1)
    expect(panel.chip("CTRL", "PERIOD")).to_have_text("PERIOD=2")
    told = "print([r.kind for r in dev.log if r.register == 'bar0.CTRL'])"
    assert panel.book.ask(told) == "['poke', 'write']\n"
