/**
 * What every live view uses: elements, numbers, buffers. The files of this directory are concatenated into
 * one module (util.js, the others by name, panel.js): no import, no export, top-level names unique.
 *
 * A view is one object:  const somethingView = {
 *   feeds(state)  -> {NAME: PARAMETERS}: what it wants now; `state` is the `state` of what mount() returned
 *   mount(el, link, layout, options) -> {state, update(name, json, buffers), layout(newLayout), destroy()}
 * }
 * `el` is empty, is the view's own, and lies inside `.wb-live`. A view whose wish changed calls `link.want()`.
 * panel.js finds it in its table; see there. `link` is described in link.js, the virtual list in scroller.js.
 */

/**
 * Make an element. Properties: `class`, `style` (object), `dataset` (object), `onclick` and other functions, `text`;
 * anything else is an attribute: true sets it empty, false, null and undefined leave it out.
 * Children: elements, strings, numbers, arrays of them; null, undefined and false are skipped.
 * @param {string} tag @param {Object|null} [props] @param {...*} children @returns {HTMLElement}
 */
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) setProp(el, name, value);
  el.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

/** Set one property or attribute the way `h` does. */
function setProp(el, name, value) {
  if (name === "class") el.className = value ?? "";
  else if (name === "style" && typeof value === "object") Object.assign(el.style, value);
  else if (name === "dataset") Object.assign(el.dataset, value);
  else if (name === "text") setText(el, value);
  else if (typeof value === "function") el[name] = value;
  else if (name === "value") el.value = value;
  else setAttr(el, name, value);
}

/** Set, or take away, an attribute; nothing is touched when it is so already (high-rate updates cost nothing). */
function setAttr(el, name, value) {
  if (value === false || value === null || value === undefined) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (el.getAttribute(name) !== text) el.setAttribute(name, text);
  }
}

/** Set the text of an element that holds nothing but text; nothing is touched when it is so already. */
function setText(el, text) {
  const wish = String(text ?? "");
  if (el.firstChild && el.childNodes.length === 1 && el.firstChild.nodeType === 3) {
    if (el.firstChild.data !== wish) el.firstChild.data = wish;
  } else if (wish !== el.textContent || el.childNodes.length) {
    el.textContent = wish;
  }
}

/**
 * A small push button. `label` is read out and shown on hover; `shown` is what stands on it (default: the label).
 * Where words are shown, the label begins with them: a person who speaks to the page says what stands there.
 * @param {string} label @param {function(Event)} onclick @param {{class?: string, shown?: string, disabled?: boolean}} [more]
 */
function iconButton(label, onclick, more = {}) {
  const props = { type: "button", class: `wb-btn ${more.class ?? ""}`, "aria-label": label, title: label, onclick };
  return h("button", { ...props, disabled: more.disabled }, more.shown ?? label);
}

/** A button that copies `text()` and says for a second that it did. @param {string} label @param {function():string} text */
function copyButton(label, text) {
  const button = iconButton(label, async () => {
    const done = await copyText(text());
    setText(button, done ? "copied" : "not copied");
    setTimeout(() => setText(button, "copy"), 1200);
  }, { shown: "copy", class: "wb-quiet wb-small" });
  return button;
}

/** Put text on the clipboard; true if it worked (pages without a secure context use the old way). */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { value: text, style: { position: "fixed", opacity: "0" } });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

let idCounter = 0;
/** A document-wide unique id, for labels and aria references. */
function uniqueId(stem) {
  idCounter += 1;
  return `wb-${stem}-${idCounter}-${Math.random().toString(36).slice(2, 7)}`;
}

// -- numbers: 64-bit values are BigInt everywhere ------------------------------------------------

/** "0x0000002a": hexadecimal, as many digits as `bits` need. @param {bigint|number} value @param {number} bits */
function hexText(value, bits) {
  return "0x" + value.toString(16).padStart(Math.ceil(bits / 4), "0");
}

/** A value in radix 16, 10 or 2 ("0x2a", "42", "0b0010_1010"). @param {bigint} value @param {number} bits @param {number} radix */
function valueText(value, bits, radix) {
  if (radix === 10) return value.toString(10);
  if (radix === 16) return hexText(value, bits);
  return "0b" + value.toString(2).padStart(bits, "0").replace(/\B(?=(.{4})+$)/g, "_");
}

/** Read what a person typed: 42, 0x2a, 2ah, 0b1010, 0o52, 1_000, -1 (two's complement of `bits`).
 * @param {string} text @param {number} [bits] @returns {bigint|null} null: not a number, or too big for `bits` */
function parseNumber(text, bits = 64) {
  let word = text.trim().toLowerCase().replace(/[_ ]/g, "");
  const negative = word.startsWith("-");
  if (negative) word = word.slice(1);
  if (/^[0-9a-f]+h$/.test(word)) word = "0x" + word.slice(0, -1);
  if (!/^(0x[0-9a-f]+|0b[01]+|0o[0-7]+|[0-9]+)$/.test(word)) return null;
  const limit = 1n << BigInt(bits);
  const value = negative ? limit - BigInt(word) : BigInt(word);
  return value >= 0n && value < limit ? value : null;
}

/** Bits `lsb` to `lsb + width - 1` of a value. @returns {bigint} */
function fieldOf(value, lsb, width) {
  return (value >> BigInt(lsb)) & ((1n << BigInt(width)) - 1n);
}

const countFormat = new Intl.NumberFormat("en-US"); // kept: making one is slow

