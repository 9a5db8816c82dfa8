"""The software guest: an independent vfio-user client, to be the driver without a virtual machine."""

from .guest import Client

__all__ = ["Client"]
