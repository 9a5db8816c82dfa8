"""Whom debs.py believes: archives signed by Debian, and nobody else; real apt, archives on the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import Signer, make_deb, make_suite

from workbench import VmError
from workbench.vm import debs as module
from workbench.vm import kit
from workbench.vm.debs import Debs, DebsError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt"),
]
SUITE = kit.SUITE
UNCHECKED = r"^the mirror's signature could not be checked\n"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """A stranger with a key."""
    if shutil.which("gpg") is None:
        pytest.skip("needs gpg to sign with")
    made = Signer(tmp_path_factory.mktemp("key") / "home")
    yield made
    made.close()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Release file of an archive, not signed yet, that stands in for Debian's mirror."""
    archive = tmp_path / "archive"
    archive.mkdir()
    make_deb(archive, "wb-base")
    found = make_suite(archive, SUITE)
    monkeypatch.setenv(module.MIRROR_VARIABLE, f"copy:{archive}")
    return found


def fetch(tmp_path: Path) -> Path:
    with Debs(tmp_path / "work", (SUITE,)) as debs:
        debs.update()
        return debs.fetch(tmp_path / "out", ["wb-base"])


def refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(DebsError, match=text):
        fetch(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    assert list(tmp_path.glob(".out*")) == []


def test_a_signed_archive_is_taken(
    tmp_path: Path, release: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer.sign(release)
    monkeypatch.setattr(module, "debian_keyring", lambda: signer.keyring)
    assert (fetch(tmp_path) / "usr/share/wb-base").read_bytes() == b"x" * 1000


def test_an_unsigned_archive_is_refused(tmp_path: Path, release: Path) -> None:
    refused(tmp_path, UNCHECKED)


def test_an_archive_signed_by_a_stranger_is_refused(tmp_path: Path, release: Path, signer: Signer) -> None:
    signer.sign(release)
    refused(tmp_path, UNCHECKED)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("InRelease", b"Origin: Debian", b"Origin: debian", UNCHECKED),
        ("main/binary-amd64/Packages", b"Version: 1.0", b"Version: 9.0", r"^a package arrived damaged\n"),
        ("../../wb-base_1.0_all.deb", b"xxxx", b"yyyy", r"^a package arrived damaged\n"),
    ],
)
def test_what_was_changed_after_it_was_signed_is_refused(
    tmp_path: Path,
    release: Path,
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    old: bytes,
    new: bytes,
    said: str,
) -> None:
    signer.sign(release)
    monkeypatch.setattr(module, "debian_keyring", lambda: signer.keyring)
    changed = release.parent / name
    data = changed.read_bytes()
    assert old in data
    changed.write_bytes(data.replace(old, new))
    refused(tmp_path, said)


def test_an_unsigned_source_of_the_machine_is_not_taken_either(tmp_path: Path, release: Path) -> None:
    (tmp_path / "sources.list").write_text(f"deb copy:{release.parents[2]} {SUITE} main\n")
    with Debs(tmp_path / "work", etc=tmp_path) as debs:
        debs.update()
        with pytest.raises(DebsError, match=r"^the mirror has no package wb-base\n"):
            debs.fetch(tmp_path / "out", ["wb-base"])
    assert not (tmp_path / "out").exists()


def test_a_kit_from_a_stranger_is_refused_and_leaves_no_kit_in_the_cache(
    tmp_path: Path, release: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_suite(release.parents[2], kit.BACKPORTS)
    signer.sign(release)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(VmError, match=UNCHECKED) as caught:
        kit.fetch()
    assert str(caught.value).endswith("use the software guest: dev.connect()")
    assert kit.find_guest() is None
    assert sorted(path.name for path in (tmp_path / "cache/pci-workbench").iterdir()) == [
        *("debs", "last-fetch-failure")
    ]
