/**
 * How a kind of record looks: shape, colour, a character for text. The same as in the matplotlib timeline
 * (views/timeline.py): Okabe and Ito's colours, and a shape each, so that colour never carries meaning alone.
 */
const recordMarks = (() => {
  /** In the order of enum wb_kind: name, label, character, shape, colour ("": the page's text), shift in the lane, size. */
  const KINDS = [
    ["read", "read", "●", "circle", "#0072B2", 0.14, 3.2],
    ["write", "write", "■", "square", "#D55E00", -0.14, 3.0],
    ["poke", "poke", "◆", "diamond", "#CC79A7", 0, 3.8],
    ["irq", "interrupt", "▼", "down", "", 0, 4.6],
    ["unmask", "unmask", "▲", "up", "#7F7F7F", 0, 3.8],
    ["dma_read", "DMA read", "◀", "left", "#56B4E9", 0.14, 4.0],
    ["dma_write", "DMA write", "▶", "right", "#E69F00", -0.14, 4.0],
    ["map", "DMA map", "＋", "plus", "#7F7F7F", 0, 3.8],
    ["unmap", "DMA unmap", "×", "cross", "#7F7F7F", 0, 3.8],
    ["reset", "reset", "✖", "bigcross", "", 0, 4.6],
    ["swap", "hook swap", "★", "star", "#009E73", 0, 6.0],
    ["attach", "attach", "✚", "bigplus", "#009E73", 0, 4.6],
    ["detach", "detach", "✚", "bigplus", "#7F7F7F", 0, 4.6],
    ["error", "malformed message", "✖", "bigcross", "#D62728", 0, 4.6],
    ["mmap", "mapped memory", "◆", "diamond", "#F0E442", 0, 3.8],
    ["state", "state put back, or migration", "★", "star", "#0072B2", 0, 6.0],
  ].map(([name, label, symbol, shape, colour, shift, size]) => ({ name, label, symbol, shape, colour, shift, size }));
  const RING = "#D62728";
  const UNKNOWN = { ...KINDS[8], name: "other", label: "other" };

  /** Corners around (0, 0), to be scaled by the size. */
  const CORNERS = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    diamond: [[0, -1], [1, 0], [0, 1], [-1, 0]],
    down: [[-1, -0.8], [1, -0.8], [0, 1]],
    up: [[-1, 0.8], [1, 0.8], [0, -1]],
    left: [[0.8, -1], [0.8, 1], [-1, 0]],
    right: [[-0.8, -1], [-0.8, 1], [1, 0]],
    star: Array.from({ length: 10 }, (_, n) => {
      const radius = n % 2 ? 0.42 : 1;
      return [radius * Math.sin((n * Math.PI) / 5), -radius * Math.cos((n * Math.PI) / 5)];
    }),
  };
  const LINES = {
    plus: [[-1, 0, 1, 0], [0, -1, 0, 1]],
    cross: [[-0.8, -0.8, 0.8, 0.8], [-0.8, 0.8, 0.8, -0.8]],
    bigplus: [[-1, 0, 1, 0], [0, -1, 0, 1]],
    bigcross: [[-0.8, -0.8, 0.8, 0.8], [-0.8, 0.8, 0.8, -0.8]],
  };

  /** Add one mark, its middle at (x, y), to the context's path. */
  function trace(context, kind, x, y) {
    const { shape, size } = KINDS[kind] ?? UNKNOWN;
    if (shape === "circle") {
      context.moveTo(x + size, y);
      context.arc(x, y, size, 0, 2 * Math.PI);
    } else if (CORNERS[shape]) {
      CORNERS[shape].forEach(([dx, dy], at) => (at ? context.lineTo(x + dx * size, y + dy * size) : context.moveTo(x + dx * size, y + dy * size)));
      context.closePath();
    }
    for (const [x1, y1, x2, y2] of LINES[shape] ?? []) {
      context.moveTo(x + x1 * size, y + y1 * size);
      context.lineTo(x + x2 * size, y + y2 * size);
    }
  }

  /** Paint the path of marks of one kind: thousands at once, which is what makes it fast. `edge`: a colour around each, or "". */
  function paint(context, kind, ink, edge) {
    const { shape, colour } = KINDS[kind] ?? UNKNOWN;
    context.fillStyle = colour || ink;
    if (LINES[shape]) {
      context.strokeStyle = colour || ink;
      context.lineWidth = shape.startsWith("big") ? 2.8 : 1.5;
      context.stroke();
      return;
    }
    if (edge) {
      context.strokeStyle = edge;
      context.lineWidth = 1.5;
      context.stroke();
    }
    context.fill();
  }

  /** Add the ring of a flagged record to the context's path. */
  function traceRing(context, x, y) {
    context.moveTo(x + 7, y);
    context.arc(x, y, 7, 0, 2 * Math.PI);
  }

  function paintRing(context) {
    context.lineWidth = 1.6;
    context.strokeStyle = RING;
    context.stroke();
  }

  const byName = new Map(KINDS.map((kind) => [kind.name, kind]));
  return {
    kinds: KINDS,
    trace,
    paint,
    traceRing,
    paintRing,
    kind: (number) => KINDS[number] ?? UNKNOWN,
    symbol: (name) => byName.get(name)?.symbol ?? "·",
  };
})();
