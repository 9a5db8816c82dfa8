"""What is found out about the guest's memory, and how long that may take."""

import errno
from itertools import count

import pytest

from workbench.errors import DmaError
from workbench.sharing import PLACES, SAMPLE, Sharing, differs, in_time


def zeros(iova: int, size: int) -> bytes:
    return bytes(size)


def test_a_client_that_answers_each_question_just_in_time_is_not_asked_for_ever() -> None:
    """A second for each question, and memory of zeros, of which the next place must be looked at."""
    seconds, asked = count(), []

    def ask(iova: int, size: int) -> bytes:
        asked.append(iova)
        return bytes(size)

    slow = in_time(ask, 3, lambda: float(next(seconds)))
    with pytest.raises(DmaError, match="took 3 s") as raised:
        for region in range(65535):
            differs(region << 32, PLACES * SAMPLE, zeros, slow)
    assert raised.value.errno == errno.ETIMEDOUT
    assert len(asked) == 3


def test_one_that_took_too_long_is_not_asked_again() -> None:
    looked = []

    def check() -> list[object]:
        looked.append(True)
        raise DmaError(errno.ETIMEDOUT, "too long")

    sharing = Sharing(check)
    sharing.begin("pid 1 (qemu-system-x86)")
    assert sharing.doubtful
    sharing.look()
    assert not sharing.doubtful
    assert looked == [True]
