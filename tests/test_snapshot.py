"""Snapshot as a value, and as bytes of a versioned format, whose mistakes are said and never believed."""

import json
import os
import pickle
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from state_kit import Stateful

import workbench as wb
from workbench.snapshot import HEADER, LARGEST, MAGIC, VERSION, Snapshot


@pytest.fixture(scope="module")
def snapshot():
    with Stateful() as device:
        device.bar0.CTRL.value = 0x21
        device.bar0.KEY.write(0xABCD)
        device.bar0.LOCK.write(3)
        device.bar2.array()[4096:4100] = [1, 2, 3, 4]
        device.irq.assert_(2)
        yield device.snapshot()


@pytest.fixture(scope="module")
def data(snapshot):
    return snapshot.to_bytes()


# ---- the value


def test_pages_that_were_never_touched_cost_nothing(snapshot):
    assert set(snapshot.pages[("bar2", "value")]) == {4096}
    assert ("bar0", "value") in snapshot.pages
    assert snapshot.size < 6 * 4096


def test_bytes_are_read_by_region_and_offset(snapshot):
    assert snapshot.read("bar2", 4094, 8) == b"\0\0\1\2\3\4\0\0"
    assert snapshot.read("bar0", 8, 4, "latch") == (0xABCD).to_bytes(4, "little")
    assert snapshot.read("bar2", (1 << 20) - 4, 4) == bytes(4)
    for region, offset, size in (
        ("bar2", -1, 4),
        ("bar2", (1 << 20) - 4, 5),
        ("bar2", 4, -4),
        ("bar9", 0, 0),
    ):
        with pytest.raises(ValueError, match=f"no {size} bytes at {offset:#x} of {region}"):
            snapshot.read(region, offset, size)


def test_it_cannot_be_changed(snapshot):
    with pytest.raises(AttributeError):
        snapshot.user = b""
    with pytest.raises(TypeError):
        snapshot.pages["bar0", "value"] = {}
    with pytest.raises(TypeError):
        snapshot.pages["bar0", "value"][0] = b""


def test_two_of_the_same_state_are_equal_and_the_name_does_not_count(snapshot):
    with Stateful("another") as other:
        assert other.snapshot() != snapshot
        other.restore(snapshot)
        again = other.snapshot()
    assert again == snapshot
    assert len({snapshot, again, Snapshot.from_bytes(again.to_bytes())}) == 1
    assert again.device == "another"


def test_its_repr_says_whose_it_is(snapshot):
    assert repr(snapshot).startswith("<Snapshot of Stateful: ")


def test_what_differs_is_a_small_snapshot_that_brings_the_base_up_to_date(snapshot):
    with Stateful() as device:
        device.restore(snapshot)
        device.bar2.array()[8192] = 9
        device.bar2.array()[4096:4100] = 0
        now = device.snapshot()
    changes = now.since(snapshot)
    assert set(changes.pages) == {("bar2", "value")}
    assert snapshot.updated(changes) == now
    assert snapshot.updated(snapshot.since(snapshot)) == snapshot


# ---- the format


def test_bytes_bring_back_the_same(snapshot, data):
    for form in (data, bytearray(data), memoryview(data)):
        assert Snapshot.from_bytes(form) == snapshot
    assert Snapshot.from_bytes(data).device == "Stateful"


def test_a_file_is_replaced_as_a_whole(snapshot, tmp_path):
    path = tmp_path / "lamp.state"
    path.write_text("older")
    snapshot.save(path)
    assert wb.Snapshot.load(path) == snapshot
    assert [file.name for file in tmp_path.iterdir()] == ["lamp.state"]


