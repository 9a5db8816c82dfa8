/**
 * Editing in place: a small editor laid over a cell. Enter takes, Escape cancels, leaving it cancels.
 *
 * Two kinds, never to be mixed up: a poke (the workbench changes the value: no rule, no hook) and a write as the guest
 * (rules apply, hooks run). The second carries its name and another colour for as long as it is open.
 */

let editOpen = null; // one editor at a time in the page

/**
 * @param {HTMLElement} cell the editor is laid over it and appended to it; it is position: relative
 * @param {{label: string, guest?: boolean, bits: number, value: bigint, radix?: number, text?: string, names?: Object|null,
 *   commit: function(bigint): Promise, parse?: function(string): (bigint|null), back?: HTMLElement, closed?: function(boolean)}} what
 *   `names`: enum names by decimal number, offers a list; `commit` is called once; `back` gets the focus afterwards
 */
function editInPlace(cell, what) {
  editOpen?.close(false);
  const editor = { what, byPointer: false, done: false };
  editor.box = h("span", {
    class: `wb-edit ${what.guest ? "wb-guest" : ""}`, role: "group", "aria-label": what.label,
    onkeydown: (event) => editKeyed(editor, event), onfocusout: (event) => editLeft(editor, event),
  });
  editor.close = (taken) => editClose(editor, taken);
  editor.input = Object.keys(what.names ?? {}).length ? editList(editor) : editText(editor);
  const verb = what.guest ? "guest writes" : "poke";
  const take = iconButton(what.guest ? "Write as the guest" : "Poke", () => editTake(editor), { shown: "↵", class: "wb-quiet" });
  editor.box.append(h("span", { class: "wb-edit-verb" }, verb), editor.input, take);
  cell.append(editor.box);
  cell.closest(".wb-scroll-row")?.classList.add("wb-editing");
  editor.cell = cell;
  editOpen = editor;
  editor.input.focus({ preventScroll: true });
  editor.input.select?.();
  return editor;
}

/** Close whatever editor is open inside an element, without taking it. */
function editCancel(el) {
  if (editOpen && el.contains(editOpen.box)) editOpen.close(false);
}

function editText(editor) {
  const { bits, value, radix, label, text } = editor.what;
  return h("input", {
    type: "text", value: text ?? valueText(value, bits, radix ?? 16), "aria-label": label, autocomplete: "off", spellcheck: "false",
    class: "wb-mono", style: { width: `${Math.min(34, Math.max(6, (text ?? valueText(value, bits, radix ?? 16)).length + 3))}ch` },
    oninput: () => setAttr(editor.input, "aria-invalid", null),
  });
}

function editList(editor) {
  const { names, value, label } = editor.what;
  const numbers = Object.keys(names).map(BigInt);
  const options = numbers.map((number) => [number, `${names[number]} (${number})`]);
  if (!numbers.includes(value)) options.unshift([value, `${value} (no name)`]);
  const list = h("select", {
    "aria-label": label,
    // With the keyboard, arrows pass over values: only Enter takes. The mouse picks at once.
    onpointerdown: () => (editor.byPointer = true),
    onchange: () => (list.value === "other" ? editOther(editor) : editor.byPointer && editTake(editor)),
  }, options.map(([number, text]) => h("option", { value: String(number) }, text)), h("option", { value: "other" }, "another number…"));
  list.value = String(value);
  return list;
}

/** A value without a name: the list becomes a text field. */
function editOther(editor) {
  const input = editText(editor);
  const list = editor.input;
  editor.input = input; // first, so that the list's loss of focus is not taken for leaving
  list.replaceWith(input);
  input.focus({ preventScroll: true });
  input.select();
}

function editKeyed(editor, event) {
  event.stopPropagation();
  editor.byPointer = false;
  if (event.key === "Escape") editor.close(false);
  else if (event.key === "Enter" && event.target === editor.input) editTake(editor);
  else return;
  event.preventDefault();
}

function editLeft(editor, event) {
  if (editor.box.contains(event.relatedTarget)) return;
  // A page that loses the focus as a whole keeps the editor; so does the moment a list is replaced.
  setTimeout(() => {
    const here = editor.box.contains(document.activeElement) || editor.box.matches(":focus-within");
    if (!here && document.hasFocus()) editor.close(false, true);
  }, 0);
}

function editTake(editor) {
  const { bits, parse, commit } = editor.what;
  if (editor.input.value === "other") return editOther(editor);
  const value = parse ? parse(editor.input.value) : parseNumber(editor.input.value, bits);
  if (value === null) {
    setAttr(editor.input, "aria-invalid", "true");
    setAttr(editor.input, "title", `a number of at most ${bits} bits: 42, 0x2a, 0b101010`);
    editor.input.select?.();
    return;
  }
  editor.close(true);
  commit(value);
}

function editClose(editor, taken) {
  if (editor.done) return;
  editor.done = true;
  const inside = editor.box.matches(":focus-within");
  editor.cell.closest(".wb-scroll-row")?.classList.remove("wb-editing");
  if (editOpen === editor) editOpen = null;
  if (inside) editor.what.back?.focus({ preventScroll: true });
  editor.box.remove();
  editor.what.closed?.(taken);
}
