"""The guest kit: a QEMU, a Linux kernel with its modules, and busybox.

The system's QEMU is preferred if it is 10.1 or newer: it has vfio-user-pci. An older one with vfio-pci will
do, with the library of `workbench.preload`. Without either a relocatable copy of Debian's is fetched into
``$XDG_CACHE_HOME/pci-workbench`` (38 MB to download), and so are kernel and busybox (110 MB), without root.
"""

import contextlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import preload
from ..errors import StateError, VmError
from ..wholefile import whole_file
from .debs import DEBIAN_SUITES, Debs, DebsError, Progress, cache_home, silent

SUITE = "trixie"
BACKPORTS = "trixie-backports"
QEMU_PACKAGES = ("qemu-system-x86", "seabios")
KERNEL_PACKAGE = "linux-image-amd64"
#: A tree fetched by an incompatible version of this file is fetched anew.
QEMU_TREE, GUEST_TREE = "qemu-1", "guest-1"
BINARY = "qemu-system-x86_64"
#: Milliseconds a QEMU waits for a device: it may be paused, or a hook be looked at, for a day.
PATIENCE_MS = 86_400_000
WITHOUT = "without it, use the software guest: dev.connect()"


@dataclass(frozen=True)
class Qemu:
    """How to start a QEMU: the ``command`` prefix, its ``version`` and whether it is the system's.

    ``preload``: it has no vfio-user-pci, and attaches through the library of `workbench.preload`.
    """

    command: tuple[str, ...]
    version: str
    system: bool
    preload: bool = False

    @property
    def start(self) -> tuple[str, ...]:
        """The words that start it in a VM of ours, where its modules are and what it preloads included."""
        settings = self._modules()
        if self.preload:
            libraries = [str(preload.path()), *filter(None, [os.environ.get("LD_PRELOAD")])]
            settings += [f"LD_PRELOAD={':'.join(libraries)}", f"WORKBENCH_PRELOAD_TIMEOUT_MS={PATIENCE_MS}"]
        return ("env", *settings, *self.command) if settings else self.command

    @property
    def path(self) -> str:
        """The program itself, among the words of its command."""
        return next((word for word in self.command if word.endswith(BINARY)), self.command[0])

    @property
    def by_hand(self) -> str:
        """What a shell can start, also after ``LD_PRELOAD=...``: the program, of a fetched one its script.

        The script is written here, so that trees fetched before there was one get it too; where it cannot be
        written, the words that would be in it.
        """
        settings = self._modules()
        if not settings:
            return self.path
        script, words = Path(self.path).parents[2] / BINARY, shlex.join(["env", *settings, *self.command])
        text = f'#!/bin/sh\nexec {words} "$@"\n'
        try:
            if not script.exists() or script.read_text() != text:
                with whole_file(script) as fresh:  # somebody may start it meanwhile
                    fresh.write_text(text)
                    fresh.chmod(0o755)
        except OSError:
            return words
        return str(script)

    def _modules(self) -> list[str]:
        """Return where QEMU's own modules are, for ``env``, if it was fetched."""
        tree = Path(self.path).parent.parent
        return [f"QEMU_MODULE_DIR={tree / 'lib/x86_64-linux-gnu/qemu'}"] if len(self.command) > 1 else []


@dataclass(frozen=True)
class Guest:
    """A guest: ``vmlinuz``, the ``modules`` directory (``lib/modules/VERSION``) and a static ``busybox``."""

    vmlinuz: Path
    modules: Path
    busybox: Path

    @property
    def version(self) -> str:
        """The kernel's release, as in ``uname -r``."""
        return self.modules.name


def _ask(command: tuple[str, ...], *options: str) -> str:
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


@lru_cache
def _probe(command: tuple[str, ...], mtime: float) -> tuple[str, bool] | None:
    """Return a QEMU's version and whether it has vfio-user-pci; None when it has not even vfio-pci."""
    builtin = "socket=" in _ask(command, "-device", "vfio-user-pci,help")
    if not builtin and "sysfsdev=" not in _ask(command, "-device", "vfio-pci,help"):
        return None
    match = re.search(r"version (\S+)", _ask(command, "--version"))
    return match[1] if match else "unknown", builtin


def probe(command: tuple[str, ...], system: bool = False) -> Qemu | None:
    """Return the QEMU that ``command`` starts, or None if no device of ours can be plugged into it."""
    try:
        found = _probe(command, os.stat(command[-1] if len(command) == 1 else command[0]).st_mtime)
    except (OSError, ValueError):  # no file, or no name of one
        return None
    if found is None or not (found[1] or _preloadable()):
        return None
    return Qemu(command, found[0], system, preload=not found[1])


def _preloadable() -> bool:
    try:
        preload.path()
    except StateError:
        return False
    return True


def _relocated(tree: Path) -> tuple[str, ...]:
    """Return the command that starts the QEMU unpacked under ``tree`` with the libraries beside it."""
    loaders = [
        *tree.glob("usr/lib64/ld-linux-*"),
        *tree.glob("lib64/ld-linux-*"),
        *tree.glob("usr/lib/*/ld-linux-*"),
    ]
    if not loaders:
        return (str(tree / "usr/bin" / BINARY),)
    share = tree / "usr/share"
    return (
        str(loaders[0]),
        "--library-path",
        f"{tree / 'usr/lib/x86_64-linux-gnu'}:{tree / 'lib/x86_64-linux-gnu'}",  # the latter until Debian 12
        str(tree / "usr/bin" / BINARY),
        "-L",
        str(share / "qemu"),
        "-L",
        str(share / "seabios"),
    )


