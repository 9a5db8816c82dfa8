/**
 * Memory: hex and ASCII of a BAR, config space or guest memory at an IOVA. Asks only for the visible rows and a
 * margin. A space above 1 GiB is shown in windows of 1 GiB: a jump moves the window. Rows: memory_row.js.
 */

const MEMORY_ROW = 20; // pixels
const MEMORY_BYTES = 16; // bytes of a row
const MEMORY_CHUNK = 512; // bytes: wishes are aligned to it, so that a small scroll asks for nothing new
const MEMORY_MOST = 16384; // bytes one wish may have
const MEMORY_KEPT = 256; // chunks remembered
const MEMORY_SPAN = 1n << 30n; // bytes of a window

/** The bytes that arrived, in chunks by address; the oldest asked-for are forgotten. */
class MemoryBytes {
  constructor() {
    this.chunks = new Map();
  }

  /** Take in bytes. @param {bigint} start @param {Uint8Array} bytes @param {function(bigint)} changed address of a changed byte */
  take(start, bytes, changed) {
    for (let at = 0; at < bytes.length;) {
      const address = start + BigInt(at);
      const offset = Number(address % BigInt(MEMORY_CHUNK));
      const take = Math.min(MEMORY_CHUNK - offset, bytes.length - at);
      this.#takeChunk(address - BigInt(offset), offset, bytes.subarray(at, at + take), changed);
      at += take;
    }
    for (const key of this.chunks.keys()) {
      if (this.chunks.size <= MEMORY_KEPT) break;
      this.chunks.delete(key);
    }
  }

  #takeChunk(base, offset, bytes, changed) {
    const chunk = this.chunks.get(base) ?? { bytes: new Uint8Array(MEMORY_CHUNK), known: new Uint8Array(MEMORY_CHUNK) };
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i;
      if (chunk.known[at] && chunk.bytes[at] !== bytes[i]) changed(base + BigInt(at));
    }
    chunk.bytes.set(bytes, offset);
    chunk.known.fill(1, offset, offset + bytes.length);
    this.chunks.delete(base);
    this.chunks.set(base, chunk);
  }

  /** Forget bytes: nothing is there. @param {bigint} start @param {number} length */
  forget(start, length) {
    for (let address = start, end = start + BigInt(length); address < end;) {
      const offset = Number(address % BigInt(MEMORY_CHUNK));
      const take = Math.min(MEMORY_CHUNK - offset, Number(end - address));
      this.chunks.get(address - BigInt(offset))?.known.fill(0, offset, offset + take);
      address += BigInt(take);
    }
  }

  /** A byte, or -1 if it has not arrived. @param {bigint} address @returns {number} */
  at(address) {
    const offset = Number(address & BigInt(MEMORY_CHUNK - 1));
    const chunk = this.chunks.get(address - BigInt(offset));
    return chunk?.known[offset] ? chunk.bytes[offset] : -1;
  }
}

class MemoryPart {
  constructor(el, link, layout, options) {
    this.el = el;
    this.link = link;
    this.options = options;
    this.state = {};
    this.bytes = new MemoryBytes();
    this.changed = new Set(); // addresses since the last drawing
    this.live = oncePerFrame(() => this.#live()); // in step with scrolling: one layout a frame, not two
    this.width = recall("memory-width", 1);
    this.base = 0n;
    this.size = 0n;
    this.all = layout;
    this.#build();
    this.layout(layout);
    if (options.iova !== undefined && options.iova !== null) this.jump(BigInt(options.iova));
  }

  #build() {
    this.spaceList = h("select", { class: "wb-input", "aria-label": "What memory", onchange: () => this.choose(this.spaceList.value) });
    this.widths = h("select", { class: "wb-input", "aria-label": "Bytes of a number", onchange: () => this.setWidth(Number(this.widths.value)) },
      [1, 2, 4, 8].map((width) => h("option", { value: String(width) }, width === 1 ? "bytes" : `${width} bytes, little-endian`)));
    this.widths.value = String(this.width);
    this.where = h("input", { type: "text", class: "wb-input wb-mono", size: "26", placeholder: "jump to address or name",
      "aria-label": "Jump to an address or a register", spellcheck: "false", autocomplete: "off",
      onkeydown: (event) => event.key === "Enter" && this.jumpText(this.where.value),
      oninput: () => setAttr(this.where, "aria-invalid", null) });
    this.about = h("span", { class: "wb-muted wb-small", role: "status" });
    this.rows = new Scroller({
      rowHeight: MEMORY_ROW, label: "Memory", height: 360,
      create: () => h("div", { class: "wb-mem" }),
      fill: (row, index, fresh) => memoryFill(this, row, index, fresh),
      moved: (first, last) => this.#moved(first, last),
    });
    this.el.append(h("div", { class: "wb-tools" }, this.spaceList, this.where, this.widths, this.about), this.rows.el);
    this.el.classList.add("wb-memory");
  }

  layout(layout) {
    this.all = layout;
    const names = layout.blocks.map(({ name }) => name);
    const fixed = this.options.block ?? (this.options.iova !== undefined && this.options.iova !== null ? "iova" : null);
    const shown = fixed ? [fixed] : [...names, "iova"];
    const words = { iova: "guest memory (IOVA)", config: "config space" };
    this.spaceList.replaceChildren(...shown.map((name) => h("option", { value: name }, words[name] ?? name)));
    this.spaceList.hidden = shown.length === 1;
    this.choose(shown.includes(this.space) ? this.space : (shown.find((name) => name !== "config") ?? shown[0]));
  }

