/**
 * A picture: what a device shows, or an array that a function of the notebook returns. It comes whole first and then
 * as the rectangle that changed, a PNG each.
 */
const imageView = (() => {
  /** Name, words: how many pixels of the page one of the picture gets; "fit": as many as there is room for, at most one. */
  const ZOOMS = [["fit", "fit"], ["1", "1:1"], ["2", "2:1"], ["4", "4:1"]];

  class Picture {
    constructor(el, link, layout, options) {
      this.link = link;
      this.options = options;
      this.state = { source: options.source ?? "" };
      this.drawing = Promise.resolve(); // pieces are decoded aside, and drawn in the order in which they came
      this.zoom = recall("zoom", "fit");
      this.canvas = h("canvas", { class: "wb-picture", role: "img", width: 1, height: 1, hidden: true });
      this.frame = h("div", { class: "wb-picture-frame", role: "group", tabindex: "0" }, this.canvas);
      this.size = h("span", { class: "wb-muted wb-small wb-picture-size" });
      this.said = h("p", { class: "wb-note wb-picture-said", role: "status", hidden: true });
      this.save = iconButton("Save as PNG", () => this.#save(), { disabled: true });
      el.append(h("div", { class: "wb-tools" }, this.#zooms(), this.save, this.size), this.said, this.frame);
      this.layout(layout);
      this.#show({ width: 0, height: 0, error: "" });
    }

    layout(layout) {
      this.name = this.options.title || layout.name;
      setAttr(this.frame, "aria-label", `Picture of ${this.name}`);
    }

    update(name, json, buffers) {
      if (name !== "image") return;
      const piece = json.buffer === undefined ? null : new Blob([dataBytes(buffers, json.buffer)], { type: "image/png" });
      this.drawing = this.drawing.then(() => this.#draw(json, piece)).catch((error) => this.link.say(`the picture: ${error.message}`, "error"));
    }

    destroy() {
      this.gone = true;
    }

    #zooms() {
      const group = uniqueId("zooms");
      return h("span", { class: "wb-switch", role: "radiogroup", "aria-label": "Size of the picture" }, ZOOMS.map(([zoom, word]) => {
        const id = uniqueId("zoom");
        const input = h("input", { type: "radio", id, name: group, value: zoom, onchange: () => this.#zoomed(zoom) });
        input.checked = zoom === this.zoom;
        return h("span", null, input, h("label", { for: id }, word));
      }));
    }

    #zoomed(zoom) {
      remember("zoom", (this.zoom = zoom));
      this.#scale();
    }

    async #draw(json, piece) {
      const bitmap = piece && (await createImageBitmap(piece));
      if (!this.gone) {
        this.#show(json);
        const context = this.canvas.getContext("2d");
        if (bitmap) {
          context.clearRect(json.left, json.top, bitmap.width, bitmap.height); // pictures may be transparent
          context.drawImage(bitmap, json.left, json.top);
        }
      }
      bitmap?.close();
    }

    /** Size and words; a canvas that gets another size is empty. */
    #show({ width, height, error }) {
      const empty = !width || !height;
      if (!empty && (this.canvas.width !== width || this.canvas.height !== height)) Object.assign(this.canvas, { width, height });
      this.canvas.hidden = empty;
      this.save.disabled = empty;
      setAttr(this.canvas, "aria-label", `${this.name}, ${width} × ${height} pixels`);
      setText(this.size, empty ? "" : `${width} × ${height}`);
      this.said.hidden = !error && !empty;
      setAttr(this.said, "data-tone", error ? "bad" : null);
      setText(this.said, error ? `✕ ${error}` : empty ? "There is no picture yet: it has no pixels." : "");
      this.#scale();
    }

    #scale() {
      const fit = this.zoom === "fit";
      const width = fit ? "" : `${this.canvas.width * Number(this.zoom)}px`;
      if (this.canvas.style.width !== width) this.canvas.style.width = width;
      this.canvas.classList.toggle("wb-fit", fit);
    }

    #save() {
      this.canvas.toBlob((blob) => {
        const url = URL.createObjectURL(blob);
        h("a", { href: url, download: `${this.name}.png` }).click();
        setTimeout(() => URL.revokeObjectURL(url), 10000);
      });
    }
  }

  return {
    feeds: (state) => ({ image: { source: state.source ?? "" } }),
    mount: (el, link, layout, options) => new Picture(el, link, layout, options),
  };
})();
