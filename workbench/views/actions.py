"""The actions: what a click in a view does to the device. Their names and arguments are in feed.py.

Quick ones run on the thread that brought the message. Those that may wait (a write runs hooks, stopping
joins a thread, a VM powers down) run on a thread of their own, so that the next click is heard.
"""

import contextlib
import csv
import io
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..blockhandle import BlockHandle
from ..device import Device
from ..errors import WorkbenchError
from ..handles import RegisterHandle
from ..records import Record
from . import query
from .machines import machine_of
from .repeat import Repeater

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Actions"]

MOST_WAITING = 8  # actions that may wait at once
MOST_POKED = 65536  # bytes poked at once
CSV_ROWS = 5000  #: the last ones: a message of more than a megabyte may be lost
COLUMNS = ("seq", "ms", "origin", "kind", "register", "value", "text", "latency_us", "revision", "marks")
Arguments = Mapping[str, Any]


class Refused(Exception):
    """An action that cannot be done; the text is shown to the person."""


class Actions:
    """What the views of one hub can do."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._waiting = 0
        self._lock = threading.Lock()
        self._repeater = Repeater(hub)

    @property
    def repeats(self) -> Mapping[str, float]:
        """The interrupts triggered again and again: "index:vector" -> hertz."""
        return self._repeater.rates

    def stop(self) -> None:
        """Stop what goes on by itself."""
        self._repeater.stop()

    def begin(self, content: Arguments, answer: Callable[[dict[str, Any]], None]) -> None:
        """Do what a "do" message says; ``answer`` gets the "done" message, perhaps later. Never raises."""

        def run() -> None:
            answer({"type": "done", "id": content.get("id"), **self.done(content)})

        def wait() -> None:
            run()
            with self._lock:
                self._waiting -= 1

        if str(content.get("action")) not in SLOW:
            return run()
        with self._lock:
            full = self._waiting >= MOST_WAITING
            self._waiting += not full
        if full:
            text = f"{MOST_WAITING} actions wait already; perhaps a hook does not return"
            return answer({"type": "done", "id": content.get("id"), "ok": False, "text": text})
        return threading.Thread(target=wait, name="workbench action", daemon=True).start()

    def done(self, content: Arguments) -> dict[str, Any]:
        """Do it; return whether that went well, and the text to show."""
        name = str(content.get("action"))
        try:
            device, act = self._hub.device, ACTIONS.get(name)
            if act is None:
                raise Refused(f"there is no action {name!r}")
            if device is None:
                raise Refused("the device is gone")
            return {"ok": True, "text": act(self, device, content) or ""}
        except KeyError as error:
            return {"ok": False, "text": f"{name} needs {error}"}
        except Exception as error:
            plain = isinstance(error, Refused | IndexError | ValueError | WorkbenchError)
            text = str(error) if plain else f"{type(error).__name__}: {error}"
            return {"ok": False, "text": text}

    # -- registers and memory --

    def _register(self, device: Device, arguments: Arguments) -> RegisterHandle:
        return self._hub.table.handle(device, int(arguments["register"]))

    def _poke(self, device: Device, arguments: Arguments) -> None:
        register, field = self._register(device, arguments), arguments.get("field")
        if field is None:
            register.poke(_number(arguments["value"]))
        else:
            _field(register, field).value = _number(arguments["value"])

    def _write(self, device: Device, arguments: Arguments) -> None:
        register, field, value = (
            self._register(device, arguments),
            arguments.get("field"),
            _number(arguments["value"]),
        )
        if field is not None:  # the other bits as they are stored
            value = _field(register, field).description.insert(register.peek(), value)
        register.write(value)

    def _poke_memory(self, device: Device, arguments: Arguments) -> None:
        space, start, data = (
            str(arguments["space"]),
            _number(arguments["start"]),
            bytes.fromhex(arguments["data"]),
        )
        if len(data) > MOST_POKED:
            raise Refused(f"at most {MOST_POKED} bytes at once")
        if space == "iova":
            device.dma.poke(start, data)
        else:
            _block(device, space).poke(start, data)

    # -- interrupts --

    def _trigger(self, device: Device, arguments: Arguments) -> str:
        return str(_trigger(device, int(arguments["index"]), int(arguments["vector"])).value)

    def _level(self, device: Device, arguments: Arguments) -> str:
        outcome = device.irq.assert_() if arguments["on"] else device.irq.deassert()
        return str(outcome.value)

    def _repeat(self, device: Device, arguments: Arguments) -> None:
        index, vector = int(arguments["index"]), int(arguments["vector"])
        hertz = float(arguments["hertz"])
        if hertz:
            _trigger(device, index, vector)  # says at once when there is none
        self._repeater.set(index, vector, hertz)

    # -- the server --

    def _pause(self, device: Device, arguments: Arguments) -> None:
        _server(device).pause()

    def _resume(self, device: Device, arguments: Arguments) -> None:
        _server(device).resume()

    def _step(self, device: Device, arguments: Arguments) -> None:
        _server(device).step()

    def _stop(self, device: Device, arguments: Arguments) -> None:
        _server(device).stop()

    def _restart(self, device: Device, arguments: Arguments) -> None:
        server = device.server
        if server is not None:
            server.stop()
        device.serve(**server.manner if server is not None else {})

    def _reset(self, device: Device, arguments: Arguments) -> None:
        device.reset()

    # -- hooks --

    def _revert(self, device: Device, arguments: Arguments) -> None:
        device.hooks.revert(str(arguments["key"]), int(arguments["revision"]))

    def _disable(self, device: Device, arguments: Arguments) -> None:
        switch = device.hooks.disable if arguments["on"] else device.hooks.enable
        switch(str(arguments["key"]))

    def _diff(self, device: Device, arguments: Arguments) -> str:
        return str(device.hooks.diff(str(arguments["key"]), int(arguments["old"]), int(arguments["new"])))

    def _skip(self, device: Device, arguments: Arguments) -> str:
        return f"answered without {device.hooks.skip()}"

    # -- log, console, VM --

    def _clear(self, device: Device, arguments: Arguments) -> None:
        device.log.clear()

    def _csv(self, device: Device, arguments: Arguments) -> str:
        log = device.log
        records = log.records()
        found = records[query.compile(str(arguments.get("filter") or ""), log.names)(records)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        names, epoch = log.names, log.epoch
        for row in found[-CSV_ROWS:]:
            one = Record.decode(row.item(), names, epoch)
            writer.writerow([
                one.seq, f"{one.elapsed / 1e6:.6f}", one.origin, one.kind, one.register, one.digits, one.text,
                f"{one.latency / 1e3:.2f}", one.revision, one.marks,
            ])  # fmt: skip
        return text.getvalue()

    def _console(self, device: Device, arguments: Arguments) -> None:
        _machine(device).type(str(arguments["text"]))

    def _vm(self, device: Device, arguments: Arguments) -> None:
        verb, machine = str(arguments["verb"]), _machine(device)
        verbs: dict[str, Callable[[], Any]] = {
            "reset": machine.reset,
            "powerdown": machine.powerdown,
            "kill": machine.kill,
            "plug": lambda: machine.plug(device),
            "unplug": lambda: machine.unplug(device),
        }
        if verb not in verbs:
            raise Refused(f"a VM cannot {verb!r}; it can {', '.join(verbs)}")
        verbs[verb]()


ACTIONS: dict[str, Callable[[Actions, Device, Arguments], str | None]] = {
    name: getattr(Actions, f"_{name}")
    for name in (
        "poke", "write", "poke_memory", "trigger", "level", "repeat", "pause", "resume", "step", "stop",
        "restart", "reset", "revert", "disable", "diff", "skip", "clear", "console", "vm", "csv",
    )
}  # fmt: skip
#: May wait for a hook, a thread or a guest.
SLOW = frozenset({"write", "poke_memory", "stop", "restart", "reset", "console", "vm"})


def _number(text: Any) -> int:
    """Return a number that travelled as text: "0x1f", "31", "0b11"; ValueError for anything else."""
    if isinstance(text, int):
        return text
    with contextlib.suppress(ValueError):
        return int(str(text), 0)
    raise Refused(f"{text!r} is not a number")


def _field(register: RegisterHandle, name: Any) -> Any:
    if name not in register.fields:
        raise Refused(f"{register.name} has no field {name!r}")
    return register.fields[name]


def _block(device: Device, name: str) -> BlockHandle:
    if name not in [block.name for block in device.blocks.values()]:
        raise Refused(f"the device has no {name!r}")
    block: BlockHandle = getattr(device, name)
    return block


def _trigger(device: Device, index: int, vector: int) -> Any:
    kind = device.irq.of(index)
    if not 0 <= vector < len(kind):
        raise Refused(f"the device has no vector {vector} of interrupt index {index}")
    return kind[vector].trigger()


def _server(device: Device) -> Any:
    if device.server is None or not device.server.running:
        raise Refused("the device is not served")
    return device.server


def _machine(device: Device) -> Any:
    machine = machine_of(device)
    if machine is None:
        raise Refused("no VM of this notebook has the device plugged in")
    return machine
