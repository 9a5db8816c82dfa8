/**
 * A played kernel: a model object as anywidget gives one, behind it a made-up device whose registers change.
 * It keeps to feed.py. Tests read `played.sent` (what the view sent) and call `played.frame(...)`.
 */
class PlayedKernel {
  /** @param {{kind?: string, registers?: number, options?: Object, layout?: Object}} wish */
  constructor(wish) {
    this.layout = wish.layout ?? playedLayout(wish.registers ?? 40);
    this.traits = { kind: wish.kind ?? "panel", options: wish.options ?? {}, device_layout: this.layout };
    this.listeners = new Map();
    this.sent = [];
    this.feeds = {};
    this.visible = false;
    this.seq = 0;
    this.acked = 0;
    this.values = this.layout.registers.map(({ reset }) => BigInt(reset));
    this.counts = this.values.map(() => [0, 0]);
    this.memory = new Map();
    this.fail = "";
    this.state = playedState();
  }

  get(name) {
    return this.traits[name];
  }

  set(name, value) {
    this.traits[name] = value;
    this.tell(`change:${name}`);
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((one) => one !== listener));
  }

  tell(event, ...what) {
    for (const listener of this.listeners.get(event) ?? []) listener(...what);
  }

  send(given) {
    const message = structuredClone(given); // as over a wire: what the view changes later was not said yet
    this.sent.push(message);
    if (message.type === "ack") this.acked = message.seq;
    if (message.type === "want") {
      const first = !this.feeds.registers && message.feeds.registers;
      Object.assign(this, { feeds: message.feeds, visible: message.visible });
      this.flush(first ? this.values.map((_, number) => number) : []);
    }
    if (message.type === "hello") setTimeout(() => this.flush(this.values.map((_, number) => number)), 0);
    if (message.type === "do") setTimeout(() => this.act(message), 5);
  }

  act(message) {
    const text = this.fail;
    if (!text && (message.action === "poke" || message.action === "write")) this.change(message);
    if (!text && message.action === "poke_memory") this.change_memory(message);
    this.tell("msg:custom", { type: "done", id: message.id, ok: !text, text }, []);
    this.flush([message.register ?? 0]);
  }

  change({ register, field, value }) {
    const described = this.layout.registers[register].fields.find(({ name }) => name === field);
    const [lsb, width] = described ? [BigInt(described.lsb), BigInt(described.width)] : [0n, 64n];
    const mask = ((1n << width) - 1n) << lsb;
    this.values[register] = (this.values[register] & ~mask) | ((BigInt(value) << lsb) & mask);
  }

  change_memory({ start, data }) {
    data.match(/../g).forEach((byte, at) => this.memory.set(BigInt(start) + BigInt(at), parseInt(byte, 16)));
  }

  byte(address) {
    return this.memory.get(address) ?? Number((address * 2654435761n) >> 7n & 0xffn) * (Number(address >> 5n) % 3 ? 0 : 1);
  }

  /** Send what is wanted; `changed` are register numbers. */
  flush(changed) {
    if (!this.visible) return;
    const [feeds, buffers] = [{}, []];
    if (this.feeds.state) feeds.state = this.state;
    if (this.feeds.registers && changed.length) feeds.registers = this.registers(changed, buffers);
    if (this.feeds.memory) feeds.memory = this.window(this.feeds.memory, buffers);
    this.frame(feeds, buffers);
  }

  frame(feeds, buffers) {
    this.seq += 1;
    this.tell("msg:custom", { type: "frame", seq: this.seq, feeds }, buffers.map((buffer) => new DataView(buffer)));
  }

  registers(changed, buffers) {
    const view = new DataView(new ArrayBuffer(changed.length * 32));
    changed.forEach((number, at) => {
      view.setUint32(at * 32, number, true);
      view.setUint32(at * 32 + 4, number % 7 === 3 ? 1 : number % 11 === 5 ? 2 : number % 13 === 8 ? 3 : 0, true);
      view.setBigUint64(at * 32 + 8, this.values[number], true);
      view.setBigUint64(at * 32 + 16, BigInt(this.counts[number][0]), true);
      view.setBigUint64(at * 32 + 24, BigInt(this.counts[number][1]), true);
    });
    buffers.push(view.buffer);
    return { buffer: buffers.length - 1, count: changed.length };
  }

  window({ space, start, length }, buffers) {
    const first = BigInt(start);
    buffers.push(Uint8Array.from({ length }, (_, at) => this.byte(first + BigInt(at))).buffer);
    const block = this.layout.blocks.find(({ name }) => name === space);
    const size = block ? "0x" + block.size.toString(16) : "0x10000000000000000";
    return { space, start, size, error: "", buffer: buffers.length - 1 };
  }

  /** Change `many` registers (and bytes) and send them, `hertz` times a second, until stop(). */
  start(hertz, many) {
    let turn = 0;
    this.timer = setInterval(() => {
      turn += 1;
      const changed = Array.from({ length: many }, (_, at) => (turn * 7 + at * 3) % this.values.length);
      for (const number of changed) this.touch(number, turn);
      for (let at = 0; at < 24; at++) this.memory.set(BigInt((turn * 5 + at * 16) % 4096), (turn + at) & 0xff);
      this.state = { ...this.state, rate: 812345 + turn, reads: turn * 40000, writes: turn * 1300 };
      this.flush([...new Set(changed)]);
    }, 1000 / hertz);
  }

  touch(number, turn) {
    const width = BigInt(this.layout.registers[number].width);
    this.values[number] = (this.values[number] + BigInt(turn)) & ((1n << width) - 1n);
    this.counts[number][0] += turn;
    this.counts[number][1] += 1;
  }

  stop() {
    clearInterval(this.timer);
  }
}

