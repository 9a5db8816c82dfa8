"""What a machine or a shell may have set otherwise than the tests take for granted, put right for this run.

Nothing here changes what is tested: signals that were ignored, a small number of files that may be opened, a
place for temporary files whose name is longer than a socket's may be, settings meant for other programs.
"""

import os
import resource
import shutil
import signal
import tempfile

from hypothesis import HealthCheck, settings

__all__ = ["put_back", "put_right"]

FILES = 4096  #: open at once: a message may bring 253, and several processes' worth are looked at
ROOT = 40  #: bytes of $TMPDIR: with a test's own directory behind it, a socket's path has 107 (unix(7))
#: They change what our programs print, or when.
FOREIGN = ("FORCE_COLOR", "PYTHON_COLORS", "PYTHONUNBUFFERED")

_made: list[str] = []


def put_right() -> None:
    """Do it; workers of xdist inherit it, and do what they do not inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup, and in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES)), hard))
    for name in FOREIGN:
        os.environ.pop(name, None)
    if len(os.path.realpath(tempfile.gettempdir())) > ROOT and os.access("/tmp", os.W_OK):
        _made.append(tempfile.mkdtemp(prefix="wb-", dir="/tmp"))
        os.environ["TMPDIR"] = tempfile.tempdir = _made[-1]
    # A busy machine is no defect of what it runs; and the examples are the same each time.
    slow = [HealthCheck.too_slow]
    settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=slow)
    settings.load_profile("steady")


def put_back() -> None:
    """Remove what was made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
