/** One row of the register grid: a block, a long array, a register with its chips, or one field of an unfolded one. */

/** Who answers, by the number in the feed: a letter and a shape, so that the colour is not needed. */
const registersAnswers = [
  ["C", "c", "answered by C: bytes and masks, at full speed even while a cell runs"],
  ["P", "python", "a Python hook runs when the guest touches it"],
  ["N", "native", "a native hook runs when the guest touches it"],
  ["M", "mapped", "mapped memory: the guest reaches it without an exit"],
];
const REGISTERS_CHIPS = 12; // chips in a row; a register with more shows how many are left

function registersHead() {
  const titles = [["", "fold"], ["offset"], ["register"], ["value"], ["", "answered by"], ["mode"], ["reset"], ["fields"], ["reads"], ["writes"], ["", "write as guest"]];
  return h("div", { class: "wb-reg wb-reg-head", role: "row" },
    titles.map(([text, label]) => h("span", { role: "columnheader" }, text || h("span", { class: "wb-hidden" }, label))));
}

function registersLegend() {
  const badges = registersAnswers.map(([letter, kind, tip]) => h("span", { class: "wb-legend-item", title: tip },
    h("span", { class: `wb-badge wb-badge-${kind}`, "aria-hidden": "true" }, letter), { c: "C", python: "Python", native: "native", mapped: "mapped" }[kind]));
  return h("span", { class: "wb-legend wb-small wb-muted", "aria-label": "Who answers", role: "note" }, badges);
}

/** Write an item into a row; `fresh`: the row showed another item before, so nothing glows. */
function registersFill(part, row, item, fresh) {
  const shape = item.kind;
  if (row.wbShape !== shape) {
    row.wbShape = shape;
    row.className = `wb-reg wb-reg-${shape} wb-scroll-row`;
    row.wb = { block: registersBlockRow, array: registersArrayRow, register: registersRegisterRow, field: registersFieldRow }[shape](part, row);
    fresh = true;
  }
  fresh ||= row.wb.item !== item;
  if (fresh) unflashIn(row);
  row.wb.item = item;
  row.wb.show(item, fresh);
}

function registersCell(...children) {
  return h("span", { role: "gridcell" }, children);
}

/** A row that is one button, which folds what comes below it. @param {function(Object): [string, string]} words name, and about it */
function registersFoldRow(part, row, words) {
  const fold = h("span", { class: "wb-fold", "aria-hidden": "true" });
  const name = h("b", null);
  const about = h("span", { class: "wb-muted" });
  const button = h("button", { type: "button", class: "wb-blockname", "data-go": "", tabindex: "-1",
    onclick: () => part.toggle(row.wb.item) }, fold, name, about);
  row.replaceChildren(h("span", { role: "gridcell", class: "wb-blockcell" }, button));
  return {
    show(item) {
      setText(fold, item.folded ? "▸" : "▾");
      setAttr(button, "aria-expanded", String(!item.folded));
      const [called, said] = words(item);
      setText(name, called);
      setText(about, said);
    },
  };
}

function registersBlockRow(part, row) {
  return registersFoldRow(part, row, ({ block, count }) => (
    [block.name, `${sizeText(block.size)} · ${block.kind ? `${block.kind} · ` : ""}${countText(count)} registers`]));
}

function registersArrayRow(part, row) {
  return registersFoldRow(part, row, ({ of, elements }) => {
    const [first, last] = [elements[0].register, elements[elements.length - 1].register];
    return [`${of}[0…${elements.length - 1}]`,
      `${hexText(first.offset, 12)} to ${hexText(last.offset, 12)} · ${countText(elements.length)} registers of ${first.width} bits`];
  });
}

