"""Every message of a conversation that a real QEMU had: cut, repeated, reordered, grown, shrunk, wrong files.

One message is changed, the conversation goes on as it was recorded. What is refused is answered and leaves
a record; what breaks the protocol ends the conversation, never the server.
"""

import errno
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from after import chance, still_fine
from play import Player, message, player
from recording import Recording, Said

import workbench as wb
from workbench import protocol
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.devices.nvme import Nvme
from workbench.protocol import Command

HERE = Path(__file__).resolve().parent
SESSIONS = {"gpio": PciIdio16, "nvme": lambda: Nvme(size=1 << 20)}
ERROR, NO_REPLY = 0x20, 0x10
MAX_MESSAGE = (1 << 20) + 4096

#: What is said instead of the message at a place of the list: the messages, and which follow.
Change = Callable[[random.Random, Sequence[Said], int], Sequence[Said]]


def sized(said: Said, size: int, data: bytes | None = None) -> Said:
    """A message that says it has so many bytes."""
    data = said.data if data is None else data
    return replace(said, data=data[:4] + struct.pack("<I", size & 0xFFFFFFFF) + data[8:])


def cut(chance, said, at):
    """The rest of it never comes: what follows is taken for it."""
    one = said[at]
    return [*said[:at], replace(one, data=one.data[: chance.randrange(1, len(one.data))]), *said[at + 1 :]]


def repeated(chance, said, at):
    return [*said[: at + 1], *said[at:]]


def left_out(chance, said, at):
    return [*said[:at], *said[at + 1 :]]


def earlier(chance, said, at):
    """At any place before its own."""
    place = chance.randrange(at + 1)
    return [*said[:place], said[at], *said[place:at], *said[at + 1 :]]


def swapped(chance, said, at):
    return [*said[:at], *said[at : at + 2][::-1], *said[at + 2 :]]


def grown(chance, said, at):
    """With more bytes, of which its header knows."""
    more = chance.randbytes(chance.choice([1, 4, 24, 4096]))
    one = sized(said[at], len(said[at].data) + len(more), said[at].data + more)
    return [*said[:at], one, *said[at + 1 :]]


def shrunk(chance, said, at):
    """With fewer bytes, of which its header knows."""
    data = said[at].data
    size = chance.randrange(16, len(data)) if len(data) > 16 else 16
    return [*said[:at], sized(said[at], size, data[:size]), *said[at + 1 :]]


def lying(chance, said, at):
    """With a size in its header that is not its own."""
    size = chance.choice([0, 1, 15, 16, len(said[at].data) - 1, len(said[at].data) + 1, 1 << 20, 1 << 31, -1])
    return [*said[:at], sized(said[at], size), *said[at + 1 :]]


CHANGES = [cut, repeated, left_out, earlier, swapped, grown, shrunk, lying]


@pytest.fixture(params=SESSIONS)
def session(request) -> Iterator[tuple[wb.Device, Recording]]:
    with SESSIONS[request.param]() as device:
        device.serve()
        yield device, Recording.load(HERE / f"qemu-{request.param}.session")


def converse(device: wb.Device, client: Player, messages: Sequence[Said], fds=None) -> None:
    """Say it all, hear it all: each answer is whole, and each refusal that is heard has a record."""
    device.log.clear()
    with client:
        answers = client.talk(messages, fds or {})
    device.server.wait_listening()
    told = list(device.log.filter(kind=["error", "detach"]))
    refused = [(command, error) for _, command, flags, error in answers if flags & ERROR]
    recorded = [(record.offset, record.value) for record in told if record.kind == "error"]
    assert len(recorded) >= len(refused)
    it = iter(recorded)  # what wants no answer gets a record and no answer
    assert all(one in it for one in refused), (refused, recorded)
    assert all(record.value in (0, errno.EPROTO) for record in told if record.kind == "detach"), told


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_message_changed_costs_at_most_the_conversation(session, change):
    device, recording = session
    step = 1 if isinstance(device, PciIdio16) else 3  # the longer one has nothing new in most of its messages
    random = chance(change.__name__, recording.about)
    with still_fine(device), player(lambda: device.server.path, recording) as new_client:
        for at in range(0, len(recording.said), step):
            device.reset()
            converse(device, new_client(), change(random, recording.said, at))


# ---- the wrong files


