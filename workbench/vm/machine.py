"""VM: a virtual machine with Linux in it and your devices plugged into it.

::

    with wb.VM(dev, modules=("gpio-pci-idio-16",)) as vm:
        print(vm.run("lspci -nn").stdout)

QEMU and the guest's kernel are found or fetched (`kit`), nothing needs root, and no file is left behind: the
console, the initramfs and QEMU's messages live in memory. QEMU dies with this process.
"""

import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, overload

from ..errors import StateError, VmError
from .agent import Gone, Hung, Restarted
from .boot import Boot, BootFailed, KvmBroken
from .consoletext import ConsoleText
from .debs import Progress as ProgressCall
from .devices import Servable, devices_of, likely_causes, plugged, serve_free
from .hotplug import HotPlug
from .kit import Qemu
from .kvm import forget_kvm_failure, kvm_failure, kvm_problem, remember_kvm_failure
from .process import Process
from .progress import Progress, telling
from .recipe import Ready, Recipe
from .slots import Slots
from .trouble import Trouble
from .wishes import check_wishes, words_of

#: Seconds to wait for the agent after it should have killed a command.
GRACE = 15.0
#: Lines of a console's end that an error shows.
TAIL = 25

_started: "weakref.WeakSet[VM]" = weakref.WeakSet()


class CommandTimeout(VmError, TimeoutError):
    """A command in the guest ran into its time-out and was killed; the VM stays usable."""


def _machines() -> list[str]:
    """Return the VMs of this process, as servers name their clients."""
    return [f"pid {vm.pid}" for vm in list(_started) if vm.alive]


