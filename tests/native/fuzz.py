"""Builds the fuzz targets and runs them: ``python tests/native/fuzz.py SECONDS``.

The seconds are shared by all targets, those of the session (tests/fuzz_session.py) included. What is new is
kept in the cache's folder ``fuzz``, where the next run goes on; what broke is a file in its ``broken``.
Without libFuzzer the C targets are not run, and that is said.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from clang import Clang, fetch

from workbench.vm.debs import DebsError, cache_home

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent.parent / "workbench/engine"
TARGETS = ("conversation", "calls")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
FLAGS = ("-std=gnu11", "-g", "-O1", "-pthread", *WARNINGS, f"-I{ENGINE}", "-fno-sanitize-recover=all")
SANITIZED = (*FLAGS, "-fsanitize=fuzzer,address,undefined")
LIMITS = ("-timeout=30", "-max_len=1024", "-rss_limit_mb=2048", "-print_final_stats=1")


def objects(clang: Clang, folder: Path) -> list[Path]:
    """Return the engine as objects for all targets, in ``folder``, which is new. Raises AssertionError."""
    folder.mkdir()
    done = clang.run(*SANITIZED, "-c", *sorted(map(str, ENGINE.glob("*.c"))), cwd=folder)
    assert done.returncode == 0, done.stderr
    return sorted(folder.glob("*.o"))


def build(clang: Clang, target: str, engine: list[Path], folder: Path) -> Path:
    """Return the target as a program with libFuzzer. Raises AssertionError with what the compiler says."""
    binary = folder / f"fuzz_{target}"
    source = HERE / f"fuzz_{target}.c"
    done = clang.run(*SANITIZED, str(source), *map(str, engine), "-o", str(binary))
    assert done.returncode == 0, done.stderr
    return binary


def fuzz(binary: Path, seconds: int, found: Path, broken: Path) -> subprocess.CompletedProcess[str]:
    """Run a target that long, from what it found before (``found``, which grows) and the committed corpus."""
    target = binary.name.removeprefix("fuzz_")
    for folder in (found, broken):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        binary, f"-max_total_time={seconds}", *LIMITS, f"-dict={HERE / 'protocol.dict'}",
        f"-artifact_prefix={broken}/{target}-", found, HERE / "corpus" / target,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a run did, or why it ended early."""
    lines = done.stderr.splitlines()
    if done.returncode:
        start = next((n for n, line in enumerate(lines) if "ERROR" in line or "runtime error" in line), 0)
        return "\n".join([*lines[max(0, start - 3) : start + 30], *lines[-12:]])
    told = ("stat::number", "stat::peak", "Done")
    return "\n".join(line for line in lines if line.startswith(told) or "DONE" in line)


def main() -> int:
    """Run each target for its share of the seconds; 1 when one of them broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int)
    seconds = max(1, parser.parse_args().seconds // (len(TARGETS) + 1))
    work = cache_home() / "fuzz"
    work.mkdir(parents=True, exist_ok=True)
    broken = 0
    try:
        clang = fetch()
    except DebsError as error:
        print(f"The engine is NOT fuzzed on this machine: {error}", flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            engine = objects(clang, Path(folder) / "engine")
            programs = {target: build(clang, target, engine, work) for target in TARGETS}
        for target, program in programs.items():
            done = fuzz(program, seconds, work / target, work / "broken")
            print(f"== {target}, {seconds} s\n{summary(done)}", flush=True)
            broken |= done.returncode != 0
    session = [sys.executable, str(HERE.parent / "fuzz_session.py"), str(seconds)]
    print(f"== session, {seconds} s", flush=True)
    broken |= subprocess.run(session, check=False).returncode != 0
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
