"""What one record says: names, changed fields, marks, stories; in text and in HTML."""

import errno

import pytest
from log_kit import add, new_log

import workbench as wb
from workbench.engine import ffi, lib
from workbench.log import RECORD, AccessLog
from workbench.records import FLAGS, KINDS, ORIGINS, Record
from workbench.registers import Bar, Field, Register


def test_the_dtype_is_the_c_record_offset_by_offset() -> None:
    fields = dict(ffi.typeof("wb_record").fields)
    assert ffi.sizeof("wb_record") == RECORD.itemsize == 64
    assert {name: field.offset for name, field in fields.items()} == {
        name: RECORD.fields[name][1] for name in RECORD.names
    }
    assert all(ffi.sizeof(field.type) == RECORD.fields[name][0].itemsize for name, field in fields.items())


def test_names_of_numbers_come_from_the_header_in_order() -> None:
    assert list(KINDS.values())[:4] == ["read", "write", "poke", "irq"]
    assert len(KINDS) == lib.WB_KINDS == max(KINDS) + 1
    assert list(ORIGINS.values()) == ["guest", "notebook", "device"]
    assert FLAGS[lib.WB_UNMAPPED] == "unmapped"


def test_a_write_reads_as_a_decoded_line(log: AccessLog) -> None:
    add(log, "attach", region=255, size=0, time=1_000)
    add(log, "write", time=12_346_678, value=5, now=5, revision=2, latency=3_100)
    record = log[1]
    assert (record.kind, record.origin, record.register) == ("write", "guest", "bar0.CTRL")
    assert record.changes == ("ENABLE 0→1", "MODE SLOW→FAST")
    assert str(record).split() == [
        "12.345678", "ms", "guest", "write", "bar0.CTRL", "0x00000005", "ENABLE", "0→1", "MODE", "SLOW→FAST",
        "rev", "2", "3.1", "µs",
    ]  # fmt: skip


def test_a_value_that_changes_nothing_is_decoded(log: AccessLog) -> None:
    add(log, "read", value=0x1005, old=0x1005, now=0x1005)
    assert log[0].changes == ()
    assert log[0].text == "ENABLE=1  MODE=FAST  PERIOD=0x10"


def test_a_partial_access_names_only_the_bits_it_saw(log: AccessLog) -> None:
    add(log, "write", offset=1, size=1, value=7, old=0, now=7)
    assert log[0].changes == ("PERIOD[7:0] 0→7",)


def test_an_access_of_several_registers_names_them_all(log: AccessLog) -> None:
    add(log, "write", offset=0, size=8, value=1, now=0x1_0000_0001)
    assert log[0].register == "bar0.CTRL+STATUS"
    assert log[0].changes == ("CTRL.ENABLE 0→1", "STATUS.LIT 0→1")
    add(log, "read", offset=0x10, size=4)
    assert log[1].register == "bar0.DATA[0]…DATA[3]"
    add(log, "read", offset=0x12, size=1)
    assert log[2].register == "bar0.DATA[2]"


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (lib.WB_UNMAPPED, "! unmapped address"),
        (lib.WB_VIOLATION, "! writes read-only or reserved bits"),
        (lib.WB_HOOK_RAN | lib.WB_HOOK_FAILED, "! hook raised"),
    ],
)
def test_what_deserves_a_look_is_marked(log: AccessLog, bits: int, words: str) -> None:
    add(log, "write", offset=0x40, flags=bits)
    assert log[0].register == "bar0+0x40"
    assert str(log[0]).endswith(words)


@pytest.mark.parametrize(
    ("kind", "values", "register", "words"),
    [
        ("irq", {"offset": 0, "value": lib.WB_IRQ_DELIVERED}, "irq.INTx", "INTx delivered"),
        ("irq", {"offset": 2 << 16 | 3, "value": lib.WB_IRQ_NOBODY}, "irq.MSI-X[3]", "MSI-X[3] nobody"),
        ("unmask", {}, "irq.INTx", "INTx unmasked"),
        ("dma_read", {"offset": 0x1000, "size": 512}, "dma", "IOVA 0x1000, 512 bytes"),
        ("map", {"offset": 0, "value": 256 << 20}, "dma", "IOVA 0x0, 256 MiB"),
        ("reset", {"value": lib.WB_RESET_DEVICE}, "reset", "by the client"),
        ("attach", {}, "client", "a client came"),
        ("detach", {"value": 104}, "client", "the client went: ECONNRESET"),
        ("error", {"offset": 9, "value": 22}, "client", "malformed message, REGION_READ: EINVAL"),
        ("swap", {"region": 0, "offset": 4, "revision": 3}, "bar0.STATUS", "hook set"),
        ("swap", {"region": 0, "offset": 4}, "bar0.STATUS", "hook removed"),
    ],
)
def test_records_that_are_no_access_tell_their_story(
    log: AccessLog, kind: str, values: dict[str, int], register: str, words: str
) -> None:
    add(log, kind, **{"region": 255, "size": 4, **values})
    assert (log[0].register, log[0].text) == (register, words)
    assert words in str(log[0])


