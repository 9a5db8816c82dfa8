"""Access modes: what a guest's read or write does to a bit, by the datasheet's abbreviations.

A mode is a set of engine planes (``wb.h``). Names of SystemRDL (``sw=rw``, ``onwrite=woclr``), of
IP-XACT and CMSIS-SVD (``read-only``, ``oneToClear``, ``readAction=clear``) and of the PCI
specifications (``RW1C``, ``HwInit``) mean the same modes. Modes combine: ``"rw rc"``.
"""

import difflib
import re
from functools import cache
from typing import NamedTuple

__all__ = ["MODES", "Mode", "find_mode"]


class Mode(NamedTuple):
    """What one bit does; ``planes`` are the engine's rule planes in which the bit is set."""

    name: str
    planes: frozenset[str]
    doc: str


def _table() -> dict[str, Mode]:
    rows = {
        "ro": ("readable", "read only; a write that would change it is flagged"),
        "rw": ("readable writable accept", "read and write"),
        "wo": ("wo accept", "write only: reads as 0, the last written value is kept apart"),
        "w1c": ("readable w1c accept", "writing 1 clears, 0 does nothing"),
        "w1s": ("readable w1s accept", "writing 1 sets, 0 does nothing"),
        "w1t": ("readable w1t accept", "writing 1 toggles, 0 does nothing"),
        "w0c": ("readable w0c accept", "writing 0 clears, 1 does nothing"),
        "w0s": ("readable w0s accept", "writing 0 sets, 1 does nothing"),
        "w0t": ("readable w0t accept", "writing 0 toggles, 1 does nothing"),
        "wclr": ("readable wclr accept", "any write clears"),
        "wset": ("readable wset accept", "any write sets"),
        "rc": ("readable rc", "reading clears; read only unless combined"),
        "rs": ("readable rs", "reading sets; read only unless combined"),
        "rw1": ("readable once accept", "writable once after a reset"),
        "w1": ("once accept", "writable once after a reset, reads as 0"),
        "pulse": ("readable pulse accept", "writing 1 is seen by the write hook, then it is 0 again"),
        "const": ("readable", "never changes; a write that would change it is flagged"),
        "rsvd": ("readable", "reserved: as bits that no field covers"),
        "ignore": ("readable accept", "reads as reset, writes are ignored without remark"),
    }
    return {name: Mode(name, frozenset(planes.split()), doc) for name, (planes, doc) in rows.items()}


#: Every mode by its short name, in the order a legend shows them.
MODES: dict[str, Mode] = _table()

#: Other spellings, lower case and without punctuation. SystemRDL; IP-XACT and SVD; PCI; UVM.
_ALIASES = {
    "r": "ro", "w": "wo", "na": "rsvd",
    "rclr": "rc", "rset": "rs", "ruser": "ro",
    "woclr": "w1c", "woset": "w1s", "wot": "w1t", "wzc": "w0c", "wzs": "w0s", "wzt": "w0t",
    "wuser": "ignore", "singlepulse": "pulse",
    "readonly": "ro", "writeonly": "wo", "readwrite": "rw", "writeonce": "w1", "readwriteonce": "rw1",
    "onetoclear": "w1c", "onetoset": "w1s", "onetotoggle": "w1t",
    "zerotoclear": "w0c", "zerotoset": "w0s", "zerototoggle": "w0t",
    "modify": "rw", "modifyexternal": "ro", "noaccess": "rsvd", "reserved": "rsvd", "constant": "const",
    "rw1c": "w1c", "rwc": "w1c", "rw1s": "w1s", "rw1t": "w1t", "rwo": "rw1", "hwinit": "ro",
    "rsvdp": "rsvd", "rsvdz": "rsvd",
    "wrc": "rw rc", "wrs": "rw rs", "wc": "wclr", "ws": "wset", "wsrc": "wset rc", "wcrs": "wclr rs",
    "w1src": "w1s rc", "w1crs": "w1c rs", "w0src": "w0s rc", "w0crs": "w0c rs",
    "woc": "wo wclr", "wos": "wo wset", "wo1": "w1",
}  # fmt: skip

#: ``key=value`` spellings in which the key decides what the value means.
_KEYED = {
    "readactionclear": "rc",
    "readactionset": "rs",
    "readactionmodify": "ro",
    "modifiedwritevalueclear": "wclr",
    "modifiedwritevalueset": "wset",
    "modifiedwritevaluesclear": "wclr",
    "modifiedwritevaluesset": "wset",
    "swwr": "rw",  # alone it may as well mean "write"
}
_KEYS = frozenset(
    ["sw", "access", "onread", "onwrite", "readaction", "modifiedwritevalue", "modifiedwritevalues"]
)

#: Rights alone; a more specific word about writes replaces what they say about writes.
_RIGHTS = frozenset(["ro", "rw", "wo", "rc", "rs"])


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _words(text: str) -> list[str]:
    """Split one spelling into short names; raises ValueError on a word that nobody knows."""
    whole = _plain(text)
    if "=" not in text and (whole in MODES or whole in _ALIASES):
        return _ALIASES.get(whole, whole).split()
    if len(parts := [part for part in re.split(r"[\s,;/|+&]+", text) if part]) > 1:
        return [word for part in parts for word in _words(part)]
    key, equals, value = text.partition("=")
    if equals and _plain(key) in _KEYS:
        return _KEYED[_plain(text)].split() if _plain(text) in _KEYED else _words(value)
    raise ValueError(f"unknown mode {text!r}{_advice(whole)}")


def _advice(word: str) -> str:
    if word in ("clear", "set"):
        return f"; say readAction={word} or modifiedWriteValue={word}"
    close = difflib.get_close_matches(word, MODES, n=4, cutoff=0.5)
    close = close or difflib.get_close_matches(word, _ALIASES, n=3, cutoff=0.6)
    known = f"nown are {', '.join(MODES)}"
    return f"; did you mean {', '.join(close)}? K{known}" if close else f"; k{known}"


@cache
def find_mode(text: str) -> Mode:
    """Return the mode that ``text`` spells, in any dialect and case.

    Raises ValueError on an unknown word (naming close ones) and on words that contradict.
    """
    words = list(dict.fromkeys(_words(text)))
    if len(words) == 1:
        return MODES[words[0]]
    special = [word for word in words if word not in _RIGHTS]
    rights = [word for word in words if word in _RIGHTS]
    # "rc" and "rs" say nothing about writes, so one of ro, rw, wo may stand beside them.
    access = [word for word in rights if word in ("ro", "rw", "wo")]
    effects = [word for word in rights if word in ("rc", "rs")]
    for group in (special, access, effects):
        if len(group) > 1:
            raise ValueError(f"mode {text!r}: {' and '.join(group)} contradict each other")
    planes = frozenset().union(*(MODES[word].planes for word in special or access or ["ro"]))
    if access == ["wo"]:
        planes -= {"readable"}
    if effects and "readable" not in planes:
        raise ValueError(f"mode {text!r}: {effects[0]} needs a bit that can be read")
    planes = planes.union(*(MODES[word].planes for word in effects))
    kept = [word for word in words if word != "ro" and not (special and word == "rw")]
    if len(kept) == 1:
        return MODES[kept[0]]
    return Mode(" ".join(kept), planes, "; ".join(MODES[word].doc for word in kept))
