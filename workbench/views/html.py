"""Static cards: a device, a register, a log, in HTML and in plain text.

They peek and never read: showing a device runs no hook and changes nothing. The HTML needs no
script; colours come from JupyterLab's CSS variables, with fallbacks that suit light and dark pages,
and never carry meaning alone. Every text of the user's is escaped.
"""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice
from typing import NamedTuple

from ..blockhandle import BlockHandle
from ..device import Device
from ..dma import DmaRegion
from ..handles import RegisterHandle
from ..log import LogView
from ..records import data_size, duration
from ..registerarray import RegisterArray
from ..registers import Bar

__all__ = [
    *("array_card", "array_text", "block_card", "block_text"),
    *("device_card", "device_text", "dma_card", "dma_text", "log_table", "register_card"),
]

_OPEN = 16  # registers up to which a block is shown unfolded
_LINES = 64  # registers of a block that the plain text lists
_FOLD = 8  # elements up to which the plain text lists an array one by one
_COUNTED = 4096  # elements of an array that are compared with their reset value
_ROWS = 256  # and the HTML: a saved notebook should stay small
_TRACE = 15  # lines of a traceback, the last ones
_FAILURES = 3  # hook errors shown
_COPIES = ("dma_read", "dma_write")

_TITLES = ["offset", "register", "mode", "value", "fields", "reset", "answered by", "meaning"]

STYLE = """<style>
.wb{font-size:13px;line-height:1.45;color:var(--jp-content-font-color1,inherit);overflow-x:auto}
.wb code,.wb pre,.wb .n{font-family:var(--jp-code-font-family,monospace);background:none;color:inherit}
.wb .h{font-size:15px;font-weight:600}
.wb .d{color:var(--jp-content-font-color2,gray)}
.wb .b{border:1px solid var(--jp-border-color1,gray);border-radius:8px;padding:0 6px;font-size:11px}
.wb .w{color:var(--jp-error-color1,#d62728);font-weight:600}
.wb table{border-collapse:collapse;margin:4px 0 8px 0;border:0}
.wb table th,.wb table td{text-align:left!important;vertical-align:top;padding:1px 12px 1px 0;border:0}
.wb table th,.wb table td{white-space:nowrap}
.wb table th{font-weight:600;border-bottom:1px solid var(--jp-border-color2,#8886)}
.wb table td.t{white-space:normal;max-width:36em}
.wb summary{cursor:pointer;font-weight:600}
.wb pre{margin:2px 0 6px 0;padding:4px 8px;white-space:pre-wrap}
.wb pre{border-left:3px solid var(--jp-error-color1,#d62728)}
.wb pre.s{border-left:0}
</style>"""


class Row(NamedTuple):
    """One register as it is shown."""

    offset: str
    name: str
    mode: str
    value: str
    fields: str
    reset: str
    answers: str
    doc: str


class Summary(NamedTuple):
    """One line about a device: what it is about, the words, and whether something is wrong."""

    topic: str
    text: str
    wrong: bool = False


def device_card(device: Device, rows: int = _ROWS) -> str:
    """Return the device as HTML: identity, BARs, registers, interrupts, server, hook errors, log.

    ``rows``: registers of a block that are listed.
    """
    lines = "".join(_line(line) for line in _summaries(device))
    blocks = "".join(_block_html(block, rows) for block in _blocks(device))
    failures = "".join(f"<pre>{escape(text)}</pre>" for text in _failures(device))
    about = escape(_first_line(type(device)))
    head = f'<span class="h">{escape(device.name)}</span> <span class="d">{about}</span>'
    return f'<div class="wb">{STYLE}<div>{head}</div><table>{lines}</table>{failures}{blocks}</div>'


def device_text(device: Device) -> str:
    """Return the same card as plain text, at most 64 registers a block; config space by name only."""
    lines = [" · ".join(filter(None, [device.name, _first_line(type(device))]))]
    lines += [f"  {line.topic:<7} {'! ' if line.wrong else ''}{line.text}" for line in _summaries(device)]
    for block in _blocks(device):
        if block.description.name == "config":
            continue
        lines.append(f"  {block.description.name}")
        lines += _listed(block)
    return "\n".join(lines)


def block_card(block: BlockHandle, rows: int = _ROWS) -> str:
    """Return the registers of one block as HTML, at most so many rows."""
    return f'<div class="wb">{STYLE}{_block_html(block, rows)}</div>'


def block_text(block: BlockHandle) -> str:
    """Return the registers of one block as plain text, at most 64 lines."""
    described = block.description
    head = f"{described.name}: {data_size(block.size)}, {_count(block)} registers"
    return "\n".join([head, *_listed(block)])


def array_card(array: RegisterArray, rows: int = _ROWS) -> str:
    """Return the elements of an array as HTML, at most so many rows."""
    shown = [_row(element) for element in islice(array, rows)]
    more = f"<div class='d'>… and {len(array) - len(shown)} more</div>" if len(array) > len(shown) else ""
    head = f"<div class='h'>{escape(array.name)} <span class='d'>{escape(_told(array))}</span></div>"
    return f'<div class="wb">{STYLE}{head}{_table(_TITLES, shown)}{more}</div>'


