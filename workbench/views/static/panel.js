/**
 * The entry: picks the view by the trait `kind`. A view is found by its name in the table below; one whose file is
 * missing is skipped. `kind` "panel" is the header and the tabs; of the tabs only the open one's feeds are wanted.
 */

/** Name, title, view object, whether a device has it. `typeof` keeps a missing file from being an error. */
const panelTable = [
  ["registers", "Registers", () => typeof registersView === "object" && registersView],
  ["memory", "Memory", () => typeof memoryView === "object" && memoryView],
  ["image", "Screen", () => typeof imageView === "object" && imageView, (layout) => layout.image],
  ["irq", "Interrupts", () => typeof irqView === "object" && irqView],
  ["dma", "DMA", () => typeof dmaView === "object" && dmaView],
  ["log", "Log", () => typeof logView === "object" && logView],
  ["timeline", "Timeline", () => typeof timelineView === "object" && timelineView],
  ["hooks", "Hooks", () => typeof hooksView === "object" && hooksView],
  ["console", "Console", () => typeof consoleView === "object" && consoleView],
];

/** What every rendered widget has: the root element, the link, the mounted views and the notice line. */
class PanelShell {
  constructor(model, el) {
    this.model = model;
    this.options = model.get("options") ?? {};
    this.layout = model.get("device_layout") ?? { version: 0, name: "", blocks: [], registers: [], irqs: [] };
    /** @type {Map<string, {view: Object, part: Object}>} mounted views by name */
    this.mounted = new Map();
    this.open = [];
    this.notice = h("div", { class: "wb-notice", role: "status", "aria-live": "polite", hidden: true });
    // JupyterLab takes single keys as commands unless told that they are ours.
    this.root = h("div", { class: "wb-live", "data-lm-suppress-shortcuts": "true", "data-kind": model.get("kind") });
    el.append(this.root);
    this.link = new Link(model, {
      feeds: () => this.feeds(),
      frame: (name, json, buffers) => this.frame(name, json, buffers),
      said: (text, kind) => this.said(text, kind),
    });
    this.relayout = () => this.laidOut(model.get("device_layout"));
    model.on("change:device_layout", this.relayout);
  }

  /** Put a view into an element; views of the names in `open` get and want their feeds. */
  mount(name, view, el) {
    const part = view.mount(el, this.link, this.layout, this.options);
    this.mounted.set(name, { view, part });
  }

  start() {
    this.unwatch = watchVisible(this.root, (visible) => this.link.setVisible(visible));
    this.link.hello();
  }

  feeds() {
    const shown = this.open.map((name) => this.mounted.get(name)).filter(Boolean);
    return Object.assign({}, ...shown.map(({ view, part }) => view.feeds(part.state ?? {})));
  }

  frame(name, json, buffers) {
    for (const { view, part } of this.mounted.values()) {
      if (name in view.feeds(part.state ?? {})) part.update(name, json, buffers);
    }
  }

  laidOut(layout) {
    if (!layout || layout === this.layout) return;
    this.layout = layout;
    for (const { part } of this.mounted.values()) part.layout(layout);
    this.tabs?.layout(layout);
    this.link.want();
  }

  said(text, kind) {
    clearTimeout(this.quiet);
    if (!text && this.notice.dataset.kind !== kind) return;
    this.notice.hidden = !text;
    this.notice.dataset.kind = kind;
    const word = { info: "", wait: "… ", error: "✕ " }[kind] ?? "";
    const close = iconButton("Dismiss", () => this.said("", kind), { shown: "✕", class: "wb-quiet" });
    this.notice.replaceChildren(h("span", null, word + text), kind === "error" ? close : "");
    if (kind === "info") this.quiet = setTimeout(() => this.said("", kind), 5000);
  }

  destroy() {
    clearTimeout(this.quiet);
    this.unwatch?.();
    this.model.off("change:device_layout", this.relayout);
    this.link.destroy();
    for (const { part } of this.mounted.values()) part.destroy();
    this.root.remove();
  }
}

