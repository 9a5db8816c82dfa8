"""Hot swaps under load: each access is answered exactly once, by exactly one revision, none is lost."""

import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import workbench as wb

SWAPS = 2000

#: The software guest in a process of its own: reads as fast as it can until its input ends, then
#: says what it read.
GUEST = """
import select, sys, workbench as wb
guest = wb.Client(sys.argv[1])
print("ready", flush=True)
got = []
while not select.select([sys.stdin], [], [], 0)[0]:
    got += [guest.bar0.read32(0) for _ in range(20)]
print(*got)
"""


class Card(wb.Device):
    """Two registers; the hooks answer with numbers that name them."""

    id = wb.PciId(vendor=0x1234, device=0x0007)

    class bar0(wb.Bar, size=64):
        A = wb.Register(0)
        B = wb.Register(4, reset=5)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_thousand_swaps_under_load_lose_nothing():
    with Card(log_records=1 << 20) as card:
        card.bar0.A.on_read(lambda device: 1)
        guest = subprocess.Popen(
            [sys.executable, "-c", GUEST, card.serve().path], stdin=-1, stdout=-1, text=True
        )
        assert guest.stdout.readline() == "ready\n"
        seen = card.log.total
        for revision in range(2, SWAPS + 2):
            card.bar0.A.on_read(lambda device, value=revision: value)
            if revision % 10 == 0:  # let the guest in now and then, by its own accesses and not by time
                card.log.wait(kind="read", register="A", since=seen)
                seen = card.log.total
        got = list(map(int, guest.communicate("stop\n")[0].split()))
        records = card.log.filter(register="A", kind="read", origin="guest").records()
    assert card.log.dropped == 0
    assert len(got) >= SWAPS // 10
    assert records["value"].tolist() == got  # answered once each, in order
    assert records["revision"].tolist() == got  # by the revision that the record names
    assert got == sorted(got)
    assert got[-1] == SWAPS + 1


class SwapMachine(RuleBasedStateMachine):
    """Random accesses, swaps, switches and class swaps against a plain model of one register."""

    def __init__(self):
        super().__init__()
        self.card = Card("storm")
        self.guest = self.card.connect()
        self.values = {"A": 0, "B": 5}
        self.hooks = {"A": [], "B": []}  # answers of the revisions so far
        self.active = {"A": None, "B": None}  # the revision in force, or None
        self.enabled = {"A": True, "B": True}
        self.expected = []

    registers = st.sampled_from(["A", "B"])

    def handle(self, name):
        return getattr(self.card.bar0, name)

    @rule(name=registers, answer=st.integers(0, 2**32 - 1))
    def swap(self, name, answer):
        self.handle(name).on_read(lambda device: answer)
        self.hooks[name].append(answer)
        self.active[name], self.enabled[name] = len(self.hooks[name]), True

    @rule(name=registers)
    def unhook(self, name):
        self.handle(name).unhook("on_read")
        self.active[name] = None

    @rule(name=registers)
    def toggle(self, name):
        if self.active[name]:
            self.enabled[name] = not self.enabled[name]
            switch = self.card.hooks.enable if self.enabled[name] else self.card.hooks.disable
            switch(f"bar0.{name}.on_read")

    @rule(name=registers, data=st.data())
    def revert(self, name, data):
        if self.hooks[name]:
            first = max(1, len(self.hooks[name]) - 49)  # 50 revisions are kept
            number = data.draw(st.integers(first, len(self.hooks[name])))
            self.card.hooks.revert(f"bar0.{name}.on_read", number)
            self.hooks[name].append(self.hooks[name][number - 1])
            self.active[name], self.enabled[name] = len(self.hooks[name]), True

    @rule(name=registers, by_guest=st.booleans())
    def read(self, name, by_guest):
        revision = self.active[name] if self.enabled[name] else None
        if revision:
            self.values[name] = self.hooks[name][revision - 1]
        offset = self.handle(name).offset
        got = self.guest.bar0.read32(offset) if by_guest else self.handle(name).read()
        assert got == self.values[name]
        self.expected.append((got, revision or 0))

    @rule(name=registers, value=st.integers(0, 2**32 - 1))
    def write(self, name, value):
        self.guest.bar0.write32(self.handle(name).offset, value)
        self.values[name] = value

    @rule()
    def reset(self):
        self.card.reset()
        self.values = {"A": 0, "B": 5}

    @rule()
    def swap_class(self):
        class Other(Card):
            """The same layout under another name."""

        self.card.swap(Other)

    @rule()
    def reconnect(self):
        self.guest.disconnect()
        self.guest = self.card.connect()

    @invariant()
    def the_log_says_what_was_answered_and_by_whom(self):
        reads = self.card.log.filter(register="bar0", kind="read").records()
        assert list(zip(reads["value"].tolist(), reads["revision"].tolist(), strict=True)) == self.expected

    def teardown(self):
        self.guest.disconnect()
        self.card.close()


class TestSwapMachine(SwapMachine.TestCase):
    settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


TestSwapMachine = pytest.mark.slow(pytest.mark.timeout(120)(TestSwapMachine))
