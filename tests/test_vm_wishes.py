"""What a VM is asked for is checked when it is asked for, not when QEMU ends."""

import pytest

import workbench as wb
from workbench.vm import kit


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"memory": 256}, TypeError, 'memory is a number and a unit, such as "256M" or "1G", not 256'),
        ({"memory": None}, TypeError, "memory is a number and a unit"),
        ({"memory": "256"}, ValueError, "memory is a number and a unit"),
        ({"memory": "0M"}, ValueError, "memory is a number and a unit"),
        ({"memory": "-1G"}, ValueError, "memory is a number and a unit"),
        ({"memory": "lots"}, ValueError, "memory is a number and a unit"),
        ({"memory": "256M,slots=4"}, ValueError, "memory is a number and a unit"),
        ({"memory": "1" * 5000 + "M"}, ValueError, "memory is a number and a unit"),
        ({"timeout": "long"}, TypeError, "timeout is in seconds, such as 120, not 'long'"),
        ({"timeout": None}, TypeError, "timeout is in seconds"),
        ({"timeout": True}, TypeError, "timeout is in seconds"),
        ({"timeout": 0}, ValueError, "timeout is in seconds above 0"),
        ({"timeout": -1}, ValueError, "timeout is in seconds above 0"),
        ({"timeout": float("nan")}, ValueError, "timeout is in seconds above 0"),
        ({"timeout": float("inf")}, ValueError, "timeout is in seconds above 0"),
        ({"modules": 5}, TypeError, 'modules is a text or several, such as "gpio-pci-idio-16", not 5'),
        ({"modules": [None]}, TypeError, "modules is a text or several"),
        ({"modules": b"nvme"}, TypeError, "modules is a text or several"),
        ({"modules": {"nvme": 1}}, TypeError, "modules is a text or several"),
        ({"modules": ""}, ValueError, "modules has ''"),
        ({"modules": ["nvme", " "]}, ValueError, "modules has ' '"),
        ({"modules": "a\nb"}, ValueError, r"modules has 'a\\nb'"),
        ({"trace": 5}, TypeError, "trace is a text or several"),
        ({"extra_args": [1]}, TypeError, "extra_args is a text or several"),
        ({"append": None}, TypeError, "append is more of the kernel's command line"),
        ({"files": ["/bin/x"]}, TypeError, "files says what is in each path of the guest"),
        ({"files": {"/bin/x": "text"}}, TypeError, "files is path → bytes, not '/bin/x' → str"),
        ({"qemu": 5}, TypeError, "qemu is a path, or None"),
        ({"qemu": ""}, ValueError, "qemu is the path of a file, not ''"),
        ({"qemu": "a\0b"}, ValueError, "qemu is the path of a file"),
        ({"kernel": "\0"}, ValueError, "kernel is the path of a file"),
        ({"kernel": object}, TypeError, "kernel is a path, or None"),
    ],
)
def test_a_vm_that_makes_no_sense_is_not_made(wrong, error, said):
    with pytest.raises(error, match=said):
        wb.VM(**wrong)


@pytest.mark.parametrize("memory", ["256M", "1G", "262144k", "0064M"])
def test_what_makes_sense_is_taken_as_it_is(memory):
    vm = wb.VM(memory=memory, timeout=0.5, modules=["nvme", "edu"], extra_args=("-s",), trace="vfio*")
    assert vm._recipe.memory == memory
    assert (vm.modules, vm._recipe.extra, vm._recipe.trace) == (("nvme", "edu"), ("-s",), ("vfio*",))
    assert wb.VM(modules="nvme").modules == ("nvme",)


def test_what_can_be_no_program_is_no_qemu(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", "/etc/passwd", "a\0b", "\ud800"):
        assert kit.probe((str(path),)) is None


@pytest.mark.parametrize(
    "suite", ["nonsense", "", "../../etc", "bookworm\n", "trixie/", "stable-updates", 12, None]
)
def test_a_release_that_debian_has_not_is_refused_before_anything_is_fetched(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="name of a Debian release, such as"):
        kit.fetch_qemu(suite)
    assert not list(tmp_path.iterdir())
