"""The fuzz targets: the corpus with any compiler, and some seconds of fuzzing where there is libFuzzer."""

import subprocess
import sys
from pathlib import Path

import fuzz_session
import pytest
from native_kit import Objects, build

NATIVE = Path(__file__).resolve().parent / "native"
sys.path.insert(0, str(NATIVE))

import clang  # noqa: E402
import fuzz  # noqa: E402

SECONDS = 4


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_what_fuzzers_found_stays_mended(target: str, tmp_path: Path, engine: Objects) -> None:
    """Every input of the corpus under ASan and UBSan, leaks and descriptors counted; no fuzzer needed."""
    corpus, binary = sorted((NATIVE / "corpus" / target).glob("*")), tmp_path / target
    sources = [NATIVE / "fuzz_main.c", NATIVE / f"fuzz_{target}.c"]
    sanitizer = "address,undefined"
    build([*sources, *engine(sanitizer), "-o", binary], sanitizer, tmp_path, fuzz.WARNINGS)
    ran = subprocess.run([binary, *corpus], capture_output=True, text=True, timeout=200)
    assert len(corpus) > 50
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stderr.splitlines() == list(map(str, corpus))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each target as a program with libFuzzer."""
    compiler, reason = clang.find()
    if compiler is None:
        pytest.skip(f"the engine was not fuzzed, as there is no libFuzzer here: {reason}")
    folder = tmp_path_factory.mktemp("fuzz")
    engine = fuzz.objects(compiler, folder / "engine")
    return {target: fuzz.build(compiler, target, engine, folder) for target in fuzz.TARGETS}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_some_seconds_of_fuzzing_break_nothing(
    target: str, tmp_path: Path, programs: dict[str, Path]
) -> None:
    binary = programs[target]
    done = fuzz.fuzz(binary, SECONDS, tmp_path / "found", tmp_path / "broken")
    assert done.returncode == 0, fuzz.summary(done)
    assert list((tmp_path / "broken").iterdir()) == []
    print(fuzz.summary(done))


@pytest.mark.slow
def test_the_session_answers_or_refuses_whatever_comes() -> None:
    count, _, lines = fuzz_session.fuzz(SECONDS / 2, seed=5)
    print(f"{count} inputs, {lines} lines of ours")
    assert lines > 500
