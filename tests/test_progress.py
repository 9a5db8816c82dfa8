import io

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
    assert out.getvalue() == "  downloading: 0 MB\n  unpacking: a\n  ready\n"


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


def test_a_note_stays() -> None:
    out = Terminal()
    progress = Progress(out)
    progress("step")
    progress.note("this stays")
    assert out.getvalue().endswith("\rthis stays\n")


def test_under_pytest_nothing_is_shown() -> None:
    assert Progress().quiet
