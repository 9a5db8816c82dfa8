"""The live views' JavaScript against a played kernel: what is wanted, what is drawn, what is sent."""

import importlib.resources
import re

import played
import pytest
from playwright.sync_api import expect

from workbench.views.widget import STATIC

_FRAMES = """async (seconds) => {
    const list = document.querySelector(".wb-scroll"), times = [], end = performance.now() + seconds * 1000;
    for (let last = performance.now(); last < end;) {
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
        list.scrollTop += 37;
    }
    return times.sort((a, b) => a - b);
}"""
_TOP_ROW = """() => {
    const top = document.querySelector(".wb-scroll").getBoundingClientRect().top - 1;
    const rows = [...document.querySelectorAll(".wb-mem")]
        .filter(row => row.getBoundingClientRect().top >= top);
    return rows.map(row => row.firstChild.textContent).sort()[0];
}"""
# A glow lasts a second: what is to see it must not be late.
_GLOW = """async () => {
    played.values[0] += 2n;
    played.flush([0]);
    const glow = () => document.querySelector(".wb-val.wb-flash-a, .wb-val.wb-flash-b");
    for (let n = 0; n < 600 && !glow(); n++) await new Promise(requestAnimationFrame);
    const { animationName, boxShadow } = getComputedStyle(glow());
    return animationName + boxShadow.includes("inset");
}"""
_AXE = "async () => (await axe.run('.wb-live')).violations.map(v => `${v.id}: ${v.nodes[0].html}`)"


@pytest.fixture
def page(browser):
    """A page that fails the test on any error in the script."""
    page = browser.new_page(viewport={"width": 1100, "height": 800}, reduced_motion="no-preference")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert errors == []


def sent(page, kind):
    return page.evaluate("kind => played.sent.filter(({type}) => type === kind)", kind)


def done(page):
    return [{k: v for k, v in one.items() if k not in ("id", "type")} for one in sent(page, "do")]


def wish(page):
    return sent(page, "want")[-1]


def row(page, name):
    name = re.compile(f"^{re.escape(name)}$")
    return page.locator(".wb-reg-register").filter(has=page.locator(".wb-regname", has_text=name))


def state(page, **changes):
    page.evaluate("now => { played.state = {...played.state, ...now}; played.flush([]); }", changes)


# -- what is asked for ----------------------------------------------------------------------------


def test_only_the_open_tab_is_wanted_and_it_is_remembered(page):
    played.show(page)
    page.wait_for_function("played.visible && played.feeds.registers")
    assert set(wish(page)["feeds"]) == {"state", "registers"}
    page.get_by_role("tab", name="Memory").click()
    page.wait_for_function("played.feeds.memory && !played.feeds.registers")
    played.show(page)
    expect(page.get_by_role("tab", name="Memory")).to_have_attribute("aria-selected", "true")


def test_a_view_off_screen_wants_nothing_and_wants_again_when_it_comes_back(page):
    played.show(page)
    page.wait_for_function("played.visible")
    page.evaluate("document.querySelector('h1').style.marginBottom = '3000px'")
    page.wait_for_function("!played.visible")
    assert wish(page)["feeds"] == {}
    page.evaluate("document.querySelector('h1').style.marginBottom = ''")
    page.wait_for_function("played.visible && played.feeds.registers")


def test_each_frame_is_acknowledged(page):
    played.show(page)
    page.wait_for_function("played.seq > 0 && played.acked === played.seq")


def test_a_view_that_is_closed_listens_no_more(page):
    played.show(page)
    page.wait_for_function("played.visible")
    page.evaluate("unrender()")
    assert page.evaluate("[...played.listeners.values()].flat().length") == 0
    assert wish(page)["visible"] is False
    assert page.locator(".wb-live").count() == 0


def test_a_widget_shown_twice_in_a_page_has_one_wish_for_both(page):
    played.show(page, kind="registers")
    page.wait_for_function("played.visible")
    page.evaluate("""async () => {
        const el = document.createElement("div");
        document.querySelector("#views").append(el);
        window.second = widget.render({model: played, el});
    }""")
    expect(page.locator(".wb-live")).to_have_count(2)
    page.evaluate("unrender()")
    page.wait_for_function("played.visible && played.feeds.registers")
    expect(row(page, "CTRL").locator(".wb-val")).to_have_text("0x00000001")


# -- registers ------------------------------------------------------------------------------------


def test_a_value_is_exact_to_64_bits_in_every_radix(page):
    played.show(page)
    page.evaluate("played.values[2] = 0xfedcba9876543211n; played.flush([2])")
    value = row(page, "COUNT").locator(".wb-val")
    expect(value).to_have_text("0xfedcba9876543211")
    page.get_by_text("dec", exact=True).click()
    expect(value).to_have_text(str(0xFEDCBA9876543211))
    page.get_by_text("bin", exact=True).click()
    expect(value).to_have_text(re.compile("^0b1111_1110.*0001_0001$"))


