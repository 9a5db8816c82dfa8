"""What QEMU binaries import: every call that could reach VFIO has to be one the library stands in for."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from workbench import preload
from workbench.compiler import find_compiler
from workbench.vm import kit
from workbench.vm.debs import cache_home

#: A call on a path or a descriptor by which VFIO is used, in whatever form libc has it.
CALL = re.compile(
    r"_*(open|openat|openat2|creat|close|ioctl|pread|pwrite|preadv|pwritev|mmap|munmap|mremap|mmap2"
    r"|readlink|readlinkat|realpath|canonicalize_file_name)(32|64)?(v?2)?(_2|_chk|_time64|_nocancel)?(64)?"
)
#: Imported for other files: QEMU reads and writes disks with them, and nothing in its hw/vfio calls them.
ELSEWHERE = {"preadv", "preadv64", "preadv64v2", "pwritev", "pwritev64", "pwritev64v2", "creat", "creat64"}


def symbols(binary: Path, *options: str) -> set[str]:
    """The dynamic symbols of a file, without their versions."""
    command = ["nm", "-D", *options, str(binary)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in said.splitlines()}


def binaries() -> list[Path]:
    """Every QEMU at hand: on the path, and each that was fetched; those that the other tests use are."""
    kit.fetch()
    for suite in ("bookworm", "trixie"):
        kit.fetch_qemu(suite)
    found = {
        Path(one)
        for name in ("qemu-system-x86_64", "qemu-system-aarch64", "kvm")
        if (one := shutil.which(name))
    }
    found |= {one for one in cache_home().glob("*/usr/bin/qemu-system-*") if one.is_file()}
    return sorted({one.resolve() for one in found if one.read_bytes()[:4] == b"\x7fELF"})


def missing(binary: Path) -> set[str]:
    wanted = {name for name in symbols(binary, "--undefined-only") if CALL.fullmatch(name)}
    assert {"ioctl", "close"} <= wanted, "nm tells nothing of it"
    return wanted - symbols(preload.path(), "--defined-only") - ELSEWHERE


@pytest.mark.vm
@pytest.mark.timeout(240)
def test_no_qemu_imports_what_goes_past_the_library() -> None:
    found = binaries()
    assert len(found) >= 2
    assert {binary: missing(binary) for binary in found} == {binary: set() for binary in found}


@pytest.mark.parametrize(
    "name",
    ["open64", "__open64_2", "__pread64_chk", "mmap64", "__realpath_chk", "__readlinkat_chk", "preadv64v2"],
)
def test_the_audit_knows_the_forms_of_a_call(name: str) -> None:
    assert CALL.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["fopen64", "opendir", "closedir", "close_range", "mq_open", "semop", "readv"]
)
def test_the_audit_leaves_other_calls_alone(name: str) -> None:
    assert not CALL.fullmatch(name)


def test_the_audit_finds_what_is_missing(tmp_path: Path) -> None:
    source = tmp_path / "new.c"
    source.write_text("int openat2(int, ...); int ioctl(int, ...); int close(int);\n"
                      "int main(void) { return openat2(0) + ioctl(0) + close(0); }\n")  # fmt: skip
    binary = tmp_path / "new"
    subprocess.run([*find_compiler(), "-shared", "-fPIC", source, "-o", binary], check=True)
    assert missing(binary) == {"openat2"}