/** The button that shows a value and the one that writes as the guest; both open an editor over `cell`. */
function registersControls(part, row, described) {
  const value = h("button", { type: "button", class: "wb-val wb-mono", "data-go": "", tabindex: "-1", onclick: () => open(false, value) });
  const guest = h("button", { type: "button", class: "wb-guestbtn", "data-go": "", tabindex: "-1", onclick: () => open(true, guest) }, "guest ⇥");
  const cell = h("span", { role: "gridcell", class: "wb-valcell" }, value);
  const open = (asGuest, back) => {
    const { item } = row.wb;
    const { name, bits, number, names, field } = described(item);
    editInPlace(cell, {
      label: asGuest ? `Write ${name} as the guest would` : `Poke ${name}`, guest: asGuest, bits, value: number, names,
      radix: part.radix, back, commit: (wish) => part.send(item, field, asGuest, wish),
    });
  };
  return { value, guest, cell };
}

function registersRegisterRow(part, row) {
  const fold = h("button", { type: "button", class: "wb-fold", "data-go": "", tabindex: "-1", onclick: () => part.toggle(row.wb.item) });
  const [offset, mode, reset] = ["wb-muted", "wb-mode", "wb-muted"].map((kind) => h("span", { class: `wb-mono ${kind}`, role: "gridcell" }));
  const name = h("span", { class: "wb-regname wb-mono", role: "gridcell" });
  const badge = h("span", { class: "wb-badge", role: "img" });
  const [reads, writes] = [0, 1].map(() => h("span", { class: "wb-count wb-mono", role: "gridcell" }));
  const chips = h("span", { class: "wb-chips", role: "gridcell" });
  const { value, guest, cell } = registersControls(part, row, ({ register, number }) => (
    { name: register.name, bits: register.width, number: part.data.values[number], names: null, field: null }));
  row.replaceChildren(registersCell(fold), offset, name, cell, registersCell(badge), mode, reset, chips, reads, writes, registersCell(guest));
  const els = { fold, offset, mode, reset, name, badge, reads, writes, chips, value, guest };
  return {
    show(item, fresh) {
      if (fresh) registersStill(part, els, item);
      registersLive(part, els, item, fresh);
    },
  };
}

/** What changes only with the layout. */
function registersStill(part, els, item) {
  const { register, unfolded } = item;
  const full = `${register.block}.${register.name}`;
  els.fold.hidden = !register.fields.length;
  setText(els.fold, unfolded ? "▾" : "▸");
  setAttr(els.fold, "aria-expanded", String(Boolean(unfolded)));
  setAttr(els.fold, "aria-label", `Fields of ${full}`);
  setText(els.offset, hexText(register.offset, 12));
  setText(els.name, register.name);
  setAttr(els.name, "title", [full, register.doc].filter(Boolean).join("\n"));
  setText(els.mode, register.mode);
  setAttr(els.mode, "title", `access mode ${register.mode}`);
  const reset = hexText(BigInt(register.reset), register.width);
  setText(els.reset, reset);
  setAttr(els.reset, "title", `value after a reset: ${reset}`);
  setAttr(els.value, "aria-description", register.doc || null);
  setAttr(els.guest, "aria-label", `Write ${full} as the guest would`);
  setAttr(els.guest, "title", "write as the guest would: rules apply, hooks run, the log says notebook");
  registersChips(part, els.chips, item);
}

/** What changes while the guest runs. */
function registersLive(part, els, { register, number }, fresh) {
  const { values, answers, reads, writes, known } = part.data;
  const [value, changed] = [values[number], part.fresh.has(number) && !fresh];
  const text = known[number] ? valueText(value, register.width, part.radix) : "…";
  setText(els.value, text);
  setAttr(els.value, "aria-label", `${register.block}.${register.name} is ${text}, poke it`);
  const whole = part.radix === 2 ? text : ""; // 64 bits may not fit
  setAttr(els.value, "title", [whole, "click to poke: no rule applies, no hook runs", register.doc].filter(Boolean).join("\n"));
  els.value.classList.toggle("wb-differs", Boolean(known[number]) && value !== BigInt(register.reset));
  if (changed) flash(els.value);
  const [letter, kind, tip] = registersAnswers[answers[number]] ?? registersAnswers[0];
  setText(els.badge, letter);
  els.badge.className = `wb-badge wb-badge-${kind}`;
  setAttr(els.badge, "aria-label", tip);
  setAttr(els.badge, "title", tip);
  setText(els.reads, reads[number] ? countText(reads[number]) : "·");
  setText(els.writes, writes[number] ? countText(writes[number]) : "·");
  const old = changed ? part.fresh.get(number) : value;
  for (const chip of els.chips.children) if (!chip.hidden) chip.wbShow?.(value, old);
}