def kinds(memory: int, event: int) -> Iterator[tuple[str, int]]:
    """Files of every kind, to be closed."""
    ends = os.pipe()
    yield from (("pipe", ends[0]), ("pipe's other end", ends[1]))
    yield "read-only memory", os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC)
    yield "write-only memory", os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
    yield "a path to memory", os.open(f"/proc/self/fd/{memory}", os.O_PATH | os.O_CLOEXEC)
    small = os.memfd_create("small", os.MFD_CLOEXEC)
    os.ftruncate(small, 100)
    yield "too small memory", small
    yield "eventfd", os.dup(event)
    yield "memory", os.dup(memory)
    yield "socket", socket.socket(socket.AF_UNIX).detach()
    yield "directory", os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    yield "null", os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    yield "zero", os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)
    yield "proc", os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


def files(memory: int, events: Sequence[int], own: list[tuple[str, int]]) -> list[list[int]]:
    """What may come with a message: nothing, each wrong kind alone and twice, too many of the right one."""
    wrong = [[fd] for _, fd in own] + [[fd, fd] for _, fd in own]
    many = [[memory] * count for count in (2, 16, 17, 253)] + [list(events), list(events) * 15]
    return [[], *wrong, *many, [fd for _, fd in own]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_message_with_the_wrong_files_costs_nothing_but_an_answer(session):
    """Every file that was sent is closed; what a message has no use for is refused, not kept."""
    device, recording = session
    with still_fine(device), player(lambda: device.server.path, recording, sealed=False) as new_client:
        with new_client() as first:
            memory, events = first.memory, first.events
        own = list(kinds(memory, events[0]))
        random, count = chance("files", recording.about), len(recording.said)
        bearing = [at for at, said in enumerate(recording.said) if said.nfds]
        try:
            for fds in files(memory, events, own):
                converse(device, new_client(), recording.said, dict.fromkeys(range(1, count), fds))
                for at in random.sample(bearing, 4) + random.sample(range(count), 2):
                    converse(device, new_client(), recording.said, {at: fds})
        finally:
            for _, fd in own:
                os.close(fd)


def test_an_unchanged_recording_is_answered_without_an_error(session):
    """Or else the tests above change what is refused anyway."""
    device, recording = session
    with still_fine(device), player(lambda: device.server.path, recording) as new_client:
        with new_client() as client:
            answers = client.talk(recording.said)
        wanted = sum(not said.data[8] & NO_REPLY for said in recording.said)
        assert len(answers) == wanted
        assert not [answer for answer in answers if answer[2] & ERROR]


@pytest.mark.parametrize(
    "text",
    [
        "about\n1 0 zz\n",
        "about\n1 0 00\n",
        "about\n1 0 " + "00" * 16 + "0\n",
        "about\n99999 0 " + "00" * 16 + "\n",
        "about\n1 0 " + "00" * 16 + " import os\n",
        "about\n" + "1" * (1 << 21),
        "about\n1 0 " + "\u0660" * 32 + "\n",
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_its_line(tmp_path, text):
    (tmp_path / "bad").write_text(text)
    with pytest.raises(ValueError, match=r"line 2|more than any|ascii"):
        Recording.load(tmp_path / "bad")


def test_a_recording_survives_being_saved(tmp_path):
    recording = Recording.load(HERE / "qemu-gpio.session")
    recording.save(tmp_path / "copy")
    assert Recording.load(tmp_path / "copy") == recording
    assert (tmp_path / "copy").read_bytes() == (HERE / "qemu-gpio.session").read_bytes()


def test_why_a_client_was_refused_is_told_once_shortly_and_on_one_line(caplog):
    """What it sent is not to fill the page, however often it comes."""
    wrong = protocol.pack_version(0, {"max_msg_fds": "\n<b>" + "x" * 100_000})
    with PciIdio16() as device:
        device.serve()
        with still_fine(device):
            for _ in range(3):
                with Player(device.server.path, -1, ()) as client:
                    assert client.talk([message(Command.VERSION, wrong)])[0][3] == errno.EINVAL
                device.server.wait_listening()
    told = [one.getMessage() for one in caplog.records if "was refused" in one.getMessage()]
    assert len(told) == 1
    assert len(told[0]) < 300
    assert "\n" not in told[0]
    assert "max_msg_fds is" in told[0]