def array_text(array: RegisterArray) -> str:
    """Return the elements of an array as plain text, at most 64 lines."""
    rows = [_row(element) for element in islice(array, _LINES)]
    return "\n".join([f"{array.name}: {_told(array)}", *_columns(rows, len(array))])


def register_card(register: RegisterHandle) -> str:
    """Return one register as HTML: value, reset value, and a line for each field."""
    row, description = _row(register), register.description
    head = (
        f'<span class="h">{escape(register.name)}</span> <code>{row.value}</code> '
        f'<span class="b">{escape(row.mode)}</span> '
        f'<span class="d">at {row.offset}, reset {row.reset}, answered by {escape(row.answers)}</span>'
    )
    cells = []
    for field in register.fields.values():
        described, number = field.description, int(field.value)
        top = described.lsb + described.width - 1
        bits = f"[{top}:{described.lsb}]" if described.width > 1 else f"[{top}]"
        text = described.name_of(number) or ""
        cells.append([bits, described.name, described.mode or "", f"{number:#x}", text, described.doc])
    table = _table(["bits", "field", "mode", "value", "", "meaning"], cells) if cells else ""
    return f'<div class="wb">{STYLE}<div>{head}</div><div>{escape(description.doc or "")}</div>{table}</div>'


def log_table(log: LogView, most: int = 20) -> str:
    """Return the last ``most`` records of a log as an HTML table, with the counts above it."""
    cells = []
    for record in log.newest(most):
        revision = f"rev {record.revision}" if record.revision else ""
        cells.append([
            f"{record.elapsed / 1e6:.6f}", record.origin, record.kind, record.register, record.digits,
            record.text, revision, duration(record.latency) if record.latency else "", record.marks,
        ])  # fmt: skip
    titles = ["ms", "origin", "kind", "register", "value", "what changed", "hook", "took", ""]
    more = f", the last {len(cells)} shown" if len(log) > len(cells) else ""
    dropped = ' class="w"' if log.dropped else ""
    head = f"<div><b>{len(log):,} records</b>{more}, <span{dropped}>{log.dropped:,} dropped</span></div>"
    return f'<div class="wb">{STYLE}{head}{_table(titles, cells) if cells else ""}</div>'


def dma_card(device: Device, rows: int = _ROWS) -> str:
    """Return what the guest mapped, at most so many rows of it, and the last copies, as HTML."""
    shown, total, size = device.dma.some_regions(0, rows)
    cells = [[f"0x{one.iova:x}", data_size(one.size), one.rights, _reach(one)] for one in shown]
    table = _table(["IOVA", "size", "the device may", "reached"], cells) if cells else ""
    more = f"<div class='d'>… and {total - len(shown):,} more</div>" if total > len(shown) else ""
    about = f"{total:,} region{'s' * (total > 1)}, {data_size(size)}" if total else repr(device.dma)
    copies = log_table(device.log.filter(kind=_COPIES)) if total or len(device.log) else ""
    master = "" if device.config.COMMAND.BUS_MASTER.value else ", bus master is off"
    return f'<div class="wb">{STYLE}<div><b>{escape(about + master)}</b></div>{table}{more}</div>{copies}'


def dma_text(device: Device) -> str:
    """Return the same as plain text, at most 64 regions and the last 8 copies."""
    return "\n".join([repr(device.dma), *map(str, device.log.filter(kind=_COPIES).newest(_FOLD))])


def _reach(region: DmaRegion) -> str:
    return f"! {region.reach}: private to the guest" if region.private else region.reach


# -- what there is to say ------------------------------------------------------------------


def _summaries(device: Device) -> Iterator[Summary]:
    yield Summary("id", _identity(device))
    yield Summary("BARs", ", ".join(_bar(index, bar) for index, bar in device.bars.items()) or "none")
    yield Summary("server", _server(device))
    yield Summary("irq", repr(device.irq).strip("<>"))
    hooks = list(device.hooks)
    errors = sum(failure.count for failure in device.hooks.failures)
    native = len(hooks) - device.hooks.in_python
    said = [f"{n} {how}" for n, how in ((len(hooks) - native, "in Python"), (native, "native")) if n]
    text = f"{', '.join(said)}, C answers the rest" if hooks else "none, C answers everything"
    yield Summary("hooks", f"{text}; {errors} errors" if errors else text, wrong=errors > 0)
    name, seconds = device.hooks.stalls.now[0], device.hooks.stalls.seconds_in_hook
    if name and seconds >= 1:
        yield Summary("runs", f"{name} for {seconds:.0f} s; dev.hooks.skip() ends it", wrong=True)
    yield Summary("log", device.log.summary(), wrong=device.log.dropped > 0)


def _identity(device: Device) -> str:
    who = device.id
    return f"{who.vendor:04x}:{who.device:04x}, class {who.class_code:06x}"