/** One chip for each field; chip elements are used again for the next register. */
function registersChips(part, box, item) {
  const { fields } = item.register;
  const shown = fields.slice(0, REGISTERS_CHIPS);
  while (box.children.length < shown.length) box.append(registersChip(part, box));
  [...box.children].forEach((chip, index) => {
    chip.hidden = index >= shown.length;
    if (!chip.hidden) chip.wbSet(item, shown[index]);
  });
  setAttr(box, "title", fields.length > shown.length ? `${fields.length - shown.length} more: unfold the register` : null);
  box.classList.toggle("wb-more", fields.length > shown.length);
}

function registersChip(part, box) {
  let [item, field] = [null, null];
  const text = h("span", null);
  const button = h("button", { type: "button", class: "wb-chip", "data-go": "", tabindex: "-1", onclick: () => {
    const [mine, which] = [item, field];
    editInPlace(box, {
      label: `Poke ${item.register.name}.${field.name}`, bits: field.width, names: field.enum, radix: part.radix, back: button,
      value: fieldOf(part.data.values[item.number], field.lsb, field.width), commit: (wish) => part.send(mine, which, false, wish),
    });
  } }, text);
  button.wbSet = (newItem, newField) => {
    [item, field] = [newItem, newField];
    setAttr(button, "title", registersFieldTip(field));
    setAttr(button, "aria-description", field.doc || null);
  };
  button.wbShow = (value, old) => {
    const now = fieldOf(value, field.lsb, field.width);
    setText(text, registersFieldText(field, now));
    button.classList.toggle("wb-on", now !== 0n);
    if (now !== fieldOf(old, field.lsb, field.width)) flash(button);
  };
  return button;
}

/** "ENABLE=ON", "READY", "PERIOD=0x64": one-bit fields without names show "=1" or "=0". */
function registersFieldText(field, number) {
  const name = field.enum?.[number];
  return `${field.name}=${name ?? (number < 10n ? number : "0x" + number.toString(16))}`;
}

function registersBits(field) {
  return field.width > 1 ? `[${field.lsb + field.width - 1}:${field.lsb}]` : `[${field.lsb}]`;
}

function registersFieldTip(field) {
  return [`${field.name} ${registersBits(field)}${field.mode ? ` ${field.mode}` : ""}: click to poke`, field.doc].filter(Boolean).join("\n");
}

function registersFieldRow(part, row) {
  const [bits, name, mode, meaning] = ["wb-muted", "wb-regname", "wb-mode", ""].map((kind) => h("span", { class: kind, role: "gridcell" }));
  const { value, guest, cell } = registersControls(part, row, (item) => ({
    name: `${item.register.name}.${item.field.name}`, bits: item.field.width, names: item.field.enum, field: item.field,
    number: fieldOf(part.data.values[item.number], item.field.lsb, item.field.width),
  }));
  const gap = () => registersCell();
  row.replaceChildren(gap(), bits, name, cell, gap(), mode, gap(), meaning, gap(), gap(), registersCell(guest));
  return {
    show(item, fresh) {
      const { field, register, number } = item;
      const now = fieldOf(part.data.values[number], field.lsb, field.width);
      const text = part.data.known[number] ? valueText(now, field.width, part.radix) : "…";
      setText(value, text);
      setAttr(value, "aria-label", `${register.name}.${field.name} is ${text}, poke it`);
      const word = field.enum?.[now];
      setText(meaning, [word, field.doc].filter(Boolean).join(" · "));
      if (fresh) {
        setText(bits, registersBits(field));
        setText(name, field.name);
        setText(mode, field.mode ?? "");
        setAttr(meaning, "title", field.doc);
        setAttr(guest, "aria-label", `Write ${register.name}.${field.name} as the guest would`);
      } else if (part.fresh.has(number) && fieldOf(part.fresh.get(number), field.lsb, field.width) !== now) {
        flash(value);
      }
    },
  };
}
