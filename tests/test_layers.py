"""Who may import whom: the table is the picture of the layers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "workbench"

#: module -> our modules it may import at import time. A sub-package counts as one module.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "engine": set(),
    "modes": set(),
    "planes": {"modes"},
    "mistakes": {"modes"},
    "fields": {"mistakes"},
    "pages": {"mistakes"},
    "hookslot": set(),
    "registers": {"errors", "fields", "hookslot", "mistakes", "pages", "planes"},
    "doorbells": {"mistakes", "registers"},
    "rom": {"mistakes", "planes", "registers"},
    "capabilities": {"errors", "mistakes", "registers"},
    "capability_kinds": {"capabilities", "mistakes", "registers"},
    "pci": {"capabilities", "errors", "mistakes", "registers", "rom"},
    "lint": {"mistakes"},
    "protocol": {"errors"},
    "wire": {"protocol"},
    "runtime": {"errors"},
    "msi": {"capabilities", "mistakes", "registers"},
    "interrupts": {"errors", "mistakes"},
    "vectors": {"engine", "interrupts", "protocol"},
    "sharing": {"errors"},
    "buffers": set(),
    "dma": {"buffers", "engine", "errors", "sharing"},
    "log": {"columns", "engine", "registers", "records", "selection", "wholefile"},
    "columns": {"records"},
    "selection": {"mistakes", "records", "registers"},
    "records": {"engine", "errors", "fields", "protocol", "registers"},  # of protocol: names alone
    "cells": set(),
    "lock": set(),
    "failures": {"lock", "errors"},
    "hook": {"engine", "cells", "errors", "mistakes", "registers"},
    "stalls": {"lock", "cells", "hook"},
    "skip": {"lock", "errors", "failures"},
    "native": {"buffers", "cells", "engine", "errors", "mistakes"},
    "compiler": {"cells", "errors"},
    "nopython": {"cells", "engine", "errors", "native"},
    "nativehook": {"engine", "errors", "hook", "native"},
    "upcall": {"engine", "hook", "mistakes"},
    "running": {"lock", "engine", "errors", "failures", "hook", "nativehook", "skip", "stalls", "upcall"},
    "hooks": {
        "lock",
        *("engine", "errors", "hook", "native", "nativehook", "pages", "registers", "running", "upcall"),
    },
    "takeover": {"engine", "errors", "planes", "registers"},
    "layout": {"errors", "protocol", "registers"},
    "snapshot": {"errors", "layout", "wholefile"},
    "changes": {"fields", "registers", "snapshot"},
    "state": {"changes", "engine", "errors", "hooks", "layout", "protocol", "registers", "snapshot"},
    "timers": {"lock", "engine", "errors", "hooks", "mistakes"},
    "core": {
        *(
            "dma",
            "doorbells",
            "engine",
            "hooks",
            "interrupts",
            "log",
            "pages",
            "pci",
            "protocol",
            "registers",
            "state",
            "takeover",
            "timers",
            "upcall",
            "vectors",
            "watch",
        ),
    },
    "description": {
        *("capabilities", "engine", "errors", "hook", "interrupts", "mistakes", "msi", "pages", "pci"),
        *("registers", "rom"),
    },
    "number": set(),
    "unseen": set(),
    "stream": {"lock"},
    "storage": {"errors"},
    "ring": {"dma", "errors"},
    "watch": {"engine"},
    "qemuargs": set(),
    "region": {"engine", "errors", "hooks", "registers", "watch"},
    "handles": {
        "engine",
        "fields",
        "hook",
        "hookslot",
        "mistakes",
        "number",
        "region",
        "registers",
        "unseen",
    },
    "registerarray": {"handles", "hookslot", "region", "registers", "unseen"},
    "picture": set(),
    "blockhandle": {
        *("engine", "handles", "pages", "picture", "region", "registerarray", "registers", "unseen", "watch"),
    },
    "succession": {"cells", "errors", "layout", "lock", "takeover"},
    "doors": {"errors", "qemuargs", "succession"},
    "device": {
        *("registers", "pci", "capabilities", "lint", "description", "doors", "core", "interrupts"),
        *("blockhandle", "handles", "region", "engine", "errors", "mistakes", "timers"),
        *("changes", "rom", "snapshot", "state", "succession", "unseen"),
    },
    "refused": set(),
    "migration": {"protocol", "errors", "refused"},
    "session": {"protocol", "errors", "migration", "refused"},
    "trace": {"engine", "wire"},
    "listener": {"errors", "runtime"},
    "poller": {"engine", "errors"},
    "gate": {"engine", "errors"},
    "complaints": set(),
    "server": {
        "lock",
        *(
            "complaints",
            "device",
            "engine",
            "errors",
            "gate",
            "listener",
            "poller",
            "runtime",
            "session",
            "trace",
        ),
    },
    "client": {"protocol", "errors"},
    "views": {
        "columns",
        "selection",
        "device",
        "log",
        "interrupts",
        "dma",
        "server",
        "hooks",
        "handles",
        "registerarray",
        "blockhandle",
        "registers",
        "qemuargs",
        "records",
        "runtime",
        "errors",
    },
    "vm": {"errors", "preload", "runtime", "wholefile"},
    "terminal": {"device", "log"},
    "devicefile": {"device", "errors", "takeover"},
    "leftovers": {"runtime"},
    "preload": {"errors"},
    "cli": {"vm", "errors", "demo", "poller", "preload", "terminal", "devicefile", "leftovers"},
    "demo": {"client", "device", "devices", "errors", "vm"},
}

#: Doors that open downwards on demand, inside a function: what a Device offers but does not need.
DOORS = {
    ("doors", "server"),
    ("doors", "client"),
    ("doors", "views"),
    ("device", "views"),
    ("log", "views"),
    ("registerarray", "views"),
    ("blockhandle", "views"),
    ("vectors", "views"),
    ("dma", "views"),
    ("hooks", "views"),
    ("hookslot", "native"),
    ("native", "compiler"),
    ("native", "nopython"),
    ("vm", "views"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def for_types(tree: ast.Module) -> set[int]:
    """Return the ids of the nodes that only a type checker sees."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    return {id(node) for block in blocks for node in ast.walk(block)}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module of ours, at import time) for every import in a file."""
    tree = ast.parse(path.read_text())
    inner = {id(node) for top in ast.walk(tree) if isinstance(top, ast.FunctionDef) for node in ast.walk(top)}
    typed = for_types(tree)
    depth = len(path.relative_to(PACKAGE).parts)
    found = []
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            if node.level == depth:
                names = [module[0]] if module[0] else [alias.name for alias in node.names]
            elif node.level == 0 and module[0] == "workbench":
                names = [module[1]] if len(module) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("workbench.")]
        found += [(name, id(node) not in inner) for name in names]
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "build.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below(path: Path) -> None:
    module = module_of(path)
    if module == "__init__":
        return
    wrong = []
    for name, at_import in imports(path):
        allowed = name == module or name in ALLOWED[module] or (not at_import and (module, name) in DOORS)
        if not allowed:
            wrong.append(name)
    assert wrong == [], f"{module} may import {sorted(ALLOWED[module])}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_views_import_jupyter_or_matplotlib(path: Path) -> None:
    if module_of(path) == "views":
        return
    heavy = {"IPython", "ipywidgets", "anywidget", "traitlets", "matplotlib", "ipykernel"}
    tree = ast.parse(path.read_text())
    typed = for_types(tree)
    nodes = [node for node in ast.walk(tree) if id(node) not in typed]
    found = {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
    found |= {(n.module or "").split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
    assert not found & heavy


def test_sample_devices_use_public_names_only() -> None:
    for path in (ROOT / "devices").glob("*.py"):
        tree = ast.parse(path.read_text())
        modules = {(n.module or "") for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert {m for m in modules if m.startswith("workbench")} <= {"workbench"}, path.name
        private = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]
        assert [name for name in private if not name.startswith("__")] == [], path.name


def test_our_c_includes_no_python_header() -> None:
    for path in [*PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")]:
        assert "Python.h" not in path.read_text(), path.name
