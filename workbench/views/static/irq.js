/**
 * Interrupts: one row for INTx and for every vector, what state it is in, and buttons to fire it by hand.
 *
 * A state is a word with a mark, never a colour alone. MSI-X may have 2,048 vectors: only the rows on screen exist,
 * and only they are asked of the kernel.
 */
const irqView = (() => {
  const ROW = 30;
  const MOST_ROWS = 12; // shown without scrolling
  const INTX = 0;
  const HERTZ = 10;
  const FASTEST = 1000; // as in repeat.py
  const WINDOW = 16; // lines asked for at once, and before and behind those on screen
  const MOST_LINES = 128; // of one answer
  const NONE = { armed: false, enabled: false, masked: false, asserted: false, pending: false, count: 0, last: 0 };

  /** Property of a line, title, what it means. */
  const STATES = [
    ["armed", "armed", "the client gave a way to deliver it"],
    ["enabled", "enabled", "the guest enabled it in the config space"],
    ["masked", "masked", "the guest holds it back"],
    ["asserted", "asserted", "the line is high now (INTx)"],
    ["pending", "pending", "it happened, and waits for the guest to unmask it"],
  ];

  /** What a row shows, as plain data. @param {Object} line a line of the feed @param {number} hertz of its repetition, 0 if none */
  function rowOf(line, hertz) {
    const states = STATES.map(([key]) => (line[key] ? "✓ yes" : "– no"));
    const last = line.last ? timeScale.timeText(line.last, line.last < 1e9 ? 1e3 : 1e6) : "never";
    return { name: line.name, states, count: countText(line.count), last, intx: line.index === INTX, asserted: line.asserted, hertz };
  }

  /** Accept 0.1 to 1,000 interrupts a second, as many as the kernel makes; null for anything else. @param {string} text */
  function parseHertz(text) {
    const hertz = Number(text);
    return text.trim() !== "" && hertz >= 0.1 && hertz <= FASTEST ? hertz : null;
  }

  /** The lines of a layout's kinds, as far as it tells: [index, vector, name] of row `row`, or null. */
  function lineOf(kinds, row) {
    for (const { index, name, count } of kinds) {
      if (row < count) return { ...NONE, index, vector: row, name: index === INTX ? name : `${name}[${row}]` };
      row -= count;
    }
    return null;
  }

  const keyOf = (line) => `${line.index}:${line.vector}`;

  class Interrupts {
    constructor(el, link, layout) {
      this.link = link;
      this.lines = new Map(); // what the kernel told last, by row
      this.kinds = [];
      this.state = { irq: {} };
      this.repeat = {};
      this.wishes = {}; // hertz typed, by line
      this.counts = {};
      this.empty = h("p", { class: "wb-note" }, "This device has no interrupts: give it irq = wb.Interrupts(intx=True).");
      this.scroller = new Scroller({
        rowHeight: ROW, label: "Interrupt lines", head: this.#head(),
        create: () => this.#create(), fill: (row, index, fresh) => this.#fill(row, index, fresh),
        moved: (first, last) => this.#moved(first, last),
      });
      this.scroller.el.classList.add("wb-irq");
      el.append(this.empty, this.scroller.el);
      this.layout(layout);
    }

    layout(layout) {
      this.kinds = layout.irqs ?? [];
      this.lines.clear();
      this.#show(this.kinds.reduce((sum, { count }) => sum + count, 0));
    }

    update(name, json) {
      if (name !== "irq") return;
      this.repeat = json.repeat ?? {};
      this.lines.clear(); // what is out of sight grows old
      json.lines.forEach((line, at) => this.lines.set((json.first ?? 0) + at, line));
      this.#show(json.total);
    }

    /** Ask for the lines on screen and some around them. */
    #moved(first, last) {
      const start = Math.max(0, first - (first % WINDOW) - WINDOW);
      const count = Math.min(MOST_LINES, last - (last % WINDOW) + 2 * WINDOW - start);
      const wish = { first: start, count };
      if (this.scroller.count === 0 || JSON.stringify(wish) === JSON.stringify(this.state.irq)) return;
      this.state.irq = wish;
      this.link.want();
    }

    #line(row) {
      return this.lines.get(row) ?? lineOf(this.kinds, row) ?? { ...NONE, index: -1, vector: row, name: "…" };
    }

    destroy() {
      this.scroller.destroy();
    }

    #show(total) {
      this.empty.hidden = total > 0;
      this.scroller.el.hidden = total === 0;
      this.scroller.el.style.height = `${(Math.min(total, MOST_ROWS) + 1) * ROW + 6}px`;
      if (this.scroller.count !== total) this.scroller.setCount(total);
      this.scroller.refresh();
    }

    #head() {
      const titles = STATES.map(([, title, meaning]) => h("span", { role: "columnheader", title: meaning }, title));
      const cell = (text, extra = "") => h("span", { role: "columnheader", class: extra }, text);
      return h("div", { class: "wb-irq-row", role: "row" }, cell("line"), titles, cell("count", "wb-right"), cell("last", "wb-right"),
        cell("by hand"), cell("repeat"));
    }

    #create() {
      const cells = ["name", ...STATES.map(([key]) => key), "count", "last"].map((key) =>
        h("span", { role: "gridcell", class: `wb-irq-${key} ${key === "count" || key === "last" ? "wb-right" : ""}`, dataset: { cell: key } }));
      const hand = h("span", { role: "gridcell", class: "wb-irq-hand" },
        this.#button("trigger", "Trigger"), this.#button("level", "Assert"));
      const hertz = h("input", {
        class: "wb-irq-hertz", inputmode: "decimal", dataset: { go: "", act: "hertz" }, value: String(HERTZ), tabindex: "-1",
        oninput: (event) => this.#wished(event.target),
        onkeydown: (event) => void (event.key === "Enter" && this.#act(event.target, "repeat")), // false would swallow the key
      });
      const repeat = h("span", { role: "gridcell", class: "wb-irq-repeat" }, hertz, h("span", null, " Hz "), this.#button("repeat", "Start"));
      return h("div", { class: "wb-irq-row" }, cells, hand, repeat);
    }

    #button(act, shown) {
      return h("button", {
        type: "button", class: "wb-btn", tabindex: "-1", dataset: { go: "", act }, onclick: (event) => this.#act(event.target, act),
      }, shown);
    }

    #fill(row, index, fresh) {
      const line = this.#line(index);
      const data = rowOf(line, this.repeat[keyOf(line)] ?? 0);
      const cell = (key) => row.querySelector(`[data-cell="${key}"]`);
      setText(cell("name"), data.name);
      STATES.forEach(([key], at) => {
        setText(cell(key), data.states[at]);
        cell(key).classList.toggle("wb-on", Boolean(line[key]));
      });
      setText(cell("count"), data.count);
      setText(cell("last"), data.last);
      const counted = this.counts[keyOf(line)];
      if (counted !== undefined && counted !== line.count && !fresh) flash(cell("count"));
      this.counts[keyOf(line)] = line.count;
      this.#fillControls(row, line, data, fresh);
    }

    #fillControls(row, line, data, fresh) {
      const control = (act) => row.querySelector(`[data-act="${act}"]`);
      setAttr(control("trigger"), "aria-label", `Trigger ${data.name}`);
      control("level").hidden = !data.intx;
      setText(control("level"), data.asserted ? "Deassert" : "Assert");
      setAttr(control("level"), "aria-label", `${data.asserted ? "Deassert" : "Assert"} ${data.name}`);
      setText(control("repeat"), data.hertz ? "■ Stop" : "Start");
      setAttr(control("repeat"), "aria-label", data.hertz ? `Stop repeating ${data.name}` : `Repeat ${data.name}`);
      control("repeat").classList.toggle("wb-on", Boolean(data.hertz));
      const input = control("hertz");
      setAttr(input, "aria-label", `Rate of ${data.name}, interrupts a second`);
      input.disabled = Boolean(data.hertz);
      if (data.hertz) input.value = String(data.hertz);
      else if (fresh) input.value = this.wishes[keyOf(line)] ?? String(HERTZ);
    }

    #lineAt(el) {
      return this.#line(Number(el.closest("[data-index]").dataset.index));
    }

    #wished(input) {
      this.wishes[keyOf(this.#lineAt(input))] = input.value;
      setAttr(input, "aria-invalid", parseHertz(input.value) === null ? "true" : null);
    }

    #act(el, act) {
      const line = this.#lineAt(el);
      const which = { index: line.index, vector: line.vector };
      if (act === "trigger") this.link.attempt("trigger", which);
      else if (act === "level") this.link.attempt("level", { on: !line.asserted });
      else if (this.repeat[keyOf(line)]) this.link.attempt("repeat", { ...which, hertz: 0 });
      else this.#start(el, which);
    }

    #start(el, which) {
      const hertz = parseHertz(el.closest("[data-index]").querySelector('[data-act="hertz"]').value);
      if (hertz === null) this.link.say(`a rate is 0.1 to ${countText(FASTEST)} interrupts a second`, "error");
      else this.link.attempt("repeat", { ...which, hertz });
    }
  }

  return {
    feeds: (state) => ({ irq: state.irq ?? {} }),
    mount: (el, link, layout) => new Interrupts(el, link, layout),
    rowOf,
    parseHertz,
  };
})();
