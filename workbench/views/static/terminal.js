/**
 * A small terminal without a page: a serial console's text in, lines of styled runs out (console.js shows them).
 *
 * Long lines are not cut at 80 columns (the page wraps them), so that what is copied is what the guest wrote.
 * Understood: CR, LF, BS, TAB, colours, erasing, the cursor and a line editor's insert and delete; the rest is
 * swallowed. A style is words: "b" bold, "f1" red letters, "g4" blue ground, "f#5f00af" one beyond the sixteen.
 */
const terminal = (() => {
  const LIMIT = 5000; // lines of scrollback
  const HEIGHT = 24; // lines that cursor addressing sees
  const WIDEST = 4096; // columns; a guest may not make a line without end
  const PENDING = 4096; // characters of an unfinished escape sequence; more is not one

  /** An escape sequence: CSI (or one broken off), OSC and its kin, charset, one letter; broken by another. */
  const SEQUENCE = new RegExp(
    "\\x1b(?:\\[([?>=!]?)([\\d;:]*)[ -/]*([@-~])|\\[[?>=!]?[\\d;:]*[ -/]*(?=[^\\d;:@-~ -/])"
    + "|[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\|(?=\\x1b[^\\\\]))|[()*+#%][^]|([^\\x1b[\\]PX^_()*+#%])|(?=\\x1b))", "y");
  const PLAIN = new RegExp("[^\\x00-\\x1f\\x7f]+", "y");

  /** SGR numbers that set one property of the pen. */
  const PEN = {
    1: ["b", true], 2: ["d", true], 3: ["i", true], 4: ["u", true], 7: ["r", true], 9: ["s", true],
    23: ["i", false], 24: ["u", false], 27: ["r", false], 29: ["s", false], 39: ["f", ""], 49: ["g", ""],
  };

  /** Take the colour after SGR 38 or 48 off `parts`: "0" to "15", "#rrggbb", or "" if malformed. */
  function colour(parts) {
    const hex = (levels) => "#" + levels.map((n) => (n & 255).toString(16).padStart(2, "0")).join("");
    const mode = parts.shift();
    if (mode === 2) return hex(parts.splice(0, 3));
    if (mode !== 5) return "";
    const n = parts.shift() ?? 0;
    if (n < 16) return String(n);
    if (n > 231) return hex(Array(3).fill(8 + (n - 232) * 10));
    const cube = [Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6];
    return hex(cube.map((level) => level && 55 + 40 * level));
  }

  /** The pen after an SGR sequence with these numbers. */
  function sgr(pen, numbers) {
    const parts = numbers.length ? [...numbers] : [0];
    while (parts.length) {
      const n = parts.shift();
      if (n === 0) pen = {};
      else if (PEN[n]) pen = { ...pen, [PEN[n][0]]: PEN[n][1] };
      else if (n === 22) pen = { ...pen, b: false, d: false };
      else if (n === 38 || n === 48) pen = { ...pen, [n === 38 ? "f" : "g"]: colour(parts) };
      else if (n >= 30 && n <= 37) pen = { ...pen, f: String(n - 30) };
      else if (n >= 40 && n <= 47) pen = { ...pen, g: String(n - 40) };
      else if (n >= 90 && n <= 97) pen = { ...pen, f: String(n - 82) };
      else if (n >= 100 && n <= 107) pen = { ...pen, g: String(n - 92) };
    }
    return pen;
  }

  /** The pen as words; "" is plain. Inverse swaps the colours, "fd" and "gg" are the swapped defaults. */
  function words(pen) {
    const front = pen.r ? pen.g || "d" : pen.f;
    const ground = pen.r ? pen.f || "d" : pen.g;
    const out = ["b", "d", "i", "u", "s"].filter((key) => pen[key]);
    if (front) out.push("f" + front);
    if (ground) out.push("g" + ground);
    return out.join(" ");
  }

  class Screen {
    constructor(limit = LIMIT) {
      this.limit = limit;
      this.lines = [];
      this.changed = new Set(); // lines since the last take()
      this.dropped = []; // and those gone from the top
      this.row = this.column = this.top = 0;
      this.saved = [0, 0];
      this.pen = {};
      this.style = this.pending = "";
      this.reach(0);
    }

    /** Take text as the guest sent it; a sequence may be cut anywhere between two calls. */
    write(text) {
      const data = this.pending + text;
      this.pending = "";
      for (let at = 0; at < data.length; ) {
        const next = this.step(data, at);
        if (next < 0) return void (this.pending = data.slice(at));
        at = next;
      }
    }

    /** Obey what stands at `at`; return where the next begins, or -1 when it is not complete yet. */
    step(data, at) {
      PLAIN.lastIndex = SEQUENCE.lastIndex = at;
      if (data[at] !== "\x1b") {
        const run = PLAIN.exec(data);
        if (run) this.put(run[0]);
        else this.control(data[at]);
        return run ? PLAIN.lastIndex : at + 1;
      }
      const found = SEQUENCE.exec(data);
      if (!found) return data.length - at > PENDING ? data.length : -1;
      if (found[3] && !found[1]) this.csi(found[3], found[2]);
      else if (found[4]) this.letter(found[4]);
      return Math.max(SEQUENCE.lastIndex, at + 1);
    }

    put(text) {
      const line = this.touch();
      while (line.chars.length < this.column) line.chars.push(" "), line.styles.push("");
      for (const char of text) {
        line.chars[this.column] = char;
        line.styles[this.column] = this.style;
        this.column = Math.min(this.column + 1, WIDEST);
      }
    }

    control(char) {
      if (char === "\r") this.column = 0;
      else if (char === "\b") this.column = Math.max(0, this.column - 1);
      else if (char === "\t") this.column = Math.min(WIDEST, (this.column | 7) + 1);
      else if (char === "\n" || char === "\v" || char === "\f") this.reach(this.row + 1);
    }

    letter(letter) {
      if (letter === "c") (this.pen = {}), (this.style = ""), this.clear();
      else if (letter === "7") this.saved = [this.row - this.top, this.column];
      else if (letter === "8") this.move(...this.saved);
      else if (letter === "E") (this.column = 0), this.reach(this.row + 1);
      else if (letter === "D") this.reach(this.row + 1);
      else if (letter === "M") this.move(this.row - this.top - 1, this.column);
    }

    csi(final, text) {
      const numbers = text === "" ? [] : text.split(/[;:]/).map(Number);
      const n = Math.max(1, numbers[0] || 1);
      const row = this.row - this.top;
      const acts = {
        m: () => (this.style = words((this.pen = sgr(this.pen, numbers)))),
        A: () => this.move(row - n, this.column), B: () => this.move(row + n, this.column),
        C: () => this.move(row, this.column + n), D: () => this.move(row, this.column - n),
        E: () => this.move(row + n, 0), F: () => this.move(row - n, 0),
        G: () => this.move(row, n - 1), d: () => this.move(n - 1, this.column),
        H: () => this.move(n - 1, (numbers[1] || 1) - 1), f: () => this.move(n - 1, (numbers[1] || 1) - 1),
        K: () => this.erase(numbers[0] || 0), J: () => this.eraseScreen(numbers[0] || 0),
        P: () => this.splice(n, 0), X: () => this.blank(this.column, this.column + n),
        "@": () => this.splice(0, Math.min(n, WIDEST)),
        s: () => (this.saved = [row, this.column]), u: () => this.move(...this.saved),
      };
      acts[final]?.();
    }

    /** Move to a row of the screen (not of the scrollback) and a column, both from 0, kept inside. */
    move(row, column) {
      this.column = Math.min(Math.max(0, column), WIDEST);
      this.reach(this.top + Math.min(Math.max(0, row), HEIGHT - 1));
    }

    /** Make `row` the current line, adding lines and dropping the oldest as needed. */
    reach(row) {
      while (this.lines.length <= row) {
        const line = { chars: [], styles: [] };
        this.lines.push(line);
        this.changed.add(line);
      }
      this.row = row;
      this.top = Math.max(this.top, row - HEIGHT + 1);
      const surplus = Math.max(0, this.lines.length - this.limit);
      for (const line of this.lines.splice(0, surplus)) {
        if (!this.changed.delete(line) || line.shown) this.dropped.push(line);
      }
      this.row -= surplus;
      this.top = Math.max(0, this.top - surplus);
    }

    touch(line = this.lines[this.row]) {
      this.changed.add(line);
      return line;
    }

    /** CSI K: 0 to the end of the line, 1 from its start, 2 all of it. */
    erase(how) {
      const line = this.touch();
      if (how === 1) return this.blank(0, this.column + 1);
      line.chars.length = line.styles.length = how === 2 ? 0 : Math.min(line.chars.length, this.column);
    }

    /** CSI J: 0 below the cursor, 1 above it, 2 everything: that begins a new screen and keeps the old. */
    eraseScreen(how) {
      if (how === 2) return this.clear();
      if (how > 2) return;
      this.erase(how);
      const [from, to] = how === 1 ? [this.top, this.row] : [this.row + 1, this.lines.length];
      for (const line of this.lines.slice(from, to)) this.touch(line).chars.length = line.styles.length = 0;
    }

    clear() {
      const [row, column] = [this.row - this.top, this.column];
      while (this.lines.length > this.top && !this.lines.at(-1).chars.length) this.forget();
      this.top = this.lines.length;
      this.move(row, column);
    }

    forget() {
      const line = this.lines.pop();
      if (!this.changed.delete(line) || line.shown) this.dropped.push(line);
    }

    blank(from, to) {
      const line = this.touch();
      const end = Math.min(to, line.chars.length);
      for (let at = from; at < end; at++) (line.chars[at] = " "), (line.styles[at] = "");
    }

    /** Delete and insert characters at the cursor, as line editors do. */
    splice(remove, insert) {
      const line = this.touch();
      if (this.column >= line.chars.length) return;
      line.chars.splice(this.column, remove, ...Array(insert).fill(" "));
      line.styles.splice(this.column, remove, ...Array(insert).fill(""));
    }

    /** Return what changed since the last call: {changed: lines, dropped: lines}. */
    take() {
      const changes = { changed: [...this.changed], dropped: this.dropped };
      this.changed = new Set();
      this.dropped = [];
      return changes;
    }
  }

  /** A line as [[style, text], ...]. */
  function runs(line) {
    const out = [];
    line.chars.forEach((char, at) => {
      if (out.length && out.at(-1)[0] === line.styles[at]) out.at(-1)[1] += char;
      else out.push([line.styles[at], char]);
    });
    return out;
  }
  return { Screen, runs };
})();