class VM:
    """A virtual machine with ``devices`` plugged in; use it in a ``with``, or call `start` and `close`.

    Inside are Debian's kernel, busybox's commands (sh, dd, od, hexdump, devmem, insmod, awk ...), ``lspci``
    (-n -nn -k -v -vv -x -s -d) and ``setpci``. `run` runs a command and returns what it said; `type`,
    `wait_console` and `console` are a person's way, a root shell on the serial console.

    ``modules`` (one name or several) are loaded at boot, with what they need. ``memory`` is QEMU's ``-m``.
    ``accel`` is "auto" (KVM if it works), "kvm" or "tcg". ``trace`` is a QEMU trace pattern or several
    ("vfio*"): `trace_log`. ``timeout`` is for the boot, in seconds. ``qemu`` (or what `kit.fetch_qemu`
    returned) and ``kernel`` are paths to use instead of those found or fetched: a QEMU without vfio-user-pci
    (older than 10.1) attaches through the library of `workbench.preload`, a kernel of your own has its
    modules built in. ``append`` adds kernel arguments, ``files`` (path → content) adds executables to the
    guest. Raises TypeError or ValueError when ``devices`` are not devices, each once and with a name of its
    own, or another argument makes no sense.
    """

    def __init__(
        self,
        *devices: object,
        modules: str | Sequence[str] = (),
        memory: str = "256M",
        accel: Literal["auto", "kvm", "tcg"] = "auto",
        trace: str | Sequence[str] | None = None,
        timeout: float = 120,
        qemu: str | Path | Qemu | None = None,
        kernel: str | Path | None = None,
        extra_args: Sequence[str] = (),
        append: str = "",
        files: dict[str, bytes] | None = None,
        progress: ProgressCall | None = None,
    ) -> None:
        if accel not in ("auto", "kvm", "tcg"):
            raise ValueError(f'accel is "auto", "kvm" or "tcg", not {accel!r}')
        paths = {"qemu": None if isinstance(qemu, Qemu) else qemu, "kernel": kernel}
        check_wishes(memory, timeout, append, files, paths)
        self.modules = words_of(modules, "modules", '"gpio-pci-idio-16"')
        traced = words_of(trace or (), "trace", '"vfio*"')
        extra = words_of(extra_args, "extra_args", '["-device", "edu"]')
        self._slots, self.timeout = Slots(devices_of(devices)), timeout
        for device in self.devices:
            plugged(device, self)
        self.accel: str = accel
        self._progress = Progress() if progress is None else telling(progress)
        self._recipe = Recipe(
            self.modules, memory, traced, qemu, kernel, extra, append, files, self._progress
        )
        self._lock = threading.RLock()
        self._process: Process | None = None
        self._used: str | None = None
        self._trouble: Trouble | None = None

    @property
    def devices(self) -> tuple[Servable, ...]:
        """The devices that are plugged in."""
        return self._slots.devices

    # --- start ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> Self:
        """Serve the devices, start QEMU and wait for the guest.

        Raises `VmError` with the console's tail when that fails, `StateError` when this VM was started
        before or a device is in use by another client.
        """
        if self._process is not None:
            raise StateError("this VM was started already; make a new one")
        problem = None if self.accel == "tcg" else kvm_problem()
        if self.accel == "kvm" and problem:
            raise VmError(f"KVM was asked for but cannot be used: {problem}")
        self._serve()
        ready = self._recipe.prepare()
        if self.accel == "kvm" or (self.accel == "auto" and not problem and not kvm_failure()):
            try:
                self._boot(ready, "kvm")
            except KvmBroken as error:
                self._kvm_failed(str(error).splitlines()[0])
            else:
                forget_kvm_failure()
                return self
        return self._boot(ready, "tcg")

    def _kvm_failed(self, why: str) -> None:
        """Go on without KVM, unless it was asked for."""
        self.close()
        remember_kvm_failure(why)
        if self.accel == "kvm":
            raise VmError(f"KVM was asked for and does not work here: {why}") from None
        self._progress.note(f"KVM does not work here ({why}): using TCG instead")
        self._serve()

    def _serve(self) -> None:
        for device in self.devices:
            serve_free(device, _machines)
            plugged(device, self)  # again: it may have taken over another's server, and its place

    def _boot(self, ready: Ready, accel: str) -> Self:
        self._slots.preload = ready.qemu.preload
        self._process, self._used = self._recipe.start(ready, accel, self._slots.arguments()), accel
        self._trouble = Trouble(self._process.console.log)
        _started.add(self)
        self._wait_boot(self._process, "boot", 0)
        return self

    def _wait_boot(self, process: Process, what: str, since: int) -> None:
        """Wait for the agent; on failure end QEMU and say what was seen. ``since``: in the console."""
        boot = Boot(process, self._used, lambda: self.devices, self._progress, since)
        try:
            boot.wait(what, self.timeout)
        except BootFailed as error:
            self._fail(str(error))
        except BaseException:
            self.close()
            raise

    def _fail(self, what: str) -> NoReturn:
        """Close and raise a `VmError` with everything there is to see."""
        process = self._process
        assert process is not None
        if self._used == "kvm" and (problem := process.kvm_problem()):
            raise KvmBroken(problem)
        output = process.output().strip()
        causes = likely_causes(self.devices, process.pid, output)
        self.close()
        raise VmError(
            "\n".join([what, *causes, "--- QEMU said ---", output or "(nothing)"])
            + f"\n--- end of the console ---\n{self._tail()}"
        )

    def _tail(self) -> str:
        return "\n".join(self.console.splitlines()[-TAIL:]) or "(empty)"

    # --- use ---

    @overload
    def run(
        self, command: str, *, check: bool = ..., timeout: float = ..., text: Literal[True] = ...
    ) -> "subprocess.CompletedProcess[str]": ...
    @overload
    def run(
        self, command: str, *, check: bool = ..., timeout: float = ..., text: Literal[False]
    ) -> "subprocess.CompletedProcess[bytes]": ...

    def run(
        self, command: str, *, check: bool = False, timeout: float = 60, text: bool = True
    ) -> "subprocess.CompletedProcess[Any]":
        """Run ``command`` in the guest's shell, like `subprocess.run`; ``text=False`` gives bytes.

        ``timeout`` is in seconds, rounded up; the command is then killed and `CommandTimeout` raised.
        ``check`` raises `subprocess.CalledProcessError` if the status is not 0. Raises `VmError` if QEMU
        ended or the guest hangs, `StateError` if there is no VM. Warns (`GuestKernelWarning`) when the
        guest's kernel has crashed or complained since the last command: `kernel_faults`.
        """
        with self._lock:
            process = self._need()
            try:
                said = process.agent.run(command.encode(errors="surrogateescape"), timeout, GRACE)
            except Gone:
                self._fail(f"QEMU ended while the guest ran {command!r}")
            except Restarted:
                raise VmError(f"the guest rebooted while it ran {command!r}") from None
            except Hung:
                raise VmError(
                    f"the guest does not answer; it was running {command!r}. "
                    f"End of its console:\n{self._tail()}"
                ) from None
        if self._trouble is not None:
            self._trouble.warn(2)
        status, out, err, took = said
        if status == 128 + signal.SIGKILL and took >= timeout:
            end = (out + err)[-500:].decode(errors="replace")
            raise CommandTimeout(f"{command!r} ran longer than {timeout} s and was killed; it said {end!r}")
        result: subprocess.CompletedProcess[Any]
        result = subprocess.CompletedProcess(
            command, status, *(each.decode(errors="replace") if text else each for each in (out, err))
        )
        if check:
            result.check_returncode()
        return result

    def qmp(self, command: str, **arguments: object) -> Any:
        """Execute a QMP ``command`` ("query-status", ...) and return its result; underscores in names stay.

        Raises ImportError without ``pci-workbench[vm]`` and `VmError` when QEMU refuses.
        """
        return self._need().qmp(command, arguments)

    def plug(self, device: object, timeout: float = 30) -> str:
        """Plug another device in while the guest runs; return its address there ("0000:03:00.0").

        Raises `StateError` when it is in use or no slot is free, `VmError` when QEMU or the guest does not
        take it within ``timeout`` seconds.
        """
        self._need()
        return HotPlug(self, self._slots, _machines).plug(device, timeout)

    def unplug(self, device: object, timeout: float = 30) -> None:
        """Unplug a device; its driver in the guest lets go first. The device goes on listening.

        Raises `StateError` when it is not plugged in, or has MSI-X and this QEMU would abort; `VmError` when
        the guest does not let it go within ``timeout`` seconds.
        """
        self._need()
        HotPlug(self, self._slots, _machines).unplug(device, timeout)

    def reboot(self) -> None:
        """Reboot the guest inside the same QEMU and wait until it is up again. Raises `VmError`."""
        with self._lock:
            process = self._need()
            since, _ = self.read_console()
            with suppress(Gone):
                process.agent.order("b")
            self._wait_boot(process, "come back", since)

    def reset(self) -> None:
        """Press the reset button (QMP ``system_reset``) and wait until the guest is up again.

        It may hang or be busy: a command that runs there ends with `VmError`. Raises as `qmp`.
        """
        process = self._need()
        boots, (since, _) = process.agent.boots, self.read_console()
        self.qmp("system_reset")
        with self._lock:
            self._need()
            if process.agent.boots == boots:  # else the command that ran there has seen it come back
                self._wait_boot(process, "come back", since)

    # --- the console ---

    def type(self, text: str) -> int:
        """Type ``text`` on the serial console, where a root shell listens; end a line with "\\n".

        Returns the position of the console's end before, for `wait_console`. Raises `StateError` when there
        is no VM, `VmError` when the guest does not take its input.
        """
        console, data = self._need().console, text.encode()
        end, _ = console.log.since(0)
        if console.send(data) < len(data):
            raise VmError("the guest does not take what is typed: it hangs, or this is too much at once")
        return end

    def wait_console(self, text: str, timeout: float = 30, since: int = 0) -> str:
        """Wait until ``text`` is printed on the console after the position ``since``.

        Returns what was printed from there up to its end. Raises TimeoutError after ``timeout`` seconds,
        `VmError` when QEMU ended before, `StateError` when there was no VM.
        """
        log = (self._process or self._need()).console.log
        found = log.wait(text, timeout, since)
        if found is None:
            late, why = (VmError, "QEMU ended, and") if log.ended else (TimeoutError, f"after {timeout:g} s")
            raise late(f"{why} the console does not say {text!r}; its end:\n{self._tail()}")
        return found

    def read_console(self, since: int = 0) -> tuple[int, str]:
        """Return the console's end as a position, and what was printed after the position ``since``.

        Positions count characters since the start; the last 4 MB are kept.
        """
        return self._process.console.log.since(since) if self._process is not None else (0, "")

    # --- end ---

    def powerdown(self, timeout: float = 30) -> None:
        """Let the guest power off and wait for QEMU to end; after ``timeout`` seconds it is killed."""
        with self._lock:
            process = self._process
            if process is None or not process.alive:
                return
            with suppress(Gone):
                process.agent.order("p")
            process.wait(timeout)
            self.close()

    def kill(self) -> None:
        """End QEMU at once with SIGKILL, as a power cut would, whatever runs there."""
        if self._process is not None:
            self._process.kill()  # before the lock, which a command that runs in the guest holds
        self.close()

    def close(self) -> None:
        """End QEMU and give everything back; `console` and `trace_log` stay readable. Does nothing twice."""
        with self._lock:
            if self._process is not None:
                self._process.close()

    def _need(self) -> Process:
        if self._process is None or not self._process.alive:
            raise StateError("this VM is not running")
        return self._process

    # --- look ---

    @property
    def alive(self) -> bool:
        """True while QEMU runs."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """QEMU's process id, None when it does not run."""
        return self._process.pid if self.alive and self._process is not None else None

    @property
    def accelerator(self) -> str | None:
        """The accelerator in use, "kvm" or "tcg"; None before the start."""
        return self._used

    @property
    def console(self) -> ConsoleText:
        """What the guest has printed on its serial console so far, the last 4 MB; ``vm.console()``: live."""
        text = self._process.console.log.text() if self._process is not None else ""
        return ConsoleText(text, self)

    @property
    def kernel_faults(self) -> tuple[str, ...]:
        """The console's lines that tell of a crash of the guest's kernel, or of one it fears."""
        return () if self._trouble is None else self._trouble.lines

    @property
    def qemu_output(self) -> str:
        """What QEMU itself has printed."""
        return self._process.output() if self._process is not None else ""

    @property
    def trace_log(self) -> str:
        """QEMU's own trace, with ``trace=``."""
        return self._process.trace() if self._process is not None else ""

    def __repr__(self) -> str:
        state = f"running, pid {self.pid}, {self.accelerator}" if self.alive else "not running"
        return f"<VM {state}, {len(self.devices)} device{'s' * (len(self.devices) != 1)}>"
