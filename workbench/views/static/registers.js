/**
 * Registers: a grid of blocks, registers and, unfolded, their fields. A long array is one row until it is unfolded.
 * Only visible rows exist (scroller.js); their drawing is in registers_row.js, the values that arrived are in a
 * RegisterValues.
 */

const REGISTERS_ROW = 26; // pixels
const REGISTERS_HEIGHT = 420;
const REGISTERS_ARRAY = 64; // elements of an array that is folded at first
const REGISTERS_ENTRY = 32; // bytes of an entry in the feed

/** The newest values of all registers, by number. */
class RegisterValues {
  constructor(count) {
    this.values = new BigUint64Array(count);
    this.reads = new BigUint64Array(count);
    this.writes = new BigUint64Array(count);
    this.answers = new Uint8Array(count);
    this.known = new Uint8Array(count);
  }

  /** Take in a feed's buffer. @param {DataView} view @param {function(number, bigint)} changed number and old value */
  take(view, changed) {
    for (let at = 0; at + REGISTERS_ENTRY <= view.byteLength; at += REGISTERS_ENTRY) {
      const number = view.getUint32(at, true);
      if (number >= this.values.length) continue;
      const [value, old, known] = [readU64(view, at + 8), this.values[number], this.known[number]];
      this.answers[number] = view.getUint32(at + 4, true);
      this.values[number] = value;
      this.reads[number] = readU64(view, at + 16);
      this.writes[number] = readU64(view, at + 24);
      this.known[number] = 1;
      if (known && old !== value) changed(number, old);
    }
  }
}

class RegistersPart {
  constructor(el, link, layout, options) {
    this.el = el;
    this.link = link;
    this.options = options;
    this.state = { block: options.block ?? null };
    this.radix = recall("radix", 16);
    this.filter = "";
    this.unfolded = new Set(); // numbers of the registers whose fields have rows
    this.folded = null; // names of folded blocks
    this.opened = new Set(recall("arrays", [])); // "Blinker bar0.RING": arrays that were unfolded
    this.live = oncePerFrame(() => this.#live()); // in step with scrolling: one layout a frame, not two
    this.fresh = new Map(); // registers that changed since the last drawing: number -> old value
    this.#build();
    this.layout(layout);
  }

  #build() {
    this.search = h("input", {
      type: "search", class: "wb-input", placeholder: "filter by name", "aria-label": "Filter registers by name",
      oninput: () => this.#filtered(),
    });
    this.found = h("span", { class: "wb-muted wb-small", role: "status" });
    const radixes = h("span", { class: "wb-switch", role: "radiogroup", "aria-label": "Values shown in" },
      [[16, "hex"], [10, "dec"], [2, "bin"]].map(([radix, word]) => this.#radixButton(radix, word)));
    this.rows = new Scroller({
      rowHeight: REGISTERS_ROW, label: "Registers", columns: 9, head: registersHead(),
      create: () => h("div", { class: "wb-reg" }),
      fill: (row, index, fresh) => registersFill(this, row, this.items[index], fresh),
      enter: (index) => this.#entered(index),
      key: (event, index) => this.#keyed(event, index),
    });
    this.el.append(h("div", { class: "wb-tools" }, this.search, radixes, this.found, registersLegend()), this.rows.el);
    this.el.classList.add("wb-registers");
    this.setRadix(this.radix);
  }

  #radixButton(radix, word) {
    const id = uniqueId("radix");
    const input = h("input", { type: "radio", id, name: this.radixName ??= uniqueId("radixes"), value: String(radix),
      onchange: () => this.setRadix(radix) });
    input.checked = radix === this.radix;
    return h("span", null, input, h("label", { for: id }, word));
  }

  setRadix(radix) {
    this.radix = radix;
    remember("radix", radix);
    this.el.dataset.radix = radix;
    this.#measure();
    this.rows.refresh();
  }

  /** Columns are as wide as the widest of what can be seen: folded blocks do not count. */
  #measure() {
    const shown = (this.sorted ?? []).filter(({ block }) => !this.folded.has(block.name)).flatMap(({ members }) => members);
    const most = (size, least) => shown.reduce((found, { register }) => Math.max(found, size(register)), least);
    const bits = most(({ width }) => width, 8);
    const text = valueText((1n << BigInt(bits)) - 1n, bits, this.radix);
    const widths = {
      value: Math.min(text.length, 44) + 2, reset: Math.ceil(bits / 4) + 3,
      name: Math.min(most(({ name }) => name.length, 8), 26) + 1, mode: Math.min(most(({ mode }) => mode.length, 4), 10) + 1,
    };
    for (const [name, width] of Object.entries(widths)) this.el.style.setProperty(`--wb-${name}`, `${width}ch`);
    const digits = most(({ offset }) => hexText(offset, 12).length, 6);
    this.el.style.setProperty("--wb-offset", `${Math.ceil(7.3 * digits)}px`);
    this.el.classList.toggle("wb-long", widths.value + widths.reset > 34); // 64 bits, or binary: fields need the room
  }

