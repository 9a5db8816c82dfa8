/**
 * DMA: what the guest mapped and how copies get there, how much was copied, and the last copies one by one.
 *
 * A guest may map 65,535 regions: only those on screen exist, and only they are asked of the kernel.
 */
const dmaView = (() => {
  const ROW = 22;
  const MOST_REGIONS = 8; // shown without scrolling
  const MOST_COPIES = 12;
  const WINDOW = 16; // regions asked for at once, and before and behind those on screen
  const MOST_LINES = 128; // of one answer
  const LAST = 100;
  const NONE = { count: 0, bytes: 0, refused: 0, rate: 0, speed: 0 };
  const WAYS = [["read", "dma_read", "from the guest"], ["write", "dma_write", "to the guest"]];
  const REGION_TITLES = ["IOVA from", "to", "size", "the device may", "reached"];
  const COPY_TITLES = ["ms", "direction", "IOVA", "bytes", "begins with", "by", "took", "marks"];
  const [, MS, KIND, ORIGIN, IOVA, SIZE, VALUE, LATENCY, MARKS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

  /** Reach: what stands there, what it means. */
  const REACHES = {
    mapped: ["✓ mapped", "the file is mapped here: a copy is a memcpy"],
    file: ["▤ file", "the file could shrink: a copy is a system call"],
    messages: ["✉ messages", "no file came with it: each copy asks the guest, which a hook cannot and dev.defer(fn) can"],
    private: ["! messages: private", "a file came, but the guest does not see what is in it (share=off): each copy asks the guest"],
  };
  const RIGHTS = { rw: "read and write", "r-": "read", "-w": "write", "--": "nothing" };

  /** "1.5 MiB", "12 KiB", "100 bytes": a size that need not be whole. @param {number} bytes */
  function roughSize(bytes) {
    const unit = ["bytes", "KiB", "MiB", "GiB", "TiB"].findIndex((_, n, all) => bytes < 1024 ** (n + 1) || n === all.length - 1);
    const shown = bytes / 1024 ** unit;
    return unit === 0 ? `${countText(bytes)} bytes` : `${shown < 10 ? shown.toFixed(1) : countText(Math.round(shown))} ${["", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  }

  /** The cells of a region as texts. @param {Array} region as in feed.py */
  function regionCells([iova, size, rights, reach, isPrivate]) {
    const [start, bytes] = [BigInt(iova), BigInt(size)];
    const [reached, title] = REACHES[isPrivate ? "private" : reach] ?? [reach, ""];
    const texts = [hexText(start, 40), hexText(start + bytes - 1n, 40), sizeText(bytes), RIGHTS[rights] ?? rights, reached];
    return { texts, title, warn: isPrivate };
  }

  /** The cells of a copy as texts. @param {Array} copy as in feed.py */
  function copyCells(copy) {
    const us = copy[LATENCY];
    const took = !us ? "" : us < 1 ? `${Math.round(us * 1000)} ns` : durationText(us);
    const way = WAYS.find(([, kind]) => kind === copy[KIND]);
    return [msText(copy[MS]), `${recordMarks.symbol(copy[KIND])} ${way?.[2] ?? copy[KIND]}`, copy[IOVA], countText(copy[SIZE]),
      copy[VALUE], copy[ORIGIN], took, copy[MARKS]];
  }

  class Dma {
    constructor(el, link) {
      this.el = el;
      this.link = link;
      this.regions = new Map(); // what the kernel told last, by row
      this.copies = [];
      this.state = { dma: { first: 0, count: 2 * WINDOW, last: LAST } };
      this.about = h("p", { class: "wb-note wb-dma-about", role: "status" });
      this.none = h("p", { class: "wb-note" }, "No guest memory is mapped now: a guest says which there is when it attaches.");
      this.list = this.#scroller("Regions that the guest mapped", REGION_TITLES, "wb-dma-region", {
        fill: (row, index) => this.#fillRegion(row, index), moved: (first, last) => this.#moved(first, last),
      });
      this.copied = this.#scroller("The last copies, newest first", COPY_TITLES, "wb-dma-copy", {
        fill: (row, index) => this.#fillCopy(row, index),
      });
      this.idle = h("p", { class: "wb-note" }, "Nothing was copied yet: dev.dma.read(iova, n) and dev.dma.write(iova, data) do it, in a hook or in a cell.");
      el.append(this.about, this.none, this.list.el, this.#counters(), this.idle, this.copied.el);
      el.classList.add("wb-dma-view");
      this.update("dma", { first: 0, total: 0, bytes: "0x0", master: null, regions: [], read: NONE, write: NONE, last: [] });
    }

    update(name, json) {
      if (name !== "dma") return;
      this.regions.clear(); // what is out of sight grows old
      json.regions.forEach((region, at) => this.regions.set(json.first + at, region));
      this.copies = json.last.slice().reverse();
      this.#tell(json);
      this.#measure(json.regions);
      this.#size(this.list, json.total, MOST_REGIONS);
      this.#size(this.copied, this.copies.length, MOST_COPIES);
      this.none.hidden = json.total > 0;
      this.idle.hidden = this.copies.length > 0;
    }

    layout() {}

    destroy() {
      this.list.destroy();
      this.copied.destroy();
    }

    #tell({ total, bytes, master, read, write }) {
      const known = total === 1 ? "1 region" : `${countText(total)} regions`;
      const may = master === null ? "" : master ? "✓ bus master is on" : "✕ bus master is off: the guest does not let the device copy";
      setText(this.about, [may, total ? `${known}, ${roughSize(Number(BigInt(bytes)))} mapped` : ""].filter(Boolean).join(" · "));
      setAttr(this.about, "data-tone", master === false && read.refused + write.refused ? "warn" : null);
      for (const [way] of WAYS) this.#count(way, { read, write }[way]);
    }

    #count(way, told) {
      const texts = [countText(told.count), roughSize(told.bytes), `${countText(told.rate)} a second`, `${roughSize(told.speed)}/s`,
        `${told.refused ? "! " : ""}${countText(told.refused)}`];
      this.cells[way].forEach((cell, at) => setText(cell, texts[at]));
      this.cells[way][4].classList.toggle("wb-warn", told.refused > 0);
    }

    #counters() {
      const titles = ["copies", "in all", "now", "", "refused"];
      this.cells = {};
      const rows = WAYS.map(([way, kind, words]) => {
        this.cells[way] = titles.map(() => h("td", { class: "wb-right" }));
        return h("tr", null, h("th", { scope: "row" }, `${recordMarks.symbol(kind)} ${words}`), this.cells[way]);
      });
      const head = titles.map((title) => (title || null) && h("th", { scope: "col", class: "wb-right", colspan: title === "now" ? "2" : null }, title));
      return h("div", { class: "wb-wide" }, h("table", { class: "wb-dma-counts" }, h("caption", { class: "wb-hidden" }, "What was copied"),
        h("thead", null, h("tr", null, h("td"), head)), h("tbody", null, rows)));
    }

    #scroller(label, titles, kind, options) {
      const head = h("div", { class: `wb-dma-row ${kind}`, role: "row" }, titles.map((title, at) => h("span", { role: "columnheader", class: `wb-dma-${at}` }, title)));
      const create = () => h("div", { class: `wb-dma-row ${kind}` }, titles.map((_, at) => h("span", { role: "gridcell", class: `wb-dma-${at}` })));
      const made = new Scroller({ rowHeight: ROW, label, head, create, ...options });
      made.el.classList.add("wb-dma");
      return made;
    }

    /** Columns of addresses are as wide as the widest that may come to be seen. */
    #measure(regions) {
      const digits = (texts) => Math.max(10, ...texts.map((text) => text.length));
      this.el.style.setProperty("--wb-copy", `${digits(this.copies.map((copy) => copy[IOVA]))}ch`);
      this.el.style.setProperty("--wb-iova", `${digits(regions.flatMap((region) => regionCells(region).texts.slice(0, 2)))}ch`);
    }

    #size(scroller, count, most) {
      scroller.el.hidden = count === 0;
      const height = `${(Math.min(count, most) + 1) * ROW + 6}px`;
      if (scroller.wbHeight !== height) scroller.el.style.height = scroller.wbHeight = height; // else a person's own would be undone
      if (scroller.count !== count) scroller.setCount(count);
      scroller.refresh();
    }

    /** Ask for the regions on screen and some around them. */
    #moved(first, last) {
      const start = Math.max(0, first - (first % WINDOW) - WINDOW);
      const count = Math.min(MOST_LINES, last - (last % WINDOW) + 2 * WINDOW - start);
      const wish = { first: start, count, last: LAST };
      if (this.list.count === 0 || JSON.stringify(wish) === JSON.stringify(this.state.dma)) return;
      this.state.dma = wish;
      this.link.want();
    }

    #fillRegion(row, index) {
      const region = this.regions.get(index);
      const { texts, title, warn } = region ? regionCells(region) : { texts: ["…", "", "", "", ""], title: "", warn: false };
      [...row.children].forEach((cell, at) => setText(cell, texts[at]));
      setAttr(row.lastChild, "title", title || null);
      row.classList.toggle("wb-flagged", warn);
    }

    #fillCopy(row, index) {
      const copy = this.copies[index];
      if (!copy) return;
      const texts = copyCells(copy);
      [...row.children].forEach((cell, at) => {
        setText(cell, texts[at]);
        setAttr(cell, "title", at === COPY_TITLES.length - 1 && texts[at] ? texts[at] : null);
      });
      row.classList.toggle("wb-flagged", Boolean(copy[MARKS]));
      row.dataset.kind = copy[KIND];
    }
  }

  return {
    feeds: (state) => ({ dma: state.dma ?? {} }),
    mount: (el, link) => new Dma(el, link),
    regionCells,
    copyCells,
    roughSize,
  };
})();
