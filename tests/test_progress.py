import io
import os
import subprocess
import sys

import pytest

from workbench.vm import progress as progress_module
from workbench.vm.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_into_a_file_each_step_is_one_line() -> None:
    out = io.StringIO()
    progress = Progress(out)
    for done in range(5):
        progress(f"downloading: {done} MB", done / 4)
    progress("unpacking: a")
    progress.done("ready")
    assert out.getvalue() == "  downloading\n  unpacking\n  ready\n"


def test_on_a_terminal_one_line_is_rewritten() -> None:
    out = Terminal()
    progress = Progress(out)
    progress("downloading: all", 0.5)
    progress("x")
    progress.done()
    first, second, last = out.getvalue().split("\r")[1:4]
    assert first == "█" * 12 + "░" * 12 + " downloading: all"
    assert second.rstrip() == "x"
    assert last.strip() == ""
    assert "\n" not in out.getvalue()


def test_the_line_is_written_again_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL", 0.0)
    out = Terminal()
    progress = Progress(out)
    for second in (0, 0, 0, 1, 1, 1):
        progress(f"booting: {second} s")
    assert out.getvalue() == "\rbooting: 0 s\rbooting: 1 s"


NOTEBOOK = """
import nbclient, nbformat
source = '''
from workbench.vm.progress import Progress
progress = Progress()
for second in range(3):
    progress(f"booting: {second} s")
progress.done("up")
print(progress.live)
'''
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
print("".join(output["text"] for output in notebook.cells[0].outputs), end="")
"""


@pytest.mark.slow
def test_a_notebook_that_runs_without_a_person_gets_one_plain_line_a_step() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout == "  booting\n  up\nFalse\n", done.stderr


def test_a_note_stays() -> None:
    out = Terminal()
    progress = Progress(out)
    progress("step")
    progress.note("this stays")
    assert out.getvalue().endswith("\rthis stays\n")


def test_under_pytest_nothing_is_shown() -> None:
    assert Progress().quiet