function playedState() {
  return {
    server: "attached", client: "pid 4711 (qemu-system-x86)", error: "", total: 1000, dropped: 0, rate: 0, reads: 0, writes: 0, flagged: 0,
    stall: { waits: 12, total_ms: 84.2, worst_ms: 61.5, worst_cell: "In[3]", now: null }, errors: [], subshells: true, notice: "",
  };
}

function playedLayout(count) {
  const fields = [
    { name: "ENABLE", lsb: 0, width: 1, mode: "rw", doc: "Switches the lamp.", enum: { 0: "OFF", 1: "ON" } },
    { name: "SPEED", lsb: 1, width: 2, mode: "rw", doc: "How fast it blinks.", enum: { 0: "STOP", 1: "SLOW", 2: "FAST" } },
    { name: "PERIOD", lsb: 8, width: 16, mode: "rw", doc: "Milliseconds.", enum: null },
    { name: "DONE", lsb: 31, width: 1, mode: "w1c", doc: "A blink ended; write 1 to clear.", enum: null },
  ];
  const names = ["CTRL", "STATUS", "COUNT", "MASK", "DOORBELL"];
  const registers = Array.from({ length: count }, (_, at) => ({
    block: "bar0", name: at < 5 ? names[at] : `RING[${at - 5}]`, offset: at * 4, width: at === 2 ? 64 : 32, mode: ["rw", "ro", "rc", "rw", "wo"][at % 5],
    reset: at === 0 ? "0x00000001" : "0x00000000", doc: at % 3 ? "" : "What the guest sets here is taken over at the next blink.",
    fields: at % 4 === 2 ? [] : fields.slice(0, (at % 4) + 1),
  }));
  registers.push({ block: "config", name: "VENDOR_ID", offset: 0, width: 16, mode: "ro", reset: "0x494f", doc: "Vendor", fields: [] });
  return {
    version: 1, name: "Blinker", id: "1234:0b11", doc: "A lamp that counts how often it was switched on.", socket: "/run/user/1000/wb-x1/Blinker.sock",
    qemu_args: "-m 256M -object memory-backend-memfd,id=ram,size=256M,share=on -machine q35,memory-backend=ram -device vfio-user-pci",
    blocks: [
      { name: "bar0", index: 0, size: Math.max(4096, count * 4), kind: "32-bit memory" }, { name: "bar1", index: 1, size: 1 << 28, kind: "64-bit memory, prefetchable" },
      { name: "config", index: 7, size: 256, kind: "config space" },
    ],
    registers, irqs: [{ index: 0, name: "INTx", count: 1 }],
  };
}
