/**
 * The guest's serial console: screen with scrollback and colours, keys, an input line, power and plug.
 *
 * The screen takes keys while it has the focus (Tab too; Shift+Tab leaves); the line below sends whole lines.
 * Text is counted in characters as Python counts them, so that a reload asks for what is missing.
 */
const consoleView = (() => {
  const KEYS = {
    Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Insert: "\x1b[2~",
    ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D",
    Home: "\x1b[H", End: "\x1b[F", PageUp: "\x1b[5~", PageDown: "\x1b[6~",
  };
  const VERBS = [
    ["reset", "Reset", "Reset: press the machine's reset button"],
    ["powerdown", "Power down", "Power down: the guest shuts down"],
    ["kill", "Kill", "Kill: end the virtual machine at once"],
    ["plug", "Plug", "Plug: put the device into the running machine"],
    ["unplug", "Unplug", "Unplug: the guest lets the device go, then it is taken out"],
  ];
  const TOLD = ["reset", "kill"]; // these ask for a second press

  /** What a key press sends to the guest; null: nothing, the browser keeps it. @param {KeyboardEvent} event */
  function keyText(event) {
    if (event.metaKey || (event.shiftKey && ["Tab", "PageUp", "PageDown", "Insert"].includes(event.key))) return null;
    if (event.ctrlKey) return event.altKey || event.shiftKey ? null : controlText(event.key);
    const text = KEYS[event.key] ?? ([...event.key].length === 1 ? event.key : null);
    return event.altKey && text ? "\x1b" + text : text;
  }

  function controlText(key) {
    if (key === "v") return null; // paste
    if (key === " " || key === "@") return "\0";
    return /^[a-z[\\\]^_]$/.test(key) ? String.fromCharCode(key.toUpperCase().charCodeAt(0) - 64) : null;
  }

  /** How many characters Python sees in a string. */
  function characters(text) {
    let pairs = 0;
    for (let at = 0; at < text.length; at++) pairs += (text.charCodeAt(at) & 0xfc00) === 0xd800 ? 1 : 0;
    return text.length - pairs;
  }

  /** Write a line of the terminal into its element. */
  function fillLine(el, line) {
    const spans = terminal.runs(line).map(([style, text]) => {
      if (!style) return text;
      const words = style.split(" ");
      const css = { f: "color", g: "backgroundColor" };
      const direct = words.filter((word) => word[1] === "#").map((word) => [css[word[0]], word.slice(1)]);
      const names = words.filter((word) => word[1] !== "#").map((word) => `wb-t-${word}`);
      return h("span", { class: names.join(" "), style: Object.fromEntries(direct) }, text);
    });
    el.replaceChildren(...spans, "\n");
  }

  class Console {
    constructor(el, link) {
      this.link = link;
      this.state = { have: 0 };
      this.queue = "";
      this.sending = false;
      this.nodes = new WeakMap();
      this.draw = oncePerFrame(() => this.#draw());
      this.history = [];
      this.recalled = 0;
      el.append(this.#bar(), this.#makeScreen(), this.#line());
      this.#restart();
    }

    update(name, json) {
      if (name !== "console") return;
      if (json.from === 0 && json.text && this.state.have) this.#restart(); // another boot, or all of it again
      setText(this.status, json.alive ? `● running: ${json.vm}` : `○ ${json.vm || "no virtual machine"}`);
      for (const control of this.controls) control.disabled = !json.alive;
      this.#take(json);
    }

    layout() {}

    destroy() {
      this.draw.cancel();
      this.sizes.disconnect();
    }

    /** Frames may overlap after a reload, and the kernel keeps no more than its own scrollback. */
    #take({ from, text }) {
      const gap = from - this.state.have;
      if (gap > 0 && this.state.have > 0 && this.asked !== this.state.have) {
        this.asked = this.state.have;
        return this.link.want();
      }
      if (gap > 0) this.terminal.write(`\x1b[0;2m[${countText(gap)} earlier characters are no longer kept]\x1b[0m\r\n`);
      // The kernel keeps line ends as one character; to a terminal that one alone means down, not back.
      const fresh = gap < 0 ? [...text].slice(-gap).join("") : text;
      this.terminal.write(fresh.replaceAll("\n", "\r\n"));
      this.state.have = Math.max(this.state.have, from + characters(text));
      this.draw();
    }

    #restart() {
      this.terminal = new terminal.Screen();
      this.state.have = 0;
      this.lines.replaceChildren();
      this.draw();
    }

    #bar() {
      const buttons = VERBS.map(([verb, shown, label]) => this.#verb(verb, shown, label));
      this.status = h("span", { class: "wb-console-status", role: "status" }, "○ no virtual machine");
      const copy = copyButton("Copy the whole console", () => this.terminal.lines.map((line) => line.chars.join("")).join("\n"));
      return h("div", { class: "wb-bar", role: "group", "aria-label": "Virtual machine" }, this.status, h("span", { class: "wb-buttons" }, buttons, copy));
    }

    #verb(verb, shown, label) {
      const ask = () => {
        if (TOLD.includes(verb) && !button.dataset.sure) return this.#sure(button, shown, label);
        button.wbRest?.();
        this.link.attempt("vm", { verb });
      };
      const button = iconButton(label, ask, { shown, class: TOLD.includes(verb) ? "wb-risky" : "" });
      button.disabled = true;
      this.controls = [...(this.controls ?? []), button];
      return button;
    }

    /** The first press of what cannot be undone only arms the button, for three seconds. */
    #sure(button, shown, label) {
      button.dataset.sure = "1";
      setText(button, `${shown}: sure?`);
      setAttr(button, "aria-label", `${shown}: sure? Press again to confirm`);
      button.wbRest = () => {
        clearTimeout(late);
        delete button.dataset.sure;
        setText(button, shown);
        setAttr(button, "aria-label", label);
      };
      const late = setTimeout(button.wbRest, 3000);
    }

    #makeScreen() {
      this.hint = uniqueId("console");
      this.lines = h("div", null);
      this.screen = h("pre", {
        class: "wb-console-screen", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Serial console of the guest",
        "aria-describedby": this.hint, "data-lm-suppress-shortcuts": "true",
        onkeydown: (event) => this.#keyed(event),
        onpaste: (event) => this.#send(event.clipboardData.getData("text").replaceAll("\n", "\r")),
        onscroll: () => this.#scrolled(),
      }, this.lines);
      // Lines get their height when they are first seen, so the end moves without anything being drawn.
      this.sizes = new ResizeObserver(() => this.#follow());
      this.sizes.observe(this.lines);
      this.sizes.observe(this.screen);
      return this.screen;
    }

    /** Only a person scrolls up, and then the screen stays there until it is scrolled to its end again. */
    #scrolled() {
      const { scrollTop, clientHeight, scrollHeight } = this.screen;
      if (!clientHeight) return; // hidden
      if (scrollTop + clientHeight >= scrollHeight - 8) this.left = false;
      else if (scrollTop < this.top) this.left = true;
      this.top = scrollTop;
    }

    #follow() {
      if (!this.left) this.screen.scrollTop = this.screen.scrollHeight;
    }

    #line() {
      this.input = h("input", {
        class: "wb-console-input", type: "text", "aria-label": "Line for the guest", spellcheck: "false", autocomplete: "off",
        placeholder: "a line for the guest, Enter sends it", onkeydown: (event) => this.#typed(event),
      });
      const hint = h("span", { id: this.hint, class: "wb-note" }, "Click the screen to type into it; Shift+Tab leaves it.");
      this.controls.push(this.input);
      this.input.disabled = true;
      return h("div", { class: "wb-bar" }, h("span", { "aria-hidden": "true" }, "›"), this.input, hint);
    }

    #typed(event) {
      event.stopPropagation();
      if (event.key === "Enter") {
        this.#send(this.input.value + "\r");
        if (this.input.value) this.history.push(this.input.value);
        this.recalled = this.history.length;
        this.input.value = "";
      } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        this.recalled += event.key === "ArrowUp" ? -1 : 1;
        this.recalled = Math.max(0, Math.min(this.recalled, this.history.length));
        this.input.value = this.history[this.recalled] ?? "";
        event.preventDefault();
      }
    }

    #keyed(event) {
      event.stopPropagation();
      const copying = event.ctrlKey && event.key === "c" && !getSelection().isCollapsed;
      if (copying || event.isComposing) return;
      const text = keyText(event);
      if (text === null) return;
      event.preventDefault();
      this.#send(text);
    }

    /** Keys typed while a message is on its way go together in the next. */
    async #send(text) {
      this.queue += text;
      if (this.sending) return;
      this.sending = true;
      while (this.queue) {
        const next = this.queue;
        this.queue = "";
        await this.link.attempt("console", { text: next });
      }
      this.sending = false;
    }

    #draw() {
      const { changed, dropped } = this.terminal.take();
      for (const line of dropped) this.nodes.get(line)?.remove();
      for (const line of changed) {
        let node = this.nodes.get(line);
        if (!node) {
          this.nodes.set(line, (node = h("div", { class: "wb-console-line" })));
          line.shown = true;
          this.lines.append(node);
        }
        fillLine(node, line);
      }
      this.#cursor();
      this.#follow();
    }

    /** The line of the cursor is marked; its column is a style variable (the font is fixed-pitch). */
    #cursor() {
      this.marked?.classList.remove("wb-console-here");
      this.marked = this.nodes.get(this.terminal.lines[this.terminal.row]);
      this.marked?.classList.add("wb-console-here");
      this.marked?.style.setProperty("--wb-column", this.terminal.column);
    }
  }

  return {
    feeds: (state) => ({ console: { from: state?.have ?? 0 } }),
    mount: (el, link) => new Console(el, link),
    keyText,
    characters,
  };
})();
