"""What cannot be a native hook is refused, by whose mistake it is and in which line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cffi import FFI

import workbench as wb

GOOD = "int hook(const wb_native *wb, wb_touch *access) { return 0; }"


class Card(wb.Device):
    """One register."""

    id = wb.PciId(vendor=0x1234, device=0x0032)

    class bar0(wb.Bar, size=64):
        A = wb.Register(0)


@pytest.fixture
def card():
    with Card() as device:
        yield device


def refused(text):
    with pytest.raises(wb.CompileError) as caught, Card() as device:
        device.bar0.A.on_write.native(text)
    return caught.value


def test_a_mistake_in_c_is_told_by_the_line_of_the_file_that_has_it():
    error = refused("""
        int hook(const wb_native *wb, wb_touch *access)
        {
            return wb->pok(1);
        }
    """)
    (problem,) = [one for one in error.problems if "pok" in one.message]
    line = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "wb->pok(1)" in text
    )
    assert (problem.place, problem.line, problem.text.strip()) == (
        "test_native_code.py", line, "return wb->pok(1);",
    )  # fmt: skip
    assert problem.text[problem.column - 1 :].startswith("pok")
    shown = "\n".join(error._render_traceback_())
    assert f"test_native_code.py:{line}: " in shown
    assert "compiler.py" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int x;", "does not define int hook"),
        ("int hook(void) { return 0; }", "conflicting types"),
        ("int hook(const wb_native *wb, wb_touch *access) { }", "non-void"),
        ("int hook(const wb_native *wb, wb_touch *access) { return foo(); }", "foo"),
        ("int foo(void); int hook(const wb_native *wb, wb_touch *a) { return foo(); }", "wb_native.h"),
        ("int hook(", "expected"),
        ("\0", "NUL"),
        (f"{GOOD} /* \udc80 */", "half a letter"),
        (f"#include <nonsuch.h>\n{GOOD}", "nonsuch.h: No such file"),
        (f'#include "/etc/passwd"\n{GOOD}', "/etc/passwd:1"),
        ("int hook = 5;", "redeclared"),
        ("", "does not define int hook"),
    ],
)
def test_what_does_not_compile_is_told(text, said):
    assert said in str(refused(text))


@pytest.mark.slow
def test_what_numba_cannot_compile_is_told_by_its_line(card):
    def wrong(wb, access):
        wb.peek(0, 0, 4)
        return wb.pook(3)

    with pytest.raises(wb.CompileError, match="pook") as caught:
        card.bar0.A.on_write.native(wrong)
    assert caught.value.problems[0].text.strip() == "return wb.pook(3)"
    with pytest.raises(wb.CompileError, match="takes \\(wb, access\\)"):
        card.bar0.A.on_write.native(lambda wb: 0)
    with pytest.raises(wb.CompileError, match="returns a number or None, not Tuple"):
        card.bar0.A.on_write.native(lambda wb, access: (1, 2))


@pytest.mark.slow
def test_what_numba_has_compiled_for_something_else_is_refused(card):
    numba = pytest.importorskip("numba")
    for wrong in ("int32(float64, float64)", "int32(int8, int8)", "int64(voidptr, voidptr)"):
        with pytest.raises(wb.DescriptionError, match=r"a hook is int32\(wb, access\)"):
            card.bar0.A.on_write.native(numba.cfunc(wrong)(lambda one, two: 0))
    with pytest.raises(wb.DescriptionError, match=r"without numba\.njit"):
        card.bar0.A.on_write.native(numba.njit(lambda wb, access: 0))


@pytest.mark.parametrize("given", [5, None.__class__, len, [GOOD], 1.5])
def test_what_is_no_code_is_refused(card, given):
    with pytest.raises(wb.DescriptionError, match="native hook"):
        card.bar0.A.on_write.native(given)


def test_a_method_is_refused_as_one(card):
    with pytest.raises(wb.DescriptionError, match="outside of any class"):
        card.bar0.A.on_write.native(card.reset)


OBJECTS = [np.array([None, 1]), np.zeros(2, [("n", "<u4"), ("any", object)])]


@pytest.mark.parametrize(
    "state", [-1, True, 1 << 40, np.int64(-1), "text", b"read only", np.zeros((4, 4))[:, 1], *OBJECTS]
)
def test_memory_that_cannot_be_had_is_refused(card, state):
    with pytest.raises(wb.DescriptionError, match="state"):
        card.bar0.A.on_write.native(GOOD, state=state)


def test_sizes_of_numpy_and_structures_are_memory(card):
    assert card.bar0.A.on_write.native(GOOD, state=np.int64(12)).state.nbytes == 16
    words = np.zeros(2, [("OFFSET", "<u4"), ("ROOM", "<u4")])
    assert card.bar0.A.on_write.native(GOOD, state=words).state is words


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("int (*)(int)", 1),
        ("int (*)(void *, void *)", 0),
        ("double (*)(double, double)", 1),
        ("int (*)(long, long)", 1),
        ("float (*)(void *, void *)", 1),
        ("int *", 1),
    ],
)
def test_pointers_to_something_else_are_refused(card, kind, address):
    with pytest.raises(wb.DescriptionError, match="native hook"):
        card.bar0.A.on_write.native(FFI().cast(kind, address))


def test_without_a_compiler_an_error_says_so(card, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(wb.StateError, match="there is none: install gcc or clang"):
        card.bar0.A.on_write.native("int hook(const wb_native *w, wb_touch *access) { return 1; }")


def test_a_setting_that_names_no_compiler_is_told(card, monkeypatch):
    monkeypatch.setenv("CC", "'gcc")
    with pytest.raises(wb.StateError, match="CC names no compiler"):
        card.bar0.A.on_write.native(f"{GOOD} // compiled by nobody")


def test_in_a_class_a_hook_without_a_name_is_told():
    with pytest.raises(wb.DescriptionError, match=r"the hook of A\.on_write, is not in the class"):

        class Nameless(wb.Device):
            id = wb.PciId(vendor=1, device=1)

            class bar0(wb.Bar, size=64):
                A = wb.Register(0)

            bar0.A.on_write.native(GOOD)


@pytest.mark.slow
def test_ipython_shows_a_mistake_in_c_by_the_lines_of_the_cell():
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="NoColor")
shell.run_cell("import workbench as wb")
shell.run_cell('''{CELL}''')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "CompileError" in done.stdout, done.stderr
    assert ":4: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "compiler.py" not in done.stdout


CELL = """# a cell
wb.native.code(\\"\\"\\"
int hook(const wb_native *wb, wb_touch *access)
{ return wb->nothing; }
\\"\\"\\")
"""
