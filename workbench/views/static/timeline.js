/**
 * The timeline: a lane for each register, one for each kind of other event, a mark for every record.
 *
 * The kernel sends the marks of the window and half a window on both sides, thinned to what pixels can show; while
 * following, the newest. timeline_canvas.js draws, timeline_input.js hears, scale.js calculates, marks.js has the shapes.
 */
const timelineView = (() => {
  const LANES = 16;
  const FOLLOWED = 10e9; // ns: what the kernel sends to a view that follows
  const ASK_MS = 150;
  const TELL_MS = 600;
  const VALUED = ["read", "write", "poke", "mmap", "dma_read", "dma_write"];
  const NONE = timeScale.decode(new DataView(new ArrayBuffer(0)), 0);

  class Timeline {
    constructor(el, link, layout, options) {
      this.link = link;
      this.state = { from: null, to: null, pixels: 900, lanes: options?.lanes ?? LANES };
      this.window = { from: 0, to: FOLLOWED };
      this.bounds = { from: 0, to: FOLLOWED };
      this.follow = true;
      this.marks = NONE;
      this.lanes = [];
      this.cursors = [null, null];
      this.active = 0;
      this.hover = -1;
      this.draw = oncePerFrame(() => this.#draw());
      this.drawTop = oncePerFrame(() => this.#drawTop());
      this.#build(el);
      this.canvas = new TimelineCanvas(this.stage);
      this.input = new TimelineInput(this, this.stage);
      this.stage.append(this.tip);
      this.watch = new ResizeObserver(() => this.#resized());
      this.watch.observe(this.stage);
      this.themes = new MutationObserver(() => this.draw());
      for (const node of [document.body, document.documentElement]) {
        this.themes.observe(node, { attributeFilter: ["class", "style", "data-jp-theme-light", "data-theme"] });
      }
    }

    update(name, json, buffers) {
      if (name !== "timeline") return;
      this.marks = timeScale.decode(dataView(buffers, json.buffer), json.count);
      this.lanes = json.lanes;
      this.thinned = json.thinned;
      this.bounds = { from: json.first, to: Math.max(json.last, json.first + 1) };
      if (this.follow) this.#followTo(this.state.from === null ? json.to : json.last);
      const { pointer, drag } = this.input;
      this.hover = pointer && !drag ? this.#hoverable(pointer.x, pointer.y) : -1; // other marks lie under it now
      this.draw();
    }

    layout() {}

    destroy() {
      this.watch.disconnect();
      this.themes.disconnect();
      this.draw.cancel();
      this.drawTop.cancel();
      clearTimeout(this.asking);
      clearTimeout(this.telling);
    }

    // -- verbs --

    /** Stretch the window `factor` times around the pixel `x`; that ends following. */
    zoomAt(factor, x) {
      this.#look(timeScale.zoom(this.window, factor, x, this.canvas.plot));
    }

    /** Stretch the window around its middle, or, while following, back from its end. */
    zoomBy(factor) {
      const { left, width } = this.canvas.plot;
      if (!this.follow) return this.zoomAt(factor, left + width / 2);
      this.window = timeScale.zoom(this.window, factor, left + width, this.canvas.plot);
      this.#followTo(this.window.to);
      return this.draw();
    }

    /** Move the window by a share of its length. */
    panBy(share) {
      this.#look(timeScale.pan(this.window, share * (this.window.to - this.window.from)));
    }

    showAll() {
      const margin = 0.03 * (this.bounds.to - this.bounds.from);
      this.#look({ from: this.bounds.from - margin, to: this.bounds.to + margin });
    }

    showBetween() {
      const [a, b] = this.cursors;
      if (a === null || b === null || a === b) return this.link.say("put both cursors first: click and Shift+click");
      const margin = 0.1 * Math.abs(a - b);
      return this.#look({ from: Math.min(a, b) - margin, to: Math.max(a, b) + margin });
    }

    setFollow(on) {
      this.follow = on;
      setAttr(this.following, "aria-pressed", String(on));
      if (on) this.#followTo(this.bounds.to);
      else this.#ask();
      this.draw();
    }

    setCursor(n, time) {
      this.cursors[n] = time;
      this.active = n;
      this.drawTop();
    }

    /** Take the active cursor to the next mark, into the window if need be. */
    stepCursor(direction) {
      const now = this.cursors[this.active] ?? (this.window.from + this.window.to) / 2;
      const time = timeScale.neighbour(this.marks, now, direction);
      this.setCursor(this.active, time);
      if (time < this.window.from || time > this.window.to) {
        this.#look(timeScale.pan(this.window, time - (this.window.from + this.window.to) / 2));
      }
    }

    clearCursors() {
      this.cursors = [null, null];
      this.drawTop();
    }

    /** The time at a pixel: that of the mark there, if there is one. */
    timeAt(x, y) {
      const found = y === undefined ? -1 : this.#markAt(x, y);
      return found < 0 ? timeScale.toTime(x, this.window, this.canvas.plot) : this.marks.time[found];
    }

    hoverAt(x, y) {
      const found = this.#hoverable(x, y);
      if (found === this.hover) return;
      this.hover = found;
      this.drawTop();
    }

    #hoverable(x, y) {
      return x < this.canvas.plot.left - 6 ? -1 : this.#markAt(x, y);
    }

    #markAt(x, y) {
      return timeScale.nearest(this.marks, x, y, this.window, this.canvas.plot, (lane, kind) => this.canvas.middle(lane, kind));
    }

    // -- what is wanted --

    #look(window) {
      this.window = window;
      if (this.follow) {
        this.follow = false;
        setAttr(this.following, "aria-pressed", "false");
      }
      this.#ask();
      this.draw();
    }

    #followTo(edge) {
      const span = this.window.to - this.window.from;
      this.window = { from: edge - span, to: edge };
      this.#ask();
    }

    /** Tell the kernel, soon: following 10 s is its own habit, any other window is asked for. */
    #ask() {
      this.asking ??= setTimeout(() => {
        this.asking = null;
        const { from, to } = this.window;
        const half = (to - from) / 2;
        const usual = this.follow && Math.abs(to - from - FOLLOWED) < 1e6;
        const range = usual ? { from: null, to: null } : { from: Math.max(0, Math.floor(from - half)), to: Math.max(1, Math.ceil(to + half)) };
        this.state = { ...this.state, ...range, pixels: Math.round(this.canvas.plot.width * (usual ? 1 : 2)) };
        this.link.want();
      }, ASK_MS);
    }

    #resized() {
      this.#ask();
      this.draw();
    }

    // -- the page --

    #build(el) {
      const about = uniqueId("timeline");
      this.stage = h("div", {
        class: "wb-timeline", tabindex: "0", role: "application", "aria-roledescription": "timeline", "aria-describedby": about,
        "aria-label": "Timeline: no records yet", "data-lm-suppress-shortcuts": "true",
      });
      this.tip = h("div", { class: "wb-timeline-tip", hidden: true, "aria-hidden": "true" });
      this.legend = h("div", { class: "wb-timeline-legend" });
      this.readout = h("span", { class: "wb-timeline-readout", role: "status" });
      this.note = h("span", { class: "wb-note" });
      this.table = h("div", { class: "wb-hidden" });
      const help = h("div", { class: "wb-note", id: about },
        "Wheel zooms, drag pans, click and Shift+click put cursors. Keys: + − zoom, ← → pan, 1 2 cursors, Shift+← → move one, N P next mark, F follow.");
      el.append(this.#bar(), this.legend, this.stage, h("div", { class: "wb-bar wb-timeline-foot" }, this.readout, this.note), help, this.table);
    }

    #bar() {
      this.following = h("button", { type: "button", class: "wb-btn", "aria-pressed": "true", onclick: () => this.setFollow(!this.follow) }, "Follow");
      const button = (label, shown, act) => iconButton(label, act, { shown });
      return h("div", { class: "wb-bar" }, this.following,
        button("Zoom in", "+", () => this.zoomBy(0.5)), button("Zoom out", "−", () => this.zoomBy(2)),
        button("Earlier", "◀", () => this.panBy(-0.25)), button("Later", "▶", () => this.panBy(0.25)),
        button("Show the whole log", "All", () => this.showAll()),
        button("Zoom to what lies between the cursors", "Between", () => this.showBetween()),
        button("Take the cursors away", "No cursors", () => this.clearCursors()));
    }

    #draw() {
      if (!this.stage.clientWidth) return;
      const started = performance.now();
      this.canvas.fit(this.lanes);
      this.canvas.drawBase(this);
      this.drawn = performance.now() - started; // ms; read by the tests
      this.#legend();
      this.#drawTop();
      this.telling ??= setTimeout(() => this.#tell(), TELL_MS);
    }

    #drawTop() {
      if (!this.canvas.look) return;
      this.canvas.drawTop(this);
      setText(this.readout, this.#cursorText());
      this.#showTip();
    }

    #markText(n) {
      const kind = recordMarks.kind(this.marks.kind[n]);
      const value = VALUED.includes(kind.name) ? ` 0x${this.marks.value[n].toString(16)}` : "";
      const flagged = this.marks.flags[n] & 1 ? " ! flagged" : "";
      return `${this.lanes[this.marks.lane[n]]}: ${kind.symbol} ${kind.label}${value}${flagged}`;
    }

    #cursorText() {
      const pixel = (this.window.to - this.window.from) / this.canvas.plot.width;
      const said = this.cursors.map((time, n) => {
        if (time === null) return null;
        const mark = this.marks.time.indexOf(time);
        return `${n + 1} at ${timeScale.timeText(time, Math.max(1, pixel / 10))}${mark < 0 ? "" : ` (${this.#markText(mark)})`}`;
      }).filter(Boolean);
      const [a, b] = this.cursors;
      if (a !== null && b !== null) said.push(`Δt ${timeScale.duration(Math.abs(b - a))}`);
      return said.join(" · ");
    }

    #showTip() {
      this.tip.hidden = this.hover < 0;
      if (this.hover < 0) return;
      const time = this.marks.time[this.hover];
      setText(this.tip, `${this.#markText(this.hover)}\n${timeScale.timeText(time, 1)}`);
      const x = timeScale.toX(time, this.window, this.canvas.plot);
      const y = this.canvas.middle(this.marks.lane[this.hover], this.marks.kind[this.hover]);
      const flip = x > this.canvas.width * 0.6;
      this.tip.style.transform = `translate(${Math.round(flip ? x - 12 : x + 12)}px, ${Math.round(y + 10)}px)${flip ? " translateX(-100%)" : ""}`;
    }

    #legend() {
      const kinds = [...new Set(this.marks.kind)].sort((a, b) => a - b);
      const flagged = this.marks.flags.some((flags) => flags & 1);
      const wish = `${kinds.join()} ${flagged} ${this.canvas.look}`;
      if (wish === this.legended) return;
      this.legended = wish;
      const entries = kinds.map((kind) => this.#legendEntry(recordMarks.kind(kind).label, (context) => {
        recordMarks.trace(context, kind, 9, 9);
        recordMarks.paint(context, kind, this.canvas.ink, "");
      }));
      if (flagged) {
        entries.push(this.#legendEntry("flagged", (context) => {
          recordMarks.traceRing(context, 9, 9);
          recordMarks.paintRing(context);
        }));
      }
      this.legend.replaceChildren(...entries);
    }

    #legendEntry(label, draw) {
      const { ratio } = this.canvas;
      const picture = h("canvas", { width: 18 * ratio, height: 18 * ratio, style: { width: "18px", height: "18px" }, "aria-hidden": "true" });
      const context = picture.getContext("2d");
      context.scale(ratio, ratio);
      context.beginPath();
      draw(context);
      return h("span", null, picture, label);
    }

    /** In words, for those who do not see the canvas: a summary, and the counts of each lane. */
    #tell() {
      this.telling = null;
      const { from, to } = this.window;
      const found = timeScale.counts(this.marks, this.window);
      const total = [...found.values()].reduce((sum, kinds) => sum + [...kinds.values()].reduce((a, b) => a + b, 0), 0);
      const step = (to - from) / 1000;
      const span = `${timeScale.timeText(from, step)} to ${timeScale.timeText(to, step)}`;
      setText(this.note, `${countText(total)} marks${this.thinned ? ", thinned to what pixels can show" : ""}`);
      setAttr(this.stage, "aria-label", `Timeline: ${this.lanes.length} lanes, ${span}, ${total} marks${this.follow ? ", following" : ""}`);
      this.#tellCounts(found);
    }

    #tellCounts(found) {
      const kinds = [...new Set([...found.values()].flatMap((lane) => [...lane.keys()]))].sort((a, b) => a - b);
      const head = h("tr", null, h("th", { scope: "col" }, "lane"), kinds.map((kind) => h("th", { scope: "col" }, recordMarks.kind(kind).label)));
      const rows = [...found].sort((a, b) => a[0] - b[0]).map(([lane, counted]) =>
        h("tr", null, h("th", { scope: "row" }, this.lanes[lane]), kinds.map((kind) => h("td", null, counted.get(kind) ?? 0))));
      this.table.replaceChildren(h("table", null, h("caption", null, "Marks in the window, by lane"), h("thead", null, head), h("tbody", null, rows)));
    }
  }

  return {
    feeds: (state) => ({ timeline: state }),
    mount: (el, link, layout, options) => new Timeline(el, link, layout, options),
  };
})();
