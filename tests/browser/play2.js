/**
 * The played kernel with a past: log, timeline, interrupts, hooks and a console, made up but consistent. Extends play.js.
 * Tests set `played.records`, `played.hooks` ... and call `played.flush([])`.
 */
const KINDS = ["read", "write", "poke", "irq", "unmask", "dma_read", "dma_write", "map", "unmap", "reset", "swap", "attach", "detach", "error"];
const LANES = ["bar0.CTRL", "bar0.STATUS", "bar0.COUNT", "bar0.MASK", "config.COMMAND", "INTx", "dma", "client", "reset"];
const TRACE = `Traceback (most recent call last):
  File "<ipython-input-4>", line 5, in switch
    self.bar0.COUNT += 1 / zero
ZeroDivisionError: division by zero
`;

class PlayedTrace extends PlayedKernel {
  constructor(wish) {
    super(wish);
    this.records = playedRecords(wish.records ?? 3000);
    this.lines = [
      { index: 0, vector: 0, name: "INTx", armed: true, enabled: true, masked: false, asserted: false, pending: false, count: 1234, last: 8.25e9 },
      ...Array.from({ length: 3 }, (_, n) => ({
        index: 2, vector: n, name: `MSI-X[${n}]`, armed: n < 2, enabled: n < 2, masked: n === 1, asserted: false, pending: n === 1, count: n * 7, last: n ? 5e9 : 0,
      })),
    ];
    this.regions = playedRegions();
    this.copies = playedCopies();
    this.master = true;
    this.image = { json: { width: 0, height: 0, error: "" }, data: null };
    this.repeat = {};
    this.hooks = playedHooks();
    this.console = { text: playedConsole(), alive: true, vm: "tcg, pid 4712" };
    this.state.errors = [{ name: "bar0.CTRL.on_write", revision: 3, count: 3, text: TRACE }];
    this.told = {};
    this.diff = "--- rev 2\n+++ rev 3\n@@ -1,4 +1,4 @@\n def switch(self, access):\n-    self.bar0.COUNT += 1\n+    self.bar0.COUNT += 2\n     self.irq.trigger()\n";
  }

  flush(changed) {
    if (!this.visible) return;
    const [feeds, buffers] = [{}, []];
    if (this.feeds.state) feeds.state = { ...this.state, total: this.records.length, dropped: this.dropped ?? 0 };
    if (this.feeds.log) this.tellLog(feeds);
    if (this.feeds.timeline) feeds.timeline = this.timeline(this.feeds.timeline, buffers);
    if (this.feeds.irq) {
      const { first = 0, count = 128 } = this.feeds.irq;
      const lines = this.lines.slice(first, first + count);
      feeds.irq = { first, total: this.lines.length, mode: "MSI-X", lines, repeat: this.repeat };
    }
    if (this.feeds.dma) feeds.dma = this.dma(this.feeds.dma);
    if (this.feeds.image) feeds.image = this.picture(this.image, buffers);
    if (this.feeds.hooks) feeds.hooks = { rows: this.hooks };
    if (this.feeds.console) feeds.console = this.typed(this.feeds.console);
    if (this.feeds.registers && changed.length) feeds.registers = this.registers(changed, buffers);
    if (Object.keys(feeds).length) this.frame(feeds, buffers);
  }

  /** As the hub: a paused log is told once for each wish. */
  tellLog(feeds) {
    const wish = JSON.stringify(this.feeds.log);
    if (this.feeds.log.paused && this.told.log === wish) return;
    this.told.log = wish;
    const { filter, before, rows } = this.feeds.log;
    const answer = { filter: filter.trim(), before, total: this.records.length, matching: this.records.length, dropped: this.dropped ?? 0, error: "" };
    if (filter.includes("syntax")) {
      feeds.log = { ...answer, rows: [], error: "'syntax' was not expected there" };
      return;
    }
    const fits = playedFilter(filter);
    const found = this.records.filter((row) => fits(row));
    const shown = found.filter((row) => before === null || row[0] < before);
    feeds.log = { ...answer, matching: found.length, rows: shown.slice(-rows) };
  }

