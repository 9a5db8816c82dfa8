/**
 * What one does to the timeline: wheel, drag, click and keys, turned into the verbs of timeline.js
 * (zoomAt, zoomBy, panBy, setCursor, setFollow, showAll).
 */
class TimelineInput {
  static SLOP = 4; // pixels that are still a click
  static GRIP = 6; // pixels around a cursor that take hold of it

  constructor(timeline, stage) {
    this.timeline = timeline;
    this.stage = stage;
    this.pointer = null; // where it is over the plot: {x, y}
    this.drag = null;
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", () => (this.drag = null));
    stage.addEventListener("pointerleave", () => this.#leave());
    stage.addEventListener("keydown", (event) => this.#key(event));
  }

  #place(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left - this.stage.clientLeft, y: event.clientY - box.top - this.stage.clientTop };
  }

  /** Over the lanes the wheel zooms, sideways it pans; over the names it scrolls the page as ever. */
  #wheel(event) {
    const { x } = this.#place(event);
    if (x < this.timeline.canvas.plot.left) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 20 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.timeline.panBy(((event.deltaX || event.deltaY) * unit) / this.timeline.canvas.plot.width);
    } else {
      this.timeline.zoomAt(1.0022 ** Math.max(-300, Math.min(300, event.deltaY * unit)), x);
    }
  }

  #cursorAt(x) {
    const { cursors, canvas, window } = this.timeline;
    return cursors.findIndex((time) => time !== null && Math.abs(timeScale.toX(time, window, canvas.plot) - x) <= TimelineInput.GRIP);
  }

  #down(event) {
    if (event.button !== 0) return;
    const place = this.#place(event);
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    this.drag = { start: place.x, x: place.x, cursor: this.#cursorAt(place.x), moved: false };
    event.preventDefault();
  }

  #move(event) {
    const place = this.#place(event);
    this.pointer = place;
    if (this.drag) return this.#dragTo(place.x);
    this.stage.classList.toggle("wb-gripping", this.#cursorAt(place.x) >= 0);
    return this.timeline.hoverAt(place.x, place.y);
  }

  #dragTo(x) {
    const { drag, timeline } = this;
    drag.moved ||= Math.abs(x - drag.start) > TimelineInput.SLOP;
    if (!drag.moved) return;
    if (drag.cursor >= 0) timeline.setCursor(drag.cursor, timeline.timeAt(x));
    else timeline.panBy((drag.x - x) / timeline.canvas.plot.width);
    drag.x = x;
  }

  #up(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag || drag.moved) return;
    const { x, y } = this.#place(event);
    if (x < this.timeline.canvas.plot.left) return;
    this.timeline.setCursor(event.shiftKey ? 1 : 0, this.timeline.timeAt(x, y));
  }

  #leave() {
    this.pointer = null;
    this.timeline.hoverAt(-1, -1);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = this.#acts(event)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #acts(event) {
    const { timeline } = this;
    const arrow = (direction) => () => (event.shiftKey ? this.#nudge(direction) : timeline.panBy(direction * 0.1));
    const zoom = (factor) => () => timeline.zoomBy(factor);
    return {
      "+": zoom(0.5), "=": zoom(0.5), "-": zoom(2), _: zoom(2), ArrowUp: zoom(0.5), ArrowDown: zoom(2),
      ArrowLeft: arrow(-1), ArrowRight: arrow(1), Home: () => timeline.showAll(), End: () => timeline.setFollow(true),
      f: () => timeline.setFollow(!timeline.follow), 1: () => this.#put(0), 2: () => this.#put(1),
      n: () => timeline.stepCursor(1), p: () => timeline.stepCursor(-1), Escape: () => timeline.clearCursors(),
    };
  }

  /** 1 and 2 put a cursor under the pointer; without one they choose a cursor, or put it in the middle. */
  #put(n) {
    const { timeline } = this;
    const { left, width } = timeline.canvas.plot;
    const x = this.pointer && this.pointer.x >= left ? this.pointer.x : null;
    const time = timeline.cursors[n];
    const seen = time !== null && time >= timeline.window.from && time <= timeline.window.to;
    if (x === null && seen) timeline.setCursor(n, time);
    else timeline.setCursor(n, timeline.timeAt(x ?? left + width / 2, this.pointer?.y));
  }

  #nudge(direction) {
    const { timeline } = this;
    const pixel = (timeline.window.to - timeline.window.from) / timeline.canvas.plot.width;
    const time = timeline.cursors[timeline.active];
    if (time === null) return this.#put(timeline.active);
    return timeline.setCursor(timeline.active, time + direction * 2 * pixel);
  }
}