  /** Show another space. @param {string} name "bar0", "config", "iova" */
  choose(name) {
    const block = this.all.blocks.find((one) => one.name === name);
    this.space = name;
    this.spaceList.value = name;
    this.bytes = new MemoryBytes();
    this.base = 0n;
    this.names = memoryNames(this.all.registers, name);
    this.el.classList.toggle("wb-memory-named", this.names.size > 0);
    this.error = "";
    this.gaps = [];
    this.#resize(block ? BigInt(block.size) : 1n << 64n);
    this.rows.moveTo(0);
  }

  #resize(size) {
    this.size = size;
    const span = size - this.base < MEMORY_SPAN ? size - this.base : MEMORY_SPAN;
    const digits = (size - 1n).toString(16).length;
    this.digits = Math.max(4, digits + (digits % 2));
    this.el.style.setProperty("--wb-address", `${this.digits + 3}ch`);
    this.rows.setCount(Number((span + BigInt(MEMORY_BYTES - 1)) / BigInt(MEMORY_BYTES)));
    const height = Math.min(360, Math.max(4, this.rows.count) * MEMORY_ROW + 12);
    this.rows.el.style.height = `${height}px`;
    this.#tell();
  }

  setWidth(width) {
    this.width = width;
    remember("memory-width", width);
    editCancel(this.el);
    this.rows.refresh();
  }

  jumpText(text) {
    const word = text.trim();
    const named = this.all.registers.find(({ block, name }) => [name, `${block}.${name}`].includes(word));
    const address = named ? BigInt(named.offset) : parseNumber(word, 64);
    if (named && named.block !== this.space) this.choose(named.block);
    if (address === null || address >= this.size) {
      setAttr(this.where, "aria-invalid", "true");
      this.link.say(`${word} is no address below ${hexText(this.size, 4)} and no register`, "info");
      return;
    }
    this.jump(address);
    this.rows.el.focus({ preventScroll: true });
  }

  /** Put an address at the top. @param {bigint} address */
  jump(address) {
    const base = this.size > MEMORY_SPAN ? address - (address % MEMORY_SPAN) : 0n;
    if (base !== this.base) {
      this.base = base;
      this.#resize(this.size);
    }
    const index = Number((address - this.base) / BigInt(MEMORY_BYTES));
    this.rows.show(index, "top");
    this.rows.activate(index);
  }

  /** The address of a row. @param {number} index @returns {bigint} */
  address(index) {
    return this.base + BigInt(index) * BigInt(MEMORY_BYTES);
  }

  #moved(first, last) {
    const chunk = BigInt(MEMORY_CHUNK);
    const top = this.address(first) - chunk;
    const start = top < this.base ? this.base : top - (top % chunk);
    const end = this.address(last + 1) + chunk;
    const stop = end < this.size ? end - (end % chunk) + chunk : this.size;
    const length = Math.min(MEMORY_MOST, Number((stop < this.size ? stop : this.size) - start));
    const wish = { space: this.space, start: hexText(start, 4), length };
    if (JSON.stringify(wish) === JSON.stringify(this.state.memory)) return;
    this.state.memory = wish;
    this.link.want();
  }

  update(name, json, buffers) {
    if (json.space !== this.space) return;
    const size = json.size ? BigInt(json.size) : this.size;
    if (size > 0n && size !== this.size) this.#resize(size);
    this.error = json.error ?? "";
    if (this.error) this.bytes = new MemoryBytes(); // what was there before is not there now
    this.gaps = json.gaps ?? [];
    this.#tell();
    const start = BigInt(json.start);
    const bytes = dataBytes(buffers, json.buffer);
    let at = 0;
    for (const [gap, length] of [...this.gaps, [bytes.length, 0]]) {
      this.bytes.take(start + BigInt(at), bytes.subarray(at, gap), (address) => this.changed.add(address));
      this.bytes.forget(start + BigInt(gap), length);
      at = gap + length;
    }
    this.live();
  }

  /** Write what arrived into the rows on the page. */
  #live() {
    for (const [index, row] of this.rows.drawn()) memoryFill(this, row, index, false);
    this.changed.clear();
  }

  #tell() {
    const size = this.size > 1n << 48n ? "" : sizeText(this.size);
    const part = this.size > MEMORY_SPAN ? `from ${hexText(this.base, 4)}, 1 GiB` : size;
    const gaps = this.gaps?.length ? " · the guest has not mapped all of this" : "";
    setText(this.about, this.error ? `✕ ${this.error}` : part + gaps);
    setAttr(this.about, "data-tone", this.error ? "bad" : null);
  }

  /** Poke the number at an address. @param {bigint} address @param {number} width bytes @param {bigint} value */
  send(address, width, value) {
    const digits = value.toString(16).padStart(width * 2, "0").match(/../g).reverse().join("");
    return this.link.attempt("poke_memory", { space: this.space, start: hexText(address, 4), data: digits });
  }

  destroy() {
    this.live.cancel();
    this.rows.destroy();
    this.el.replaceChildren();
  }
}

/** Memory as a view; options `block` or `iova` fix what is shown. */
const memoryView = {
  feeds: (state) => (state.memory ? { memory: state.memory } : {}),
  mount: (el, link, layout, options) => new MemoryPart(el, link, layout, options ?? {}),
};