  dma({ first, count, last }) {
    const counted = { count: 1234567, bytes: 3 << 20, refused: 0, rate: 812, speed: 1536 };
    const bytes = this.regions.reduce((sum, [, size]) => sum + BigInt(size), 0n);
    return {
      first, total: this.regions.length, bytes: "0x" + bytes.toString(16), master: this.master, regions: this.regions.slice(first, first + count),
      read: counted, write: { ...counted, count: 7, bytes: 100, refused: 2, rate: 0, speed: 0 }, last: this.copies.slice(-last),
    };
  }

  picture({ json, data }, buffers) {
    if (!data) return json;
    buffers.push(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer);
    return { ...json, buffer: buffers.length - 1 };
  }

  timeline({ from, to, pixels }, buffers) {
    const last = this.records.length ? this.records.at(-1)[1] * 1e6 : 0;
    const range = from === null ? { from: last - 10e9, to: last } : { from, to };
    const inside = this.records.filter((row) => row[1] * 1e6 >= range.from && row[1] * 1e6 <= range.to).slice(-6000);
    const view = new DataView(new ArrayBuffer(inside.length * 16));
    inside.forEach((row, n) => {
      view.setFloat64(n * 16, row[1] * 1e6, true);
      view.setUint16(n * 16 + 8, Math.max(0, LANES.indexOf(row[4])), true);
      view.setUint8(n * 16 + 10, KINDS.indexOf(row[3]));
      view.setUint8(n * 16 + 11, row[9] ? 1 : 0);
      view.setUint32(n * 16 + 12, parseInt(row[5], 16) || 0, true);
    });
    buffers.push(view.buffer);
    const first = this.records.length ? this.records[0][1] * 1e6 : 0;
    return { epoch: "123456789", ...range, first, last, lanes: LANES, buffer: buffers.length - 1, count: inside.length, thinned: inside.length >= 6000, pixels };
  }

  typed({ from }) {
    const letters = [...this.console.text];
    return { from: Math.min(from, letters.length), text: letters.slice(from).join(""), alive: this.console.alive, vm: this.console.vm };
  }

  act(message) {
    let text = this.fail;
    const ok = !text;
    if (ok && message.action === "diff") text = this.diff;
    if (ok && message.action === "csv") text = "seq,ms\n1,0.5\n2,0.7\n";
    if (ok && message.action === "console") this.console.text += message.text.replaceAll("\r", "\r\n");
    if (ok && message.action === "repeat") this.repeat[`${message.index}:${message.vector}`] = message.hertz;
    if (ok && message.action === "trigger") this.lines.find((line) => line.index === message.index && line.vector === message.vector).count += 1;
    if (ok && message.action === "level") this.lines[0].asserted = message.on;
    this.tell("msg:custom", { type: "done", id: message.id, ok, text }, []);
    this.flush([]);
  }

  /** Let time go on: `many` more records `hertz` times a second. */
  start(hertz, many) {
    this.timer = setInterval(() => {
      this.records.push(...playedRecords(many, this.records.length));
      this.flush([]);
    }, 1000 / hertz);
  }
}

function playedRecords(count, first = 0) {
  return Array.from({ length: count }, (_, n) => playedRecord(first + n));
}

