"""Commands in the guest: what arrives is what was sent, whatever it is."""

import hashlib
import subprocess

import pytest

from workbench import VM, StateError
from workbench.vm import CommandTimeout

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]


def test_output_errors_and_status_come_apart(machine: VM) -> None:
    done = machine.run("echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_check_raises_with_the_output(machine: VM) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        machine.run("echo no >&2; false", check=True)
    assert caught.value.stderr == "no\n"


@pytest.mark.parametrize(
    "text", ["it's", '"quoted" $HOME `x` \\', "two\nlines\n", "tab\there", "grüße €", "", "x" * 20_000]
)
def test_any_text_goes_through_a_command(machine: VM, text: str) -> None:
    assert machine.run(f"cat <<'END'\n{text}\nEND").stdout == f"{text}\n"


def test_each_byte_comes_back_as_it_was(machine: VM) -> None:
    every = "".join(f"\\{byte:03o}" for byte in range(256))
    assert machine.run(f"printf '{every}'", text=False).stdout == bytes(range(256))


def test_a_megabyte_comes_back_whole(machine: VM) -> None:
    done = machine.run("head -c 1000000 /dev/urandom | tee /tmp/x; md5sum </tmp/x >&2; rm /tmp/x", text=False)
    assert len(done.stdout) == 1_000_000
    assert hashlib.md5(done.stdout).hexdigest().encode() == done.stderr.split()[0]


def test_kernel_messages_do_not_mix_with_output(machine: VM) -> None:
    noise = 'i=0; while [ $i -lt 50 ]; do echo "noise $i" >/dev/kmsg; echo "line $i"; i=$((i + 1)); done'
    assert machine.run(noise).stdout == "".join(f"line {i}\n" for i in range(50))
    assert "noise 49" in machine.console


def test_a_command_that_hangs_is_killed_with_its_children_and_the_next_one_runs(machine: VM) -> None:
    with pytest.raises(CommandTimeout, match=r"longer than 1 s .* said 'begun"):
        machine.run("echo begun; sleep 1000 & sleep 1001", timeout=1)
    assert machine.run("ps | grep -c '[s]leep 100'").stdout == "0\n"


def test_a_time_out_is_an_ordinary_timeout_error(machine: VM) -> None:
    with pytest.raises(TimeoutError):
        machine.run("trap '' TERM; while :; do :; done", timeout=1)


def test_a_background_process_survives_its_command(machine: VM) -> None:
    machine.run("sleep 1002 &")
    assert machine.run("ps | grep -c '[s]leep 1002'; killall sleep").stdout == "1\n"


def test_lspci_shows_class_and_ids(machine: VM) -> None:
    assert "00:00.0 Class [0600]: Device [8086:29c0]\n" in machine.run("lspci -nn").stdout
    assert machine.run("lspci -n -d 8086:29c0").stdout == "00:00.0 0600: 8086:29c0\n"


def test_qmp_answers_and_refuses(machine: VM) -> None:
    assert machine.qmp("query-status")["status"] == "running"
    assert "q35" in machine.qmp("qom-get", path="/machine", property="type")
    with pytest.raises(RuntimeError, match="no-such-command"):
        machine.qmp("no-such-command")


def test_a_vm_starts_once(machine: VM) -> None:
    with pytest.raises(StateError, match="started already"):
        machine.start()


def test_lspci_shows_bars_with_size_and_kind(machine: VM) -> None:
    ahci = machine.run("lspci -v -s 00:1f.2", check=True).stdout
    assert "IRQ" in ahci
    assert "BAR 4: I/O ports at" in ahci
    assert "(32-bit, non-prefetchable) [size=4K]\n" in ahci


def test_lspci_dumps_the_header(machine: VM) -> None:
    lines = machine.run("lspci -n -x -d 8086:29c0", check=True).stdout.split("\n")
    assert lines[0] == "00:00.0 0600: 8086:29c0"
    assert lines[1].startswith("00: 86 80 c0 29 ")
    assert [line[:4] for line in lines[1:5]] == ["00: ", "10: ", "20: ", "30: "]
    assert lines[5:] == ["", ""]


@pytest.mark.parametrize("command", ["lspci -q", "lspci -s", "lspci foo", "setpci", "setpci -s 0:0.0"])
def test_the_pci_tools_refuse_what_they_do_not_know(machine: VM, command: str) -> None:
    done = machine.run(command)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith(command.partition(" ")[0] + ": ")


def test_setpci_reads_and_writes_by_name_and_by_number(machine: VM) -> None:
    read = "setpci -s 00:1f.2 VENDOR_ID 02.w COMMAND 04.w 00.l 0.b"
    assert machine.run("setpci -s 00:1f.2 COMMAND=0000; " + read).stdout.split() == [
        *("8086", "2922", "0000", "0000", "29228086", "86")
    ]
    assert machine.run("setpci -s 00:1f.2 COMMAND=6 3C.B=2a; setpci -s 00:1f.2 4.w 3c.b").stdout.split() == [
        *("0006", "2a")
    ]


@pytest.mark.parametrize("operation", ["COMMAND=12345", "NO_SUCH", "5.w", "COMMAND=x", "4.q", "1000.b"])
def test_setpci_refuses_what_would_go_elsewhere(machine: VM, operation: str) -> None:
    assert machine.run(f"setpci -s 00:1f.2 {operation}").returncode == 1


def test_what_is_typed_on_the_console_reaches_a_shell(machine: VM) -> None:
    machine.wait_console("guest:~# ")
    at = machine.type("echo $((40 + 2))x; tty\n")
    assert machine.wait_console("# ", since=at) == "echo $((40 + 2))x; tty\n42x\n/dev/ttyS0\nguest:~# "
    assert machine.read_console(at)[1].startswith("echo $((40")


def test_ctrl_c_on_the_console_ends_a_program(machine: VM) -> None:
    machine.wait_console("guest:~# ")
    at = machine.type("sleep 1003\n")
    machine.run("until ps | grep -q '[s]leep 1003'; do usleep 10000; done", check=True)
    machine.type("\x03")
    # The shell, awake at once, may take the terminal before it has echoed the ^C.
    said = machine.wait_console("\nguest:~# ", since=at)
    assert said.replace("^C", "") == "sleep 1003\n\nguest:~# "


def test_a_shell_that_ends_comes_again(machine: VM) -> None:
    machine.wait_console("guest:~# ")
    at = machine.type("exit\n")
    assert "built-in shell" in machine.wait_console("guest:~# ", since=at)


def test_a_wait_for_what_is_not_said_ends(machine: VM) -> None:
    with pytest.raises(TimeoutError, match=r"after 0.1 s the console does not say 'no such'; its end:\n"):
        machine.wait_console("no such", timeout=0.1)
