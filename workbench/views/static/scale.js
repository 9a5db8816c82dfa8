/**
 * The timeline's arithmetic, without a page: times and pixels, zoom and pan, ticks, the marks of a buffer.
 *
 * Times are ns since the log's epoch, as numbers: exact for 104 days. A window is {from, to}; a plot is
 * {left, width}: pixels.
 */
const timeScale = (() => {
  const SHORTEST = 200; // ns across the window
  const LONGEST = 86400e9;
  const MARK_BYTES = 16;
  const UNITS = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];

  const toX = (time, window, plot) => plot.left + ((time - window.from) / (window.to - window.from)) * plot.width;
  const toTime = (x, window, plot) => window.from + ((x - plot.left) / plot.width) * (window.to - window.from);

  /** The window `factor` times as long, with the time under `x` staying there. */
  function zoom(window, factor, x, plot) {
    const span = Math.min(LONGEST, Math.max(SHORTEST, (window.to - window.from) * factor));
    const share = Math.min(1, Math.max(0, (x - plot.left) / plot.width));
    const from = window.from + share * (window.to - window.from) - share * span;
    return { from, to: from + span };
  }

  const pan = (window, ns) => ({ from: window.from + ns, to: window.to + ns });

  /** About `count` round times in the window: {step, times}. */
  function ticks(window, count) {
    const raw = Math.max(1, (window.to - window.from) / Math.max(1, count));
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999);
    const times = [];
    for (let n = Math.ceil(window.from / step); n * step <= window.to && times.length < 100; n++) times.push(n * step);
    return { step, times };
  }

  /** A time as text, precise to `step`: "12.345 ms". */
  function timeText(ns, step = 1) {
    const largest = Math.max(Math.abs(ns), step);
    const [unit, size] = UNITS.find(([, n]) => largest >= n) ?? UNITS[3];
    const digits = Math.max(0, Math.min(9, Math.ceil(Math.log10(size / step) - 1e-9)));
    return `${(ns / size).toFixed(digits)} ${unit}`;
  }

  /** A duration with four digits: "1.234 ms", "950 ns". */
  function duration(ns) {
    const [unit, size] = UNITS.find(([, n]) => ns >= n) ?? UNITS[3];
    return size === 1 ? `${Math.round(ns)} ns` : `${(ns / size).toPrecision(4)} ${unit}`;
  }

  /** The marks of a feed's buffer, as columns. @param {DataView} view @param {number} count */
  function decode(view, count) {
    const marks = {
      count, time: new Float64Array(count), lane: new Uint16Array(count), kind: new Uint8Array(count),
      flags: new Uint8Array(count), value: new Uint32Array(count),
    };
    for (let n = 0, at = 0; n < count; n++, at += MARK_BYTES) {
      marks.time[n] = view.getFloat64(at, true);
      marks.lane[n] = view.getUint16(at + 8, true);
      marks.kind[n] = view.getUint8(at + 10);
      marks.flags[n] = view.getUint8(at + 11);
      marks.value[n] = view.getUint32(at + 12, true);
    }
    return marks;
  }

  /** The mark nearest to a point within `reach` pixels, or -1. `middle(lane, kind)` is a mark's height. */
  function nearest(marks, x, y, window, plot, middle, reach = 9) {
    let best = -1;
    let least = reach * reach;
    for (let n = 0; n < marks.count; n++) {
      const dx = toX(marks.time[n], window, plot) - x;
      if (dx > reach || dx < -reach) continue;
      const dy = middle(marks.lane[n], marks.kind[n]) - y;
      if (dx * dx + dy * dy <= least) {
        least = dx * dx + dy * dy;
        best = n;
      }
    }
    return best;
  }

  /** The time of the mark next to `time` in one direction (1 or -1), or `time` if there is none. */
  function neighbour(marks, time, direction) {
    let best = time;
    for (let n = 0; n < marks.count; n++) {
      const ahead = (marks.time[n] - time) * direction;
      if (ahead > 0 && (best === time || ahead < (best - time) * direction)) best = marks.time[n];
    }
    return best;
  }

  /** How many marks of each kind each lane has in the window: Map lane -> Map kind -> count. */
  function counts(marks, window) {
    const found = new Map();
    for (let n = 0; n < marks.count; n++) {
      if (marks.time[n] < window.from || marks.time[n] > window.to) continue;
      if (!found.has(marks.lane[n])) found.set(marks.lane[n], new Map());
      const lane = found.get(marks.lane[n]);
      lane.set(marks.kind[n], (lane.get(marks.kind[n]) ?? 0) + 1);
    }
    return found;
  }

  return { toX, toTime, zoom, pan, ticks, timeText, duration, decode, nearest, neighbour, counts };
})();