def test_ten_thousand_registers_are_a_few_rows_and_the_keyboard_reaches_the_last(page):
    played.show(page, registers=10_000)
    grid = page.get_by_role("grid", name="Registers")
    assert page.locator(".wb-scroll-row").count() < 50
    grid.focus()
    page.get_by_role("button", name="RING[0…9994]").click()
    expect(page.locator(".wb-active")).to_contain_text("RING[0…9994]")
    expect(page.get_by_role("button", name="RING[0…9994]")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("End")
    expect(page.locator(".wb-active")).to_contain_text("config")
    page.keyboard.press("PageUp")
    assert page.locator(".wb-active .wb-regname").inner_text().startswith("RING[99")
    assert page.locator(".wb-scroll-row").count() < 50


def test_a_long_array_is_one_row_until_it_is_unfolded_and_that_is_kept(page):
    played.show(page, registers=69)
    ring = page.get_by_role("button", name="RING[0…63]")
    expect(ring).to_have_attribute("aria-expanded", "false")
    expect(ring).to_contain_text("0x014 to 0x110 · 64 registers of 32 bits")
    expect(row(page, "DOORBELL")).to_have_count(1)
    expect(row(page, "RING[0]")).to_have_count(0)
    page.get_by_role("grid", name="Registers").focus()
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(ring).to_have_attribute("aria-expanded", "true")
    expect(row(page, "RING[0]").locator(".wb-val")).to_have_text("0x00000000")
    played.show(page, registers=69)
    expect(row(page, "RING[0]")).to_have_count(1)
    page.get_by_role("button", name="RING[0…63]").click()
    expect(row(page, "RING[0]")).to_have_count(0)


def test_elements_of_a_folded_array_are_found_by_name_and_short_ones_are_not_folded(page):
    played.show(page, registers=69)
    page.get_by_label("Filter registers by name").fill("ring[63]")
    expect(row(page, "RING[63]")).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="1 of 70")).to_have_count(1)
    played.show(page, registers=68)
    expect(row(page, "RING[0]")).to_have_count(1)


@pytest.mark.alone
def test_scrolling_a_thousand_busy_registers_costs_a_frame_less_than_a_frame_lasts(page):
    played.show(page, registers=1000)
    page.get_by_role("button", name="RING[0…994]").click()
    page.evaluate("played.start(20, 1000)")
    # The main thread's CPU time, not the clock: other processes may keep both cores busy.
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy(session)
    times = page.evaluate(_FRAMES, 2)
    cost = (_busy(session) - before) / len(times) * 1000
    worst = f"median {times[len(times) // 2]:.0f} ms, worst {times[-1]:.0f} ms"
    print(f"{len(times)} frames, {cost:.1f} ms of CPU time each; {worst} apart")
    assert cost < 16


def _busy(session):
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def test_a_poke_is_sent_by_enter_and_by_nothing_else(page):
    played.show(page)
    value = row(page, "CTRL").locator(".wb-val")
    value.click()
    page.keyboard.type("0x55")
    page.keyboard.press("Escape")
    expect(page.locator(".wb-edit")).to_have_count(0)
    expect(value).to_be_focused()
    value.click()
    page.keyboard.type("no number")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Poke CTRL").locator("input")).to_have_attribute("aria-invalid", "true")
    assert done(page) == []
    page.get_by_label("Poke CTRL").locator("input").fill("0x1_00")
    page.keyboard.press("Enter")
    assert done(page) == [{"action": "poke", "register": 0, "field": None, "value": "0x100"}]
    expect(value).to_have_text("0x00000100")


def test_a_value_that_changes_while_it_is_edited_does_not_disturb_the_edit(page):
    played.show(page)
    row(page, "CTRL").locator(".wb-val").click()
    page.keyboard.type("0x7")
    page.evaluate("played.start(20, 40)")
    page.wait_for_function("played.seq > 8")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    assert done(page)[0]["value"] == "0x77"


def test_a_write_as_the_guest_is_a_control_of_its_own(page):
    played.show(page)
    row(page, "MASK").get_by_role("button", name="Write bar0.MASK as the guest would").click()
    editor = page.get_by_role("group", name="Write MASK as the guest would")
    expect(editor).to_contain_text("guest writes")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    assert done(page) == [{"action": "write", "register": 3, "field": None, "value": "0x3"}]


