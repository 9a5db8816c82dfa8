"""The log's filter language: ``reg == CTRL && op == w && value & 1``, compiled to NumPy masks.

::

    test    =  test || test | test && test | !test | (test) | number ?< number | word == name | number | name
    number  =  value old now offset size latency revision seq flags | 12 | 0xff | 10us | number & | ^ number

``reg`` and ``op``, ``origin``, ``mark`` are compared with names, ``*`` in them stands for anything; a name
alone finds registers, kinds, origins and marks called so; a number alone is true unless 0. ``and``, ``or``,
``not`` may be written out. Nothing is ever evaluated as Python.
"""

import operator
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..records import FLAGGED, FLAGS, KINDS, ORIGINS, Names, Records

__all__ = ["Filter", "compile"]

Filter = Callable[[Records], npt.NDArray[np.bool_]]

NUMBERS = "value old now offset size latency revision seq flags"
COLUMNS = {name: name for name in NUMBERS.split()}
COLUMNS |= {"rev": "revision", "addr": "offset", "address": "offset"}
WORDS = {"reg": "reg", "register": "reg", "op": "op", "kind": "op", "origin": "origin", "by": "origin",
         "mark": "mark", "flag": "mark"}  # fmt: skip
SHORT = {"r": "read", "w": "write", "wr": "write", "rd": "read"}
UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "=": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
BITS: dict[str, Callable[[Any, Any], Any]] = {"&": operator.and_, "|": operator.or_, "^": operator.xor}
SPELLED = {"and": "&&", "or": "||", "not": "!"}
LONGEST = 1000  # letters of a filter
DEEPEST = 40  # parentheses in each other
TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:ns|us|µs|ms|s)?(?![\w]))"
    r"|(?P<name>[A-Za-z_*][\w.*\-+…]*(?:\[[\w*]+\][\w.*+]*)*)"
    r'|"(?P<quoted>[^"]*)"|(?P<sign>&&|\|\||[=!<>]=|[=<>!()&|^]))'
)


class Node(NamedTuple):
    """A part of the expression: "number", "test", "word" (reg, op ...) or "name" (CTRL)."""

    kind: str
    run: Callable[[Records], Any]
    text: str = ""


def compile(text: str, names: Names) -> Filter:  # noqa: A001
    """Return what tells for an array of records which of them fit.

    ``names`` finds the registers of records. An empty text fits all. Raises ValueError saying what is wrong.
    """
    if not text.strip():
        return lambda records: np.ones(len(records), bool)
    if len(text) > LONGEST:
        raise ValueError(f"a filter has at most {LONGEST} letters")
    run = Parser(_tokens(text), names).whole()
    return lambda records: np.broadcast_to(run(records), len(records)).astype(bool)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"not understood: {text[position:].strip()[:20]!r}")
        kind = str(match.lastgroup)
        word = match[kind]
        spelled = SPELLED.get(word.lower()) if kind == "name" else None
        found.append(("sign", spelled) if spelled else (kind, word))
        position = match.end()
    return found