  layout(layout) {
    this.all = layout;
    this.data = new RegisterValues(layout.registers.length);
    this.fresh.clear();
    this.folded ??= new Set(layout.blocks.length > 1 && !this.state.block ? ["config"] : []);
    this.sorted = layout.blocks
      .filter(({ name }) => !this.state.block || name === this.state.block)
      .map((block) => ({ block, ...this.#members(layout, block.name) }));
    this.#list();
  }

  #members(layout, name) {
    const found = [];
    layout.registers.forEach((register, number) => register.block === name && found.push({ register, number }));
    const arrays = new Map(); // the long ones: name -> elements
    for (const member of found) {
      const of = registersArrayOf(member.register);
      if (of && !arrays.get(of)?.push(member)) arrays.set(of, [member]);
    }
    for (const [of, { length }] of arrays) if (length < REGISTERS_ARRAY) arrays.delete(of);
    return { members: found, arrays };
  }

  /** Build the list of rows: blocks, the registers that match, the fields of the unfolded ones. */
  #list() {
    editCancel(this.el);
    this.#measure();
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    this.items = [];
    let [shown, total] = [0, 0];
    for (const { block, members, arrays } of this.sorted) {
      const match = words.length ? members.filter(({ register }) => registersMatch(register, words)) : members;
      total += members.length;
      shown += match.length;
      if (words.length && !match.length) continue;
      const folded = this.folded.has(block.name) && !words.length;
      this.items.push({ kind: "block", block, count: match.length, folded });
      if (!folded) for (const member of match) this.#listMember(member, words.length ? null : arrays);
    }
    setText(this.found, words.length ? `${countText(shown)} of ${countText(total)}` : `${countText(total)} registers`);
    this.rows.setCount(this.items.length);
    const height = Math.min(REGISTERS_HEIGHT, (this.items.length + 1) * REGISTERS_ROW + 12);
    if (this.height !== height) this.rows.el.style.height = `${(this.height = height)}px`; // else a person's own would be undone
  }

  /** A register, or the row of its whole array in place of the first element; null: all are shown one by one. */
  #listMember(member, arrays) {
    const of = registersArrayOf(member.register);
    const elements = arrays?.get(of);
    if (!elements) this.#listRegister(member);
    if (elements?.[0] !== member) return;
    const key = `${this.all.name} ${member.register.block}.${of}`;
    const folded = !this.opened.has(key);
    this.items.push({ kind: "array", of, key, elements, folded });
    if (!folded) for (const element of elements) this.#listRegister(element);
  }

  #listRegister({ register, number }) {
    const unfolded = this.unfolded.has(number);
    this.items.push({ kind: "register", register, number, unfolded });
    if (unfolded) for (const field of register.fields) this.items.push({ kind: "field", register, number, field });
  }

  #filtered() {
    this.filter = this.search.value;
    this.#list();
    this.rows.moveTo(0);
  }

  /** Fold or unfold a block, an array or a register. */
  toggle(item) {
    const [set, key] = {
      block: [this.folded, item.block?.name], array: [this.opened, item.key], register: [this.unfolded, item.number],
    }[item.kind];
    if (!set.delete(key)) set.add(key);
    remember("arrays", [...this.opened]);
    this.#list();
  }

  #entered(index) {
    if (!["block", "array"].includes(this.items[index]?.kind)) return false;
    this.toggle(this.items[index]);
    return true;
  }

  #keyed(event, index) {
    const item = this.items[index];
    if (event.target !== this.rows.el || !item || item.kind === "field") return false;
    const open = item.kind === "register" ? item.unfolded : !item.folded;
    const wish = { ArrowRight: !open, ArrowLeft: open }[event.key];
    if (!wish || (item.kind === "register" && !item.register.fields.length)) return false;
    this.toggle(item);
    return true;
  }

  /** Poke a register or one of its fields, or write it as the guest. */
  send(item, field, guest, value) {
    const place = { register: item.number, field: field?.name ?? null, value: hexText(value, 4) };
    return this.link.attempt(guest ? "write" : "poke", place);
  }

  update(name, json, buffers) {
    this.data.take(dataView(buffers, json.buffer), (number, old) => {
      if (!this.fresh.has(number)) this.fresh.set(number, old);
    });
    this.live();
  }

  /** Write what arrived into the rows on the page. */
  #live() {
    for (const [index, row] of this.rows.drawn()) {
      const item = this.items[index];
      if (item) registersFill(this, row, item, false);
    }
    this.fresh.clear();
  }

  destroy() {
    this.live.cancel();
    this.rows.destroy();
    this.el.replaceChildren();
  }
}

/** The name of the array that a register is an element of: "RING" of RING[3]; "" for none. */
function registersArrayOf({ name }) {
  return name.endsWith("]") ? name.slice(0, name.indexOf("[")) : "";
}

/** Whether every word is in the register's full name, or in a field's. */
function registersMatch(register, words) {
  const full = `${register.block}.${register.name} ${register.fields.map(({ name }) => name).join(" ")}`.toLowerCase();
  return words.every((word) => full.includes(word));
}

/** The registers as a view; option `block` shows one BAR or the config space alone. */
const registersView = {
  feeds: (state) => ({ registers: { block: state.block ?? null } }),
  mount: (el, link, layout, options) => new RegistersPart(el, link, layout, options ?? {}),
};
