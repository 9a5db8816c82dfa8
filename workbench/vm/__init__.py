"""Virtual machines: find or fetch QEMU and a guest kernel, boot, plug devices in, run commands."""

from .doctor import Report, doctor
from .machine import VM, CommandTimeout
from .trouble import GuestKernelWarning

__all__ = ["VM", "CommandTimeout", "GuestKernelWarning", "Report", "doctor"]
