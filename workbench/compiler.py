"""Compiles the C of a cell into a library and loads it; tells mistakes by the lines of the cell.

Nothing is linked: a hook reaches the device through the pointers it is given (``engine/wb_native.h``).
A library is never unloaded, and the same text is compiled once.
"""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from .cells import Place
from .errors import CompileError, Problem, StateError

__all__ = ["HEADERS", "compile_c", "find_compiler"]

HEADERS = Path(__file__).parent / "engine"
SECONDS = 60  #: that a compiler may take
FLAGS = (
    *("-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wl,-z,defs"),
    *("-Wno-unused", "-Werror=return-type", "-Werror=implicit-function-declaration"),
    *("-Werror=int-conversion", "-Werror=incompatible-pointer-types", "-ftabstop=1", "-x", "c", "-"),
)
BEFORE = """#include "wb_libc.h"
__attribute__((visibility("default"))) int hook(const wb_native *wb, wb_touch *access);
"""
LINE = re.compile(r"^(?P<file>.+?):(?P<line>\d+):(?:(?P<column>\d+):)? (?:fatal )?error: (?P<message>.*)$")
WANTED = "int hook(const wb_native *wb, wb_touch *access)"
LINKER = re.compile(r"(?m)(undefined (?:reference|symbol).*)$")

_loaded: dict[str, tuple[ctypes.CDLL, int]] = {}


def compile_c(source: str, place: Place) -> tuple[object, int]:
    """Return the library that defines ``hook``, and its address.

    Raises CompileError with the compiler's complaints, StateError when there is no compiler.
    """
    if source not in _loaded:
        if wrong := _no_text(source):
            raise CompileError([Problem(place.name, place.line, 0, f"C source has {wrong}", "")])
        with tempfile.TemporaryDirectory(prefix="workbench-") as directory:
            _loaded[source] = _load(_run(source, place, Path(directory) / "hook.so"), place)
    return _loaded[source]


def _no_text(source: str) -> str:
    """Return why no file can have this text; "" when one can."""
    if "\0" in source:
        return "no NUL byte"
    try:
        source.encode()
    except UnicodeEncodeError as error:
        return f"no {source[error.start]!r}, which is half a letter"
    return ""


def find_compiler() -> list[str]:
    """Return how to call the C compiler: CC, cc, gcc or clang. Raises StateError when there is none."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        try:
            words = shlex.split(name)
        except ValueError as error:
            raise StateError(f"CC names no compiler: {name!r} ({error})") from None
        if words and shutil.which(words[0]):
            return words
    raise StateError(
        "C source needs a C compiler, and there is none: install gcc or clang, or name yours in CC;"
        " a function for numba needs none"
    )


def _run(source: str, place: Place, library: Path) -> Path:
    text = f'{BEFORE}#line {place.line} "{_quoted(place.name)}"\n{source}\n'
    command = [*find_compiler(), f"-I{HEADERS}", *FLAGS, "-o", str(library)]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise StateError(f"{command[0]} has not compiled the hook within {SECONDS} s") from None
    if done.returncode:
        raise CompileError(_problems(done.stderr.decode(errors="replace"), source, place))
    return library


def _load(library: Path, place: Place) -> tuple[ctypes.CDLL, int]:
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise StateError(
            f"the compiled hook cannot be loaded: {error}; TMPDIR must allow programs to run"
        ) from error
    if not hasattr(loaded, "hook"):
        raise CompileError([Problem(place.name, place.line, 0, f"it does not define {WANTED}", "")])
    return loaded, ctypes.cast(loaded.hook, ctypes.c_void_p).value or 0


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _problems(output: str, source: str, place: Place) -> list[Problem]:
    """Return what the compiler said, by line of the source; all it said when none of it can be placed."""
    lines, found = source.splitlines(), []
    for said in output.splitlines():
        if (match := LINE.match(said)) and match["file"] == place.name:
            number = int(match["line"])
            text = lines[number - place.line] if 0 <= number - place.line < len(lines) else ""
            found.append(Problem(place.name, number, int(match["column"] or 0), match["message"], text))
        elif match:
            found.append(Problem(match["file"], int(match["line"]), 0, match["message"], ""))
    if not found and (missing := dict.fromkeys(LINKER.findall(output))):
        told = "a hook calls what wb_native.h offers, and functions of its own"
        return [Problem(place.name, place.line, 0, f"{text}: {told}", "") for text in missing]
    return found or [Problem(place.name, place.line, 0, output.strip() or "the compiler failed", "")]
