"""An interactive workbench for PCI devices: describe one in Python, plug it into a VM, watch it live.

Public names; each is documented where it is defined.
"""

from .capabilities import Capability
from .capability_kinds import (
    AdvancedErrorReporting,
    PciExpress,
    PowerManagement,
    RawCapability,
    SerialNumber,
    VendorSpecific,
)
from .client import Client
from .device import Device
from .doorbells import Doorbell
from .errors import (
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
from .server import Server
from .snapshot import Snapshot
from .storage import Storage
from .stream import ByteStream
from .vm import VM, doctor

__all__ = [
    "VM",
    "Access",
    "AccessLog",
    "AdvancedErrorReporting",
    "Bar",
    "ByteStream",
    "Capability",
    "Client",
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