def find_qemu() -> Qemu | None:
    """Return a usable QEMU that is there already: one with vfio-user-pci, the system's first, if there is."""
    on_path = shutil.which(BINARY)
    systems = (on_path and probe((on_path,), system=True)) or None
    fetched = probe(_relocated(cache_home() / QEMU_TREE))
    return next((qemu for qemu in (systems, fetched) if qemu and not qemu.preload), systems or fetched)


def find_guest() -> Guest | None:
    """Return the fetched guest kernel, or None."""
    tree = cache_home() / GUEST_TREE
    kernels, modules = sorted(tree.glob("boot/vmlinuz-*")), sorted(tree.glob("usr/lib/modules/*"))
    busybox = [path for path in (tree / "usr/bin/busybox", tree / "bin/busybox") if path.exists()]
    if not (kernels and modules and busybox):
        return None
    return Guest(kernels[-1], modules[-1], busybox[0])


def system_qemu_unusable() -> str | None:
    """Return the version of a system QEMU that has neither vfio-user-pci nor vfio-pci, or None."""
    on_path = shutil.which(BINARY)
    if on_path is None or probe((on_path,)):
        return None
    match = re.search(r"version (\S+)", _ask((on_path,), "--version"))
    return match[1] if match else "unknown"


def fetch_qemu(suite: str, progress: Progress = silent) -> Qemu:
    """Return the QEMU of a Debian release ("bookworm": 7.2, "trixie": 10.0), fetched if need be.

    For trying a device with the QEMU that others have: ``VM(dev, qemu=fetch_qemu("bookworm"))``.
    Raises `VmError`, and ValueError for what is no release of Debian's.
    """
    if not isinstance(suite, str) or not DEBIAN_SUITES.fullmatch(suite) or not suite.isalpha():
        raise ValueError(f'suite is the name of a Debian release, such as "bookworm", not {suite!r:.80}')
    tree = cache_home() / f"qemu-{suite}-1"
    if qemu := probe(_relocated(tree)):
        return qemu
    try:
        with Debs(cache_home() / f"debs-{suite}", (suite,), progress) as debs:
            if probe(_relocated(tree)) is None:
                debs.update()
                debs.fetch(tree, QEMU_PACKAGES, finish=_check_qemu)
    except DebsError as error:
        raise VmError(f"{error}\n  So there is no QEMU of {suite}") from error
    qemu = probe(_relocated(tree))
    if qemu is None:
        raise VmError(f"the QEMU under {tree} is not usable\n  remove it and try again")
    return qemu


def fetch(progress: Progress = silent) -> tuple[Qemu, Guest]:
    """Return QEMU and the guest kernel, fetching what is missing. Raises `VmError` that says what to do."""
    qemu, guest = find_qemu(), find_guest()
    if qemu and guest:
        return qemu, guest
    if platform.machine() != "x86_64":
        raise VmError(f"the VM kit is for x86-64, this machine is {platform.machine()}\n  {WITHOUT}")
    try:
        with Debs(cache_home() / "debs", (SUITE, BACKPORTS), progress) as debs:
            qemu, guest = find_qemu(), find_guest()  # another process may have fetched while we waited
            if not (qemu and guest):
                debs.update()
            if not qemu:
                debs.fetch(cache_home() / QEMU_TREE, QEMU_PACKAGES, release=BACKPORTS, finish=_check_qemu)
            if not guest:
                _fetch_guest(debs)
    except DebsError as error:
        _note_failure(str(error).splitlines()[0])
        raise VmError(f"{error}\n  So there is no VM kit (QEMU, a guest kernel); {WITHOUT}") from error
    _note_failure(None)
    qemu, guest = find_qemu(), find_guest()
    if qemu is None or guest is None:
        raise VmError(f"the VM kit under {cache_home()} is not usable\n  remove it and try again; {WITHOUT}")
    return qemu, guest


def _failure_note() -> Path:
    return cache_home() / "last-fetch-failure"


def _note_failure(reason: str | None) -> None:
    """Remember why the last fetch failed, for the doctor; None: it did not."""
    with contextlib.suppress(OSError):  # a cache that cannot be written to is what the doctor says itself
        if reason is None:
            _failure_note().unlink(missing_ok=True)
        else:
            cache_home().mkdir(parents=True, exist_ok=True)
            _failure_note().write_text(f"{time.strftime('%Y-%m-%d %H:%M')} {reason}\n")


def last_failure() -> str | None:
    """Return when and why the last fetch failed, or None if it did not."""
    try:
        return _failure_note().read_text().strip() or None
    except OSError:
        return None


def _check_qemu(tree: Path) -> None:
    """Refuse a QEMU that does not run or lacks the device; drop what no VM needs."""
    if probe(_relocated(tree)) is None:
        raise DebsError("the fetched QEMU does not run here or lacks vfio-pci", f"it was {BINARY}")
    for name in ("doc", "man", "locale", "icons"):
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)


def _fetch_guest(debs: Debs) -> None:
    images = [name for name in debs.depends(KERNEL_PACKAGE) if name.startswith("linux-image-")]
    if not images:
        raise DebsError(f"apt does not say which kernel {KERNEL_PACKAGE} stands for")
    debs.fetch(cache_home() / GUEST_TREE, (images[0], "busybox-static"), closure=False)
