/** The panel's head: who is attached, where, how fast, how long guests waited; the server's buttons; banners. */

const headerStates = {
  listening: { shape: "○", word: "listening", tone: "info", tip: "The socket is open; nobody is attached." },
  attached: { shape: "●", word: "attached", tone: "good", tip: "A client is attached and its accesses are answered." },
  paused: { shape: "‖", word: "paused", tone: "warn", tip: "The guest waits at its next access." },
  failed: { shape: "✕", word: "failed", tone: "bad", tip: "The server stopped because of an error." },
  stopped: { shape: "■", word: "stopped", tone: "idle", tip: "Nobody is served; restart serves again." },
  "not served": { shape: "□", word: "not served", tone: "idle", tip: "dev.serve() starts it." },
};

const HEADER_STALL_S = 2; // a hook that runs longer gets a banner

/** The end of a traceback: what was raised. */
const headerLast = (text) => (text ?? "").trim().split("\n").pop();
/** What the guest has of an access whose hook raised; "" where none waited: timers, resets, the views themselves. */
const headerAnswer = (name) => (name.endsWith(".on_write") ? " The write is stored." : name.endsWith(".on_read") ? " The guest got the stored value." : "");
/** Which of a hook's errors it is: another revision's, or another exception, is not put away with it. */
const headerFault = ({ name, revision, text }) => [name, revision ?? 0, headerLast(text)].join("\n");

class HeaderPart {
  constructor(el, link, layout) {
    this.el = el;
    this.link = link;
    this.state = {};
    this.dismissed = new Map(); // hook errors put away: which one -> count at that time
    this.banners = new Map();
    this.#build();
    this.layout(layout);
  }

  #build() {
    this.dot = h("span", { class: "wb-dot", "aria-hidden": "true" }, "□");
    this.word = h("span", { class: "wb-word" }, "…");
    this.client = h("span", { class: "wb-muted" });
    this.name = h("span", { class: "wb-name" });
    this.ident = h("span", { class: "wb-mono wb-muted" });
    this.doc = h("span", { class: "wb-muted wb-ellipsis" });
    const status = h("span", { class: "wb-status", role: "status" }, this.dot, this.word, this.client);
    this.el.append(
      h("div", { class: "wb-line" }, this.name, this.ident, status, this.doc, this.#buttons()),
      h("div", { class: "wb-line wb-small" }, this.#places(), this.#figures()),
      (this.bannerBox = h("div", { class: "wb-banners" })),
    );
  }

  #buttons() {
    const act = (action) => () => this.link.attempt(action);
    this.pause = iconButton("Pause: the guest waits at its next access", () => this.link.attempt(this.paused ? "resume" : "pause"));
    this.step = iconButton("Step: answer one access, then wait again", act("step"), { shown: "Step", class: "wb-labelled" });
    this.stop = this.#sure("Stop serving", "Stop", "stop", "Detach the guest?");
    this.restart = this.#sure("Restart: stop, and serve again at the same socket", "Restart", "restart", "Detach the guest?");
    this.reset = this.#sure("Reset: put every register back to its reset value", "Reset", "reset", "Reset all?");
    return h("span", { class: "wb-buttons", role: "group", "aria-label": "Server" },
      this.pause, this.step, this.stop, this.restart, this.reset);
  }

