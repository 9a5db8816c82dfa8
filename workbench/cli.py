"""The ``workbench`` command; ``workbench --help`` shows each of its commands with an example."""

import argparse
import contextlib
import errno
import importlib.util
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import WorkbenchError

if TYPE_CHECKING:  # `doctor` and `gc` need no device
    from .device import Device
    from .devicefile import DeviceFile

__all__ = ["lab_command", "main", "parser"]

#: Where ``demo`` lives; its ``main()`` returns the exit status.
DEMO = "workbench.demo"
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"  # beside the package in a checkout
FIRST = "00-tour.ipynb"

HELP = """\
An interactive workbench for PCI devices: describe one in Python, plug it into a virtual machine, watch.

  lab     open the notebooks in JupyterLab                        workbench lab --no-browser --port 8899
  demo    a device, Linux's own driver, its log, in this terminal workbench demo
  serve   serve the device in a file, show its log, take edits in workbench serve lamp.py
  doctor  say what is there, what is missing, how to get it       workbench doctor
  fetch   fetch QEMU and a guest kernel into the cache, no root   workbench fetch
  gc      remove what killed processes left behind                workbench gc
  preload-path  the library that lets a QEMU older than 10.1 attach, for LD_PRELOAD

New here: `workbench lab`, or without a browser `workbench demo`.
`workbench COMMAND --help` says more about one command.
"""
PRELOAD = """\
Print the path of the library that lets a QEMU without vfio-user-pci (older than 10.1) attach:

  LD_PRELOAD=$(workbench preload-path) qemu-system-x86_64 ... -device vfio-pci,sysfsdev=SOCKET

SOCKET is a served device's socket, or a directory that has it under the name cntrl. Settings, all optional:

  WORKBENCH_PRELOAD_LOG=FILE         append each step to a file
  WORKBENCH_PRELOAD_TIMEOUT_MS=5000  how long the device may take for an answer; then it counts as gone
  WORKBENCH_PRELOAD_ON_DEATH=stop    stop the VM when the device is gone (default: continue, all ones)
  WORKBENCH_PRELOAD_NO_SHARE=1       no shared memory: all DMA by messages

Not supported: iommufd=, migration of the device, display=, a statically linked QEMU.
"""
SERVE = """\
Serve the device that a Python file describes, and show every access to it.

  workbench serve lamp.py                      the only device class in the file
  workbench serve lamp.py:Lamp --socket /tmp/lamp.sock
  workbench serve lamp.py --trace > lamp.log   with every vfio-user message; not a terminal: plain lines

Save the file while a guest is attached: its class is taken over in place, between two accesses. A mistake in
it is shown and changes nothing. A change that the guest would have to notice (BARs, identity) is told.
Ctrl-C ends.
"""


def _doctor(arguments: argparse.Namespace) -> int:
    from .vm import doctor

    report = doctor()
    print(repr(report))
    return 0 if report.ok else 1


def _fetch(arguments: argparse.Namespace) -> int:
    from .vm.kit import fetch
    from .vm.progress import Progress

    progress = Progress()
    qemu, guest = fetch(progress)
    progress.done()
    print(f"QEMU {qemu.version} and Linux {guest.version} are there")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    return int(importlib.import_module(DEMO).main() or 0)