/** "1,234", "1.2 M": a count that stays narrow. @param {number|bigint} count */
function countText(count) {
  const number = Number(count);
  if (number < 1e6) return countFormat.format(number);
  return number < 1e8 ? `${(number / 1e6).toFixed(number < 1e7 ? 2 : 1)} M` : `${(number / 1e9).toFixed(2)} G`;
}

/** "64 KiB": a size in bytes. @param {number|bigint} size */
function sizeText(size) {
  const bytes = BigInt(size);
  for (const [unit, shift] of [["TiB", 40n], ["GiB", 30n], ["MiB", 20n], ["KiB", 10n]]) {
    if (bytes >= 1n << shift && bytes % (1n << shift) === 0n) return `${bytes >> shift} ${unit}`;
  }
  return `${bytes} bytes`;
}

/** "12.3 µs", "4.56 ms", "1.20 s": a duration given in microseconds. @param {number} us */
function durationText(us) {
  if (!(us >= 0)) return "";
  if (us < 1000) return `${us < 100 ? us.toFixed(1) : us.toFixed(0)} µs`;
  return us < 1e6 ? `${(us / 1e3).toPrecision(3)} ms` : `${(us / 1e6).toFixed(2)} s`;
}

/** "404.957125": a record's time in ms, to the ns as long as 13 characters hold it. @param {number} ms */
function msText(ms) {
  const whole = String(Math.trunc(ms)).length;
  return Number(ms).toFixed(Math.max(1, Math.min(6, 12 - whole)));
}

// -- buffers -------------------------------------------------------------------------------------

/** The buffer a feed names, as a DataView (hosts hand over DataViews, ArrayBuffers or typed arrays).
 * @param {Array} buffers @param {number} index @returns {DataView} */
function dataView(buffers, index) {
  const buffer = buffers?.[index];
  if (!buffer) return new DataView(new ArrayBuffer(0));
  return buffer.buffer ? new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength) : new DataView(buffer);
}

/** The same as bytes, without a copy. @returns {Uint8Array} */
function dataBytes(buffers, index) {
  const view = dataView(buffers, index);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** A little-endian u64. @param {DataView} view @param {number} offset @returns {bigint} */
function readU64(view, offset) {
  return view.getBigUint64(offset, true);
}

// -- small habits ----------------------------------------------------------------------------------

/** Run `action` at most once per animation frame, however often the returned function is called.
 * A hidden page runs no animation frames, so nothing is drawn there either. */
function oncePerFrame(action) {
  let asked = 0;
  const run = () => {
    asked = 0;
    action();
  };
  const ask = () => {
    asked ||= requestAnimationFrame(run);
  };
  ask.cancel = () => cancelAnimationFrame(asked);
  return ask;
}

/** The last error of one revision of a hook, or undefined. @param {Object} state the `state` feed */
function faultOf(state, name, revision) {
  return state?.errors?.findLast((error) => error.name === name && error.revision === revision);
}

/** Call `changed(visible)` when `el` comes into or leaves the screen or its page is hidden. @returns {function()} stops it */
function watchVisible(el, changed) {
  let onScreen = false;
  let told = null;
  const tell = () => {
    const visible = onScreen && document.visibilityState !== "hidden";
    if (visible !== told) changed((told = visible));
  };
  const observer = new IntersectionObserver((entries) => {
    onScreen = entries[entries.length - 1].isIntersecting;
    tell();
  });
  observer.observe(el);
  document.addEventListener("visibilitychange", tell);
  return () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", tell);
  };
}

const FLASH_MOST = 32; // elements that may fade at once: each costs style and paint in every frame
const FLASH_OFTEN_MS = 300; // two changes closer than this
let flashing = 0;

/** Make an element glow once (style.css); with reduced motion it carries a still mark for a second. Two equal
 * animations take turns, because a class put on again does not start its animation again. Where very many things
 * change, they glow without fading. */
function flash(el) {
  if (!el.wbFlash) flashing += 1;
  const now = performance.now();
  // What changes all the time does not glow and fade, it is marked: an animation that never ends costs a core's fifth.
  const still = flashing > FLASH_MOST || now - (el.wbFlashed ?? -FLASH_OFTEN_MS) < FLASH_OFTEN_MS;
  el.wbFlashed = now;
  const again = el.classList.contains("wb-flash-a");
  el.classList.toggle("wb-flash-a", !still && !again);
  el.classList.toggle("wb-flash-b", !still && again);
  el.classList.toggle("wb-flash-c", still);
  clearTimeout(el.wbFlash);
  el.wbFlash = setTimeout(() => unflash(el), still ? 500 : 1200);
}

/** End the glow at once: the element is used for something else now. */
function unflash(el) {
  if (!el.wbFlash) return;
  clearTimeout(el.wbFlash);
  el.wbFlash = 0;
  flashing -= 1;
  el.classList.remove("wb-flash-a", "wb-flash-b", "wb-flash-c");
}

/** End every glow inside an element. */
function unflashIn(el) {
  el.querySelectorAll(".wb-flash-a, .wb-flash-b, .wb-flash-c").forEach(unflash);
}

/** Remember small choices (the open tab, the radix) for this page: `recall("tab", "registers")`, `remember("tab", "log")`. */
function remember(key, value) {
  try {
    sessionStorage.setItem(`wb-live:${key}`, JSON.stringify(value));
  } catch { /* private windows may refuse; the choice is then forgotten */ }
}

/** What `remember` kept, or `fallback`. */
function recall(key, fallback) {
  try {
    return JSON.parse(sessionStorage.getItem(`wb-live:${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
}
