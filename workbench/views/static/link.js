/**
 * Link: one rendered view's wire to the kernel, over the anywidget model. The messages are described in feed.py.
 *
 * For a view:  link.do("poke", {register: 3, field: null, value: "0x1"}) -> Promise<text>, rejects with the reason;
 * link.want() after its wish changed; link.state: the newest `state` feed or null; link.say(text) a line for the person.
 */

const LINK_BEAT_MS = 10000; // a wish is repeated, so that the kernel can forget tabs that died
const LINK_LATE_MS = 600000; // a cell may compute for minutes, and the kernel does what was asked when it ends
const LINK_ACK_MS = 400; // the kernel waits after 12 frames not acknowledged, 600 ms at its highest rate
const LINK_WANT_MS = 60; // a wish that changes with every wheel tick is sent this often at most

/** The links of one model: a widget displayed twice in a page is one comm with one wish. @type {WeakMap<Object, Set<Link>>} */
const linksOfModel = new WeakMap();

class Link {
  /**
   * @param {Object} model the anywidget model
   * @param {{feeds: function(): Object, frame: function(string, Object, Array), said: function(string, string)}} owner
   *   `feeds()` is the wish now, `frame` gets each feed of each frame, `said(text, kind)` shows "info", "wait" or "error"
   */
  constructor(model, owner) {
    this.model = model;
    this.owner = owner;
    this.visible = false;
    this.state = null;
    this.waiting = new Map();
    this.nextId = Math.floor(Math.random() * 2 ** 40); // two tabs hear each other's answers: never the same number
    this.sent = "";
    this.timer = 0;
    this.receive = (message, buffers) => this.#receive(message, buffers);
    if (!linksOfModel.has(model)) linksOfModel.set(model, new Set());
    this.peers = linksOfModel.get(model);
    this.peers.add(this);
    model.on("msg:custom", this.receive);
    this.beat = setInterval(() => this.visible && this.#sendWant(true), LINK_BEAT_MS);
  }

  /** Ask for everything; called once a view is on the page. */
  hello() {
    this.#send({ type: "hello" });
    this.want();
  }

  /** Say whether the view can be seen; the kernel sends nothing to one that cannot. @param {boolean} visible */
  setVisible(visible) {
    this.visible = visible;
    this.#sendWant();
  }

  /** The wish may have changed: collect it and send it, soon, if it differs from the last. */
  want() {
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.#sendWant();
    }, LINK_WANT_MS);
  }

  /**
   * Have the kernel do something. @param {string} action @param {Object} [args] @param {number} [timeout] milliseconds
   * @returns {Promise<string>} the answer's text; rejects with an Error that says why
   */
  do(action, args = {}, timeout = LINK_LATE_MS) {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const slow = setTimeout(() => this.say(`${action}: ${this.#whyWaiting()}`, "wait"), 1500);
      const late = setTimeout(() => {
        this.#settle(id, { ok: false, text: `${action}: the kernel did not answer in ${timeout / 1000} s` });
      }, timeout);
      this.waiting.set(id, { resolve, reject, slow, late });
      this.#send({ type: "do", id, action, ...args });
    });
  }

  /** `do` for buttons: a failure is shown to the person instead of thrown. @returns {Promise<string|null>} null: it failed */
  async attempt(action, args = {}) {
    try {
      return await this.do(action, args);
    } catch (error) {
      this.say(error.message, "error");
      return null;
    }
  }

  /** Show a line to the person. @param {string} text @param {"info"|"wait"|"error"} [kind] */
  say(text, kind = "info") {
    this.owner.said(text, kind);
  }

  /** Stop listening; answers still awaited are rejected. */
  destroy() {
    clearInterval(this.beat);
    clearTimeout(this.timer);
    clearTimeout(this.acking);
    this.visible = false;
    this.peers.delete(this);
    this.model.off("msg:custom", this.receive);
    for (const id of [...this.waiting.keys()]) this.#settle(id, { ok: false, text: "the view was closed" });
    this.#sendWant();
  }

  #whyWaiting() {
    if (this.state?.subshells === false) return "waits for the running cell to end (this kernel has no subshells)";
    return "no answer yet, still waiting";
  }

  #send(message) {
    try {
      this.model.send(message);
    } catch { /* the kernel is gone; the page says so itself */ }
  }

  #sendWant(again = false) {
    const seen = [...this.peers].filter((link) => link.visible);
    const feeds = Object.assign({}, ...seen.map((link) => link.owner.feeds()));
    const wish = { type: "want", visible: seen.length > 0, feeds };
    const text = JSON.stringify(wish);
    if (text === this.sent && !again) return;
    for (const link of this.peers) link.sent = text;
    this.sent = text;
    this.#send(wish);
  }

  #receive(message, buffers) {
    if (message.type === "done") this.#settle(message.id, message);
    if (message.type !== "frame") return;
    if (message.feeds.state) this.state = message.feeds.state;
    for (const [name, json] of Object.entries(message.feeds)) {
      try {
        this.owner.frame(name, json, buffers ?? []);
      } catch (error) {
        console.error(`workbench: the ${name} view failed`, error);
      }
    }
    if ([...this.peers][0] === this) this.#ack(message.seq);
  }

  /**
   * Acknowledge what was drawn, a few frames together: to the kernel's host page each message is a request, with a
   * busy and an idle state that it shows, and that costs more than our frame.
   */
  #ack(seq) {
    this.drawn = seq;
    this.acking ||= setTimeout(() => {
      const send = () => {
        this.acking = 0;
        if (!this.peers.has(this)) return; // closed while it waited for the next frame
        this.#send({ type: "ack", seq: this.drawn });
      };
      if (document.visibilityState === "hidden") send();
      else requestAnimationFrame(() => setTimeout(send, 0));
    }, LINK_ACK_MS);
  }

  #settle(id, answer) {
    const waiter = this.waiting.get(id);
    if (!waiter) return;
    this.waiting.delete(id);
    clearTimeout(waiter.slow);
    clearTimeout(waiter.late);
    this.say("", "wait");
    if (answer.ok) waiter.resolve(answer.text ?? "");
    else waiter.reject(new Error(answer.text || "it did not work"));
  }
}
