"""A lock that ``with`` takes is given back, whenever an exception comes from outside."""

import ctypes
import queue
import threading

import pytest

from workbench.lock import Lock

TIMES = 300
WAIT = 10.0


class Skipped(BaseException):
    """What another thread asks for."""


def taking(lock: Lock, told: "queue.Queue[str]") -> None:
    """Take and give the lock; tell at each exception whether it is still held, and end after so many."""
    told.put("ready")
    for _ in range(TIMES):
        try:
            while True:
                with lock:
                    pass
        except Skipped:
            told.put("held" if lock._is_owned() else "free")


@pytest.mark.slow
def test_an_exception_from_another_thread_never_leaves_the_lock_taken():
    lock, told = Lock(), queue.Queue()
    thread = threading.Thread(target=taking, args=(lock, told))
    thread.start()
    seen = [told.get(timeout=WAIT)]
    for _ in range(TIMES):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Skipped))
        seen.append(told.get(timeout=WAIT))
    thread.join(WAIT)
    assert seen == ["ready", *["free"] * TIMES]


def test_it_is_taken_again_by_its_thread_and_by_no_other():
    lock, found = Lock(), []
    with lock, lock:
        thread = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join(WAIT)
    assert found == [False]
    assert lock.acquire(blocking=False)
    lock.release()