class Parser:
    """Recursive descent over the tokens; ``&``, ``|`` and ``^`` bind tighter than comparisons."""

    def __init__(self, tokens: list[tuple[str, str]], names: Names) -> None:
        self.tokens, self.names = tokens, names
        self.at = self.depth = 0

    def whole(self) -> Callable[[Records], Any]:
        """Parse everything there is."""
        node = self.either()
        if self.at < len(self.tokens):
            raise ValueError(f"{self.tokens[self.at][1]!r} was not expected there")
        return self.test(node)

    def take(self, *signs: str) -> str:
        """Return the next sign and move on, if it is one of these; else ""."""
        kind, word = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if kind == "sign" and word in signs:
            self.at += 1
            return word
        return ""

    def either(self) -> Node:
        """Parse tests joined by ``||``."""
        return self.joined("||", operator.or_, self.both)

    def both(self) -> Node:
        """Parse tests joined by ``&&``."""
        return self.joined("&&", operator.and_, self.negated)

    def joined(self, sign: str, join: Callable[[Any, Any], Any], part: Callable[[], Node]) -> Node:
        """Parse parts joined by a sign."""
        node = part()
        while self.take(sign):
            left, right = self.test(node), self.test(part())
            node = Node("test", _joined(join, left, right))
        return node

    def negated(self) -> Node:
        """Parse a comparison, or one with ``!`` before it."""
        turns = 0
        while self.take("!"):
            turns += 1
        node = self.comparison()
        if not turns:
            return node
        run = self.test(node)
        return Node("test", (lambda rows: ~run(rows)) if turns % 2 else run)

    def comparison(self) -> Node:
        """Parse ``number < number`` or ``reg == NAME``, or either side alone."""
        left = self.bits()
        sign = self.take(*COMPARISONS)
        if not sign:
            return left
        right = self.bits()
        if left.kind in ("name", "number") and right.kind == "word":
            left, right = right, left
        if left.kind == "word":
            return self.named(left.text, sign, right)
        return Node("test", _joined(COMPARISONS[sign], self.number(left), self.number(right)))

    def bits(self) -> Node:
        """Parse numbers joined by ``&``, ``|``, ``^``, from left to right."""
        node = self.unit()
        while sign := self.take(*BITS):
            node = Node("number", _joined(BITS[sign], self.number(node), self.number(self.unit())))
        return node

    def unit(self) -> Node:
        """Parse a number, a column, a name, or something in parentheses."""
        if self.take("("):
            self.depth += 1
            if self.depth > DEEPEST:
                raise ValueError("too many parentheses")
            node = self.either()
            if not self.take(")"):
                raise ValueError("a closing parenthesis is missing")
            self.depth -= 1
            return node
        kind, word = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if kind in ("", "sign"):
            where = f"before {word!r}" if word else "at the end"
            raise ValueError(f"something is missing {where}")
        self.at += 1
        if kind == "number":
            number = np.uint64(_number(word))
            return Node("number", lambda rows: number, word)
        column = COLUMNS.get(word) if kind == "name" else None
        if column:
            return Node("number", lambda rows: rows[column].astype(np.uint64), word)
        if kind == "name" and word in WORDS:
            return Node("word", lambda rows: rows, WORDS[word])
        return Node("name", lambda rows: rows, word)

    def number(self, node: Node) -> Callable[[Records], Any]:
        """Return the node as a number; ValueError if it is none."""
        if node.kind != "number":
            what = f"{node.text!r} is not a number" if node.text else "a test is not a number"
            raise ValueError(f"{what}; numbers: {', '.join(COLUMNS)}, or 12, 0xff, 10us")
        return node.run

    def test(self, node: Node) -> Callable[[Records], Any]:
        """Return the node as a test: a name alone looks everywhere, a number is compared with 0."""
        if node.kind == "number":
            return lambda rows: node.run(rows) != 0
        if node.kind == "word":
            raise ValueError(f"{node.text} must be compared: {node.text} == ...")
        if node.kind == "test":
            return node.run
        for word in ("op", "origin", "mark"):
            if _matching(word, node.text):
                return self.named(word, "==", node).run
        return self.named("reg", "==", node).run

    def named(self, word: str, sign: str, node: Node) -> Node:
        """Return the test whether ``word`` is, or is not, what a name says."""
        if sign not in ("==", "=", "!="):
            raise ValueError(f"{word} can be compared with == and != only")
        if node.kind not in ("name", "number") or not node.text:
            raise ValueError(f"{word} is compared with a name")
        if word == "reg":
            is_it = self.touching(node.text)
        else:
            codes = _matching(word, node.text)
            if not codes:
                known = ", ".join(_table(word).values())
                raise ValueError(f"no {word} is called {node.text!r}; there are {known}")
            is_it = _marked(codes) if word == "mark" else _one_of("kind" if word == "op" else "origin", codes)
        return Node("test", (lambda rows: ~is_it(rows)) if sign == "!=" else is_it)

    def touching(self, text: str) -> Filter:
        """Return the test for registers called ``text``; each place is looked at once."""
        names, known = self.names, dict[str, bool]()

        def fits(rows: Records) -> npt.NDArray[np.bool_]:
            codes, touches = names.table(rows)
            for touch in touches:
                if touch.label not in known:
                    called = touch.names | {touch.label}
                    known[touch.label] = any(fnmatchcase(name, pattern) for name in called)
            return np.array([known[touch.label] for touch in touches], bool)[codes]

        pattern = re.sub(r"\[(\w+)\]", r"[[]\1]", text).replace("[*]", "[[]*]")
        return fits


def _number(word: str) -> int:
    unit = next((unit for unit in UNITS if word.endswith(unit) and not word.lower().startswith("0x")), "")
    try:
        number = int(word.removesuffix(unit), 0 if word[:2].lower() in ("0x", "0b") else 10)
    except ValueError:  # its underscores stand where none may
        raise ValueError(f"{word!r} is not a number") from None
    number *= UNITS.get(unit, 1)
    if number >= 1 << 64:
        raise ValueError(f"{word} does not fit 64 bits")
    return number


def _table(word: str) -> dict[int, str]:
    if word == "mark":
        return {**FLAGS, FLAGGED: "flagged"}
    return KINDS if word == "op" else ORIGINS


def _matching(word: str, text: str) -> list[int]:
    wanted = text.lower()
    wanted = SHORT.get(wanted, wanted) if word == "op" else wanted
    return [number for number, name in _table(word).items() if fnmatchcase(name, wanted)]


def _one_of(column: str, codes: list[int]) -> Filter:
    return lambda rows: np.isin(rows[column], codes)


def _marked(codes: list[int]) -> Filter:
    bits = np.bitwise_or.reduce(np.array(codes, np.uint16))
    return lambda rows: rows["flags"] & bits != 0


def _joined(
    join: Callable[[Any, Any], Any], left: Callable[[Records], Any], right: Callable[[Records], Any]
) -> Callable[[Records], Any]:
    return lambda rows: join(left(rows), right(rows))
