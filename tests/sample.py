"""A small device that shows one of everything, and helpers for talking to it message by message."""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import workbench as wb
from workbench import protocol
from workbench.client.link import Link
from workbench.protocol import Command, IrqSet


class Sample(wb.Device):
    """Registers of several kinds in BAR0, ports in BAR2, INTx, power management."""

    id = wb.PciId(vendor=0x1234, device=0x0B11, class_code=0xFF0000)
    irq = wb.Interrupts(intx=True)
    capabilities = (wb.PowerManagement(),)

    class bar0(wb.Bar, size=4096):
        SCRATCH = wb.Register(0x00, reset=0x11223344)
        STATUS = wb.Register(0x04, mode="ro", DONE=wb.Field(1, mode="w1c", reset=1), LIT=wb.Field(0))
        WIDE = wb.Register(0x08, width=64)
        IDENT = wb.Register(0x10, mode="ro", reset=0xC0FFEE)
        BUFFER = wb.Register(0x100, width=32, count=64)

    class bar2(wb.Bar, size=8, kind="io"):
        PORT = wb.Register(0x00, width=8)
        OTHER = wb.Register(0x01, width=8, mode="ro", reset=0x5A)


@contextlib.contextmanager
def stuck_hook(register: Any, write: Callable[[], object]) -> Iterator[None]:
    """Run ``write``, which meets a write hook of the register that does not return.

    Inside the ``with`` the hook has begun; its end lets it return.
    """
    entered, leave = threading.Event(), threading.Event()

    @register.on_write
    def stuck(device: wb.Device, access: object) -> None:
        entered.set()
        leave.wait(20)

    try:
        write()
        assert entered.wait(10)
        yield
    finally:
        leave.set()


def respond_nothing(command: int, payload: bytes) -> bytes:
    """Refuse every command of the device, as a client without memory does."""
    raise wb.ProtocolError("not implemented", errno.ENOSYS)


@contextlib.contextmanager
def link_to(device: wb.Device) -> Iterator[Link]:
    """A bare connection: nothing was said yet, not even VERSION."""
    server = device.serve()
    server.wait_listening()
    link = Link(server.path, 5.0, respond_nothing)
    try:
        yield link
    finally:
        link.close()


@contextlib.contextmanager
def open_link(device: wb.Device) -> Iterator[Link]:
    """A connection after a plain VERSION, and nothing more."""
    with link_to(device) as link:
        link.request(Command.VERSION, protocol.pack_version(0, {}), (), False, "VERSION")
        yield link


def refusal(guest: wb.Client | Link, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
    """Return the errno with which a message is refused; the conversation has to go on."""
    with pytest.raises(wb.ProtocolError) as caught:
        guest.request(command, payload, fds, False, "this")
    assert not guest.closed, caught.value
    return caught.value.code


def shut_down(end: wb.Client | Link, how: int) -> None:
    """Shut down a guest's socket behind its back: socket.SHUT_RD, SHUT_WR."""
    with socket.socket(fileno=os.dup(end.fileno())) as connection:
        connection.shutdown(how)


def map_payload(iova=0, size=4096, *, flags=3, offset=0, argsz=32) -> bytes:
    """The payload of DMA_MAP."""
    return protocol.DMA_MAP.pack(argsz, flags, offset, iova, size)


def unmap_payload(iova=0, size=4096, *, flags=0, argsz=24) -> bytes:
    """The payload of DMA_UNMAP."""
    return protocol.DMA_UNMAP.pack(argsz, flags, iova, size)


def irq_payload(
    flags: int, index: int = 0, start: int = 0, count: int = 1, *, argsz: int = 20, data: bytes = b""
) -> bytes:
    """The payload of SET_IRQS."""
    return protocol.IRQ_SET.pack(argsz, flags, index, start, count) + data


def access(region: int = 0, offset: int = 0, count: int = 4, data: bytes = b"") -> bytes:
    """The payload of REGION_READ, or with data that of REGION_WRITE."""
    return protocol.REGION_ACCESS.pack(offset, region, count) + data


TRIGGER_EVENTFD = IrqSet.DATA_EVENTFD | IrqSet.TRIGGER
DISABLE = IrqSet.DATA_NONE | IrqSet.TRIGGER


@contextlib.contextmanager
def memory_file(size: int = 4096) -> Iterator[int]:
    """A memory file to map."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def eventfds(count: int) -> Iterator[list[int]]:
    """Eventfds as a client would register."""
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
