"""For the tests of the benchmark: its programs are compiled for a file of tests and then removed."""

from collections.abc import Iterator

import bench_kit
import pytest


@pytest.fixture(scope="module", autouse=True)
def directory() -> Iterator[None]:
    """Remove what was compiled, once all is done."""
    yield
    bench_kit.keep.close()
    bench_kit.directory.cache_clear()
    bench_kit.compiled.cache_clear()
