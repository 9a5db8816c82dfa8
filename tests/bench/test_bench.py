"""The benchmark runs: its programs compile, a row is measured and judged, one that cannot be says why."""

from io import BytesIO
from pathlib import Path

import bench_kit
import bench_table
import pytest
from bench_kit import Bench
from bench_table import Figure, Result, Row
from matplotlib.figure import Figure as Canvas

pytestmark = pytest.mark.slow


def test_reads_writes_and_echoes_are_measured_and_reach_the_device():
    with Bench(effort=0.01, rounds=5) as bench:
        server, client = bench.ours()
        echo = bench.floor()
        ours, floor = bench.compare(lambda: client.measure("read 0 0 4 64"), lambda: echo.measure("echo 64"))
        assert min(ours, floor) > 0
        client.measure("post 0 8 4 64 64")
        assert server.run("answer = sum(record.kind == 'write' for record in device.log)") == 640


def test_rows_beside_the_peer_are_skipped_with_the_reason_without_one():
    (result,) = bench_table.run(["read"], peer="", effort=0.01, rounds=5)
    assert result.figure is None
    assert "PEER" in str(result)


@pytest.mark.parametrize(
    ("bars", "value", "verdict"),
    [
        ({"at_most": 0.9}, 0.9, "ok"),
        ({"at_most": 0.9}, 0.91, "DOES NOT HOLD"),
        ({"at_least": 4}, 8, "ok"),
        ({"at_least": 4}, 3.9, "DOES NOT HOLD"),
        ({}, 5, ""),
    ],
)
def test_a_bar_judges_a_figure(bars, value, verdict):
    assert Result(Row("name", "what", lambda bench: Figure(0), **bars), Figure(value)).verdict == verdict


@pytest.fixture(scope="module")
def fonts():
    """Draw once: matplotlib keeps its font files open from then on."""
    Canvas().text(0, 0, "⟷ ≤").figure.savefig(BytesIO(), format="png")


@pytest.mark.usefixtures("fonts")
def test_the_table_is_drawn(tmp_path):
    row = Row("name", "what", lambda bench: Figure(0), at_most=2)
    bench_table.draw([Result(row, Figure(1.5)), Result(row, None, "why")], tmp_path / "new" / "table.png")
    assert (tmp_path / "new" / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_goes_before_other_sessions_and_then_as_before(tmp_path):
    group = tmp_path / "autogroup"
    group.write_text("/autogroup-25 nice 3\n")
    with bench_kit.foremost(group):
        assert group.read_text() == "-20"
    assert group.read_text() == "3"


def test_a_run_where_sessions_do_not_count_leaves_them_alone(tmp_path):
    group = tmp_path / "autogroup"
    with bench_kit.foremost(group):
        assert not group.exists()
    group.write_text("")  # a session that nobody began
    with bench_kit.foremost(group):
        assert group.read_text() == ""


def test_the_kernel_takes_what_a_run_writes_for_its_session():
    group = Path("/proc/self/autogroup")
    before = group.read_text() if group.exists() else ""
    with bench_kit.foremost():
        pass
    assert (group.read_text() if group.exists() else "") == before


def test_every_row_has_a_name_of_its_own():
    names = [row.name for row in bench_table.load_rows()]
    assert len(set(names)) == len(names) > 5
