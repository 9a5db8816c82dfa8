"""doctor: what is there for a virtual machine, what is missing, and how to get it."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..runtime import runtime_base
from . import kit
from .debs import DebsError, cache_home, debian_keyring, debian_mirrors
from .kvm import kvm_failure, kvm_problem

#: The checks of what is fetched when it is missing.
QEMU, GUEST = "QEMU", "guest kernel"
EXTRAS = {
    "jupyterlab": "lab",
    "pandas": "data",
    "pyarrow": "data",
    "qemu.qmp": "vm",
    "numba": "native",
    "pytest": "test",
}


@dataclass(frozen=True)
class Check:
    """One line: ``ok`` True is there, None could be better, False stops a VM; ``text`` says how to get it."""

    name: str
    ok: bool | None
    text: str

    @property
    def word(self) -> str:
        """The state as a word, so that no colour is needed."""
        return {True: "ok", None: "note", False: "missing"}[self.ok]


@dataclass(frozen=True)
class Report:
    """All checks. ``ok`` is True if a VM can be started, or what it lacks can be fetched."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True if no check says "missing"."""
        return all(check.ok is not False for check in self.checks)

    def __repr__(self) -> str:
        lines = [f"{check.word:8}{check.name:15}{check.text}" for check in self.checks]
        return "\n".join([*lines, self.verdict])

    @property
    def verdict(self) -> str:
        """Whether a VM can be started, in a sentence."""
        if not self.ok:
            return f"No VM can be started; {kit.WITHOUT}."
        if all(check.ok for check in self.checks if check.name in (QEMU, GUEST)):
            return "A VM can be started."
        once = "A VM can be started once QEMU and the kernel are fetched (needs a network): workbench fetch"
        failed = kit.last_failure()
        return once + (f". The last fetch failed: {failed}" if failed else "")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(check.word)}</td><th style='text-align:left'>{escape(check.name)}</th>"
            f"<td style='text-align:left'>{escape(check.text)}</td></tr>"
            for check in self.checks
        )
        return f"<table>{rows}</table><p>{escape(self.verdict)}</p>"


def _python() -> Check:
    version = platform.python_version()
    good = sys.version_info >= (3, 11) and sys.platform == "linux"
    return Check(
        "Python", good, f"{version} on {platform.system()}" + ("" if good else "; 3.11 on Linux is needed")
    )


def _extension() -> Check:
    try:
        found = importlib.util.find_spec("workbench.engine._engine")
    except ImportError:
        found = None
    if found is None or found.origin is None:
        return Check("engine", False, "the C extension is not built: `make setup` or `pip install .`")
    return Check("engine", True, found.origin)


def _fetchable() -> str | None:
    """Return why the kit cannot be fetched, or None."""
    if platform.machine() != "x86_64":
        return f"nothing to fetch for {platform.machine()}"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "nothing to fetch: not a Debian or Ubuntu system"
    if not debian_mirrors():
        return "apt's sources name no Debian mirror"
    try:
        debian_keyring()
    except DebsError as error:
        return str(error).replace("\n ", "")
    return None


def _or_fetch(name: str, missing: str, elsewhere: str) -> Check:
    """Return the check of something that is missing but perhaps can be fetched."""
    if (problem := _fetchable()) is None:
        return Check(name, None, f"{missing}; fetched on first use, or now with `workbench fetch`")
    return Check(name, False, f"{missing}; {problem}; {elsewhere}")


def _qemu() -> Check:
    if (qemu := kit.find_qemu()) is not None:
        how = "vfio-pci and `workbench preload-path`" if qemu.preload else "vfio-user-pci"
        return Check(QEMU, True, f"{qemu.version} with {how}, {qemu.by_hand}")
    unusable = kit.system_qemu_unusable()
    missing = f"{kit.BINARY} {unusable} has no vfio-pci" if unusable else f"no {kit.BINARY}"
    return _or_fetch(QEMU, missing, "install QEMU")


def _guest() -> Check:
    if (guest := kit.find_guest()) is not None:
        return Check(GUEST, True, f"{guest.version}, {guest.vmlinuz.parent.parent}")
    return _or_fetch(GUEST, "none in the cache", "a VM needs a kernel with its modules")


def _kvm() -> Check:
    problem = kvm_problem() or kvm_failure()
    if problem:
        return Check("KVM", None, f"not used, TCG is: {problem}")
    return Check("KVM", True, "seems usable: /dev/kvm opens; the first VM will tell")


def _shared_memory() -> Check:
    os.close(os.memfd_create("wb-doctor"))
    return Check("shared memory", True, "memfd works")


def _directory(name: str, path: Path) -> Check:
    """Say whether ``path`` is, or can be made, a directory one can write to."""
    there = next(each for each in (path, *path.parents) if each.exists())
    good = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Check(name, good, f"{path}" + ("" if good else f": cannot write to {there}; set {name}"))


def _cache() -> Check:
    return _directory("XDG_CACHE_HOME", cache_home())


def _runtime() -> Check:
    place = runtime_base().parent
    wanted = "XDG_RUNTIME_DIR" if str(place) == os.environ.get("XDG_RUNTIME_DIR") else "TMPDIR"
    return _directory(wanted, place)


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _extras() -> Check:
    missing = sorted(
        {f"{name} (pip install 'pci-workbench[{extra}]')" for name, extra in EXTRAS.items() if not _has(name)}
    )
    return Check(
        "extras", None if missing else True, "all there" if not missing else "without " + ", ".join(missing)
    )


CHECKS: tuple[Callable[[], Check], ...] = (
    _python, _extension, _qemu, _guest, _kvm, _shared_memory, _cache, _runtime, _extras,
)  # fmt: skip


def doctor() -> Report:
    """Look at everything a VM needs and return a `Report`; it shows itself, and never raises."""
    checks = []
    for check in CHECKS:
        try:
            checks.append(check())
        except Exception as error:
            checks.append(
                Check(
                    check.__name__.strip("_").replace("_", " "), False, f"could not be looked at: {error!r}"
                )
            )
    return Report(tuple(checks))
