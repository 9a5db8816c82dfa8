"""A guest of its own: ``hammer.py SOCKET`` writes and reads a register as fast as it can until stdin closes.

Prints ``seconds accesses`` of each twentieth of a second (CLOCK_MONOTONIC, its end); then the last value.
"""

import select
import sys
import time

from workbench.client import Client

WINDOW = 0.05


def main(path: str) -> None:
    """Hammer offset 0 of BAR 0 with a number that grows."""
    stop = select.poll()
    stop.register(0, select.POLLIN | select.POLLHUP)
    number = 0
    with Client(path) as guest:
        write, read = guest.bar0.write32, guest.bar0.read32
        while not stop.poll(0):
            begun, end = number, time.monotonic() + WINDOW
            while time.monotonic() < end:
                number += 1
                write(0, number)
                if read(0) != number:
                    sys.exit(f"wrote {number:#x}, read another value")
            print(time.monotonic(), 2 * (number - begun), flush=True)
    print("last", number)


if __name__ == "__main__":
    main(sys.argv[1])