def _bar(index: int, bar: type[Bar]) -> str:
    kind = "I/O" if bar.kind == "io" else f"{bar.bits}-bit memory"
    prefetchable = ", prefetchable" if bar.prefetchable else ""
    return f"bar{index} {data_size(bar.block.size)} {kind}{prefetchable}"


def _server(device: Device) -> str:
    if device.closed:
        return "closed"
    server = device.server
    if server is None:
        return "not served: dev.serve() starts it"
    return f"{server.state}: {server.error!r}" if server.error else f"{server.state} on {server.path}"


def _failures(device: Device) -> list[str]:
    found = list(device.hooks.failures)[-_FAILURES:]
    traces = ["\n".join(fault.text.strip().splitlines()[-_TRACE:]) for fault in found]
    return [
        f"{fault.name} raised, {fault.count} times\n{text}" for fault, text in zip(found, traces, strict=True)
    ]


def _blocks(device: Device) -> Iterator[BlockHandle]:
    for _, block in sorted(device.blocks.items()):
        yield getattr(device, block.name)


def _rows(block: BlockHandle, most: int) -> list[Row]:
    return [_row(register) for register in islice(block.registers(), most)]


def _count(block: BlockHandle) -> int:
    return sum(register.count for register in block.description.registers.values())


def _listed(block: BlockHandle) -> list[str]:
    """Return a line for each register of a block, long arrays in one, at most 64 in all."""
    counts = [1 if one.count > _FOLD else one.count for one in block.description.registers.values()]
    return _columns(list(islice(_folded_rows(block), _LINES)), sum(counts))


def _folded_rows(block: BlockHandle) -> Iterator[Row]:
    for name in block.description.registers:
        handle = vars(block)[name]
        if isinstance(handle, RegisterHandle):
            yield _row(handle)
        elif len(handle) > _FOLD:
            first = _row(handle[0])
            title, said = f"{name}[0..{len(handle) - 1}]", f"{_told(handle)}"
            yield first._replace(name=title, value="", fields=said, answers=_array_answers(handle))
        else:
            yield from map(_row, handle)


def _told(array: RegisterArray) -> str:
    every, reset = array.description.stride, array.description.reset
    changed = sum(element.value != reset for element in islice(array, _COUNTED))
    of = f" of the first {_COUNTED}" if len(array) > _COUNTED else ""
    return f"{len(array)} registers every {every:#x} bytes, {changed or 'none'}{of} not as reset"


def _array_answers(array: RegisterArray) -> str:
    found = {_answers(element) for element in islice(array, _ROWS)}
    return "C" if found == {"C"} else "Python, in part" if "C" in found else "Python"


def _row(register: RegisterHandle) -> Row:
    description, value = register.description, register.value
    digits = description.width // 4
    fields = description.spell(value)
    doc = (description.doc or "").strip().partition("\n")[0]
    return Row(
        f"{register.offset:#04x}", description.element_name(register.index), description.modes,
        f"0x{value:0{digits}x}", fields, f"0x{description.reset:0{digits}x}", _answers(register), doc,
    )  # fmt: skip


def _answers(register: RegisterHandle) -> str:
    found = [(slot, register.hook(slot)) for slot in ("read", "write")]
    own = [(slot, hook) for slot, hook in found if hook and hook.name == register.name]
    said = [f"on_{slot} rev {hook.revision}" for slot, hook in own]
    return "Python " + ", ".join(said) if said else "C"


def _first_line(cls: type) -> str:
    return (vars(cls).get("__doc__") or "").strip().partition("\n")[0]


# -- how it is laid out --------------------------------------------------------------------


def _line(line: Summary) -> str:
    mark = ' class="w"' if line.wrong else ""
    text = escape(f"! {line.text}" if line.wrong else line.text)
    return f'<tr><td class="d">{escape(line.topic)}</td><td{mark}>{text}</td></tr>'


def _block_html(block: BlockHandle, most: int) -> str:
    rows, count = _rows(block, most), _count(block)
    name = block.description.name
    unfolded = " open" if count <= _OPEN and name != "config" else ""
    head = f"{escape(name)} <span class='d'>{data_size(block.size)}, {count} registers</span>"
    more = f"<div class='d'>… and {count - len(rows)} more</div>" if count > len(rows) else ""
    return f"<details{unfolded}><summary>{head}</summary>{_table(_TITLES, rows)}{more}</details>"


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    number = text.startswith("0x") or (text[:1].isdigit() and "→" in text)
    kinds = "w" if text.startswith("! ") else "n" if number else "t" if len(text) > 24 else ""
    return f'<td class="{kinds}">{escape(text)}</td>' if kinds else f"<td>{escape(text)}</td>"


def _columns(rows: list[Row], count: int) -> list[str]:
    """Return the rows as aligned text, without reset values and documentation; ``count``: all there are."""
    shown = [(*row[:5], row.answers) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]
    return lines + ([f"    … and {count - len(rows)} more"] if count > len(rows) else [])
