/**
 * Hooks: which Python function answers where, how it fares, and its revisions: go back, switch off, compare.
 *
 * A row's error and its diff unfold below it. The diff keeps + and - as text; colour only repeats them.
 */
const hooksView = (() => {
  const TITLES = ["target", "function", "cell", "revision", "calls", "median", "max", "actions", "last error"];

  /** A unified diff as [[class, line], ...]. @param {string} text */
  function diffLines(text) {
    return text.replace(/\n$/, "").split("\n").map((line) => {
      const file = line.startsWith("+++") || line.startsWith("---");
      const kind = file ? "head" : { "+": "add", "-": "del", "@": "hunk" }[line[0]] ?? "same";
      return [kind, line];
    });
  }

  /** One hook: two rows of the table, the second (error, diff) hidden until it is asked for. */
  class HookRow {
    constructor(link) {
      this.link = link;
      this.cells = TITLES.map((title) => h("td", { class: `wb-hook-${title.replace(" ", "-")}` }));
      this.revision = this.#revisions();
      this.toggle = h("button", { type: "button", class: "wb-btn", onclick: () => this.#switch() }, "Disable");
      this.diffButton = h("button", { type: "button", class: "wb-btn", "aria-expanded": "false", onclick: () => this.#diff() }, "Diff");
      this.errorButton = h("button", { type: "button", class: "wb-link", "aria-expanded": "false", onclick: () => this.#error() });
      this.cells[3].append(this.revision);
      this.cells[7].append(this.toggle, this.diffButton);
      this.cells[8].append(this.errorButton, h("span"));
      this.detail = h("td", { colspan: TITLES.length });
      this.main = h("tr", null, this.cells);
      this.below = h("tr", { class: "wb-hook-detail", hidden: true }, this.detail);
      this.open = "";
    }

    #revisions() {
      return h("select", {
        title: "The mouse goes back at once; with the keyboard Enter does, and Escape stays",
        // With the keyboard, arrows pass over revisions, and each step would be a new one.
        onpointerdown: () => (this.byKey = false),
        onkeydown: (event) => this.#keyed(event),
        onchange: () => !this.byKey && this.#revert(),
        onblur: () => this.#stay(),
      });
    }

    fill(row) {
      this.row = row;
      const texts = [row.key, row.function, row.cell || "–", null, countText(row.calls), row.calls ? durationText(row.median_us) : "–",
        row.calls ? durationText(row.max_us) : "–"];
      texts.forEach((text, at) => text !== null && setText(this.cells[at], text));
      this.main.classList.toggle("wb-off", !row.enabled);
      if (!row.enabled) setText(this.cells[1], `${row.function} (disabled)`);
      this.#fillRevisions(row);
      setText(this.toggle, row.enabled ? "Disable" : "Enable");
      setAttr(this.toggle, "aria-label", `${row.enabled ? "Disable" : "Enable"} ${row.key}`);
      this.diffButton.disabled = row.revisions.length < 2;
      setAttr(this.diffButton, "aria-label", `Compare revisions of ${row.key}`);
      setText(this.errorButton, row.error ? `! ${row.error}` : "");
      this.errorButton.hidden = !row.error;
      setText(this.cells[8].lastChild, row.error ? "" : "none");
      if (this.open === "error") this.#show(row.error ? "error" : "", this.#trace());
    }

    #fillRevisions(row) {
      const wish = [row.revision, ...row.revisions].join();
      const news = this.known !== wish;
      if (news) {
        this.known = wish;
        this.revision.replaceChildren(...row.revisions.map((n) => h("option", { value: String(n) }, `rev ${n}`)));
      }
      setAttr(this.revision, "aria-label", `Revision of ${row.key}: choose one to go back to it`);
      if (news || document.activeElement !== this.revision) this.revision.value = String(row.revision);
    }

    #keyed(event) {
      this.byKey = event.key !== "Enter";
      if (event.key === "Escape") this.#stay();
      else if (event.key === "Enter" && Number(this.revision.value) !== this.row.revision) this.#revert();
    }

    #stay() {
      this.revision.value = String(this.row.revision);
      this.byKey = false;
    }

    async #revert() {
      const done = await this.link.attempt("revert", { key: this.row.key, revision: Number(this.revision.value) });
      if (done === null) this.#stay();
    }

    #switch() {
      this.link.attempt("disable", { key: this.row.key, on: this.row.enabled });
    }

    #error() {
      if (this.open === "error") this.#show("");
      else this.#show("error", this.#trace());
    }

    #trace() {
      return h("pre", { class: "wb-trace", tabindex: "0", "aria-label": `Traceback of ${this.row.key}` },
        faultOf(this.link.state, this.row.key, this.row.revision)?.text ?? this.row.error);
    }

    #diff() {
      if (this.open === "diff") return this.#show("");
      const { revisions, revision } = this.row;
      const before = revisions.filter((n) => n < revision);
      const choose = (label, chosen) => h("select", { "aria-label": label, onchange: () => this.#compare() },
        revisions.map((n) => h("option", { value: String(n), selected: n === chosen }, `rev ${n}`)));
      const other = before.at(-1) ?? revisions.filter((n) => n !== revision).at(-1);
      this.old = choose("Old revision", other);
      this.new = choose("New revision", revision);
      this.result = h("div", { class: "wb-diff", role: "region", tabindex: "0", "aria-label": `Difference of ${this.row.key}` });
      this.#show("diff", h("div", null, h("div", { class: "wb-bar" }, "from ", this.old, " to ", this.new), this.result));
      return this.#compare();
    }

    async #compare() {
      const text = await this.link.attempt("diff", { key: this.row.key, old: Number(this.old.value), new: Number(this.new.value) });
      if (text === null) return;
      const lines = text.trim() ? diffLines(text) : [["same", "no difference"]];
      this.result.replaceChildren(...lines.map(([kind, line]) => h("div", { class: `wb-diff-${kind}` }, line || " ")));
    }

    #show(what, content) {
      if (what && what === this.open && what === "error" && this.detail.textContent === content.textContent) return;
      this.open = what;
      this.below.hidden = !what;
      this.detail.replaceChildren(...(what ? [content] : []));
      setAttr(this.errorButton, "aria-expanded", String(what === "error"));
      setAttr(this.diffButton, "aria-expanded", String(what === "diff"));
    }
  }

  class HooksTable {
    constructor(el, link) {
      this.link = link;
      this.rows = new Map();
      this.empty = h("p", { class: "wb-note" }, "No hooks: C answers everything. Decorate a function with @dev.bar0.CTRL.on_write to add one.");
      this.body = h("tbody");
      const head = h("thead", null, h("tr", null, TITLES.map((title) => h("th", { scope: "col" }, title))));
      this.table = h("table", { class: "wb-hooks", hidden: true }, h("caption", { class: "wb-hidden" }, "Hooks"), head, this.body);
      el.append(this.empty, h("div", { class: "wb-wide" }, this.table));
    }

    update(name, json) {
      if (name !== "hooks") return;
      const keys = new Set(json.rows.map((row) => row.key));
      for (const [key, row] of this.rows) {
        if (keys.has(key)) continue;
        row.main.remove();
        row.below.remove();
        this.rows.delete(key);
      }
      for (const row of json.rows) this.#row(row.key).fill(row);
      this.empty.hidden = keys.size > 0;
      this.table.hidden = keys.size === 0;
    }

    #row(key) {
      let row = this.rows.get(key);
      if (!row) {
        this.rows.set(key, (row = new HookRow(this.link)));
        this.body.append(row.main, row.below);
      }
      return row;
    }

    layout() {}

    destroy() {}
  }

  return {
    feeds: () => ({ hooks: {}, state: {} }),
    mount: (el, link) => new HooksTable(el, link),
    diffLines,
  };
})();
