"""debs.py against a package archive of our own on the disk; the real mirror is used by tests/vm."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archive import make_deb

from workbench.vm import debs as module
from workbench.vm.debs import Debs, DebsError, debian_mirrors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt"),
]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """An apt configuration that names one unsigned archive, with two packages, and nothing else."""
    root = tmp_path / "archive"
    root.mkdir()
    make_deb(root, "wb-base")
    make_deb(root, "wb-top", depends="wb-base")
    (tmp_path / "etc/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/sources.list").write_text(f"deb [trusted=yes] copy:{root} ./\n")
    return tmp_path / "etc"


def test_packages_come_with_what_they_need(etc: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with Debs(tmp_path / "work", (), lambda text, fraction=None: steps.append(text), etc) as debs:
        debs.update()
        assert debs.depends("wb-top") == ["wb-base"]
        target = debs.fetch(tmp_path / "out", ["wb-top"])
    assert sorted(path.name for path in (target / "usr/share").iterdir()) == ["wb-base", "wb-top"]
    assert any(step.startswith("downloading 2 packages") for step in steps)
    assert list((tmp_path / "work").rglob("*.deb")) == []
    assert not (tmp_path / "work/lists").exists()


def test_without_closure_only_what_was_named_comes(etc: Path, tmp_path: Path) -> None:
    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        target = debs.fetch(tmp_path / "out", ["wb-top"], closure=False)
    assert [path.name for path in (target / "usr/share").iterdir()] == ["wb-top"]


def test_a_failed_check_leaves_the_old_tree_and_nothing_else(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()

    def refuse(tree: Path) -> None:
        raise DebsError("not good")

    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        with pytest.raises(DebsError, match="not good"):
            debs.fetch(tmp_path / "out", ["wb-base"], finish=refuse)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
        assert not list(tmp_path.glob(".out*"))
        debs.fetch(tmp_path / "out", ["wb-base"])
    assert not (tmp_path / "out/old").exists()


def test_a_damaged_package_is_refused(etc: Path, tmp_path: Path) -> None:
    deb = tmp_path / "archive/wb-base_1.0_all.deb"
    data = bytearray(deb.read_bytes())
    data[-600] ^= 1
    deb.write_bytes(data)
    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        with pytest.raises(DebsError, match=r"^a package arrived damaged\n(.|\n)*Hash Sum mismatch"):
            debs.fetch(tmp_path / "out", ["wb-base"])
    assert not (tmp_path / "out").exists()


def test_an_unknown_package_is_named(etc: Path, tmp_path: Path) -> None:
    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        with pytest.raises(DebsError, match=r"^the mirror has no package wb-none\n"):
            debs.fetch(tmp_path / "out", ["wb-none"])


def test_a_mirror_out_of_reach_is_one_clean_line_and_the_details_follow(etc: Path, tmp_path: Path) -> None:
    said = "Err:1 http://x trixie\n  Could not resolve x\nE: Failed to fetch http://x Could not resolve"
    error = Debs(tmp_path / "work", etc=etc)._explain("apt-get update", said)
    first, second, *rest = str(error).splitlines()
    assert first == "the package mirror cannot be reached (is there a network?)"
    assert second == "  `apt-get update` failed:"
    assert rest[-1].startswith("  E: Failed to fetch")


def test_a_disk_too_small_is_told_before_the_download(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNPACKED", 10**15)
    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        with pytest.raises(DebsError, match=r"^the disk is too full \(.* MB are needed, "):
            debs.fetch(tmp_path / "out", ["wb-base"])


KILLED = """
import sys
from pathlib import Path
from workbench.vm.debs import Debs
top, stop, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def at(step, fraction=None):
    if step.startswith(moment): open(stop).read()
with Debs(top / "work", progress=at, etc=top / "etc") as debs:
    debs.update()
    debs.fetch(top / "out", ["wb-top"], finish=lambda tree: at("finishing"))
"""


@pytest.mark.parametrize("moment", ["reading the package lists", "downloading", "unpacking", "finishing"])
def test_a_fetch_killed_at_any_moment_leaves_no_tree_and_the_next_one_works(
    etc: Path, tmp_path: Path, moment: str
) -> None:
    stop = tmp_path / "stop"
    os.mkfifo(stop)
    child = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, stop, moment])
    with stop.open("w"):  # opens as soon as the child has come so far
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.new").exists() == (moment in ("unpacking", "finishing"))
    with Debs(tmp_path / "work", etc=etc) as debs:
        debs.update()
        debs.fetch(tmp_path / "out", ["wb-top"])
    assert (tmp_path / "out/usr/share/wb-top").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(("keep", "left"), [(3600, ["one.deb"]), (-1, [])])
def test_downloads_are_kept_to_resume_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int, left: list[str]
) -> None:
    archives = tmp_path / "work/archives"
    archives.mkdir(parents=True)
    (archives / "one.deb").touch()
    monkeypatch.setattr(module, "RESUME_WITHIN", keep)
    with Debs(tmp_path / "work"):
        assert [path.name for path in archives.glob("*.deb")] == left


def test_a_second_fetch_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom workbench.vm.debs import Debs\n"
        "def say(text, fraction=None): print(text, flush=True)\n"
        f"with Debs(Path({str(tmp_path / 'work')!r}), progress=say):\n"
        "    print('mine', flush=True)\n"
    )
    with Debs(tmp_path / "work"):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert "waiting for another fetch" in child.stdout.readline()
    with child:
        assert child.communicate(timeout=20)[0] == "mine\n"


def at(host: str, path: str = "debian") -> str:
    return f"http://{host}/{path}"


def test_the_mirror_is_the_one_that_looks_like_debian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(module.MIRROR_VARIABLE, raising=False)
    (tmp_path / "sources.list").write_text(
        f"# deb {at('commented')} bookworm main\n"
        f"deb [arch=amd64] {at('tools', 'packages')} stable main\n"
        f"deb {at('other', 'ubuntu')} noble main\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        f"Types: deb\nURIs: {at('one')}\nSuites: bookworm bookworm-updates\n"
        "Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        f"Types: deb\nEnabled: no\nURIs: {at('off')}\nSuites: trixie\nComponents: main\n\n"
        f"Types: deb\nURIs: {at('one', 'debian-security')}\nSuites: bookworm-security\n"
        "Components: main\n"
    )
    assert debian_mirrors(tmp_path) == [at("one"), at("tools", "packages")]
    monkeypatch.setenv(module.MIRROR_VARIABLE, at("mine"))
    assert debian_mirrors(tmp_path) == [at("mine")]


def test_without_apt_the_error_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DebsError, match="not a Debian"), Debs(tmp_path / "work"):
        pass


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file, not a directory")
    with pytest.raises(DebsError, match="cannot write to the cache"), Debs(tmp_path / "work"):
        pass


def test_the_script_runs_alone_and_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-I", module.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: debs.py DIR PACKAGE...")
