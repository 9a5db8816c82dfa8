"""Package archives on the disk, for tests of apt without a network: flat ones, and signed suites."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path


def make_deb(archive: Path, name: str, depends: str = "", size: int = 1000) -> None:
    """Add the package ``name``, which has one file of ``size`` bytes, and its entry in ``Packages``."""
    tree = archive / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share" / name).write_bytes(b"x" * size)
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
    )
    (tree / "DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    deb = archive / f"{name}_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True
    )
    data = deb.read_bytes()
    entry = f"Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    with (archive / "Packages").open("a") as index:
        index.write((tree / "DEBIAN/control").read_text() + entry + "\n")


def make_suite(archive: Path, suite: str) -> Path:
    """Publish what ``make_deb`` made as ``suite``, unsigned; return its Release file."""
    top = archive / "dists" / suite
    index = top / "main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    data = (archive / "Packages").read_bytes()
    index.write_bytes(data)
    release = top / "Release"
    release.write_text(
        f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: Mon, 01 Jan 2024 00:00:00 UTC\n"
        "Architectures: amd64 all\nComponents: main\nSHA256:\n"
        f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
    )
    return release


class Signer:
    """A key of our own in a GnuPG home; `keyring` is its public half, as apt takes it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._gpg: Sequence[str | Path] = ("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "")
        self._run("--quick-generate-key", "t@example.org", "ed25519", "sign", "never")
        self.keyring = home / "public.gpg"
        self._run("--output", self.keyring, "--export")
        self._home = home

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([*self._gpg, *arguments], check=True, capture_output=True)

    def sign(self, release: Path) -> None:
        """Sign a Release file, as InRelease beside it."""
        self._run("--output", release.parent / "InRelease", "--clearsign", release)

    def close(self) -> None:
        """End the agent that GnuPG started."""
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True, capture_output=True)
