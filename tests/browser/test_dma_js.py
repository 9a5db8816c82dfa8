"""DMA in a browser: what is mapped and how it is reached, what was copied, and the last copies."""

from playwright.sync_api import Page, expect
from views_kit import Shower, settled, wish

GRID = "Regions that the guest mapped"
COPIES = "The last copies, newest first"


def cells(page: Page, grid: str, row: int) -> list[str]:
    rows = page.get_by_role("grid", name=grid).locator(".wb-scroll-row")
    return rows.nth(row).get_by_role("gridcell").all_inner_texts()


def test_regions_say_where_they_are_and_how_they_are_reached(opened: Shower) -> None:
    page = opened("dma")
    expect(page.get_by_role("grid", name=GRID)).to_have_attribute("aria-rowcount", "4")
    rows = [cells(page, GRID, n) for n in range(4)]
    assert rows[0] == ["0x0000000000", "0x000009ffff", "640 KiB", "read and write", "✓ mapped"]
    assert rows[1][3:] == ["read", "▤ file"]
    assert rows[2][2:] == ["255 MiB", "read and write", "! messages: private"]
    assert rows[3] == [
        "0xfffff00000000000", "0xffffffffffffffff", "16 TiB", "read and write", "✉ messages",
    ]  # fmt: skip
    expect(page.locator(".wb-dma-about")).to_have_text("✓ bus master is on · 4 regions, 16 TiB mapped")
    page.evaluate("played.master = false; played.flush([])")
    expect(page.locator(".wb-dma-about")).to_contain_text("✕ bus master is off")


def test_copies_are_counted_each_way(opened: Shower) -> None:
    page = opened("dma")
    table = page.get_by_role("table", name="What was copied")
    into = table.get_by_role("row").filter(has_text="from the guest").get_by_role("cell")
    expect(into).to_have_text(["1.23 M", "3.0 MiB", "812 a second", "1.5 KiB/s", "0"])
    back = table.get_by_role("row").filter(has_text="to the guest").get_by_role("cell")
    expect(back).to_have_text(["7", "100 bytes", "0 a second", "0 bytes/s", "! 2"])


def test_the_last_copies_are_told_newest_first(opened: Shower) -> None:
    page = opened("dma")
    expect(page.get_by_role("grid", name=COPIES)).to_have_attribute("aria-rowcount", "3")
    assert cells(page, COPIES, 0) == [
        "43.400000", "▶ to the guest", "0xdead0000", "64", "", "device", "", "! refused: not mapped (EFAULT)",
    ]  # fmt: skip
    assert cells(page, COPIES, 1)[-2:] == ["50 ns", ""]
    assert cells(page, COPIES, 2)[1:5] == ["◀ from the guest", "0x1000", "4,096", "0x1122334455667788"]
    page.evaluate(
        "played.copies.push([99, 1, 'dma_read', 'device', '0x0', 4, '0x00000001', 1, '']); played.flush([])"
    )
    expect(page.get_by_role("grid", name=COPIES).locator(".wb-scroll-row").first).to_contain_text(
        "0x00000001"
    )


def test_without_memory_and_copies_it_says_so(opened: Shower) -> None:
    page = opened("dma")
    page.evaluate("played.regions = []; played.copies = []; played.flush([])")
    expect(page.get_by_text("No guest memory is mapped now")).to_be_visible()
    expect(page.get_by_text("Nothing was copied yet")).to_be_visible()
    assert page.get_by_role("grid").count() == 0


def test_of_sixty_thousand_regions_only_those_on_screen_exist(opened: Shower) -> None:
    page = opened("dma")
    page.evaluate("""() => {
        const one = (n) => [`0x${(n * 8192).toString(16)}`, "0x1000", "rw", "mapped", false];
        played.regions = Array.from({length: 65535}, (_, n) => one(n));
        played.flush([]);
    }""")
    grid = page.get_by_role("grid", name=GRID)
    expect(grid).to_have_attribute("aria-rowcount", "65535")
    grid.focus()
    page.keyboard.press("End")
    expect(grid).to_contain_text("0x001fffc000")
    assert wish(page, "dma")["count"] <= 128
    assert grid.locator(".wb-scroll-row").count() < 40
    settled(page)


def test_sizes_are_short(shared: Page) -> None:
    sizes = [0, 1023, 1024, 10 * 1024 + 1, 5 << 20, 3 << 40, 1 << 62]
    said = shared.evaluate("(sizes) => sizes.map((size) => parts.dmaView.roughSize(size))", sizes)
    assert said == ["0 bytes", "1,023 bytes", "1.0 KiB", "10 KiB", "5.0 MiB", "3.0 TiB", "4.19 M TiB"]
