"""Builds the C parts: the extension, for which cffi reads ``HEADERS``, and the library to preload.

The module is generated at build time rather than committed, so header and module cannot differ.
The library to preload (``workbench/preload``) is no module of Python: only its name is an extension's.
setuptools loads this file by itself, before the package exists: it may import nothing of ours.
"""

import sysconfig
from pathlib import Path

from cffi import FFI
from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
#: One wheel for all versions, but for free-threaded CPython, which has no stable ABI (PEP 703, 803).
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

#: What cffi reads.
HEADERS = ("wb_native.h", "wb.h", "wb_serve.h", "wb_python.h")

#: What the engine calls back: defined in Python by ``workbench.engine``, handed over as pointers.
TRAMPOLINES = """
extern "Python" void wb_python_hook(void *, wb_access *);
void wb_hook_call(void *, wb_access *);
extern "Python" int wb_python_message(void *, wb_message *);
extern "Python" void wb_python_trace(void *, int, const uint8_t *, uint32_t, uint32_t);
extern "Python" int wb_python_reset(void *, uint32_t);
"""

#: They are over at once, so they keep the interpreter, unless they have to wait for the device's lock. To let
#: it go means to wait for it again: while a cell computes that costs a hook more than all the rest. What
#: is there to signal is not among them: where there is no AIO, a client can make it wait (eventfd.c).
SHORT = ("wb_region_word", "wb_region_poke", "wb_region_hook", "wb_log_add", "wb_turn_now", "wb_irq_get")
KEPT = {"Py_BEGIN_ALLOW_THREADS": "WB_KEEP_BEGIN", "Py_END_ALLOW_THREADS": "WB_KEEP_END"}  # trampoline.h


def keeping(code: str) -> str:
    """Return the generated C code with the SHORT functions called without letting the interpreter go."""
    for name in SHORT:
        head, found, rest = code.partition(f"\n_cffi_f_{name}(PyObject *")
        body, end, tail = rest.partition("\n}\n")
        for word, ours in KEPT.items():
            if body.count(word) != 1:
                raise RuntimeError(f"cffi generates {name} in another way than was expected")
            body = body.replace(word, ours)
        code = head + found + body + end + tail
    return code


def builder() -> FFI:
    """Return the cffi builder for the module, declarations read from the headers."""
    ffi = FFI()
    ffi.cdef("".join((HERE / name).read_text() for name in HEADERS) + TRAMPOLINES)
    included = '#include "wb_libc.h"\n#include "trampoline.h"\n#include "wb_serve.h"\n'
    ffi.set_source("workbench.engine._engine", included, py_limited_api=STABLE_ABI)
    return ffi


#: A plain shared library; it goes by a name that no Python looks for.
PRELOAD = "workbench.preload._preload"


class BuildEngine(build_ext):
    """``build_ext`` that generates the cffi source of the engine first."""

    def get_ext_filename(self, ext_name: str) -> str:
        """Return where a product goes: the preloaded library has no Python's tag in its name."""
        if ext_name == PRELOAD or ext_name == PRELOAD.rpartition(".")[2]:
            return ext_name.replace(".", "/") + ".so"
        name: str = super().get_ext_filename(ext_name)  # type: ignore[no-untyped-call]
        return name

    def build_extension(self, ext: Extension) -> None:
        """Add the generated C file to the engine's sources and compile; the library compiles as it is."""
        ext.libraries = [*ext.libraries, "pthread"]
        if ext.name == PRELOAD:
            super().build_extension(ext)
            return
        generated = Path(self.build_temp) / "_engine.c"
        generated.parent.mkdir(parents=True, exist_ok=True)
        builder().emit_c_code(str(generated))
        generated.write_text(keeping(generated.read_text()))
        ext.sources = [*ext.sources, str(generated)]
        ext.py_limited_api = STABLE_ABI
        super().build_extension(ext)


class BuildWheel(bdist_wheel):
    """``bdist_wheel`` that is tagged with the ABI that was compiled for."""

    def initialize_options(self) -> None:
        """Ask for the stable ABI from Python 3.11 on where there is one."""
        super().initialize_options()
        self.py_limited_api = "cp311" if STABLE_ABI else False
