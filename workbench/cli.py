"""The ``workbench`` command: ``doctor``, ``fetch`` and ``demo``."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from .errors import WorkbenchError

#: Where ``demo`` lives; its ``main()`` returns the exit status.
DEMO = "workbench.demo"


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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="workbench", description="An interactive workbench for PCI devices.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, function, text in (
        ("doctor", _doctor, "say what is there, what is missing and how to get it"),
        ("fetch", _fetch, "fetch QEMU and a guest kernel into the cache, without root"),
        ("demo", _demo, "serve a device, let Linux's own driver use it in a VM, show what happened"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(function=function)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 for a failure told in one message, or 130 after Ctrl-C."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.function(arguments))
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
