"""The life of a VM: start, reboot, end, and every way in which that fails."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workbench import VM, StateError, VmError, preload
from workbench.vm import GuestKernelWarning, kit, kvm

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

MODULES = ("gpio-pci-idio-16",)


def gone(pidfd: int, seconds: float = 10) -> bool:
    """Say whether the process behind ``pidfd`` ends within ``seconds``."""
    return bool(select.select([pidfd], [], [], seconds)[0])


def test_modules_are_loaded_with_what_they_need_and_a_reboot_keeps_qemu() -> None:
    with VM(modules=MODULES, accel="tcg") as vm:
        pid = vm.pid
        loaded = "cut -d' ' -f1 /proc/modules | sort"
        assert vm.run(loaded).stdout.split() == ["gpio_idio_16", "gpio_pci_idio_16", "gpio_regmap"]
        vm.run("touch /tmp/before")
        vm.reboot()
        assert vm.pid == pid
        assert vm.run("ls /tmp").stdout == ""
        assert vm.run(loaded).stdout.split() == ["gpio_idio_16", "gpio_pci_idio_16", "gpio_regmap"]
        vm.powerdown()
        assert not vm.alive
    assert "reboot: Power down" in vm.console or "PM: Preparing" in vm.console
    assert repr(vm) == "<VM not running, 0 devices>"
    with pytest.raises(StateError, match="not running"):
        vm.run("true")
    vm.close()


def test_a_guest_that_reboots_by_itself_says_so_and_stays_usable() -> None:
    with VM(accel="tcg") as vm:
        with pytest.raises(VmError, match="rebooted while it ran"):
            vm.run("reboot -f; sleep 100")
        assert vm.run("echo here").stdout == "here\n"


def test_qemu_killed_from_outside_is_told_and_leaves_nothing() -> None:
    with VM(accel="tcg") as vm:
        assert vm.pid is not None
        os.kill(vm.pid, signal.SIGKILL)
        with pytest.raises((VmError, StateError)):
            vm.run("sleep 100")
        assert not vm.alive


def in_thread(vm: VM, command: str, failed: list[str]) -> threading.Thread:
    """Run ``command`` in a thread; what it fails with is added to ``failed``."""

    def run() -> None:
        try:
            vm.run(command, timeout=1000)
        except VmError as error:
            failed.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_reset_button_ends_a_command_and_brings_the_guest_back() -> None:
    with VM(accel="tcg") as vm:
        pid, failed = vm.pid, list[str]()
        thread = in_thread(vm, "touch /tmp/before; echo begun >/dev/ttyS0; sleep 1000", failed)
        vm.wait_console("begun\n")
        vm.reset()
        thread.join()
        assert "rebooted while it ran" in failed[0]
        assert vm.pid == pid
        assert vm.run("ls /tmp").stdout == ""


def test_a_panicked_guest_comes_back_after_a_reset() -> None:
    with VM(accel="tcg") as vm:
        vm.wait_console("guest:~# ")
        vm.type("echo c >/proc/sysrq-trigger\n")
        vm.wait_console("end Kernel panic")
        vm.reset()
        with pytest.warns(GuestKernelWarning, match="Kernel panic - not syncing: sysrq"):
            assert vm.run("echo back").stdout == "back\n"
        assert any("sysrq triggered crash" in line for line in vm.kernel_faults)
        assert vm.run("echo quiet").stdout == "quiet\n"  # a warning, which would fail this test, comes once
        vm.kill()
        with pytest.raises(VmError, match="QEMU ended, and the console does not say 'more'"):
            vm.wait_console("more")
        with pytest.raises(StateError):
            vm.type("x")
        assert "Kernel panic" in vm.console


def test_a_vm_is_killed_while_a_command_runs() -> None:
    with VM(accel="tcg") as vm:
        failed: list[str] = []
        thread = in_thread(vm, "echo on >/dev/ttyS0; sleep 1000", failed)
        vm.wait_console("on\n")
        vm.kill()
        thread.join(20)
        assert not vm.alive
        assert "QEMU ended while the guest ran" in failed[0]


def test_two_machines_at_once() -> None:
    with VM(accel="tcg") as one, VM(accel="tcg") as two:
        one.run("hostname one")
        two.run("hostname two")
        assert [vm.run("hostname").stdout for vm in (one, two)] == ["one\n", "two\n"]
        assert one.pid != two.pid


def test_qemu_dies_with_a_process_that_is_killed() -> None:
    code = (
        "import sys, workbench\n"
        "vm = workbench.VM(accel='tcg').start()\n"
        "print(vm.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        pidfd = os.pidfd_open(int(child.stdout.readline()))
        try:
            assert not gone(pidfd, 0)
            child.kill()
            assert gone(pidfd)
        finally:
            os.close(pidfd)


def test_qemu_dies_with_a_process_that_forgets_it() -> None:
    code = "import workbench\nvm = workbench.VM(accel='tcg').start()\nprint(vm.pid, flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_a_boot_that_takes_too_long_shows_the_console() -> None:
    vm = VM(accel="tcg", timeout=10, files={"sbin/agent": b"exec sleep 1000\n"})
    with pytest.raises(
        VmError, match=r"did not boot within 10 s(.|\n)*end of the console ---\n\[ +\d+\.\d+\] "
    ):
        vm.start()
    assert not vm.alive


def test_a_panic_is_told_at_once() -> None:
    with pytest.raises(VmError, match=r"kernel panicked(.|\n)*Kernel panic - not syncing"):
        VM(accel="tcg", append="rdinit=/none root=/dev/none", files={"init": b"no program"}).start()


def test_what_qemu_says_is_in_the_error() -> None:
    with pytest.raises(VmError, match=r"QEMU ended(.|\n)*no-such-device"):
        VM(accel="tcg", extra_args=("-device", "no-such-device")).start()


def test_a_module_that_does_not_exist_is_refused_before_the_start() -> None:
    with pytest.raises(VmError, match="did you mean gpio_pci_idio_16"):
        VM(modules=("gpio-pci-idio-61",)).start()


def test_a_qemu_without_the_device_is_refused() -> None:
    with pytest.raises(VmError, match="has neither vfio-user-pci nor vfio-pci"):
        VM(qemu="/bin/true").start()


def test_the_trace_of_qemu_is_kept() -> None:
    with VM(accel="tcg", trace="memory_region_ops_write") as vm:
        pass
    assert "memory_region_ops_write" in vm.trace_log


def test_a_broken_kvm_is_left_for_tcg_with_one_line_and_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if kvm.kvm_problem():
        pytest.skip(f"no KVM to try: {kvm.kvm_problem()}")
    monkeypatch.setattr(kvm, "_mark", lambda: tmp_path / "kvm-broken")
    said: list[str] = []
    with VM(progress=lambda text, fraction=None: said.append(text)) as vm:
        assert vm.run("echo up").stdout == "up\n"
        if vm.accelerator == "kvm":
            pytest.skip("KVM works here")
    assert len([line for line in said if line.startswith("KVM does not work here")]) == 1
    assert "left alone until the next boot" in str(kvm.kvm_failure())
    with pytest.raises(VmError, match="KVM was asked for and does not work here: "):  # tried all the same
        VM(accel="kvm").start()


def test_the_kit_is_complete_and_the_fetched_qemu_runs() -> None:
    qemu, guest = kit.fetch()
    assert kit.fetch() == (qemu, guest)
    assert guest.vmlinuz.name == f"vmlinuz-{guest.version}"
    library = str(preload.path())
    environment = os.environ | {"LD_PRELOAD": library, "LD_DEBUG": "files"}
    done = subprocess.run([qemu.by_hand, "--version"], env=environment, capture_output=True, text=True)
    assert f"version {qemu.version}" in done.stdout
    started = done.stderr.rpartition(f"file={library}")[2]  # by the last of sh, env and QEMU
    assert "libglib" in started