/** The tab strip: arrow keys move and open, as the ARIA pattern for tabs has it. */
class PanelTabs {
  constructor(shell, views) {
    this.shell = shell;
    this.views = new Map(views.map(([name, , find]) => [name, find()]));
    this.has = new Map(views.map(([name, , , has]) => [name, has ?? (() => true)]));
    this.tabs = new Map(views.map(([name, title]) => [name, this.#tab(name, title)]));
    this.strip = h("div", {
      class: "wb-tabs", role: "tablist", "aria-label": "Views of the device", onkeydown: (event) => this.#keyed(event),
    }, [...this.tabs.values()].map(({ tab }) => tab));
    this.panels = [...this.tabs.values()].map(({ panel }) => panel);
    this.layout(shell.layout);
  }

  /** Show the tabs that the device has a use for. */
  layout(layout) {
    for (const [name, { tab }] of this.tabs) tab.hidden = !this.has.get(name)(layout);
    if (this.tabs.get(this.shell.open[1])?.tab.hidden) this.open(this.names()[0]);
  }

  /** The names of the tabs that are shown. */
  names() {
    return [...this.tabs.keys()].filter((name) => !this.tabs.get(name).tab.hidden);
  }

  #tab(name, title) {
    const [tabId, panelId] = [uniqueId("tab"), uniqueId("tabpanel")];
    const tab = h("button", {
      type: "button", class: "wb-tab", role: "tab", id: tabId, "aria-controls": panelId, tabindex: "-1",
      onclick: () => this.open(name), text: title,
    });
    const panel = h("div", { class: "wb-tabpanel", role: "tabpanel", id: panelId, "aria-labelledby": tabId, hidden: true });
    return { tab, panel };
  }

  open(name) {
    for (const [other, { tab, panel }] of this.tabs) {
      setAttr(tab, "aria-selected", String(other === name));
      setAttr(tab, "tabindex", other === name ? "0" : "-1");
      panel.hidden = other !== name;
    }
    if (!this.shell.mounted.has(name)) this.shell.mount(name, this.views.get(name), this.tabs.get(name).panel);
    this.shell.open = ["header", name];
    this.shell.link.want();
    remember(`tab:${this.shell.layout.name}`, name);
  }

  #keyed(event) {
    const names = this.names();
    const at = names.findIndex((name) => this.tabs.get(name).tab === event.target);
    const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 };
    const to = steps[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const name = names[(to + names.length) % names.length];
    this.open(name);
    this.tabs.get(name).tab.focus();
  }
}

function panelWhole(shell) {
  const views = panelTable.filter(([, , find]) => find());
  const head = h("div", { class: "wb-header" });
  const tabs = (shell.tabs = new PanelTabs(shell, views));
  shell.root.append(head, shell.notice, tabs.strip, ...tabs.panels);
  shell.mount("header", headerView, head);
  const wanted = shell.options.tab ?? recall(`tab:${shell.layout.name}`, "registers");
  const names = tabs.names();
  if (names.length) tabs.open(names.includes(wanted) ? wanted : names[0]);
}

function panelAlone(shell, kind) {
  const [, title, find] = panelTable.find(([name]) => name === kind) ?? [kind, kind, () => false];
  const view = find();
  const body = h("div", { class: "wb-alone", role: "region", "aria-label": `${shell.layout.name} ${title}` });
  shell.root.append(shell.notice, body);
  if (!view) return shell.said(`this version has no view called ${kind}`, "error");
  shell.mount(kind, view, body);
  shell.open = [kind];
}

/** anywidget calls this for each place a widget is displayed; what it returns is called when that place goes away. */
function panelRender({ model, el }) {
  const shell = new PanelShell(model, el);
  if (model.get("kind") === "panel") panelWhole(shell);
  else panelAlone(shell, model.get("kind"));
  shell.start();
  return () => shell.destroy();
}

export default { render: panelRender };