def test_a_file_that_cannot_be_written_leaves_the_one_before(snapshot, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        snapshot.save(tmp_path / "nowhere" / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_takes_no_file_is_told(snapshot):
    with pytest.raises(OSError, match=r"its directory takes no new file: '/sys/lamp\.state'$"):
        snapshot.save("/sys/lamp.state")  # where root may not make files either


def test_what_is_wrong_with_a_file_names_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello" * 100)
    with pytest.raises(wb.SnapshotError, match=r"notes\.txt: this is no snapshot"):
        wb.Snapshot.load(path)


@pytest.mark.parametrize("said", ["does not begin as one", "behind its header", "are too many"])
def test_a_huge_file_is_not_read(tmp_path, data, said):
    path = tmp_path / "huge"
    _, _, text, packed, raw, checksum = HEADER.unpack_from(data)
    claimed = (1 << 40) - HEADER.size - text if "many" in said else packed
    head = HEADER.pack(MAGIC, VERSION, text, claimed, raw, checksum)
    with open(path, "wb") as file:
        file.write(b"" if "begin" in said else head)
        file.truncate(1 << 40)
    with pytest.raises(wb.SnapshotError, match=said):
        wb.Snapshot.load(path)


def test_a_number_is_no_file_and_who_has_it_open_keeps_it(snapshot, tmp_path):
    with open(tmp_path / "mine", "w+b") as mine:
        for act in (wb.Snapshot.load, snapshot.save):
            with pytest.raises(TypeError, match="PathLike"):
                act(mine.fileno())
        assert os.fstat(mine.fileno()).st_size == 0


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_what_is_no_regular_file_is_not_read(tmp_path, name):
    path = tmp_path / name  # an absolute name is itself
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(wb.SnapshotError, match=rf"{name}: this is no regular file"):
        wb.Snapshot.load(path)


def test_bytes_of_the_user_and_none_are_kept_too(snapshot):
    for user in (b"\0\1 raw", b"", None, '{"a":[1,null,"ü"]}'):
        copy = Snapshot("x", snapshot.layout, snapshot.pages, snapshot.interrupts, user)
        assert Snapshot.from_bytes(copy.to_bytes()) == copy


def test_pickles_are_the_format_too_and_run_nothing_of_their_own(snapshot):
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


def remade(data: bytes, change=lambda manifest: None, **header) -> bytes:
    """The same bytes with another manifest or header, and a checksum that is right."""
    magic, version, size, _, raw, _ = HEADER.unpack_from(data)
    text, body = data[HEADER.size :][:size], data[HEADER.size + size :]
    manifest = json.loads(text)
    text = json.dumps(change(manifest) or manifest).encode()
    fields = {"version": version, "size": len(text), "packed": len(body), "raw": raw} | header
    return HEADER.pack(magic, *fields.values(), zlib.crc32(text + body)) + text + body


def refused(data, match):
    with pytest.raises(wb.SnapshotError, match=match):
        Snapshot.from_bytes(data)


def test_a_format_of_the_future_is_named(data):
    refused(remade(data, version=2), "has format 2, this workbench reads format 1")


@pytest.mark.parametrize("cut", [0, 1, 7, HEADER.size - 1, HEADER.size, HEADER.size + 10, -1])
def test_a_part_of_the_bytes_is_no_snapshot(data, cut):
    refused(data[:cut], "no snapshot|behind its header")


def test_bytes_behind_the_end_are_refused(data):
    refused(data + b"x", "behind its header")


def test_each_flipped_bit_is_noticed(data):
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(wb.SnapshotError):
            Snapshot.from_bytes(broken)


@pytest.mark.parametrize("field", ["size", "packed", "raw"])
@pytest.mark.parametrize("value", [0, 1 << 31, (1 << 32) - 1])
def test_sizes_that_a_header_makes_up_are_refused(data, field, value):
    refused(remade(data, **{field: value}), "bytes")


def test_a_bomb_is_not_unpacked(data):
    """A compressed gigabyte of zeros, and a header that says a page."""
    text = data[HEADER.size :][: HEADER.unpack_from(data)[2]]
    packed = zlib.compress(bytes(1 << 24))
    body = text + packed
    raw = HEADER.unpack_from(data)[4]
    refused(
        HEADER.pack(MAGIC, VERSION, len(text), len(packed), raw, zlib.crc32(body)) + body,
        "pages of the snapshot are",
    )
    refused(
        HEADER.pack(MAGIC, VERSION, len(text), len(packed), LARGEST + 1, zlib.crc32(body)) + body, "too many"
    )


def layout(key, value):
    return lambda manifest: manifest["layout"].__setitem__(key, value)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: ["not", "a", "manifest"],
        lambda manifest: manifest.pop("device"),
        lambda manifest: manifest.update(device=7),
        lambda manifest: manifest.update(device="\x1b[2J"),
        lambda manifest: manifest.update(layout=None),
        layout("regions", [["bar0"]]),
        layout("regions", [["bar0", 0]]),
        layout("regions", [["bar0", 1 << 60]]),
        layout("regions", [["bar9", 4096]]),
        layout("regions", [["bar0", 4096], ["bar0", 4096]]),
        layout("regions", [["bar0", "big"]]),
        layout("regions", [["bar0", True]]),
        layout("irqs", [1]),
        layout("irqs", [1, 0, 0, 0, -1]),
        layout("config", [["ID", 1]]),
        layout("config", [["\x1b[2J", 0, 4, 0, 0]]),
        layout("config", {"ID": 1}),
        lambda manifest: manifest.update(pages=None),
        lambda manifest: manifest.update(pages=[["bar0", "value"]]),
        lambda manifest: manifest.update(pages=[["bar5", "value", []]]),
        lambda manifest: manifest.update(pages=[["bar0", "reset", [[0, 1]]]]),
        lambda manifest: manifest.update(pages=[[["bar0"], "value", [[0, 1]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[1, 1]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[0, 3]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[0, 0]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[4096, 1], [0, 1]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[0, 1 << 70]]]]),
        lambda manifest: manifest.update(pages=[["bar0", "value", [[0.5, 1]]]]),
        lambda manifest: manifest["pages"].append(["bar0", "value", [[0, 1]]]),
        lambda manifest: manifest.update(interrupts=[]),
        lambda manifest: manifest.update(interrupts={"NMI": []}),
        lambda manifest: manifest.update(interrupts={"MSI": [2048]}),
        lambda manifest: manifest.update(interrupts={"MSI": [True]}),
        lambda manifest: manifest.update(interrupts={"MSI": 3}),
        lambda manifest: manifest.update(user=True),
        lambda manifest: manifest.update(user=-1),
        lambda manifest: manifest.update(user=1 << 40),
        lambda manifest: manifest.update(user=100),
        lambda manifest: manifest.update(user="{no json"),
        lambda manifest: manifest.update(user=["a"]),
    ],
)
def test_a_manifest_that_lies_is_refused(data, change):
    refused(remade(data, change), "snapshot")


