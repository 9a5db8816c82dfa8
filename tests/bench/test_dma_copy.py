"""A DMA copy costs its bytes: the bars of ``rows/dma.py`` hold, beside libvfio-user where PEER names one."""

import bench_kit
import bench_table
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def holds(name):
    (result,) = bench_table.run([name], bench_kit.PEER, effort=1, rounds=15)
    print(result)
    return result.verdict == "ok"


@pytest.mark.parametrize("name", ["dma_memcpy", "dma_page"])
def test_a_copy_is_as_fast_as_memcpy_and_its_record(name):
    assert holds(name)


@pytest.mark.skipif(not bench_kit.PEER, reason="PEER is not set: where a libvfio-user is, built by hand")
@pytest.mark.parametrize("name", ["dma_read", "dma_write"])
def test_a_copy_of_a_page_is_as_fast_as_by_libvfio_user(name):
    assert holds(name)
