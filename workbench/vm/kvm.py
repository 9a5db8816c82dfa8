"""Whether KVM is worth trying: a /dev/kvm that opens may still fail with the first guest."""

import contextlib
import os
from pathlib import Path

from .debs import cache_home


def _mark() -> Path:
    return cache_home() / "kvm-broken"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def kvm_problem() -> str | None:
    """Return why KVM cannot be used, or None if it looks usable. A guest may still find it broken."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "no /dev/kvm: no hardware virtualisation here, or its module is not loaded"
    except OSError as error:
        return f"/dev/kvm cannot be opened ({error.strerror}): add yourself to the group kvm"
    return None


def kvm_failure() -> str | None:
    """Return how a guest failed with KVM since this machine booted, and what to do about it; else None."""
    try:
        boot, _, why = _mark().read_text().partition("\n")
    except OSError:
        return None
    if boot != _boot_id():
        return None
    return (
        f"a guest failed with it ({why.strip()}), so it is left alone until the next boot; "
        f'VM(accel="kvm") tries it again, and so does every VM once {_mark()} is removed'
    )


def remember_kvm_failure(why: str) -> None:
    """Note that KVM does not work, until this machine boots anew."""
    with contextlib.suppress(OSError):  # only costs the next start a second try
        _mark().parent.mkdir(parents=True, exist_ok=True)
        _mark().write_text(f"{_boot_id()}\n{why}\n")


def forget_kvm_failure() -> None:
    """KVM worked."""
    with contextlib.suppress(OSError):
        _mark().unlink(missing_ok=True)
