"""What a machine or a shell may have set otherwise than the tests take for granted, put right for this run.

Nothing here changes what is tested: signals that were ignored, a small number of files that may be opened, a
place for temporary files whose name is longer than a socket's may be, a checkout whose path has a space,
settings meant for other programs.
"""

import os
import resource
import shutil
import signal
import tempfile

from hypothesis import HealthCheck, settings

from workbench import preload
from workbench.errors import StateError

__all__ = ["put_back", "put_right"]

FILES = 4096  #: open at once: a message may bring 253, and several processes' worth are looked at
ROOT = 40  #: bytes of $TMPDIR: with a test's own directory behind it, a socket's path has 107 (unix(7))
#: They change what our programs print, or when.
FOREIGN = ("COLUMNS", "FORCE_COLOR", "LINES", "PYTHON_COLORS", "PYTHONUNBUFFERED")

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
    _name_the_library()
    # A busy machine is no defect of what it runs; and the examples are the same each time.
    slow = [HealthCheck.too_slow]
    settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=slow)
    settings.load_profile("steady")


def _name_the_library() -> None:
    """Take a copy of the library to preload where LD_PRELOAD cannot name the one in the checkout."""
    try:
        preload.path()
    except StateError as error:
        if "no space and no colon" in str(error):
            _made.append(tempfile.mkdtemp(prefix="wb-"))
            shutil.copy(os.path.join(os.path.dirname(preload.__file__), preload.LIBRARY), _made[-1])
            preload.__file__ = os.path.join(_made[-1], "__init__.py")


def put_back() -> None:
    """Remove what was made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
