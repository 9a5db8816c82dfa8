/**
 * The access log: newest rows live, or held while one reads; filtered by the kernel over all of history.
 *
 * Live, the list ends with the newest row. Scrolling up holds it and asks for older rows, page by page, `before`
 * the oldest one here. An unfolded row is followed by its lines (changes, traceback) as rows of their own, so that
 * every row of the virtual list has one height.
 */
const logView = (() => {
  const ROW = 22;
  const PAGE = 200;
  const LIVE = 2000; // rows kept while live
  const HELD = 50000; // and while reading back
  const TOUCH_MS = 1500; // a move so soon after a wheel, key or press is a person's
  const TITLES = ["ms", "origin", "kind", "register", "value", "what changed", "hook", "latency", "marks"];
  const [SEQ, MS, ORIGIN, KIND, REGISTER, VALUE, TEXT, LATENCY, REVISION, MARKS, TRACE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

  /** Quick buttons: label, group, expression. Those of one group are alternatives. */
  const QUICK = [
    ["reads", "kind", "kind == read"], ["writes", "kind", "kind == write"], ["pokes", "kind", "kind == poke"],
    ["interrupts", "kind", "kind == irq"], ["DMA", "kind", "kind == dma_read || kind == dma_write"],
    ["hook swaps", "kind", "kind == swap"],
    ["guest", "origin", "origin == guest"], ["notebook", "origin", "origin == notebook"], ["device", "origin", "origin == device"],
    ["flagged", "flag", "flagged"],
  ];

  /** One expression of the typed text and the pressed quick buttons. @param {string} text @param {Set<string>} pressed labels */
  function expression(text, pressed) {
    const groups = new Map();
    for (const [label, group, term] of QUICK) {
      if (pressed.has(label)) groups.set(group, [...(groups.get(group) ?? []), term]);
    }
    const parts = [...groups.values()].map((terms) => terms.join(" || "));
    if (text.trim()) parts.push(text.trim());
    return parts.length === 1 ? parts[0] : parts.map((part) => `(${part})`).join(" && ");
  }

  /** The cells of a record as texts, in the order of TITLES. @param {Array} row as in feed.py */
  function cells(row) {
    const ms = msText(row[MS]);
    const us = row[LATENCY];
    const latency = !us ? "" : us < 1 ? `${Math.round(us * 1000)} ns` : durationText(us);
    return [ms, row[ORIGIN], `${recordMarks.symbol(row[KIND])} ${row[KIND]}`, row[REGISTER], row[VALUE] ?? "", row[TEXT],
      row[REVISION] ? `rev ${row[REVISION]}` : "", latency, row[MARKS] ?? ""];
  }

  /** Put a frame's newest rows after those that are here; start anew where records in between are missing. */
  function merge(rows, fresh, more) {
    if (!rows.length || !fresh.length) return fresh.length ? fresh.slice() : [];
    const last = Math.max(...rows.slice(-PAGE).map((row) => row[SEQ])); // rows stand in order of time, not of number
    const known = new Set(rows.slice(-PAGE * 2).map((row) => row[SEQ]));
    const added = fresh.filter((row) => !known.has(row[SEQ]));
    const joined = added.length < fresh.length || added.length === more || added[0][SEQ] === last + 1;
    return joined ? rows.concat(added).slice(-LIVE) : fresh.slice();
  }

  /** The list as it is shown: [row, null] for a record, [row, line] for each unfolded line under it. */
  function unfold(rows, opened, linesOf) {
    if (!opened.size) return rows.map((row) => [row, null]);
    return rows.flatMap((row) => [[row, null], ...(opened.has(row[SEQ]) ? linesOf(row).map((line) => [row, line]) : [])]);
  }

  class Log {
    constructor(el, link, layout, options) {
      this.link = link;
      this.rows = [];
      this.items = [];
      this.opened = new Set();
      this.pressed = new Set();
      this.held = ""; // "": live; "button" or "scroll": what holds it
      this.felt = false; // whether nothing was drawn since
      this.touched = -Infinity; // a page that is younger than TOUCH_MS was not touched either
      this.missed = null; // the newest frame that came while the log was held
      this.matching = 0;
      this.widest = 11; // characters
      this.state = { filter: options?.filter ?? "", before: null, rows: PAGE, paused: false };
      this.scroller = this.#list();
      el.append(this.#bar(), this.error, this.#quick(), this.scroller.el, this.#foot());
      this.input.value = this.state.filter;
    }

    update(name, json) {
      if (name === "state") return this.#told(json);
      if (name !== "log") return undefined;
      // A frame that was on its way when the wish changed is not what is wanted now.
      if (json.filter !== this.state.filter.trim() || json.before !== this.state.before) return undefined;
      this.#counts(json);
      if (json.before !== null) return this.#older(json.rows);
      if (this.held && this.rows.length) return void (this.missed = json);
      const kept = json.matching < this.matching ? [] : this.rows; // fewer: the log was cleared
      this.rows = merge(kept, json.rows, json.matching - this.matching);
      this.matching = json.matching;
      this.#widen(json.rows);
      this.#shape();
      return this.scroller.toEnd();
    }

    layout() {}

    /** The column of values is as wide as the widest that was seen: it never jumps back. */
    #widen(rows) {
      this.widest = Math.min(19, rows.reduce((most, row) => Math.max(most, (row[VALUE] ?? "").length + 1), this.widest));
      this.scroller.el.style.setProperty("--wb-values", `${this.widest}ch`);
    }

    destroy() {
      clearTimeout(this.typing);
      this.scroller.destroy();
    }

    #bar() {
      const error = uniqueId("filter-error");
      this.hold = h("button", { type: "button", class: "wb-btn", "aria-pressed": "false", onclick: () => this.#toggle() }, "❚❚ Pause");
      this.input = h("input", {
        class: "wb-log-filter", type: "search", "aria-label": "Filter expression", "aria-describedby": error, spellcheck: "false",
        placeholder: "reg == CTRL && op == w && value & 1", oninput: () => this.#typed(300),
        onkeydown: (event) => void (event.key === "Enter" && this.#typed(0)), // false would swallow the key
      });
      this.error = h("div", { id: error, class: "wb-error", role: "alert", hidden: true });
      const csv = iconButton("Copy the matching records as CSV", () => this.#csv(), { shown: "Copy CSV" });
      const clear = iconButton("Begin anew: older records are no longer shown", () => this.link.attempt("clear").then(() => this.#cleared()), { shown: "Clear" });
      return h("div", { class: "wb-bar" }, this.hold, this.input, csv, clear);
    }

    #quick() {
      const buttons = QUICK.map(([label]) => h("button", {
        type: "button", class: "wb-quick", "aria-pressed": "false", onclick: (event) => this.#press(event.target, label),
      }, label));
      return h("div", { class: "wb-bar wb-log-quick", role: "group", "aria-label": "Show only" }, buttons);
    }

    #foot() {
      this.total = h("span", null, "no records yet");
      this.match = h("span", null);
      this.dropped = h("span", null, "0 dropped");
      this.where = h("span", { class: "wb-note", role: "status" });
      return h("div", { class: "wb-bar wb-log-foot" }, this.total, this.match, this.dropped, this.where);
    }

    #list() {
      const head = h("div", { class: "wb-log-row", role: "row" }, TITLES.map((title, at) => h("span", { role: "columnheader", class: `wb-log-${at}` }, title)));
      const scroller = new Scroller({
        rowHeight: ROW, label: "Access log", head, height: 380,
        create: () => h("div", { class: "wb-log-row" }, TITLES.map((_, at) => h("span", { role: "gridcell", class: `wb-log-${at}` }))),
        fill: (el, index) => this.#fill(el, index),
        enter: (index) => this.#open(index),
        moved: (first) => this.#moved(first),
      });
      scroller.el.classList.add("wb-log");
      for (const type of ["wheel", "pointerdown", "keydown", "touchmove"]) {
        scroller.el.addEventListener(type, () => (this.felt = true), { passive: true, capture: true });
      }
      scroller.el.addEventListener("dblclick", (event) => {
        const row = event.target.closest("[data-index]");
        if (row) this.#open(Number(row.dataset.index));
      });
      return scroller;
    }

    #fill(el, index) {
      const [row, line] = this.items[index] ?? [];
      if (!row) return;
      const texts = line === null ? cells(row) : ["", "", "", line, "", "", "", "", ""];
      [...el.children].forEach((cell, at) => {
        if (at < TITLES.length - 1 || line !== null) setText(cell, texts[at]);
        setAttr(cell, "title", line === null && texts[at].length > 14 ? texts[at] : null);
      });
      el.classList.toggle("wb-log-line", line !== null);
      el.classList.toggle("wb-flagged", line === null && Boolean(row[MARKS]));
      el.dataset.kind = row[KIND];
      el.dataset.origin = row[ORIGIN];
      if (line === null) this.#fillMarks(el.lastChild, row, index);
    }

    /** The last cell: what is wrong; with a traceback it is a button that unfolds it. */
    #fillMarks(cell, row) {
      if (!row[TRACE]) return setText(cell, row[MARKS]);
      const opened = this.opened.has(row[SEQ]);
      const text = `${opened ? "▾" : "▸"} ${row[MARKS] || "! error"}`;
      const known = cell.querySelector("button");
      if (known) {
        setAttr(known, "aria-expanded", String(opened));
        return setText(known, text);
      }
      return cell.replaceChildren(h("button", {
        type: "button", class: "wb-link", tabindex: "-1", dataset: { go: "" }, "aria-label": "Show the traceback", "aria-expanded": String(opened),
        onclick: (event) => this.#open(Number(event.target.closest("[data-index]").dataset.index)),
      }, text));
    }

    #open(index) {
      const [row] = this.items[index] ?? [];
      if (!row) return false;
      if (!this.opened.delete(row[SEQ])) this.opened.add(row[SEQ]);
      if (!this.held) this.#hold("button");
      this.#shape();
      if (this.opened.has(row[SEQ])) this.scroller.show(Math.min(index + this.#linesOf(row).length, this.items.length - 1));
      return true;
    }

    /** What stands under an unfolded record: its changes one by one, and the traceback. */
    #linesOf(row) {
      const fault = row[TRACE] && faultOf(this.link.state, row[TRACE], row[REVISION]);
      const trace = fault ? [`${fault.name} raised ${fault.count} time${fault.count === 1 ? "" : "s"}; the last:`, ...fault.text.trimEnd().split("\n")] : [];
      return [`record ${row[SEQ]}`, ...row[TEXT].split(/ {2,}/).filter(Boolean), ...trace];
    }

    #shape() {
      this.items = unfold(this.rows, this.opened, (row) => this.#linesOf(row));
      this.scroller.setCount(this.items.length);
    }

    /** The counts of the feed `state` go on while the log is held. */
    #told({ total, dropped }) {
      setText(this.total, total ? `${countText(total)} records` : "no records yet");
      setText(this.dropped, `${dropped ? "! " : ""}${countText(dropped)} dropped`);
      this.dropped.classList.toggle("wb-warn", dropped > 0);
      if (this.opened.size) this.#shape();
    }

    #counts(json) {
      this.#told(json);
      setText(this.match, json.filter && !json.error ? `${countText(json.matching)} match` : "");
      setText(this.error, json.error ?? "");
      this.error.hidden = !json.error;
      setAttr(this.input, "aria-invalid", json.error ? "true" : null);
    }

    // -- holding and reading back --

    #toggle() {
      if (this.held) this.#live();
      else this.#hold("button");
    }

    #hold(how) {
      this.held = how;
      this.#wish({ paused: true });
      setText(this.hold, "▶ Live");
      setAttr(this.hold, "aria-pressed", "true");
      setText(this.where, how === "scroll" ? "held while you read; go to the end to follow again" : "paused; scroll up for older records");
    }

    #live() {
      this.held = "";
      this.opened.clear();
      this.exhausted = false;
      // Held for less than a wish takes to be sent, nothing is told anew: go on with what is here and what came.
      this.#wish({ paused: false, before: null });
      this.#shape();
      const missed = this.missed;
      this.missed = null;
      if (missed) this.update("log", missed);
      setText(this.hold, "❚❚ Pause");
      setAttr(this.hold, "aria-pressed", "false");
      setText(this.where, "");
    }

    #cleared() {
      this.#anew();
      this.#live();
    }

    #moved(first) {
      // At the top the wheel waits for older rows instead of scrolling the page away.
      this.scroller.el.classList.toggle("wb-more", !this.exhausted && this.rows.length >= PAGE);
      if (this.felt) this.touched = performance.now(); // counted from the first drawing after it, however late that is
      this.felt = false;
      const byHand = performance.now() - this.touched < TOUCH_MS;
      const atEnd = this.scroller.atEnd();
      if (!this.held && !atEnd && byHand) this.#hold("scroll");
      else if (!this.held && !atEnd) this.scroller.toEnd();
      else if (this.held === "scroll" && atEnd && byHand && !this.opened.size) this.#live();
      const more = this.held && first < PAGE * 0.75 && !this.exhausted && this.state.before === null;
      if (more && this.rows.length && this.rows.length < HELD) this.#wish({ before: Math.min(...this.rows.slice(0, PAGE).map((row) => row[SEQ])) });
    }

    /** A page of older rows arrived: put it on top without moving what is in the window. */
    #older(page) {
      this.exhausted = page.length === 0;
      const height = this.scroller.position;
      const count = this.items.length;
      this.rows = page.concat(this.rows);
      this.#shape();
      this.scroller.moveTo(height + (this.items.length - count) * ROW);
      this.state = { ...this.state, before: null };
      if (this.exhausted) setText(this.where, "the oldest record that is kept is on top");
    }

    // -- the wish --

    #wish(change) {
      Object.assign(this.state, change);
      this.link.want();
    }

    #anew() {
      this.exhausted = false;
      this.missed = null;
      this.rows = [];
      this.#wish({ before: null });
      this.#shape();
    }

    #typed(delay) {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.#filter(), delay);
    }

    #press(button, label) {
      if (!this.pressed.delete(label)) this.pressed.add(label);
      setAttr(button, "aria-pressed", String(this.pressed.has(label)));
      this.#filter();
    }

    #filter() {
      const filter = expression(this.input.value, this.pressed);
      if (filter === this.state.filter) return;
      this.#wish({ filter });
      this.#anew();
    }

    async #csv() {
      const text = await this.link.attempt("csv", { filter: this.state.filter });
      if (text === null) return;
      const done = await copyText(text);
      const rows = Math.max(0, text.trim().split("\n").length - 1);
      this.link.say(done ? `${countText(rows)} records copied as CSV` : "the browser refused the clipboard", done ? "info" : "error");
    }
  }

  return {
    feeds: (state) => ({ log: state ?? { filter: "", before: null, rows: PAGE, paused: false }, state: {} }),
    mount: (el, link, layout, options) => new Log(el, link, layout, options),
    expression,
    quick: QUICK,
    merge,
    unfold,
    cells,
  };
})();
