"""``make bench [PEER=dir] [ROWS="read_* dma_*"]``: measure, print the table, draw it. See README.md here.

Without ROWS every row is measured. PEER, in the environment, is a directory with ``libvfio-user.so`` and
``include/``.
"""

import argparse
import sys
from pathlib import Path

import bench_kit
import bench_table


def main() -> int:
    """Run the rows that were asked for; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="names of rows, with * and ?")
    parser.add_argument("--picture", type=Path, help="draw the table as a picture, too")
    parser.add_argument("--rounds", type=int, default=15, help="of each row, 5 or more")
    parser.add_argument("--effort", type=float, default=1.0, help="length of a round; less is rougher")
    asked = parser.parse_args()
    print(bench_table.machine(), flush=True)
    results = []
    with bench_kit.keep, bench_kit.foremost():
        for result in bench_table.run(asked.rows, bench_kit.PEER, asked.effort, max(5, asked.rounds)):
            print(result, flush=True)
            results.append(result)
    if asked.picture:
        bench_table.draw(results, asked.picture)
        print(f"drawn: {asked.picture}")
    return any(result.verdict == "DOES NOT HOLD" for result in results)


if __name__ == "__main__":
    sys.exit(main())