def _lab(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError("`workbench lab` needs JupyterLab: pip install 'pci-workbench[lab]'")
    sys.stdout.flush()
    os.execv(sys.executable, lab_command(arguments.rest))


def lab_command(rest: Sequence[str]) -> list[str]:
    """Return the command line that ``lab`` becomes: on the notebooks, unless ``rest`` names others."""
    own = ["--allow-root"] if os.getuid() == 0 else []
    named = any(word.endswith(".ipynb") or os.path.isdir(word) for word in rest)
    if NOTEBOOKS.is_dir() and not named:
        # Not as a file to open: the address that --no-browser prints would be without it.
        first = f"--LabApp.default_url=/lab/tree/{NOTEBOOKS.name}/{FIRST}"
        own += [f"--ServerApp.root_dir={NOTEBOOKS.parent}", first]
    return [sys.executable, "-m", "jupyterlab", *own, *rest]


def _gc(arguments: argparse.Namespace) -> int:
    from .leftovers import clean

    print("\n".join(clean()))
    return 0


def _preload_path(arguments: argparse.Namespace) -> int:
    from .preload import path

    print(path())
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from .devicefile import DeviceFile

    file = DeviceFile(arguments.file)
    with _ended_by_signals() as ended, file.make(arguments.name) as device:
        server = device.serve(arguments.socket, trace=arguments.trace, poll_us=arguments.poll_us)
        print(f"{device.name} [{device.id}] listens on {server.path}.")
        print("QEMU 10.1 or newer (`workbench doctor` names the one there is) takes it with")
        print(f"  qemu-system-x86_64 {shlex.join(device.qemu_args())}")
        older = shlex.join(device.qemu_args(None, preload=True))
        print(f"an older one, with LD_PRELOAD=$(workbench preload-path), the same but for {older}")
        print(f"Edits of {file.path} are taken over when it is saved. Ctrl-C ends.", flush=True)
        return _follow(file, device, arguments.trace, ended)


def _follow(file: "DeviceFile", device: "Device", trace: bool, ended: threading.Event) -> int:
    from .terminal import Terminal

    terminal = Terminal(device, sys.stdout, trace=trace)
    device.logger.addHandler(terminal)
    device.logger.propagate = False
    try:
        while not ended.is_set() and device.server is not None and device.server.running:
            terminal.step()
            if news := file.news(device):
                terminal.say(news)
        terminal.end()
        return 0 if ended.is_set() else 1
    finally:
        device.logger.removeHandler(terminal)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Yield what Ctrl-C, SIGTERM and a closed terminal set, so that they end the block in good order.

    The second one interrupts whatever runs, as Ctrl-C does elsewhere.
    """
    ended = threading.Event()

    def end(number: int, frame: object) -> None:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _microseconds(text: str) -> int:
    from .poller import LONGEST_US, check_poll_us

    try:
        return check_poll_us(int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"0 to {LONGEST_US} µs, not {text}") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="workbench", usage="workbench COMMAND ...", description=HELP, formatter_class=raw
    )
    top.set_defaults(function=lambda arguments: top.print_help())
    commands = top.add_subparsers(prog="workbench", metavar="COMMAND", help=argparse.SUPPRESS)
    for name, function, text in (
        ("lab", _lab, "Open JupyterLab on the notebooks; everything else goes to JupyterLab as it is."),
        ("doctor", _doctor, "Say what is there, what is missing and how to get it; status 1 without a VM."),
        ("fetch", _fetch, "Fetch QEMU and a guest kernel into the cache: 150 MB, once, without root."),
        ("demo", _demo, "Serve a device, let Linux's own driver use it in a VM, show what happened."),
        ("gc", _gc, "Remove sockets and virtual machines that killed processes left behind."),
        ("preload-path", _preload_path, PRELOAD),
        ("serve", _serve, SERVE),
    ):
        command = commands.add_parser(name, description=text, formatter_class=raw)
        command.set_defaults(function=function)
        if name == "serve":
            command.add_argument("file", metavar="FILE.py[:Class]", help="a file with a wb.Device in it")
            command.add_argument("--socket", metavar="PATH", help="where to listen (default: private)")
            command.add_argument("--name", help="what the device is called (default: its class's name)")
            command.add_argument("--trace", action="store_true", help="show every vfio-user message")
            text = "µs to look for the next message before sleeping (default: 0); keeps a core busy"
            command.add_argument("--poll-us", metavar="N", type=_microseconds, default=0, help=text)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 for a failure told in one message, 130 after Ctrl-C, 141 after ``| head``.

    The last two are what a shell reports of a program that SIGINT or SIGPIPE ended.
    """
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe, too, shows each line when it is said
            sys.stdout.reconfigure(line_buffering=True)
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # here, where a reader that left can still be dealt with
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print(f"workbench: {error.strerror}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    top = parser()
    arguments, rest = top.parse_known_args(argv)
    arguments.rest = rest
    if rest and arguments.function is not _lab:
        top.error(f"unrecognized arguments: {shlex.join(rest)}")
    try:
        return int(arguments.function(arguments) or 0)
    except (WorkbenchError, ImportError) as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


def _drop_output() -> None:
    """Lead what is still unwritten nowhere, or the interpreter complains about it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
