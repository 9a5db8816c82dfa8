"""The guest's console in a browser: the terminal's screen, keys, lines and the machine's buttons."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from views_kit import Shower, actions

TERMINAL = """([pieces, limit]) => {
    const screen = new parts.terminal.Screen(limit ?? 5000);
    pieces.forEach((piece) => screen.write(piece));
    return screen.lines.map((line) => parts.terminal.runs(line));
}"""


def lines(page: Page, *pieces: str, limit: int | None = None) -> list[list[list[str]]]:
    result: list[list[list[str]]] = page.evaluate(TERMINAL, [list(pieces), limit])
    return result


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\r\ntwo", [[["", "one"]], [["", "two"]]]),
        ("one\ntwo", [[["", "one"]], [["", "   two"]]]),
        ("abc\rX", [[["", "Xbc"]]]),
        ("abd\bc", [[["", "abc"]]]),
        ("a\tb", [[["", "a       b"]]]),
        ("\x1b[1;31mred\x1b[0m plain", [[["b f1", "red"], ["", " plain"]]]),
        ("\x1b[97;44mx\x1b[39my", [[["f15 g4", "x"], ["g4", "y"]]]),
        ("\x1b[38;5;99mz\x1b[38;2;1;2;3mq", [[["f#875fff", "z"], ["f#010203", "q"]]]),
        ("\x1b[38;5;9mz\x1b[48;5;232mq", [[["f9", "z"], ["f9 g#080808", "q"]]]),
        ("\x1b[7mx\x1b[31my", [[["fd gd", "x"], ["fd g1", "y"]]]),
        ("one\x1b[2Dxy\x1b[Kz", [[["", "oxyz"]]]),
        ("gone\r\x1b[2Kkept", [[["", "kept"]]]),
        ("abcd\r\x1b[2C\x1b[1K", [[["", "   d"]]]),
        ("abd\b\x1b[@c", [[["", "abcd"]]]),
        ("abxcd\b\b\b\x1b[P", [[["", "abcd"]]]),
        ("\x1b]0;a title\x07after\x1b]2;b\x1b\\.", [[["", "after."]]]),
        ("\x1bPqdropped\x1b\\kept\x1b(B\x1b=.", [[["", "kept."]]]),
        ("\x1b[?25l\x1b[?2004hx\x1b[6n\x1b[>cy", [[["", "xy"]]]),
        ("a\x07b\x00c", [[["", "abc"]]]),
        ("old\r\n\x1b[H\x1b[2Jnew", [[["", "old"]], [["", "new"]]]),
        ("1\r\n2\r\n3\x1b[H\x1b[J!", [[["", "!"]], [], []]),
        ("\x1b[2;3Hx", [[], [["", "  x"]]]),
        ("\x1b[31\nx", [[], [["", "x"]]]),
    ],
)
def test_the_terminal_obeys(shared: Page, text: str, shown: list[Any]) -> None:
    assert lines(shared, text) == shown


def test_a_sequence_may_be_cut_anywhere(shared: Page) -> None:
    text = "a\x1b[1;32mgreen\x1b[0m\x1b]0;t\x1b\\b\x1b[2D\x1b[K\x1b(Bend\r\n\x1b[38;2;9;8;7mx"
    whole = lines(shared, text)
    for cut in range(len(text)):
        assert lines(shared, text[:cut], text[cut:]) == whole


def test_an_escape_without_end_does_not_silence_the_console(shared: Page) -> None:
    assert lines(shared, "\x1b]0;" + "x" * 5000, "\r\nheard")[-1] == [["", "heard"]]


def test_the_scrollback_keeps_the_newest_lines(shared: Page) -> None:
    kept = lines(shared, "".join(f"{n}\r\n" for n in range(300)), limit=100)
    assert len(kept) == 100
    assert kept[0] == [["", "201"]]
    assert kept[-1] == []


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        ({"key": "a"}, "a"),
        ({"key": "Enter"}, "\r"),
        ({"key": "Tab"}, "\t"),
        ({"key": "Tab", "shiftKey": True}, None),
        ({"key": "c", "ctrlKey": True}, "\x03"),
        ({"key": "v", "ctrlKey": True}, None),
        ({"key": "c", "ctrlKey": True, "shiftKey": True}, None),
        ({"key": "ArrowUp"}, "\x1b[A"),
        ({"key": "b", "altKey": True}, "\x1bb"),
        ({"key": "Shift", "shiftKey": True}, None),
        ({"key": "F5"}, None),
        ({"key": "ü"}, "ü"),
    ],
)
def test_what_a_key_sends_to_the_guest(shared: Page, event: dict[str, Any], sent: str | None) -> None:
    assert shared.evaluate("(event) => parts.consoleView.keyText(event)", event) == sent


def screen(page: Page) -> Locator:
    return page.get_by_role("log", name="Serial console")


def test_the_console_shows_colours_and_what_comes(opened: Shower) -> None:
    page = opened("console")
    expect(screen(page)).to_contain_text("[FAILED] Failed to start the impossible.")
    expect(screen(page).locator(".wb-t-f1")).to_have_text("FAILED")
    expect(page.get_by_role("status").first).to_contain_text("running: tcg, pid 4712")
    page.evaluate("played.console.text += 'hällo 😀\\r\\nnext'; played.flush([])")
    expect(screen(page)).to_contain_text("~ # hällo 😀\nnext")


def test_frames_that_overlap_are_shown_once(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("played.flush([]); played.flush([])")
    page.evaluate("""() => {
        const from = [...played.console.text].length - 10;
        const text = played.console.text.slice(-10) + 'more';
        played.console.text += 'more';
        played.frame({console: {from, text, alive: true, vm: 'x'}}, []);
    }""")
    expect(screen(page)).to_contain_text("~ # more")
    assert screen(page).inner_text().count("SeaBIOS") == 1


def test_another_boot_begins_a_new_screen(opened: Shower) -> None:
    page = opened("console")
    expect(screen(page)).to_contain_text("SeaBIOS")
    page.evaluate("played.frame({console: {from: 0, text: 'second boot', alive: true, vm: 'y'}}, [])")
    expect(screen(page)).to_have_text("second boot\n")


def test_keys_go_to_the_guest_while_the_screen_has_the_focus(opened: Shower) -> None:
    page = opened("console")
    screen(page).click()
    page.keyboard.type("ls")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+c")
    page.keyboard.press("Enter")
    page.wait_for_function("played.console.text.endsWith('\\r\\n')")
    assert "".join(one["text"] for one in actions(page, "console")) == "ls\t\x03\r"
    page.keyboard.press("Shift+Tab")
    expect(screen(page)).not_to_be_focused()


def test_a_line_is_sent_whole_and_recalled(opened: Shower) -> None:
    page = opened("console")
    line = page.get_by_role("textbox", name="Line for the guest")
    line.fill("lspci -nn")
    line.press("Enter")
    expect(line).to_have_value("")
    expect(screen(page)).to_contain_text("~ # lspci -nn")
    line.press("ArrowUp")
    expect(line).to_have_value("lspci -nn")
    assert actions(page, "console")[0]["text"] == "lspci -nn\r"


def test_the_machine_has_buttons_and_the_hard_ones_ask_twice(opened: Shower) -> None:
    page = opened("console")
    page.get_by_role("button", name="Unplug:").click()
    reset = page.get_by_role("button", name="Reset:")
    reset.click()
    expect(reset).to_have_text("Reset: sure?")
    reset.click()
    assert reset.inner_text() == "Reset"  # a third press asks again
    page.wait_for_function("played.sent.filter((m) => m.action === 'vm').length === 2")
    assert [one["verb"] for one in actions(page, "vm")] == ["unplug", "reset"]
    page.evaluate("played.console.alive = false; played.console.vm = 'not running'; played.flush([])")
    expect(reset).to_be_disabled()
    expect(screen(page)).to_contain_text("SeaBIOS")


def test_the_page_keeps_five_thousand_lines_of_it(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("""() => {
        for (let n = 0; n < 7000; n++) played.console.text += `line ${n}\\r\\n`;
        played.flush([]);
    }""")
    expect(page.locator(".wb-console-line")).to_have_count(5000)
    expect(page.locator(".wb-console-line").first).to_contain_text("line 2001")
    bottom = (
        "() => { const el = document.querySelector('.wb-console-screen');"
        " return el.scrollTop + el.clientHeight >= el.scrollHeight - 4; }"
    )
    page.wait_for_function(bottom)


def test_the_console_is_copied_as_text(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="Copy the whole console").click()
    page.wait_for_function("window.copied")
    assert "[  OK  ] Started workbench guest.\n" in page.evaluate("copied")
