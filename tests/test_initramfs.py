import gzip
import lzma
from pathlib import Path

import pytest

from workbench.errors import VmError
from workbench.vm import initramfs
from workbench.vm.kit import Guest


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive back, by the format's text and not by our writer."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[start : start + size])
        at = (start + size + 3) & ~3


def module(name: str, needs: str = "") -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + needs.encode() + b"\0name=" + name.encode() + b"\0"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    modules = tmp_path / "lib/modules/6.0-test"
    drivers = modules / "kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "top-one.ko.xz").write_bytes(lzma.compress(module("top_one", "left,right")))
    (drivers / "left.ko.xz").write_bytes(lzma.compress(module("left", "base")))
    (drivers / "right.ko").write_bytes(module("right", "base,in_kernel"))
    (drivers / "base.ko.gz").write_bytes(gzip.compress(module("base")))
    (modules / "modules.builtin").write_text("kernel/fs/in-kernel.ko\n")
    (tmp_path / "busybox").write_bytes(b"busy" * 3)
    return Guest(tmp_path / "vmlinuz", modules, tmp_path / "busybox")


def test_modules_come_after_what_they_need_and_once(guest: Guest) -> None:
    order = list(initramfs.load_modules(guest.modules, ["top-one", "right"]))
    assert order == ["base", "left", "right", "top_one"]


def test_what_a_module_wishes_for_comes_before_it_under_a_name_or_an_alias(guest: Guest) -> None:
    drivers = guest.modules / "kernel/drivers"
    wishes = b"softdep=pre: sum-crc left nowhere post: right\0softdep=pre: crypto-own\0softdep=post: last\0"
    (drivers / "disk.ko").write_bytes(module("disk", "base") + wishes)
    (drivers / "sum_fast.ko").write_bytes(module("sum_fast") + b"alias=sum-crc\0")
    (drivers / "sum_generic.ko").write_bytes(module("sum_generic") + b"alias=sum-crc\0softdep=pre: disk\0")
    (drivers / "own_generic.ko").write_bytes(module("own_generic") + b"alias=crypto-own\0")
    (guest.modules / "modules.builtin.modinfo").write_bytes(b"mine.alias=crypto-own\0")
    loaded = initramfs.load_modules(guest.modules, ["disk"])
    assert list(loaded) == ["base", "sum_generic", "left", "disk"]
    assert loaded["disk"][1] == ["base"]


def test_a_module_is_found_under_either_spelling_and_unpacked(guest: Guest) -> None:
    for spelling in ("top-one", "top_one"):
        content, needs = initramfs.load_modules(guest.modules, [spelling])["top_one"]
        assert content == module("top_one", "left,right")
        assert needs == ["left", "right"]


def test_a_built_in_module_needs_no_file(guest: Guest) -> None:
    assert initramfs.load_modules(guest.modules, ["in-kernel"]) == {}


def test_an_unknown_module_is_refused_with_a_suggestion(guest: Guest) -> None:
    with pytest.raises(VmError, match=r"no module 'rihgt'; did you mean right"):
        initramfs.load_modules(guest.modules, ["rihgt"])
    with pytest.raises(VmError, match=r"no module 'wright-brothers'$"):
        initramfs.load_modules(guest.modules, ["wright-brothers"])


def test_the_archive_holds_what_the_guest_needs(guest: Guest) -> None:
    tree = members(initramfs.build(guest, ["right"], {"/opt/hello": b"#!/bin/sh\n"}))
    assert tree["init"][0] == 0o100755
    assert tree["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert tree["bin/busybox"] == (0o100755, b"busy" * 3)
    assert tree["dev/console"][0] == 0o020600
    assert tree["lib/modules/6.0-test"][0] == 0o040755
    assert tree["etc/modules"][1] == b"/lib/modules/6.0-test/base.ko\n/lib/modules/6.0-test/right.ko\n"
    assert tree["lib/modules/6.0-test/modules.dep"][1] == b"base.ko:\nright.ko: base.ko\n"
    assert tree["lib/modules/6.0-test/right.ko"][1] == module("right", "base,in_kernel")
    assert tree["opt/hello"] == (0o100755, b"#!/bin/sh\n")


def test_members_of_any_length_stay_aligned() -> None:
    files = {f"f{size}": (0o644, b"x" * size) for size in range(9)}
    archive = initramfs.cpio(files)
    assert len(archive) % 512 == 0
    assert {name: len(data) for name, (_, data) in members(archive).items()} == {f"f{n}": n for n in range(9)}


def test_the_same_input_gives_the_same_bytes(guest: Guest) -> None:
    assert initramfs.build(guest, ["right"]) == initramfs.build(guest, ["right"])