def test_a_field_with_names_is_chosen_from_a_list(page):
    played.show(page)
    chip = row(page, "MASK").locator(".wb-chip").nth(1)
    expect(chip).to_have_text("SPEED=STOP")
    chip.click()
    expect(page.locator(".wb-edit select option")).to_have_text(
        ["STOP (0)", "SLOW (1)", "FAST (2)", "another number…"]
    )
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert done(page) == []  # passing over a name is not choosing it
    page.keyboard.press("Enter")
    assert done(page) == [{"action": "poke", "register": 3, "field": "SPEED", "value": "0x2"}]
    expect(chip).to_have_text("SPEED=FAST")


def test_an_unfolded_register_shows_its_fields_and_a_number_that_has_no_name(page):
    played.show(page)
    row(page, "MASK").get_by_role("button", name="Fields of bar0.MASK").click()
    fields = page.locator(".wb-reg-field")
    expect(fields).to_have_count(4)
    expect(fields.nth(2)).to_contain_text("[23:8]")
    fields.nth(1).locator(".wb-val").click()
    page.locator(".wb-edit select").select_option("other")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    assert done(page)[0]["value"] == "0x3"
    expect(row(page, "MASK").locator(".wb-chip").nth(1)).to_have_text("SPEED=3")


def test_filtering_and_folding(page):
    played.show(page)
    page.get_by_label("Filter registers by name").fill("ring[1")
    expect(page.get_by_text("11 of 41")).to_be_visible()
    expect(page.locator(".wb-reg-register")).to_have_count(11)
    page.get_by_label("Filter registers by name").fill("")
    page.locator(".wb-blockname", has_text="bar0").click()
    expect(page.locator(".wb-reg-register")).to_have_count(0)
    page.locator(".wb-blockname", has_text="config").click()
    expect(row(page, "VENDOR_ID").locator(".wb-val")).to_have_text("0x494f")


def test_a_change_glows_and_stands_still_for_those_who_want_less_motion(page):
    played.show(page)
    expect(row(page, "CTRL").locator(".wb-val")).to_have_text("0x00000001")
    for motion, expected in (("no-preference", "wb-glow-"), ("reduce", "nonetrue")):
        page.emulate_media(reduced_motion=motion)
        assert page.evaluate(_GLOW).startswith(expected)
        expect(page.locator(".wb-val.wb-flash-a, .wb-val.wb-flash-b")).to_have_count(0)


def test_an_offset_in_a_large_bar_is_told_whole(page):
    played.show(page)
    page.evaluate("""() => {
        const layout = structuredClone(played.layout);
        layout.version = 2;
        layout.blocks[0].size = 1 << 28;
        layout.registers[1].offset = 0xffffff0;
        played.set("device_layout", layout);
    }""")
    offset = row(page, "STATUS").locator("> [role=gridcell]").nth(1)
    expect(offset).to_have_text("0xffffff0")
    assert offset.evaluate("el => el.scrollWidth <= el.clientWidth")


# -- memory ---------------------------------------------------------------------------------------


def test_256_mib_are_scrolled_row_by_row_and_reached_to_the_last_byte(page):
    played.show(page, kind="memory", options={"block": "bar1"})
    jump = page.get_by_label("Jump to an address or a register")
    jump.fill("0xfffffff")
    jump.press("Enter")
    last = page.locator(".wb-mem-address", has_text="0ffffff0")
    expect(last).to_be_visible()
    page.wait_for_function(
        "BigInt(played.feeds.memory.start) + BigInt(played.feeds.memory.length) === 0x10000000n"
    )
    jump.fill("0x8000000")
    jump.press("Enter")
    first = f"({_TOP_ROW})()"
    page.wait_for_function(f"{first} === '08000000'")
    page.locator(".wb-scroll").hover()
    page.mouse.wheel(0, 40)
    page.wait_for_function(f"{first} === '08000020'")
    assert wish(page)["feeds"]["memory"]["length"] < 4096


def test_bytes_are_edited_in_place_as_little_endian_numbers(page):
    played.show(page, kind="memory", options={"block": "bar0"})
    page.get_by_label("Bytes of a number").select_option("4")
    cell = page.locator(".wb-mem").nth(0).locator(".wb-mem-hex > span").nth(1)
    cell.click()
    page.keyboard.type("11223344")
    page.keyboard.press("Enter")
    assert done(page) == [{"action": "poke_memory", "space": "bar0", "start": "0x4", "data": "44332211"}]
    expect(cell).to_have_text("11223344")
    expect(page.locator(".wb-mem").nth(0).locator(".wb-mem-names")).to_have_text("CTRL STATUS COUNT MASK")


def test_guest_memory_is_shown_around_an_address_of_64_bits(page):
    played.show(page, kind="memory", options={"iova": 0xFFFF_FFFF_FFFF_F000})
    expect(page.locator(".wb-mem-address", has_text="fffffffffffff000")).to_be_visible()
    page.wait_for_function("BigInt(played.feeds.memory.start) > 0xffffffffffff0000n")
    page.evaluate("played.byte = () => 0x41; played.flush([])")
    expect(page.locator(".wb-mem").first.locator(".wb-mem-ascii")).to_have_text("A" * 16)


