"""An interactive workbench for PCI devices: describe one in Python, plug it into a VM, watch it live.

Public names; each is documented where it is defined. The doors onto a device (server, client, VM) are loaded
when they are first used: they are a third of the time that the import takes.
"""

import importlib
import typing

from .capabilities import Capability
from .capability_kinds import (
    AdvancedErrorReporting,
    PciExpress,
    PowerManagement,
    RawCapability,
    SerialNumber,
    VendorSpecific,
)
from .device import Device
from .doorbells import Doorbell
from .errors import (
    CompileError,
    DescriptionError,
    DmaError,
    HookError,
    ProtocolError,
    SnapshotError,
    StateError,
    VmError,
    WorkbenchError,
)
from .hooks import Access
from .interrupts import Interrupts, IrqOutcome
from .log import AccessLog
from .pci import PciId
from .registers import Bar, Field, Register
from .ring import Ring
from .snapshot import Snapshot
from .storage import Storage
from .stream import ByteStream

if typing.TYPE_CHECKING:
    from .client import Client
    from .poller import Poller
    from .server import Server
    from .vm import VM
    from .vm.doctor import doctor

_DOORS = {"Client": "client", "Poller": "poller", "Server": "server", "VM": "vm", "doctor": "vm"}

__all__ = [
    "VM",
    "Access",
    "AccessLog",
    "AdvancedErrorReporting",
    "Bar",
    "ByteStream",
    "Capability",
    "Client",
    "CompileError",
    "DescriptionError",
    "Device",
    "DmaError",
    "Doorbell",
    "Field",
    "HookError",
    "Interrupts",
    "IrqOutcome",
    "PciExpress",
    "PciId",
    "Poller",
    "PowerManagement",
    "ProtocolError",
    "RawCapability",
    "Register",
    "Ring",
    "SerialNumber",
    "Server",
    "Snapshot",
    "SnapshotError",
    "StateError",
    "Storage",
    "VendorSpecific",
    "VmError",
    "WorkbenchError",
    "doctor",
]


def __getattr__(name: str) -> typing.Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_DOORS[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
