"""The guest's whole file system: busybox, the kernel modules asked for, and the command agent.

Written in pure Python as a cpio archive ("newc", Linux: early-userspace/buffer-format), so neither root nor
cpio is needed. Nothing is compressed: it only goes from memory to memory, and TCG unpacks slowly. Modules
come with all they depend on, and what they wish for (``softdep``).
"""

import difflib
import gzip
import lzma
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import VmError
from .kit import Guest

FILE, DIRECTORY, CHARACTER = 0o100000, 0o040000, 0o020000
LIKE = 16  #: modules that are looked into for an alias
#: Where the init script, the agent, lspci and setpci are kept: shell text, readable as such.
SCRIPTS = Path(__file__).resolve().parent / "guest"


def _entry(
    name: str, mode: int, data: bytes = b"", inode: int = 0, device: tuple[int, int] = (0, 0)
) -> bytes:
    """Return one newc member: a header of 13 hex numbers, the name and the data, each padded to 4 bytes."""
    raw = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def cpio(
    files: Mapping[str, tuple[int, bytes]], devices: Mapping[str, tuple[int, int]] | None = None
) -> bytes:
    """Return a newc archive of ``files`` (path → permission bits and content) and character ``devices``.

    Parent directories are added. Paths have no leading slash.
    """
    members = []
    names = [*files, *(devices or {})]
    parents = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}
    members += [_entry(name, DIRECTORY | 0o755) for name in sorted(parents)]
    members += [
        _entry(name, CHARACTER | 0o600, device=number) for name, number in sorted((devices or {}).items())
    ]
    # Equal inode numbers would be read as hard links.
    members += [
        _entry(name, FILE | mode, data, inode) for inode, (name, (mode, data)) in enumerate(files.items(), 1)
    ]
    members.append(_entry("TRAILER!!!", 0))
    archive = b"".join(members)
    return archive + bytes(-len(archive) % 512)


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", Path(path).name).replace("-", "_")


def _unpack(path: Path) -> bytes:
    """Return the module in ``path`` as the kernel wants it, uncompressed."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".ko":
        return data
    raise VmError(f"cannot unpack the kernel module {path.name}: only .ko, .ko.gz and .ko.xz are known")


def _needs(module: bytes) -> list[str]:
    """Return the modules that ``module`` says it depends on, in its ``.modinfo`` section."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return match[1].decode().split(",") if match and match[1] else []


def _index(directory: Path) -> tuple[dict[str, Path], set[str]]:
    """Return the module files under ``directory`` by name, and the names built into the kernel."""
    built_in = directory / "modules.builtin"
    names = built_in.read_text().split() if built_in.exists() else []
    files = (Path(root) / name for root, _, found in os.walk(directory) for name in found if ".ko" in name)
    return {_module_name(path.name): path for path in files}, {_module_name(name) for name in names}


def _soft(module: bytes) -> list[str]:
    """Return the names and aliases that ``module`` wants before itself if they are there (``softdep``)."""
    wanted, before = [], False
    for said in re.findall(rb"\0softdep=([^\0]*)", module):
        for word in said.decode(errors="replace").split():
            if word.endswith(":"):
                before = word == "pre:"
            elif before:
                wanted.append(word)
    return wanted


def _provider(alias: str, directory: Path, files: Mapping[str, Path]) -> str | None:
    """Return the module file of a name or alias such as "crypto-crc32c"; None: the kernel or nobody has it.

    ``modules.alias`` is made on installation only: asked are modules of a like name, generic ones first.
    """
    key = _module_name(alias)
    if key in files:
        return key
    own = directory / "modules.builtin.modinfo"
    said = alias.encode() + b"\0"
    if own.exists() and b".alias=" + said in own.read_bytes():
        return None
    stem = re.split("[-_]", alias.removeprefix("crypto-"))[0]
    near = sorted((name for name in files if name.startswith(stem)), key=lambda name: "generic" not in name)
    return next((name for name in near[:LIKE] if b"\0alias=" + said in _unpack(files[name])), None)


def load_modules(directory: Path, wanted: Iterable[str]) -> dict[str, tuple[bytes, list[str]]]:
    """Return the modules to load for ``wanted``, in that order, from ``directory`` (``lib/modules/VERSION``).

    Name → content and the names it needs. What is built into the kernel needs no file. The modules say what
    they need, because ``modules.dep`` is made on installation only. Raises `VmError` for unknown names.
    """
    files, built_in = _index(directory)
    loaded: dict[str, tuple[bytes, list[str]]] = {}
    visited: set[str] = set()  # soft wishes may lead in a circle

    def visit(name: str) -> None:
        key = _module_name(name)
        if key in visited or key in built_in:
            return
        if key not in files:
            near = difflib.get_close_matches(key, [*files, *built_in], 3, 0.65)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise VmError(f"the guest kernel {directory.name} has no module {name!r}{hint}")
        content = _unpack(files[key])
        needs = [_module_name(each) for each in _needs(content)]
        soft = [_provider(each, directory, files) for each in _soft(content)]
        visited.add(key)
        for each in [*needs, *filter(None, soft)]:
            visit(each)
        loaded[key] = (content, [each for each in needs if each not in built_in])

    for name in wanted:
        visit(name)
    return loaded


def build(guest: Guest, modules: Iterable[str] = (), files: Mapping[str, bytes] | None = None) -> bytes:
    """Return the initramfs of ``guest`` that loads ``modules`` and runs the agent on the second serial port.

    ``files`` adds more (path → content, executable). Raises `VmError` for an unknown module.
    """
    loaded = load_modules(guest.modules, modules)
    base = f"lib/modules/{guest.version}"
    table = "".join(
        f"{name}.ko:{''.join(f' {each}.ko' for each in needs)}\n" for name, (_, needs) in loaded.items()
    )
    tree: dict[str, tuple[int, bytes]] = {
        "bin/busybox": (0o755, guest.busybox.read_bytes()),
        "init": (0o755, (SCRIPTS / "init.sh").read_bytes()),
        "sbin/agent": (0o755, (SCRIPTS / "agent.sh").read_bytes()),
        "usr/local/bin/lspci": (0o755, (SCRIPTS / "lspci.sh").read_bytes()),
        "usr/local/bin/setpci": (0o755, (SCRIPTS / "setpci.sh").read_bytes()),
        "etc/modules": (0o644, "".join(f"/{base}/{name}.ko\n" for name in loaded).encode()),
        # With this modprobe works in the guest as well, for the modules that are there.
        f"{base}/modules.dep": (0o644, table.encode()),
    }
    tree |= {f"{base}/{name}.ko": (0o644, content) for name, (content, _) in loaded.items()}
    tree |= {path.strip("/"): (0o755, data) for path, data in (files or {}).items()}
    devices = {"dev/console": (5, 1), "dev/null": (1, 3)}
    return cpio(tree, devices)
