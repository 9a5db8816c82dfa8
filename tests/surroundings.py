"""What a machine or a shell may have set otherwise than the tests take for granted, put right for this run.

Nothing here changes what is tested: signals that were ignored, a small number of files that may be opened, a
place for temporary files whose name is longer than a socket's may be, a checkout whose path has a space,
settings meant for other programs, what the compilers' sanitizers cannot bear.
"""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from workbench import preload
from workbench.errors import StateError

__all__ = ["put_back", "put_right"]

FILES = 4096  #: open at once: a message may bring 253, and several processes' worth are looked at
ROOT = 40  #: bytes of $TMPDIR: with a test's own directory behind it, a socket's path has 107 (unix(7))
WIDE = 28  #: bits of an address that are random: with more, sanitizers of that time fail now and then
NO_RANDOM = 0x0040000  #: ADDR_NO_RANDOMIZE of personality(2), which a container may forbid
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
    _bear_sanitizers()
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


def _bear_sanitizers() -> None:
    """Let children have their memory where gcc 12 can follow; let them look for leaks only where they may."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError):
        if int(Path("/proc/sys/vm/mmap_rnd_bits").read_text()) > WIDE:
            libc.personality(libc.personality(0xFFFFFFFF) | NO_RANDOM)
    trace = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)"
    if subprocess.run([sys.executable, "-S", "-c", trace], check=False).returncode:
        os.environ["ASAN_OPTIONS"] = f"{os.environ.get('ASAN_OPTIONS', '')}:detect_leaks=0"


def put_back() -> None:
    """Remove what was made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