@pytest.mark.parametrize("text", [b"[" * 100_000, b"9" * 5000, b'{"device": NaN}', b"\xff", b""])
def test_a_manifest_that_is_no_json_is_refused(text):
    packed = zlib.compress(b"")
    body = text + packed
    refused(HEADER.pack(MAGIC, VERSION, len(text), len(packed), 0, zlib.crc32(body)) + body, "manifest")


FUZZ = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@FUZZ
@given(st.binary(max_size=300))
def test_garbage_is_no_snapshot(garbage):
    with pytest.raises(wb.SnapshotError):
        Snapshot.from_bytes(garbage)
    body = garbage[: len(garbage) // 2], garbage[len(garbage) // 2 :]
    head = struct.pack("<8sIIQQ", MAGIC, VERSION, len(body[0]), len(body[1]), 4096)
    with pytest.raises(wb.SnapshotError):
        Snapshot.from_bytes(head + zlib.crc32(garbage).to_bytes(4, "little") + garbage)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 45) | st.sampled_from(["bar0", "value", "config", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["bar0", "MSI", "regions"]), inner)
    ),
    max_leaves=8,
)


@FUZZ
@given(key=st.sampled_from(["device", "layout", "pages", "interrupts", "user"]), value=JSON)
def test_any_json_in_the_manifest_is_read_or_refused(data, key, value):
    changed = remade(data, lambda manifest: manifest.update({key: value}))
    try:
        found = Snapshot.from_bytes(changed)
    except wb.SnapshotError:
        return
    assert Snapshot.from_bytes(found.to_bytes()) == found
