"""What a guest's kernel says of its own faults is found in its console and told once."""

import pytest

from workbench.vm import GuestKernelWarning
from workbench.vm.console import Transcript
from workbench.vm.trouble import Trouble

OOPS = b"""\
[    4.200000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    4.200100] #PF: supervisor instruction fetch in kernel mode
[    4.200200] Oops: 0010 [#1] PREEMPT SMP NOPTI
"""


def told(trouble: Trouble) -> list[str]:
    with pytest.warns(GuestKernelWarning) as caught:
        trouble.warn(1)
    (one,) = caught
    assert one.filename == __file__
    return str(one.message).splitlines()[1:]


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 61 at kernel/irq/handle.c:211 __handle_irq_event_percpu+0x15f/0x1a0",
        "Kernel panic - not syncing: Fatal exception in interrupt",
        "Oops: general protection fault, probably for non-canonical address: 0000 [#2] PREEMPT SMP",
        "INFO: task modprobe:71 blocked for more than 120 seconds.",
    ],
)
def test_each_kind_of_fault_is_told_without_its_time(line):
    log = Transcript()
    log.add(b"[    0.000000] Linux version 6.12\r\n[   12.345678] " + line.encode() + b"\r\n")
    assert told(Trouble(log)) == [line]


def test_an_interrupt_that_no_driver_found_to_be_its_own_is_told_with_the_way_out():
    log, line = Transcript(), 'irq 11: nobody cared (try booting with the "irqpoll" option)'
    log.add(b"[   12.345678] " + line.encode() + b"\r\n")
    said, hint = told(Trouble(log))
    assert said == line
    assert "dev.irq.assert_() holds the line" in hint


def test_a_fault_is_told_once_and_kept(recwarn):
    log, trouble = Transcript(), None
    trouble = Trouble(log)
    log.add(OOPS)
    lines = [
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "Oops: 0010 [#1] PREEMPT SMP NOPTI",
    ]
    assert told(trouble) == lines
    trouble.warn(1)
    assert not recwarn.list
    assert trouble.lines == tuple(lines)


def test_a_line_counts_when_it_is_whole_however_it_arrives():
    log = Transcript()
    trouble = Trouble(log)
    for n in range(len(OOPS)):
        log.add(OOPS[n : n + 1])
        assert len(trouble.lines) == (n >= OOPS.index(b"\n")) + (n == len(OOPS) - 1)


def test_what_was_dropped_from_the_console_costs_no_later_fault():
    log = Transcript(kept=256)
    trouble = Trouble(log)
    for _ in range(10):
        log.add(b"[    1.0] nothing to see here, but much of it\n" * 10)
        assert trouble.lines == ()
    log.add(OOPS[:100])
    log.add(OOPS[100:])
    assert len(trouble.lines) == 2


@pytest.mark.parametrize(
    "line",
    [
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
        "DEBUG: everything is well",
    ],
)
def test_a_slow_machine_and_mere_advice_are_no_faults(line):
    log = Transcript()
    log.add(f"[    3.141592] {line}\n".encode())
    assert Trouble(log).lines == ()
