/**
 * Interrupts: one row for INTx and for every vector, what state it is in, and buttons to fire it by hand.
 *
 * A state is a word with a mark, never a colour alone. Rows are virtual: MSI-X may have 2,048.
 */
const irqView = (() => {
  const ROW = 30;
  const MOST_ROWS = 12; // shown without scrolling
  const INTX = 0;
  const HERTZ = 10;

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

  /** Accept 0.1 to 10,000 interrupts a second; null for anything else. @param {string} text */
  function parseHertz(text) {
    const hertz = Number(text);
    return text.trim() !== "" && hertz >= 0.1 && hertz <= 10000 ? hertz : null;
  }

  const keyOf = (line) => `${line.index}:${line.vector}`;

  class Interrupts {
    constructor(el, link, layout) {
      this.link = link;
      this.lines = [];
      this.repeat = {};
      this.wishes = {}; // hertz typed, by line
      this.counts = {};
      this.empty = h("p", { class: "wb-note" }, "This device has no interrupts: give it irq = wb.Interrupts(intx=True).");
      this.scroller = new Scroller({
        rowHeight: ROW, label: "Interrupt lines", head: this.#head(),
        create: () => this.#create(), fill: (row, index, fresh) => this.#fill(row, index, fresh),
      });
      this.scroller.el.classList.add("wb-irq");
      el.append(this.empty, this.scroller.el);
      this.layout(layout);
    }

    layout(layout) {
      const none = { armed: false, enabled: false, masked: false, asserted: false, pending: false, count: 0, last: 0 };
      this.#show((layout.irqs ?? []).map((line) => ({ ...none, ...line })));
    }

    update(name, json) {
      if (name !== "irq") return;
      this.repeat = json.repeat ?? {};
      this.#show(json.lines);
    }

    destroy() {
      this.scroller.destroy();
    }

    #show(lines) {
      this.lines = lines;
      this.empty.hidden = lines.length > 0;
      this.scroller.el.hidden = lines.length === 0;
      this.scroller.el.style.height = `${(Math.min(lines.length, MOST_ROWS) + 1) * ROW + 6}px`;
      if (this.scroller.count !== lines.length) this.scroller.setCount(lines.length);
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
      const line = this.lines[index];
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
      return this.lines[Number(el.closest("[data-index]").dataset.index)];
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
      if (hertz === null) this.link.say("a rate is 0.1 to 10,000 interrupts a second", "error");
      else this.link.attempt("repeat", { ...which, hertz });
    }
  }

  return {
    feeds: () => ({ irq: {} }),
    mount: (el, link, layout) => new Interrupts(el, link, layout),
    rowOf,
    parseHertz,
  };
})();
