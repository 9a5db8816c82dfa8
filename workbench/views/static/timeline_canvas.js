/**
 * What the timeline draws. Two canvases lie on one another: lanes and marks, drawn when they change, and above
 * them cursors and hover, drawn as the pointer moves. Marks are copied from small pictures: 5,000 take some ms.
 *
 * `scene` is what there is to draw: {window, lanes, marks, cursors, active, hover}.
 */
class TimelineCanvas {
  static LANE = 24;
  static AXIS = 24;
  static ROOM_MS = 10000; // room that nobody needed for so long goes
  static CROWDED = 400; // marks from which on they get no edge

  constructor(stage) {
    this.stage = stage;
    this.width = this.height = 0;
    this.ratio = 1;
    this.gutter = 120;
    this.most = 3; // lanes there is room for: it shrinks late, so that the page does not jump
    this.recent = this.filled = 0; // lanes lately at most; when there were as many as there is room for
    this.base = h("canvas", { "aria-hidden": "true" });
    this.top = h("canvas", { class: "wb-timeline-top", "aria-hidden": "true" });
    stage.append(this.base, this.top);
  }

  /** The pixels that time runs over. */
  get plot() {
    return { left: this.gutter, width: Math.max(50, this.width - this.gutter - 14) };
  }

  /** The height of a mark's middle. */
  middle(lane, kind) {
    return (lane + 0.5 + recordMarks.kind(kind).shift) * TimelineCanvas.LANE;
  }

  /** Fit the canvases to the stage, in device pixels, and to the page's colours. */
  fit(lanes) {
    const width = Math.max(240, this.stage.clientWidth);
    this.#makeRoom(lanes.length, performance.now());
    const height = this.most * TimelineCanvas.LANE + TimelineCanvas.AXIS;
    const ratio = window.devicePixelRatio || 1;
    if (width !== this.width || height !== this.height || ratio !== this.ratio) this.#resize(width, height, ratio);
    const style = getComputedStyle(this.stage);
    const look = `${style.color} ${style.backgroundColor} ${ratio}`;
    if (look !== this.look) {
      Object.assign(this, { look, ink: style.color, paper: style.backgroundColor, font: `12px ${style.fontFamily}` });
    }
  }

