"""``workbench demo``: the whole story in a terminal, no browser needed.

Serves the GPIO card, lets Debian's own driver use it in a virtual machine, and shows what happened:
the guest's transcript, the decoded access log, a picture of it. Where no virtual machine can be had
the software guest plays the driver, and one line says so.
"""

from pathlib import Path

from .client import Client
from .device import Device
from .devices.gpio_pci_idio_16 import PciIdio16
from .errors import VmError
from .vm import VM
from .vm.kit import fetch
from .vm.progress import Progress

__all__ = ["main"]

PICTURE = Path("out/timeline.png")
MODULE = "gpio-pci-idio-16"
SHOWN = 48  # records of the log
READ_TWELVE_TIMES = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do dd if=IIN0/value bs=64 count=1 2>/dev/null; done"
STORY = (
    "lspci -nn -d 494f:",
    "lsmod | grep idio",
    "cd /sys/class/gpio && echo 528 > export && ls",
    f"cd /sys/class/gpio && {READ_TWELVE_TIMES} | tr '\\n' ' '",
    "cd /sys/class/gpio && for n in 0 2 9; do echo $((512+n)) > export; echo 1 > OUT$n/value; done",
)


def main() -> int:
    """Run the demo; return the exit status: 0, or 1 when the guest did not see what it should."""
    progress = Progress()
    with PciIdio16() as card:
        card.serve()
        try:
            fetch(progress)
        except VmError as error:
            progress.done()
            reason = str(error).splitlines()[0]
            print(f"{reason}: the software guest plays the driver (`workbench doctor` says how to get a VM)")
            inputs = _software_story(card.connect())
        else:
            inputs = _linux_story(card)
            card.server.wait_listening()  # the last writes are posted: they come before the end does
        _show(card)
    return 0 if inputs == "000111000111" else 1


def _linux_story(card: Device) -> str:
    said = []
    with VM(card, modules=(MODULE,)) as vm:
        print(f"\nThe guest ({vm.accelerator}), Debian's kernel, driver {MODULE}:")
        for command in STORY:
            done = vm.run(command)
            said.append(done.stdout)
            print(
                f"  # {command}\n"
                + "".join(f"  {line}\n" for line in (done.stdout + done.stderr).splitlines()),
                end="",
            )
    return "".join(said[3].split())


def _software_story(guest: Client) -> str:
    with guest:
        print("\nThe software guest:")
        inputs = "".join(str(guest.bar2.read8(0x1) & 1) for _ in range(12))
        print(f"  bar2.read8(0x1) & 1, twelve times: {' '.join(inputs)}")
        guest.bar2.write8(0x0, 0b101)
        guest.bar2.write8(0x4, 0b10)
        print("  bar2.write8(0x0, 0b101), bar2.write8(0x4, 0b10)")
    return inputs


def _show(card: Device) -> None:
    touched = card.log.filter(register="bar2")
    shown = touched[-SHOWN:]
    some = f"the last {len(shown)} of {len(touched)}" if len(touched) > len(shown) else f"all {len(shown)}"
    print(f"\nThe access log: {card.log.total} records, {card.log.dropped} dropped; {some} in BAR2:")
    for record in shown:
        print(f"  {record}")
    print(f"\nThe card now: {card.bar2.OUT0_7!r} {card.bar2.OUT8_15!r}")
    print(_draw(card))


def _draw(card: Device) -> str:
    figure = card.log.filter(register="bar2").plot().get_figure(root=True)
    assert figure is not None
    try:
        PICTURE.parent.mkdir(exist_ok=True)
        figure.savefig(PICTURE, dpi=150)
    except OSError as error:  # a directory of somebody else
        return f"The timeline could not be stored here: {error}"
    return f"The timeline: {PICTURE}"
