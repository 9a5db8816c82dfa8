"""The guest's console with a real VM: boot, keys, colours, power and plug; alone and as the panel's tab."""

import re

import pytest
from lab import until
from panel import Panel
from playwright.sync_api import expect
from test_look import violations

DEVICE = (
    "import workbench as wb\n"
    "if 'vm' in globals(): vm.close(); dev.close()\n"
    "class Lamp(wb.Device):\n"
    "    id = wb.PciId(vendor=0x1234, device=0x0B11)\n"
    "    class bar0(wb.Bar, size=4096):\n"
    "        CTRL = wb.Register(0x00, ON=wb.Field(0))\n"
    "dev = Lamp()\n"
    "vm = wb.VM(dev, accel='tcg', progress=lambda text, done: None)"
)
CELLS = (DEVICE, "dev", "vm.console()", "vm.start()")
PROMPT = re.compile(r"guest:~# \s*$")
BOOT = 60_000  # milliseconds

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]


class Console:
    """The console of a live view."""

    def __init__(self, panel):
        self.panel = panel
        self.screen = panel.root.get_by_role("log", name="Serial console")
        self.status = panel.root.locator(".wb-console-status")

    def line(self, text):
        box = self.panel.root.get_by_role("textbox", name="Line for the guest")
        box.fill(text)
        box.press("Enter")

    def press(self, name):
        """Press a switch of the machine; those that cannot be undone ask once more."""
        machine = self.panel.root.get_by_role("group", name="Virtual machine")
        button = machine.get_by_role("button", name=re.compile(f"^{name}:"))
        button.click()
        if "sure" in button.inner_text():
            button.click()

    def at_its_end(self):
        self.screen.scroll_into_view_if_needed()
        end = "el => el.scrollHeight - el.clientHeight - el.scrollTop < 9"
        until(lambda: self.screen.evaluate(end), "the console to show its end")

    def says(self, text, timeout=None):
        expect(self.screen).to_contain_text(text, timeout=timeout)


@pytest.fixture(scope="module")
def booted(notebook):
    """A VM that has booted, and its console in two places: the panel's tab, and alone."""
    book = notebook(*CELLS)
    book.run(0, 1, 2)
    tab, alone = Panel(book).wait(), Panel(book, 1)
    tab.tab("Console")
    expect(tab.root).to_contain_text("not running")
    book.run(3)
    consoles = Console(tab), Console(alone)
    for console in consoles:
        console.says(PROMPT, BOOT)
    return consoles


def test_the_boot_shows_in_the_panels_tab_and_alone(booted):
    for console in booted:
        expect(console.status).to_contain_text("running: tcg, pid")
        console.says("Linux version")
        console.at_its_end()
    assert booted[0].panel.book.errors == []


def test_a_typed_line_reaches_the_guest_and_its_answer_both_views(booted):
    booted[1].line("echo $((6 * 7))-lamps; echo one; echo two")
    for console in booted:
        console.says("42-lamps\none\ntwo\n")


def test_keys_go_to_the_screen_that_has_the_focus(booted):
    console = booted[1]
    keys = console.panel.page.keyboard
    console.screen.click()
    keys.type("echo wrongg")
    for _ in range(3):
        keys.press("Backspace")
    keys.type("te")
    keys.press("Enter")
    console.says("\nwrote\n")
    keys.type("echo be${X}gun; sleep 1000")
    keys.press("Enter")
    console.says("begun")  # else Ctrl-C takes the line away that the shell has not read yet
    keys.press("Control+c")
    console.says("^C")
    keys.type("cat /proc/sys/kernel/host")
    keys.press("Tab")  # the guest's own completion
    console.says("hostname")
    keys.press("Enter")
    console.says("\nguest\n")


def test_colours_are_seen(booted):
    console = booted[1]
    console.line(r"printf '\033[1;31mhot\033[0m \033[44mcool\033[0m \033[38;5;99mviolet\033[0m\n'")
    styles = {
        text: console.screen.locator("span", has_text=re.compile(f"^{text}$")).last
        for text in ("hot", "cool", "violet")
    }
    plain = console.screen.evaluate("el => getComputedStyle(el).color")
    expect(styles["hot"]).to_have_css("font-weight", re.compile("bold|[67]00"))
    assert styles["hot"].evaluate("el => getComputedStyle(el).color") != plain
    expect(styles["cool"]).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")
    expect(styles["violet"]).to_have_css("color", "rgb(135, 95, 255)")


def test_unplug_and_plug_are_seen_by_the_guest(booted):
    console = booted[1]
    console.press("Unplug")
    expect(booted[0].panel.root).to_contain_text("listening", timeout=30_000)
    assert console.panel.book.ask("print('1234:0b11' in vm.run('lspci -n').stdout)") == "False\n"
    console.press("Plug")
    expect(booted[0].panel.root).to_contain_text("attached", timeout=30_000)
    console.line("until lspci -n | grep 1234:0b11; do sleep 0.1; done")
    console.says(re.compile(r"[0-9a-f:.]+ .*1234:0b11"))


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_it_looks_right_and_is_accessible(booted, theme):
    book = booted[1].panel.book
    book.theme(theme)
    try:
        for console, name in zip(booted, ("tab", "alone"), strict=True):
            console.at_its_end()
            book.picture(f"console-{name}-{theme.lower()}")
        assert violations(book.page) == []
    finally:
        book.theme("Light")


def test_a_reload_brings_the_screen_back(booted):
    book = booted[1].panel.book
    booted[1].line("echo $((6 * 9))-lamps; echo one; echo two")
    booted[1].says("54-lamps\none\ntwo\n")
    book.save()
    book.visit()
    booted[1].panel.root.scroll_into_view_if_needed()  # what is not seen is sent nothing
    booted[1].says("54-lamps\none\ntwo\n")
    booted[1].at_its_end()


def test_reset_asks_once_more_and_boots_again(booted):
    console = booted[1]
    console.line("touch /tmp/before; echo made-it")
    console.says("\nmade-it\n")
    console.press("Reset")
    book = console.panel.book
    assert book.ask("vm.wait_console('Linux version', 60, vm.read_console()[0]); print('again')") == "again\n"


def test_power_down_ends_the_machine(booted):
    console = booted[1]
    console.press("Power down")
    for each in booted:
        expect(each.status).to_contain_text("not running", timeout=40_000)
    assert console.panel.book.ask("print(vm.alive)") == "False\n"
    expect(console.panel.button("Reset: press")).to_be_disabled()
    assert console.panel.book.errors == []