  #makeRoom(lanes, now) {
    this.recent = Math.max(this.recent, lanes);
    if (lanes < this.most && now - this.filled <= TimelineCanvas.ROOM_MS) return;
    this.most = Math.max(3, this.recent);
    this.recent = 0;
    this.filled = now;
  }

  #resize(width, height, ratio) {
    Object.assign(this, { width, height, ratio });
    this.stage.style.height = `${height}px`;
    for (const canvas of [this.base, this.top]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    }
  }

  #context(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.textBaseline = "middle";
    context.fillStyle = context.strokeStyle = this.ink;
    return context;
  }

  /** Draw lanes, axis and marks. */
  drawBase(scene) {
    const context = this.#context(this.base);
    const widest = Math.max(50, ...scene.lanes.map((name) => context.measureText(name).width));
    this.gutter = Math.round(Math.min(this.width * 0.4, 18 + widest));
    this.#lanes(context, scene.lanes);
    this.#axis(context, scene.window);
    this.#marks(context, scene.marks, scene.window);
  }

  #lanes(context, lanes) {
    const { left, width } = this.plot;
    context.textAlign = "right";
    lanes.forEach((name, lane) => {
      const y = (lane + 0.5) * TimelineCanvas.LANE;
      context.globalAlpha = lane % 2 ? 0 : 0.05;
      context.fillRect(0, lane * TimelineCanvas.LANE, this.width, TimelineCanvas.LANE);
      context.globalAlpha = 0.22;
      context.fillRect(left, y - 0.5, width, 1);
      context.globalAlpha = 1;
      context.fillText(name, left - 10, y, left - 14);
    });
  }

  #axis(context, window) {
    const { left, width } = this.plot;
    const bottom = this.height - TimelineCanvas.AXIS;
    const { step, times } = timeScale.ticks(window, width / 120);
    context.textAlign = "center";
    context.fillRect(left, bottom, width, 1);
    for (const time of times) {
      if (time < 0) continue; // before the log began
      const x = timeScale.toX(time, window, this.plot);
      const text = timeScale.timeText(time, step);
      const half = context.measureText(text).width / 2;
      context.globalAlpha = 0.14;
      context.fillRect(x, 0, 1, bottom);
      context.globalAlpha = 1;
      context.fillRect(x, bottom, 1, 4);
      context.fillText(text, Math.min(Math.max(x, left + half), this.width - half - 2), bottom + 14);
    }
  }

  #marks(context, { count, time, lane, kind, flags }, window) {
    const { left, width } = this.plot;
    const scale = width / (window.to - window.from);
    const edge = count <= TimelineCanvas.CROWDED ? this.paper : "";
    const shown = new Float32Array(count); // its place, or -1
    for (let n = 0; n < count; n++) {
      const x = left + (time[n] - window.from) * scale;
      shown[n] = x < left - 1 || x > left + width + 1 ? -1 : x;
    }
    for (const one of new Set(kind)) {
      context.beginPath();
      for (let n = 0; n < count; n++) {
        if (kind[n] === one && shown[n] >= 0) recordMarks.trace(context, one, shown[n], this.middle(lane[n], one));
      }
      recordMarks.paint(context, one, this.ink, edge);
    }
    context.beginPath();
    for (let n = 0; n < count; n++) {
      if (flags[n] & 1 && shown[n] >= 0) recordMarks.traceRing(context, shown[n], this.middle(lane[n], kind[n]));
    }
    recordMarks.paintRing(context);
  }

  /** Draw the cursors with what lies between them, and a ring around the mark under the pointer. */
  drawTop(scene) {
    const context = this.#context(this.top);
    const places = scene.cursors.map((time) => (time === null ? null : timeScale.toX(time, scene.window, this.plot)));
    if (places.every((x) => x !== null)) this.#between(context, scene, ...places);
    places.forEach((x, n) => x !== null && this.#cursor(context, x, n, n === scene.active));
    if (scene.hover < 0) return;
    const { time, lane, kind } = scene.marks;
    const x = timeScale.toX(time[scene.hover], scene.window, this.plot);
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, this.middle(lane[scene.hover], kind[scene.hover]), 9, 0, 2 * Math.PI);
    context.stroke();
  }

  #inside(x) {
    const { left, width } = this.plot;
    return x >= left - 1 && x <= left + width + 1;
  }

  /** One cursor: a line with its number in a flag; the active one is thicker, the second one dashed. */
  #cursor(context, x, n, active) {
    if (!this.#inside(x)) return;
    const bottom = this.height - TimelineCanvas.AXIS;
    context.lineWidth = active ? 2 : 1;
    context.setLineDash(n ? [5, 3] : []);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, bottom);
    context.stroke();
    context.setLineDash([]);
    context.fillRect(x - 8, bottom - 16, 16, 16);
    context.fillStyle = this.paper;
    context.textAlign = "center";
    context.fillText(String(n + 1), x, bottom - 7.5);
    context.fillStyle = this.ink;
  }

  #between(context, scene, a, b) {
    const { left, width } = this.plot;
    const [from, to] = [Math.min(a, b), Math.max(a, b)].map((x) => Math.min(Math.max(x, left), left + width));
    context.globalAlpha = 0.08;
    context.fillRect(from, 0, to - from, this.height - TimelineCanvas.AXIS);
    context.globalAlpha = 1;
    const text = `Δt ${timeScale.duration(Math.abs(scene.cursors[1] - scene.cursors[0]))}`;
    const wide = context.measureText(text).width + 10;
    if (to - from < wide) return;
    const [x, y] = [(from + to) / 2, this.height - TimelineCanvas.AXIS - 9];
    context.fillStyle = this.paper;
    context.fillRect(x - wide / 2, y - 8, wide, 16);
    context.fillStyle = this.ink;
    context.textAlign = "center";
    context.fillText(text, x, y);
  }
}
