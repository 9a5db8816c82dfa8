"""The size budget: prints the table, fails on what is too long to be one noun."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFUSE_LINES = 500
REFUSE_PYTHON_FUNCTION = 50
REFUSE_C_FUNCTION = 70
REFUSE_C_COLUMNS = 110  # Python's are ruff's


def sources(*patterns: str) -> list[Path]:
    return sorted(
        path for pattern in patterns for path in ROOT.glob(pattern) if "__pycache__" not in path.parts
    )


def python_functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(n.name, (n.end_lineno or n.lineno) - n.lineno + 1) for n in functions]


def c_functions(path: Path) -> list[tuple[str, int]]:
    """A function's body opens with a brace in the first column or at the end of its signature."""
    found, name, start = [], "", 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if opening := re.match(r"^[A-Za-z_].*?\b(\w+)\(", line):
            name, start = opening[1], number
        if line == "}" and name:
            found.append((name, number - start + 1))
            name = ""
    return found


def test_files_and_functions_stay_small() -> None:
    table, refused = [], []
    python = sources("workbench/**/*.py", "devices/*.py")
    for path in python + sources("workbench/*/*.c", "workbench/*/*.h"):
        limit = REFUSE_PYTHON_FUNCTION if path.suffix == ".py" else REFUSE_C_FUNCTION
        functions = python_functions(path) if path.suffix == ".py" else c_functions(path)
        lines = len(path.read_text().splitlines())
        longest = max(functions, key=lambda item: item[1], default=("-", 0))
        name = str(path.relative_to(ROOT))
        table.append(f"{lines:5}  {longest[1]:3} {longest[0]:28} {name}")
        if lines >= REFUSE_LINES:
            refused.append(f"{name}: {lines} lines")
        refused += [f"{name}: {function} has {size} lines" for function, size in functions if size >= limit]
    tests = {
        path: len(path.read_text().splitlines())
        for path in sources("tests/**/*.py", "tests/**/*.c", "tests/**/*.js")
    }
    refused += [f"{path.name}: {lines} lines" for path, lines in tests.items() if lines >= REFUSE_LINES]
    print("\nlines longest function\n" + "\n".join(table))
    assert refused == []


def test_c_lines_are_no_longer_than_pythons() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources("workbench/*/*.[ch]", "tests/*/*.[ch]")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > REFUSE_C_COLUMNS
    ]
    assert long == []


#: Lines a sample device may have; docstrings do not count. A student reads it in one sitting.
SAMPLES = {"gpio_pci_idio_16.py": 70, "uart_16550.py": 150, "nvme.py": 400}


def lines_without_docstrings(path: Path) -> int:
    text = path.read_text()
    nodes = [
        n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    strings = [n.body[0] for n in nodes if ast.get_docstring(n, clean=False) is not None]
    return len(text.splitlines()) - sum((one.end_lineno or 0) - one.lineno + 1 for one in strings)


def test_a_sample_device_can_be_read_in_one_sitting() -> None:
    samples = [path for path in sources("devices/*.py") if path.name != "__init__.py"]
    lines = {path.name: lines_without_docstrings(path) for path in samples}
    print(lines)
    assert {name: n for name, n in lines.items() if n > SAMPLES.get(name, 120)} == {}
