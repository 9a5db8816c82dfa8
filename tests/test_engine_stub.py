"""The typed stub of the extension names what the extension has, no more and no less."""

import ast
from pathlib import Path

import workbench.engine
from workbench.engine import lib


def test_stub_and_extension_have_the_same_names() -> None:
    tree = ast.parse(Path(workbench.engine.__file__).with_name("_engine.pyi").read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Lib").body
    named = {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    named |= {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert named == {name for name in dir(lib) if not name.startswith("_")}


def test_arguments_of_the_stub_are_those_of_the_functions() -> None:
    tree = ast.parse(Path(workbench.engine.__file__).with_name("_engine.pyi").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("wb_"):
            signature = getattr(lib, node.name).__doc__.split(";")[0]
            inside = signature[signature.index("(") + 1 : signature.rindex(")")]
            count = 0 if inside in ("", "void") else inside.count(",") + 1
            assert len(node.args.args) - 1 == count, node.name