function playedRecord(seq) {
  const pick = (seq * 2654435761) % 100;
  const ms = seq * 3.1 + (seq % 7) * 0.21;
  const revision = pick < 48 ? 3 : 0;
  if (pick < 45) return [seq, ms, "guest", "read", LANES[seq % 4], `0x${(seq * 77 & 0xffff).toString(16).padStart(8, "0")}`, "ENABLE=ON  SPEED=FAST", 9.1 + (seq % 5), 0, "", null];
  if (pick < 80) return [seq, ms, "guest", "write", LANES[seq % 4], `0x${(seq & 0xff).toString(16).padStart(8, "0")}`, "ENABLE 0→1  PERIOD 10→20", 41.5, revision, pick < 48 ? "! hook raised" : "", pick < 48 ? "bar0.CTRL.on_write" : null];
  if (pick < 84) return [seq, ms, "notebook", "poke", "bar0.CTRL", "0x00000001", "ENABLE 0→1", 0, 0, "", null];
  if (pick < 90) return [seq, ms, "device", "irq", "INTx", "", "INTx delivered", 2.2, 0, "", null];
  if (pick < 93) return [seq, ms, "device", "dma_read", "dma", "0x1122334455667788", "IOVA 0x10000, 64 bytes", 12.5, 0, "", null];
  if (pick < 96) return [seq, ms, "device", "dma_write", "dma", "0x00000000000000ff", "IOVA 0x20000, 64 bytes", 12.5, 0, "", null];
  if (pick < 97) return [seq, ms, "notebook", "swap", "bar0.CTRL", "", "on_write set", 0, 3, "", null];
  if (pick < 98) return [seq, ms, "guest", "read", "bar0.MASK", "0xffffffff", "", 8.8, 0, "! unmapped address", null];
  return [seq, ms, "guest", pick < 99 ? "reset" : "attach", pick < 99 ? "reset" : "client", "", pick < 99 ? "by the client" : "a client came", 0, 0, "", null];
}

function playedRegions() {
  return [
    ["0x0", "0xa0000", "rw", "mapped", false], ["0xc0000", "0x20000", "r-", "file", false], ["0x100000", "0xff00000", "rw", "messages", true],
    ["0xfffff00000000000", "0x100000000000", "rw", "messages", false],
  ];
}

function playedCopies() {
  const one = (seq, ...rest) => [seq, seq * 3.1, ...rest];
  return [
    one(11, "dma_read", "device", "0x1000", 4096, "0x1122334455667788", 1.25, ""),
    one(12, "dma_write", "notebook", "0x2000", 6, "0x726577736e61", 0.05, ""),
    one(14, "dma_write", "device", "0xdead0000", 64, "", 0, "! refused: not mapped (EFAULT)"),
  ];
}

function playedFilter(text) {
  const kinds = [...text.matchAll(/kind == (\w+)/g)].map((found) => found[1]);
  const origins = [...text.matchAll(/origin == (\w+)/g)].map((found) => found[1]);
  const register = /reg == (\w+)/.exec(text)?.[1];
  return (row) => (!kinds.length || kinds.includes(row[3])) && (!origins.length || origins.includes(row[2]))
    && (!register || row[4].endsWith(register)) && (!/flagged/.test(text) || row[9]);
}

function playedHooks() {
  const row = { function: "switch", cell: "In[4]", revision: 3, calls: 12345, median_us: 38.2, max_us: 6120, error: "ZeroDivisionError: division by zero (3x)", enabled: true, revisions: [1, 2, 3] };
  return [
    { ...row, key: "bar0.CTRL.on_write" },
    { ...row, key: "bar0.COUNT.on_read", function: "count", cell: "In[5]", revision: 1, revisions: [1], calls: 88, error: "", median_us: 12, max_us: 91 },
    { ...row, key: "bar0.MASK.on_write", function: "mask", cell: "blinker.py", revision: 2, revisions: [1, 2], calls: 0, error: "", enabled: false, median_us: 0, max_us: 0 },
  ];
}

function playedConsole() {
  const lines = [
    "SeaBIOS (version 1.16.3)", "\x1b[2J\x1b[HLoading Linux 6.12 ...", "[    0.000000] Linux version 6.12.38+deb13-amd64 (debian-kernel@lists.debian.org)",
    "[    0.412345] pci 0000:00:02.0: [1234:0b11] type 00 class 0xff0000", "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[1mworkbench guest\x1b[0m.",
    "[\x1b[0;1;31mFAILED\x1b[0m] Failed to start \x1b[4mthe impossible\x1b[0m.", "\x1b[33mwarning:\x1b[0m colour \x1b[38;5;208m208\x1b[0m, \x1b[38;2;120;200;255mtrue\x1b[0m, \x1b[7minverse\x1b[0m, \x1b[44m ground \x1b[0m",
    "\x1b[1;34m/bin\x1b[0m  \x1b[1;36mlink\x1b[0m  \x1b[1;32mrun\x1b[0m  plain  \x1b[90mgrey\x1b[0m",
  ];
  return lines.join("\r\n") + "\r\n\x1b]0;guest\x07~ # ";
}
