/**
 * Scroller: a list of any length of which only the visible rows exist. Rows have one fixed height. Browsers refuse
 * elements above some 16 million pixels: a longer list gets a shorter scroll bar, and the wheel still moves by rows.
 *
 * It is a grid to assistive technology: arrow keys, Page Up and Down, Home and End move the active row, Enter goes into
 * it (its first `[data-go]` control), Left and Right move between controls, Escape comes back out. Give controls in
 * rows `data-go` and `tabindex="-1"`; give rows' children role="gridcell" (or wrap them).
 */

const SCROLLER_MAX_PX = 8000000;
const SCROLLER_SPARE = 6; // rows drawn above and below the window

class Scroller {
  /**
   * @param {{rowHeight: number, label: string, create: function(): HTMLElement, fill: function(HTMLElement, number),
   *   count?: number, height?: number, columns?: number, moved?: function(number, number), enter?: function(number, HTMLElement): boolean,
   *   key?: function(KeyboardEvent, number): boolean, head?: HTMLElement}} options
   *   `create` makes a row's element; `fill(row, index)` writes a row into it; `moved(first, last)` tells the visible rows;
   *   `enter(index, row)` and `key(event, index)` return true when they handled it; `head`: a sticky header row (role=row).
   */
  constructor(options) {
    this.options = options;
    this.rowHeight = options.rowHeight;
    this.count = options.count ?? 0;
    this.active = 0;
    this.position = 0; // pixels of the unscaled list above the window
    this.headHeight = 0;
    this.seen = 0; // the window's height; asking the page for it in each scroll event would be slow
    this.rows = new Map();
    this.id = uniqueId("rows");
    this.space = h("div", { class: "wb-scroll-space", role: "rowgroup" });
    this.el = h("div", {
      class: "wb-scroll", role: "grid", tabindex: "0", "aria-label": options.label, "aria-live": "off",
      onscroll: () => this.#scrolled(), onkeydown: (event) => this.#keyed(event), onpointerdown: (event) => this.#pressed(event),
    }, options.head && h("div", { class: "wb-scroll-head", role: "rowgroup" }, options.head), this.space);
    if (options.height) this.el.style.height = `${options.height}px`;
    this.el.addEventListener("wheel", (event) => this.#wheeled(event), { passive: false });
    this.draw = oncePerFrame(() => this.#draw());
    this.watch = new ResizeObserver(() => {
      this.seen = 0;
      this.draw();
    });
    this.watch.observe(this.el);
    this.setCount(this.count);
  }

  /** Change how many rows there are; the window stays where it is, if that still exists. @param {number} count */
  setCount(count) {
    this.count = count;
    this.active = Math.max(0, Math.min(this.active, count - 1));
    setAttr(this.el, "aria-rowcount", count);
    this.space.style.height = `${Math.min(count * this.rowHeight, SCROLLER_MAX_PX)}px`;
    this.position = Math.max(0, Math.min(this.position, this.#length()));
    this.refresh();
  }

  /** Write the visible rows again, at the next animation frame. */
  refresh() {
    this.stale = true;
    this.draw();
  }

  /** The row element of an index if it is drawn now. @param {number} index @returns {HTMLElement|undefined} */
  row(index) {
    return this.rows.get(index);
  }

  /** Rows whose index is drawn now: [index, element] pairs. */
  drawn() {
    return [...this.rows.entries()].sort((a, b) => a[0] - b[0]);
  }

  /** First and last visible row. @returns {[number, number]} */
  window() {
    const first = Math.floor(this.position / this.rowHeight);
    const last = Math.ceil((this.position + this.#room()) / this.rowHeight) - 1;
    return [Math.max(0, Math.min(first, this.count - 1)), Math.max(0, Math.min(last, this.count - 1))];
  }

  /** Bring a row into the window: "near" moves only if needed, "top" puts it first. @param {number} index @param {"near"|"top"} [where] */
  show(index, where = "near") {
    const top = index * this.rowHeight;
    if (where === "top" || top < this.position) this.moveTo(top);
    else if (top + this.rowHeight > this.position + this.#room()) this.moveTo(top + this.rowHeight - this.#room());
  }

  /** Whether the last row is in the window; `toEnd()` goes there. */
  atEnd() {
    return this.position >= this.#length() - this.rowHeight;
  }

  toEnd() {
    this.moveTo(this.#length());
  }

  /** Scroll to a pixel of the unscaled list. @param {number} position */
  moveTo(position) {
    this.position = Math.max(0, Math.min(position, this.#length()));
    this.expected = Math.round(this.position / this.#ratio());
    this.el.scrollTop = this.expected;
    this.draw();
  }

  /** Make a row the active one and show it. @param {number} index */
  activate(index) {
    this.active = Math.max(0, Math.min(index, this.count - 1));
    this.show(this.active);
    this.refresh();
  }

  destroy() {
    this.watch.disconnect();
    this.draw.cancel();
  }

  #room() {
    if (!this.seen) {
      this.headHeight = this.options.head?.parentNode.offsetHeight ?? 0;
      this.seen = this.el.clientHeight;
    }
    return Math.max(this.rowHeight, this.seen - this.headHeight);
  }

  #length() {
    return Math.max(0, this.count * this.rowHeight - this.#room());
  }

  #ratio() {
    const track = Math.min(this.count * this.rowHeight, SCROLLER_MAX_PX) - this.#room();
    return track > 0 ? Math.max(1, this.#length() / track) : 1;
  }

  #scrolled() {
    // Our own move comes back as an event; taking it as a person's would round the position.
    if (Math.abs(this.el.scrollTop - this.expected) <= 1) return;
    this.expected = -2;
    this.position = Math.min(this.el.scrollTop * this.#ratio(), this.#length());
    this.draw();
  }

  #wheeled(event) {
    if (this.#ratio() === 1 || event.ctrlKey) return;
    const unit = event.deltaMode === 1 ? this.rowHeight : event.deltaMode === 2 ? this.#room() : 1;
    event.preventDefault();
    this.moveTo(this.position + event.deltaY * unit);
  }

  #pressed(event) {
    const row = event.target.closest("[data-index]");
    if (!row || !this.space.contains(row)) return;
    this.active = Number(row.dataset.index);
    this.refresh();
  }

  #keyed(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.options.key?.(event, this.active) || this.#keyedInside(event) || this.#keyedRow(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  #keyedRow(event) {
    const page = Math.max(1, Math.floor(this.#room() / this.rowHeight) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -this.count, End: this.count };
    const step = steps[event.key];
    if (step === undefined || !this.count) return false;
    this.activate(this.active + step);
    if (event.target !== this.el) this.el.focus({ preventScroll: true });
    return true;
  }

  #keyedInside(event) {
    const row = this.rows.get(this.active);
    if (!row) return false;
    const controls = [...row.querySelectorAll("[data-go]")].filter((el) => !el.hidden && el.offsetParent);
    const at = controls.indexOf(event.target);
    if (event.key === "Enter" && at < 0) {
      if (!this.options.enter?.(this.active, row)) controls[0]?.focus();
      return true;
    }
    if (event.key === "Escape" && at >= 0) this.el.focus({ preventScroll: true });
    else if (event.key === "ArrowRight") controls[Math.min(at + 1, controls.length - 1)]?.focus({ preventScroll: true });
    else if (event.key === "ArrowLeft" && at > 0) controls[at - 1].focus({ preventScroll: true });
    else if (event.key === "ArrowLeft" && at === 0) this.el.focus({ preventScroll: true });
    else return false;
    return true;
  }

  #draw() {
    if (!this.el.isConnected) return;
    const [top, bottom] = this.window();
    const first = Math.max(0, top - SCROLLER_SPARE);
    const last = Math.min(this.count - 1, bottom + SCROLLER_SPARE);
    const free = this.#release(first, last);
    const shift = this.#ratio() === 1 ? 0 : Math.round(this.el.scrollTop - this.position);
    for (let index = first; index <= last; index++) this.#place(index, free, shift);
    for (const row of free) row.remove();
    this.stale = false;
    setAttr(this.el, "aria-activedescendant", this.rows.has(this.active) ? `${this.id}-${this.active}` : null);
    this.options.moved?.(top, bottom);
  }

  /** Rows outside the window are used again, except one that holds the keyboard focus and its edit. */
  #release(first, last) {
    const free = [];
    for (const [index, row] of this.rows) {
      if (index >= first && index <= last) continue;
      if (index < this.count && row.matches(":focus-within")) continue;
      this.rows.delete(index);
      free.push(row);
    }
    return free;
  }

  #place(index, free, shift) {
    let row = this.rows.get(index);
    const fresh = !row;
    if (fresh) {
      row = free.pop() ?? this.options.create();
      this.rows.set(index, row);
      if (!row.isConnected) this.space.append(row);
      row.id = `${this.id}-${index}`;
      row.dataset.index = index;
      setAttr(row, "role", "row");
      setAttr(row, "aria-rowindex", index + 1);
      row.classList.add("wb-scroll-row");
    }
    const y = `translateY(${index * this.rowHeight + shift}px)`;
    if (row.style.transform !== y) row.style.transform = y;
    row.classList.toggle("wb-active", index === this.active);
    if (fresh || this.stale) this.options.fill(row, index, fresh);
  }
}
