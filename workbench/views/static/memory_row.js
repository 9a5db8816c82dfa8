/** One row of the memory view: address, numbers, ASCII, and the registers that lie there. */

/** Names of the registers in each row of a block. @returns {Map<number, {name: string, offset: number}[]>} by row index */
function memoryNames(registers, block) {
  const rows = new Map();
  for (const register of registers) {
    if (register.block !== block) continue;
    const index = Math.floor(register.offset / MEMORY_BYTES);
    if (!rows.has(index)) rows.set(index, []);
    rows.get(index).push(register);
  }
  return rows;
}

/** Make the row's elements for a width; they are used again until the width changes. */
function memoryBuild(part, row) {
  const address = h("span", { class: "wb-mem-address wb-mono", role: "rowheader" });
  const cells = Array.from({ length: MEMORY_BYTES / part.width }, (_, at) => memoryCell(part, row, at));
  const hex = h("span", { class: "wb-mem-hex wb-mono", role: "presentation" }, cells);
  const letters = Array.from({ length: MEMORY_BYTES }, () => h("span", null));
  const ascii = h("span", { class: "wb-mem-ascii wb-mono", role: "gridcell" }, letters);
  const names = h("span", { class: "wb-mem-names", role: "gridcell" });
  row.className = `wb-mem wb-mem-${part.width} wb-scroll-row`;
  row.replaceChildren(address, hex, ascii, names);
  row.wb = { width: part.width, address, cells, letters, names };
}

function memoryCell(part, row, at) {
  const edit = () => memoryEdit(part, row, cell, row.wb.start + BigInt(at * part.width));
  const cell = h("span", { role: "gridcell", tabindex: "-1", "data-go": "", onclick: edit,
    onkeydown: (event) => event.key === "Enter" && event.target === cell && (event.preventDefault(), event.stopPropagation(), edit()) }, h("span", null, ".."));
  return cell;
}

function memoryEdit(part, row, cell, address) {
  const { width, space } = part;
  const value = memoryNumber(part, address, width) ?? 0n;
  editInPlace(cell, {
    label: `Poke ${width} ${width === 1 ? "byte" : "bytes"} of ${space} at ${hexText(address, 4)}, hexadecimal`, bits: width * 8, value, back: cell,
    text: value.toString(16).padStart(width * 2, "0"), parse: (text) => parseNumber(/^0x/i.test(text.trim()) ? text : `0x${text.trim()}`, width * 8),
    commit: (wish) => part.send(address, width, wish),
  });
}

/** The little-endian number at an address, null if not all of it arrived. @returns {bigint|null} */
function memoryNumber(part, address, width) {
  let number = 0n;
  for (let i = width - 1; i >= 0; i--) {
    const byte = part.bytes.at(address + BigInt(i));
    if (byte < 0) return null;
    number = (number << 8n) | BigInt(byte);
  }
  return number;
}

/** Write a row; bytes in `part.changed` glow, unless the row showed another address before. */
function memoryFill(part, row, index, fresh) {
  if (row.wb?.width !== part.width) memoryBuild(part, row);
  const start = part.address(index);
  if (fresh || row.wb.start !== start) memoryStill(part, row, start, index);
  const glow = !fresh && part.changed.size > 0;
  row.wb.cells.forEach((cell, at) => memoryShow(part, cell, start + BigInt(at * part.width), glow));
  row.wb.letters.forEach((letter, at) => memoryLetter(part, letter, start + BigInt(at), glow));
}

function memoryStill(part, row, start, index) {
  row.wb.start = start;
  unflashIn(row);
  setText(row.wb.address, start.toString(16).padStart(part.digits, "0"));
  const found = part.base === 0n ? part.names.get(index) ?? [] : [];
  setText(row.wb.names, found.map(({ name }) => name).join(" "));
  const tip = found.map(({ name, offset }) => `${hexText(offset, 8)} ${name}`).join("\n");
  setAttr(row.wb.names, "title", tip || null);
}

function memoryShow(part, cell, address, glow) {
  const { width } = part;
  const inside = address + BigInt(width) <= part.size;
  const number = inside ? memoryNumber(part, address, width) : null;
  const text = number === null ? (inside ? "·".repeat(width * 2) : "") : number.toString(16).padStart(width * 2, "0");
  setText(cell.firstChild, text);
  cell.classList.toggle("wb-zero", number === 0n);
  if (!glow) return;
  for (let i = 0; i < width; i++) {
    if (part.changed.has(address + BigInt(i))) return flash(cell.firstChild);
  }
}

function memoryLetter(part, letter, address, glow) {
  const byte = address < part.size ? part.bytes.at(address) : -1;
  const printable = byte >= 0x20 && byte < 0x7f;
  setText(letter, printable ? String.fromCharCode(byte) : byte < 0 ? " " : ".");
  letter.classList.toggle("wb-zero", !printable);
  if (glow && part.changed.has(address)) flash(letter);
}