def test_a_refused_dma_access_says_why_and_is_flagged(device: wb.Device, guest: wb.Client) -> None:
    guest.memory.map(0, 4096)
    with pytest.raises(wb.DmaError):
        device.dma.write(0x10, bytes(16))
    guest.enable()
    with pytest.raises(wb.DmaError):
        device.dma.read(1 << 32, 16)
    first, second = device.log.filter(register="dma", flagged=True)
    assert (first.kind, first.origin, first.text, first.digits) == (
        "dma_write", "notebook", "IOVA 0x10, 16 bytes", "",
    )  # fmt: skip
    assert first.marks == "! refused: bus master is off (EACCES)"
    assert second.marks == "! refused: not mapped (EFAULT)"
    assert str(first).endswith(first.marks)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EPERM, "mapped read-only (EPERM)"), (errno.EBADF, "EBADF"), (4000, "errno 4000")],
)
def test_a_refusal_is_told_by_its_errno(log: AccessLog, code: int, words: str) -> None:
    add(log, "dma_read", region=255, flags=lib.WB_REFUSED, value=code)
    assert log[0].marks == f"! refused: {words}"


def test_an_intx_line_that_goes_down_is_told(device: wb.Device, guest: wb.Client) -> None:
    device.irq.assert_()
    device.irq.deassert()
    device.irq.deassert()
    records = list(device.log.filter(register=["INTx", "irq.INTx"], kind="irq"))
    assert [record.text for record in records] == ["INTx delivered", "INTx released"]


def test_what_is_written_to_write_only_bits_is_decoded() -> None:
    class Doorbell(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B12)

        class bar0(wb.Bar, size=16):
            KICK = wb.Register(0, mode="wo", QUEUE=wb.Field(0, 4), GO=wb.Field(8))
            RX = wb.Register(4, width=8, mode="ro")
            TX = wb.Register(4, width=8, mode="wo")

    with Doorbell() as device:
        device.bar0.KICK.write(0x103)
        device.bar0.KICK.write(0x103)
        device.bar0.TX.write(0x41)
        kick, again, sent = device.log.filter(kind="write")
    assert kick.changes == ("QUEUE 0→3", "GO 0→1")
    assert (again.changes, again.text) == ((), "QUEUE=3  GO=1")
    assert (sent.register, sent.changes) == ("bar0.TX", ("0→0x41",))


def test_a_huge_offset_gets_its_own_name(log: AccessLog) -> None:
    for offset in (0, 1 << 40, (1 << 64) - 4, 1 << 31):
        add(log, offset=offset)
    labels = ["bar0.CTRL", "bar0+0x10000000000", "bar0+0xfffffffffffffffc", "bar0+0x80000000"]
    assert log.to_pandas()["register"].tolist() == [record.register for record in log] == labels


@pytest.mark.parametrize(("latency", "text"), [(40, "40 ns"), (3_100, "3.1 µs"), (12_000_000, "12 ms")])
def test_text_and_html_say_a_latency_alike(log: AccessLog, latency: int, text: str) -> None:
    add(log, latency=latency)
    assert text in str(log[0])
    assert f">{text}<" in log._repr_html_()


def test_html_is_escaped() -> None:
    class bar0(Bar, size=16):
        CTRL = Register(0, ON=Field(0, enum={"<script>": 1}))

    log = new_log({0: bar0.block})
    add(log, "write", value=1, now=1)
    assert "<script>" in repr(log)
    assert "<script>" not in log._repr_html_()
    assert "&lt;script&gt;" in log._repr_html_()


def test_records_are_read_only(log: AccessLog) -> None:
    add(log)
    with pytest.raises(AttributeError):
        log[0].value = 1  # type: ignore[misc]
    assert isinstance(log[0], Record)
