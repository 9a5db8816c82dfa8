"""A clang with libFuzzer for the tests: the machine's, or that of its release, fetched without root.

``python clang.py`` fetches it with progress (95 MB) and prints how to start it. The fetched one runs
with the machine's C library, headers and linker, which building the engine needs anyway.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from workbench.vm.debs import Debs, DebsError, Progress, cache_home, silent

#: A tree fetched by an incompatible version of this file is fetched anew.
TREE = "clang-1"
TARGET = """
int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long size);
int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long size) { return !bytes && size; }
"""
#: The machine's own are older or newer by a patch, and its loader wants those.
LIBC = ("ld-linux*", *(f"lib{name}.so*" for name in ("c", "m", "mvec", "pthread", "dl", "rt", "resolv")))


class Clang(NamedTuple):
    """How to start it: the program, and what its environment needs on top of ours."""

    program: str
    environment: dict[str, str]

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Compile something."""
        return subprocess.run(
            [self.program, *arguments], cwd=cwd,
            env=os.environ | self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def probe(clang: Clang) -> str | None:
    """Return why this clang cannot make a fuzzer; None: it can."""
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "probe.c", Path(folder) / "probe"
        source.write_text(TARGET)
        try:
            built = clang.run("-fsanitize=fuzzer,address,undefined", str(source), "-o", str(binary))
            if built.returncode:
                return (built.stderr.strip().splitlines() or ["it does not compile"])[-1]
            ran = subprocess.run([binary, "-runs=1"], capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return ran.stderr.strip() or "the fuzzer does not run" if ran.returncode else None


def _libraries(tree: Path) -> list[Path]:
    return [*tree.glob("usr/lib/*-linux-gnu"), *tree.glob("lib/*-linux-gnu")]


def _fetched(tree: Path) -> Clang | None:
    for program in sorted(tree.glob("usr/lib/llvm-*/bin/clang")):
        folders = [
            program.parents[1] / "lib",
            *tree.glob("usr/lib/*-linux-gnu"),
            *tree.glob("lib/*-linux-gnu"),
        ]
        return Clang(str(program), {"LD_LIBRARY_PATH": ":".join(map(str, folders))})
    return None


def find() -> tuple[Clang | None, str]:
    """Return a usable clang that is there already and "", or None and why there is none."""
    reasons = []
    names = ["clang", *(f"clang-{number}" for number in range(30, 12, -1))]
    known = [Clang(path, {}) for path in map(shutil.which, names) if path]
    for clang in [*known, *filter(None, [_fetched(cache_home() / TREE)])]:
        reason = probe(clang)
        if reason is None:
            return clang, ""
        reasons.append(f"{clang.program}: {reason}")
    return None, "; ".join(reasons) or "there is no clang (python tests/native/clang.py fetches one)"


def _drop_libc(tree: Path) -> None:
    for folder in _libraries(tree):
        for pattern in LIBC:
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
    for name in ("doc", "man", "locale"):
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)


def fetch(progress: Progress = silent) -> Clang:
    """Return a clang, fetching it if there is none. Raises DebsError that says what to do."""
    if found := find()[0]:
        return found
    with Debs(cache_home() / "own-release", progress=progress) as debs:
        debs.update()
        packages = [name for name in debs.depends("clang") if re.fullmatch(r"clang-\d+", name)]
        if not packages:
            raise DebsError("apt knows no package clang", "install clang with libFuzzer by other means")
        runtime = f"libclang-rt-{packages[0].removeprefix('clang-')}-dev"
        target = cache_home() / TREE
        try:
            debs.fetch(target, [packages[0], runtime], finish=_drop_libc)
        except DebsError:  # older releases have the sanitizers in a package that clang depends on
            debs.fetch(target, packages[:1], finish=_drop_libc)
    found, reason = find()
    if found is None:
        raise DebsError("the fetched clang makes no fuzzers here", reason)
    return found


def main() -> int:
    """Fetch with progress, print the program."""
    try:
        print(fetch(lambda text, fraction=None: print(f"  {text}", file=sys.stderr, flush=True)).program)
    except DebsError as error:
        print(f"clang.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
