"""A client is killed at 1,000 points of a conversation that a real QEMU had, or at ``POINTS=`` as many."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from after import chance, still_fine, until
from play import Player, message, player
from recording import Recording
from sample import access, stuck_hook

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.devices.nvme import Nvme
from workbench.protocol import Command
from workbench.snapshot import Snapshot

HERE = Path(__file__).resolve().parent
GPIO = HERE / "qemu-gpio.session"
NVME = HERE / "qemu-nvme.session"
POINTS = int(os.environ.get("POINTS", "1000"))
KILLS = POINTS // 50


WAYS = ("heard", "unheard", "shut")


@pytest.fixture
def card() -> Iterator[wb.Device]:
    with PciIdio16() as device:
        device.serve()
        yield device


def states(device: wb.Device, client: Player, recording: Recording) -> list[Snapshot]:
    """The state of the device before each message of a recording, and after the last."""
    device.reset()
    found = [device.snapshot()]
    for said in recording.said:
        client.say(said)
        if len(found) > 1 or said.data[2] != Command.VERSION:
            client.sync()
        found.append(device.snapshot())
    return found


def die(client: Player, how: str) -> None:
    """Go with every answer heard, or unheard, or after shutting the socket for them."""
    if how == "heard":
        client.hear_out()
    elif how == "shut":
        client.socket.shutdown(socket.SHUT_RD)
    client.close()


def whole(recording: Recording, length: int) -> int:
    """How many messages are whole in the first bytes of a recording."""
    ends = itertools.accumulate(len(said.data) for said in recording.said)
    return sum(end <= length for end in ends)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_of_1000_bytes_a_client_has_done_what_was_whole_and_nothing_else(card):
    """The state afterwards is one that whole messages make: all of them, if it heard the answers."""
    recording = Recording.load(GPIO)
    length = sum(len(said.data) for said in recording.said)
    random = chance("killed")
    with player(lambda: card.server.path, recording) as new_client:
        first = new_client()
        expected = states(card, first, recording)
        die(first, "heard")
        with still_fine(card):
            for upto in random.choices(range(length), k=POINTS):
                card.reset()
                client, how = new_client(), random.choice(WAYS)
                client.say_bytes(recording, upto)
                die(client, how)
                card.server.wait_listening()
                with new_client() as following:
                    following.say(recording.said[0])  # is served when the one before is forgotten
                    assert following.hear_out() == [(0, Command.VERSION, 1, 0)]
                card.server.wait_listening()
                possible = expected[whole(recording, upto) :: -1]  # unheard, it may not be heard to its end
                now, most = card.snapshot(), 1 if how == "heard" else len(possible)
                assert any(not card.diff(one, now) for one in possible[:most]), (upto, how)
                assert not card.dma.regions


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("session", [GPIO, NVME], ids=lambda path: path.stem)
def test_clients_killed_with_sigkill_leave_nothing_behind(session):
    """Real processes, with memory mapped, eventfds armed and answers unread."""
    recording = Recording.load(session)
    length = sum(len(said.data) for said in recording.said)
    random = chance("sigkill", session.stem)
    with Nvme(size=1 << 20) if session == NVME else PciIdio16() as device:
        device.serve()
        with still_fine(device):
            for _ in range(KILLS):
                kill_a_client(device, session, random.randrange(length))
        went = [record for record in device.log.filter(kind="detach") if record.value]
        assert not went, went  # to be killed is no breach of the protocol


def kill_a_client(device: wb.Device, session: Path, upto: int) -> None:
    device.server.wait_listening()
    command = [sys.executable, "-S", str(HERE / "play.py"), device.server.path, str(session), str(upto)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "said\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL


def begin(client: Player) -> None:
    """Open the conversation and write to FILTER."""
    client.say(Recording.load(GPIO).said[0])
    client.say(message(Command.REGION_WRITE, access(2, 3, 1, b"1")))


def test_a_client_that_is_killed_while_its_access_waits_in_a_hook_is_let_go(card):
    """The hook goes on, its answer has nobody to go to, the next client is served."""
    with still_fine(card), player(lambda: card.server.path, Recording.load(GPIO)) as new_client:
        client = new_client()
        with stuck_hook(card.bar2.FILTER, lambda: begin(client)):
            client.close()
            assert card.server.state == "attached"
            with pytest.raises(
                wb.StateError, match=r"in use by pid .*(in this process|waits for bar2\.FILTER)"
            ):
                card.connect(timeout=0.01)


def test_a_client_that_is_killed_while_the_device_is_paused_is_told_from_one_that_works(card):
    with still_fine(card), player(lambda: card.server.path, Recording.load(GPIO)) as new_client:
        client = new_client()
        card.server.pause()
        begin(client)
        until(lambda: card.server.waiting)
        client.close()
        with pytest.raises(wb.StateError, match=r"because you paused: resume\(\) first"):
            card.connect(timeout=0.01)
        card.server.resume()


def test_a_client_that_never_takes_an_answer_is_waited_for_until_it_goes(card):
    """Its socket is full one day, and the server waits for room; nobody else is served meanwhile."""
    with still_fine(card), player(lambda: card.server.path, Recording.load(GPIO)) as new_client:
        client = new_client()
        begin(client)
        client.socket.setblocking(False)
        read = message(Command.REGION_READ, access(2, 0, 1))
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                client.say(read)
        card.server.wait_attached()
        with pytest.raises(wb.StateError, match=r"in use by pid .*: a software guest in this process"):
            card.connect(timeout=0.01)
        client.close()


def test_a_server_stops_while_a_client_takes_no_answer(card):
    with player(lambda: card.server.path, Recording.load(GPIO)) as new_client, new_client() as client:
        begin(client)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                client.say(message(Command.REGION_READ, access(2, 0, 1)))
        card.server.stop()
        assert (card.server.state, card.server.error) == ("stopped", None)