  /** A button that asks once more while a guest is attached. */
  #sure(label, shown, action, question) {
    let armed = 0;
    const rest = () => {
      clearTimeout(armed);
      armed = 0;
      setText(button, shown);
      button.classList.remove("wb-danger");
      setAttr(button, "aria-label", label);
    };
    const button = iconButton(label, () => {
      const safe = armed || !["attached", "paused"].includes(this.link.state?.server);
      if (safe) {
        rest();
        this.link.attempt(action);
        return;
      }
      setText(button, question);
      setAttr(button, "aria-label", `${question} Press again to confirm`);
      button.classList.add("wb-danger");
      armed = setTimeout(rest, 4000);
    }, { shown, class: "wb-labelled" });
    return button;
  }

  #places() {
    this.socket = h("code", { class: "wb-mono wb-ellipsis" });
    this.qemu = h("code", { class: "wb-mono wb-ellipsis" });
    return [
      h("span", { class: "wb-place" }, h("span", { class: "wb-muted" }, "socket"), this.socket,
        copyButton("copy the socket's path", () => this.socketNow ?? "")),
      h("span", { class: "wb-place" }, h("span", { class: "wb-muted" }, "QEMU"), this.qemu,
        copyButton("copy the arguments for QEMU", () => this.layoutNow.qemu_args ?? "")),
    ];
  }

  #figures() {
    const figure = (tip) => h("span", { class: "wb-figure", title: tip });
    this.rate = figure("Accesses a second");
    this.totals = figure("Guest reads and writes since the device was made");
    this.flagged = figure("Accesses that no register covers, or that were refused");
    this.dropped = figure("Records the log had to forget");
    this.stall = figure("");
    this.stallBar = h("span", { class: "wb-meter-bar" });
    const meter = h("span", { class: "wb-meter", "aria-hidden": "true" }, this.stallBar);
    this.stallBox = h("span", { class: "wb-stall", hidden: true }, meter, this.stall);
    return h("span", { class: "wb-figures" }, this.rate, this.totals, this.flagged, this.dropped, this.stallBox);
  }

  layout(layout) {
    this.layoutNow = layout;
    setText(this.name, layout.name);
    setText(this.ident, layout.id);
    setText(this.doc, (layout.doc ?? "").split("\n")[0].replaceAll("`", "")); // they mark code, for those who read the source
    setAttr(this.doc, "title", layout.doc);
    this.#showSocket(layout.socket);
    setText(this.qemu, layout.qemu_args || "none");
    setAttr(this.qemu, "title", layout.qemu_args);
  }

  update(name, state) {
    const look = headerStates[state.server] ?? headerStates["not served"];
    setText(this.dot, look.shape);
    setAttr(this.dot.parentNode, "data-tone", look.tone);
    setAttr(this.dot.parentNode, "title", look.tip);
    setText(this.word, look.word);
    setText(this.client, state.client ?? "");
    this.#showSocket(state.socket ?? this.layoutNow.socket);
    this.#enable(state);
    this.#showFigures(state);
    this.#showBanners(state);
  }

  #showSocket(path) {
    this.socketNow = path;
    setText(this.socket, path || "none");
    setAttr(this.socket, "title", path);
  }

  #enable(state) {
    this.paused = state.server === "paused";
    const running = ["listening", "attached", "paused"].includes(state.server);
    setText(this.pause, this.paused ? "Resume" : "Pause");
    const tip = this.paused ? "Resume: answer accesses again" : "Pause: the guest waits at its next access";
    setAttr(this.pause, "aria-label", tip);
    setAttr(this.pause, "title", tip);
    this.pause.disabled = !running;
    this.step.disabled = !this.paused;
    this.stop.disabled = !running;
  }

  #showFigures(state) {
    setText(this.rate, `${countText(Math.round(state.rate ?? 0))} /s`);
    setText(this.totals, `${countText(state.reads ?? 0)} R · ${countText(state.writes ?? 0)} W`);
    setText(this.flagged, state.flagged ? `⚑ ${countText(state.flagged)} flagged` : "");
    this.flagged.hidden = !state.flagged;
    setText(this.dropped, `${countText(state.dropped ?? 0)} dropped`);
    setAttr(this.dropped, "data-tone", state.dropped ? "warn" : null);
    this.#showStall(state.stall);
  }

  #showStall(stall) {
    this.stallBox.hidden = !stall?.waits;
    if (!stall?.waits) return;
    const cell = stall.worst_cell ? ` in ${stall.worst_cell}` : "";
    setText(this.stall, `waited ${durationText(stall.total_ms * 1000)}, worst ${durationText(stall.worst_ms * 1000)}${cell}`);
    const why = `Guests waited ${stall.waits} times for Python; the longest wait was${cell || " outside any cell"}`;
    setAttr(this.stallBox, "title", why);
    // 1 ms to 10 s on a logarithmic scale: a wait of 10 s is a guest that believes the device died.
    const share = Math.max(0.04, Math.min(1, Math.log10(Math.max(stall.worst_ms, 1)) / 4));
    this.stallBar.style.width = `${Math.round(share * 100)}%`;
    setAttr(this.stallBox, "data-tone", stall.worst_ms > 1000 ? "bad" : stall.worst_ms > 50 ? "warn" : "good");
  }

  #showBanners(state) {
    const wanted = new Map();
    const now = state.stall?.now;
    if (now && now.seconds > HEADER_STALL_S) wanted.set("stall", { stall: now });
    if (state.error) wanted.set("error", { text: state.error });
    if (state.notice) wanted.set("notice", { notice: state.notice });
    for (const fault of (state.errors ?? []).slice(-3)) {
      if ((this.dismissed.get(headerFault(fault)) ?? 0) < fault.count) wanted.set(`hook ${fault.name}`, { fault });
    }
    for (const [key, banner] of this.banners) {
      if (!wanted.has(key)) {
        banner.remove();
        this.banners.delete(key);
      }
    }
    for (const [key, what] of wanted) this.#banner(key, what);
  }

  #banner(key, what) {
    let banner = this.banners.get(key);
    if (!banner) {
      banner = what.stall ? this.#stallBanner(what.stall) : what.fault ? this.#faultBanner(what.fault) : this.#plainBanner(key, what);
      this.banners.set(key, banner);
      this.bannerBox.append(banner);
    }
    banner.wbShow(what);
  }

  #stallBanner(stall) {
    const hook = h("b", { class: "wb-mono" }, stall.hook);
    const seconds = h("span", { "aria-live": "off" });
    const skip = iconButton("Answer without it: answer the guest without this hook", () => this.link.attempt("skip"),
      { shown: "Answer without it", class: "wb-labelled wb-danger" });
    const banner = h("div", { class: "wb-banner", "data-tone": "bad" }, h("span", { class: "wb-mark", "aria-hidden": "true" }, "!"),
      h("span", { role: "alert" }, hook, " is still running; the guest waits"), seconds, skip);
    banner.wbShow = (what) => {
      setText(hook, what.stall.hook);
      setText(seconds, `${what.stall.seconds.toFixed(0)} s`);
    };
    return banner;
  }

  #faultBanner(fault) {
    const head = h("span", null);
    const trace = h("pre", { class: "wb-trace", tabindex: "0", "aria-label": "Traceback" });
    const close = iconButton(`Put away the error of ${fault.name}`, () => {
      this.dismissed.set(headerFault(banner.wbFault), banner.wbFault.count);
      banner.remove();
      this.banners.delete(`hook ${fault.name}`);
    }, { shown: "✕", class: "wb-quiet" });
    const banner = h("div", { class: "wb-banner", "data-tone": "bad" }, h("span", { class: "wb-mark", "aria-hidden": "true" }, "✕"),
      h("details", null, h("summary", null, head), trace), close);
    banner.wbShow = (what) => {
      const { name, revision, count, text } = what.fault;
      banner.wbFault = what.fault;
      setText(head, `${name}${revision ? ` rev ${revision}` : ""} raised ${headerLast(text)}${count > 1 ? `, ${countText(count)} times` : ""}.${headerAnswer(name)}`);
      setText(trace, text);
    };
    return banner;
  }

  #plainBanner(key, what) {
    const text = h("span", { role: "status" });
    const mark = h("span", { class: "wb-mark", "aria-hidden": "true" }, key === "error" ? "✕" : "i");
    const banner = h("div", { class: "wb-banner", "data-tone": key === "error" ? "bad" : "info" }, mark, text);
    banner.wbShow = (now) => setText(text, now.text ?? now.notice);
    banner.wbShow(what);
    return banner;
  }

  destroy() {
    this.el.replaceChildren();
  }
}

/** The header as a view. */
const headerView = {
  feeds: () => ({ state: {} }),
  mount: (el, link, layout) => new HeaderPart(el, link, layout),
};