# -- header ---------------------------------------------------------------------------------------


def test_the_header_says_the_state_in_words_and_offers_what_fits_it(page):
    played.show(page)
    expect(page.locator(".wb-status")).to_contain_text("attached")
    expect(page.locator(".wb-stall")).to_contain_text("worst 61.5 ms in In[3]")
    step = page.get_by_role("button", name="Step")
    expect(step).to_be_disabled()
    state(page, server="paused")
    page.get_by_role("button", name="Resume").click()
    step.click()
    page.get_by_role("button", name="Stop serving").click()
    page.get_by_role("button", name="Detach the guest?").click()
    assert [one["action"] for one in done(page)] == ["resume", "step", "stop"]


def test_a_hook_that_does_not_end_is_named_and_can_be_answered_for(page):
    played.show(page)
    stall = {
        "waits": 1,
        "total_ms": 0,
        "worst_ms": 0,
        "worst_cell": "",
        "now": {"hook": "bar0.CTRL.on_write", "seconds": 2.4},
    }
    state(page, stall=stall)
    expect(page.get_by_role("alert")).to_have_text("bar0.CTRL.on_write is still running; the guest waits")
    page.get_by_role("button", name="Answer without it").click()
    assert done(page) == [{"action": "skip"}]
    state(page, stall={**stall, "now": None})
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_hook_error_can_be_read_and_put_away_until_it_happens_again(page):
    played.show(page)
    error = {
        "name": "bar0.CTRL.on_write",
        "count": 1,
        "text": "Traceback\nZeroDivisionError: division by zero",
    }
    state(page, errors=[error])
    page.get_by_text("raised ZeroDivisionError").click()
    expect(page.get_by_label("Traceback")).to_be_visible()
    page.get_by_role("button", name="Put away the error").click()
    state(page, errors=[error])
    expect(page.get_by_text("raised ZeroDivisionError")).to_have_count(0)
    state(page, errors=[{**error, "count": 2}])
    expect(page.get_by_text("2 times")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("bar0.CTRL.on_write", "raised Error: no. The write is stored."),
        ("bar0.CTRL.on_read", "raised Error: no. The guest got the stored value."),
        ("timer tick", "raised Error: no."),
        ("views: log", "raised Error: no."),
    ],
)
def test_an_error_says_what_the_guest_has_if_it_asked(page, name, after):
    played.show(page)
    state(page, errors=[{"name": name, "count": 1, "text": "Error: no"}])
    expect(page.locator(".wb-banner summary")).to_have_text(f"{name} {after}")


def test_what_the_kernel_refuses_is_shown_with_its_reason(page):
    played.show(page)
    page.evaluate("played.fail = 'bar0.CTRL: <b>read-only</b>'")
    row(page, "CTRL").locator(".wb-val").click()
    page.keyboard.press("Enter")
    expect(page.locator(".wb-notice")).to_contain_text("bar0.CTRL: <b>read-only</b>")


def test_a_new_layout_replaces_the_rows_in_place(page):
    played.show(page)
    page.evaluate("""() => {
        const layout = structuredClone(played.layout);
        Object.assign(layout, {version: 2, name: "Blinker2", registers: layout.registers.slice(0, 3)});
        layout.registers[0].name = "CONTROL";
        played.layout = layout;
        played.set("device_layout", layout);
        played.flush([0, 1, 2]);
    }""")
    expect(page.locator(".wb-reg-register")).to_have_count(3)
    expect(row(page, "CONTROL").locator(".wb-val")).to_have_text("0x00000001")
    expect(page.locator(".wb-name")).to_have_text("Blinker2")


# -- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark", None])
def test_axe_finds_nothing_in_any_theme(page, theme):
    page.emulate_media(color_scheme="dark")
    played.show(page, theme=theme)
    state(
        page,
        notice="layout changed",
        errors=[{"name": "x.on_read", "count": 1, "text": "Error: no"}],
        flagged=2,
        dropped=3,
    )
    page.evaluate((importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text())
    found = {}
    for tab in ("Registers", "Memory"):
        page.get_by_role("tab", name=tab).click()
        found[tab] = page.evaluate(_AXE)
    assert found == {"Registers": [], "Memory": []}


def test_every_rule_of_the_style_sheets_is_scoped():
    for path in STATIC.glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        text = re.sub(r"@keyframes[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", text)
        for selectors in re.findall(r"([^{}]+)\{", text):
            if not selectors.strip().startswith("@"):
                assert all(".wb-live" in one for one in selectors.split(",")), (
                    f"{path.name}: {selectors.strip()}"
                )
