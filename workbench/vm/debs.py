"""Debian packages without root: download with apt, unpack with dpkg-deb, in a directory of our own.

apt runs with a private configuration: own lists, own archives, own (empty) status file, the machine's proxy
and certificate settings, the machine's Debian keyring. So signatures are checked as always and nothing of
the system is touched. A target directory appears by one rename or not at all.

Standard library only, and nothing of this package: the Makefile runs this file as a script,
``python3 debs.py DIR PACKAGE...``, before anything is installed.
"""

import contextlib
import errno
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

Progress = Callable[[str, float | None], object]

#: A mirror of the Debian archive, for machines whose own apt sources name none (Ubuntu, for instance).
MIRROR_VARIABLE = "PCI_WORKBENCH_DEBIAN_MIRROR"
#: Unpacked Debian packages take up to this many times the size of the download (QEMU: 4.6).
UNPACKED = 6
#: Seconds for which the downloads of an interrupted fetch are kept, so that the next one goes on there.
RESUME_WITHIN = 86400
DEBIAN_SUITES = re.compile(
    r"(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable)(-updates)?/?$"
)
#: Settings of the machine's apt that say how to reach a mirror; its hooks and index choices stay behind.
NETWORK_SETTING = re.compile(r"Acquire::(http|https|socks|tor|ftp|Retries|ForceIPv|Check-|By-Hash)[^ ]* .*;$")


class DebsError(RuntimeError):
    """The packages cannot be had: a line with a short ``reason``, then lines that say more and what to do."""

    def __init__(self, reason: str, *details: str) -> None:
        super().__init__("\n  ".join([reason, *details]))


def cache_home() -> Path:
    """Return this package's cache directory, ``$XDG_CACHE_HOME/pci-workbench``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pci-workbench"


def silent(text: str, fraction: float | None = None) -> None:
    """Show nothing."""


# --- where from ----------------------------------------------------------------------------------------


def _stanzas(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield ``(uri, suite, components, signed_by)`` of one apt sources file, either format."""
    text = re.sub(r"(?m)^#.*\n?", "", path.read_text(errors="replace"))
    if path.suffix == ".sources":
        for stanza in re.split(r"\n\s*\n", text):
            field = {k.lower(): v for k, v in re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza)}
            disabled = field.get("enabled", "yes").strip().lower() in ("no", "false")
            if disabled or "deb" not in field.get("types", "").split():
                continue
            for uri in field.get("uris", "").split():
                for suite in field.get("suites", "").split():
                    yield uri, suite, field.get("components", ""), field.get("signed-by", "")
        return
    one_line = r"(?m)^[ \t]*deb[ \t]+(?:\[(.*?)\][ \t]+)?(\S+)[ \t]+(\S+)[ \t]*(.*)$"
    for options, uri, suite, components in re.findall(one_line, text):
        yield uri, suite, components, options


def debian_mirrors(etc: Path = Path("/etc/apt")) -> list[str]:
    """Return URIs that may carry the Debian main archive, likeliest first, from the apt sources in ``etc``.

    Only likely: apt checks the signature of what it finds there against Debian's own keys.
    """
    if uri := os.environ.get(MIRROR_VARIABLE):
        return [uri]
    found: dict[str, int] = {}
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for uri, suite, components, signed_by in _stanzas(path):
            if "main" in components.split() and DEBIAN_SUITES.match(suite):
                score = 2 * ("debian-archive" in signed_by) + (uri.rstrip("/").endswith("/debian"))
                found[uri] = max(score, found.get(uri, 0))
    return sorted(found, key=lambda uri: -found[uri])


def debian_keyring() -> Path:
    """Return the machine's Debian archive keyring. Raises `DebsError` when there is none."""
    for name in ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg"):
        if (path := Path("/usr/share/keyrings") / name).is_file():
            return path
    raise DebsError("Debian's archive keys are not on this machine", "install debian-archive-keyring")


# --- apt -----------------------------------------------------------------------------------------------


def _quote(value: object) -> str:
    return '"' + str(value).replace('"', "") + '"'


class Debs:
    """apt with a private state under ``work``; use it in a ``with``, which holds a lock against a second one.

    ``suites`` (for example ``("trixie", "trixie-backports")``) are taken from the machine's Debian mirror;
    without them the machine's own sources, under ``etc``, serve as they are. Every failure is a `DebsError`.
    """

    def __init__(
        self,
        work: Path,
        suites: Sequence[str] = (),
        progress: Progress = silent,
        etc: Path = Path("/etc/apt"),
    ) -> None:
        self.work, self.suites, self.progress, self.etc = work, tuple(suites), progress, etc
        self._lock = -1

    def __enter__(self) -> "Debs":
        for tool in ("apt-get", "apt-config", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise DebsError(
                    f"this machine is not a Debian or Ubuntu system (no {tool})",
                    "so packages cannot be fetched: install what is asked for by other means",
                )
        with self._disk_errors():
            for name in ("lists/partial", "archives/partial"):
                (self.work / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._take_lock()
                self._forget_old_downloads()
            except BaseException:  # Ctrl-C, too, while another fetch is waited for
                os.close(self._lock)
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        for name in ("lists", "pkgcache.bin", "srcpkgcache.bin"):  # 100 MB, replaced anyway
            path = self.work / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.progress("waiting for another fetch into the same cache", None)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _forget_old_downloads(self) -> None:
        """Drop what an interrupted fetch left too long ago; younger downloads are resumed."""
        for path in (self.work / "archives").rglob("*.deb"):
            # Not mtime: apt sets that to the server's date.
            if time.time() - path.stat().st_ctime > RESUME_WITHIN:
                path.unlink()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else f"cannot write to the cache {self.work}"
            raise DebsError(reason, "free some space or set XDG_CACHE_HOME", str(error)) from error

    def _configure(self, mirror: str | None) -> None:
        """Write the private apt configuration; ``mirror`` None means the machine's own sources."""
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
        settings: dict[str, object] = {
            "Dir::State::Lists": self.work / "lists",
            "Dir::State::status": self.work / "status",
            "Dir::Cache": self.work,
            "Dir::Cache::archives": self.work / "archives",
            "Dir::Log": self.work,
            "Debug::NoLocking": 1,
            "APT::Install-Recommends": 0,
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
            "Acquire::Languages": "none",
            "Dir::Etc::main": "-",
            "Dir::Etc::parts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "Dir::Etc::sourcelist": self.etc / "sources.list",
            "Dir::Etc::sourceparts": self.etc / "sources.list.d",
        }
        if mirror is not None:
            keyring = debian_keyring()
            lines = [f"deb [signed-by={keyring}] {mirror} {suite} main" for suite in self.suites]
            (self.work / "sources.list").write_text("\n".join(lines) + "\n")
            settings |= {"Dir::Etc::sourcelist": self.work / "sources.list", "Dir::Etc::sourceparts": "-"}
        own = [f"{name} {_quote(value)};" for name, value in settings.items()]
        machine = [line for line in dump.splitlines() if NETWORK_SETTING.match(line)]
        (self.work / "apt.conf").write_text("\n".join([*machine, *own]) + "\n")
        (self.work / "status").write_text("")

    def _apt(self, *command: str, watch: Callable[[], None] | None = None, cwd: Path | None = None) -> str:
        """Run one apt command, calling ``watch`` five times a second; return what it printed."""
        env = os.environ | {"APT_CONFIG": str(self.work / "apt.conf"), "LC_ALL": "C"}
        # The child inherits the lock: should this process be killed, the lock lasts until apt is gone too.
        process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            pass_fds=[self._lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            while True:
                try:
                    out, _ = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    if watch is not None:
                        watch()
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise self._explain(shlex.join(command), out)
        return out

    def _explain(self, command: str, out: str) -> DebsError:
        problems = [line for line in out.splitlines() if line.startswith(("E:", "Err:"))][-8:]
        hints: tuple[str, ...] = ()
        if re.search(r"No space left|not enough free space", out):
            reason, hints = "the disk is full", ("free some space or set XDG_CACHE_HOME",)
        elif re.search(r"Could not (resolve|connect)|Temporary failure|Cannot initiate|timed out", out):
            reason = "the package mirror cannot be reached (is there a network?)"
        elif "NO_PUBKEY" in out or "not signed" in out:
            reason, hints = "the mirror's signature could not be checked", ("update debian-archive-keyring",)
        elif "Hash Sum mismatch" in out:
            reason, hints = "a package arrived damaged", ("try again",)
        elif match := re.search(r"Unable to locate package (\S+)", out):
            reason = f"the mirror has no package {match[1]}"
        else:
            reason = f"{command.split()[0]} failed"
        return DebsError(reason, *hints, f"`{command}` failed:", *(problems or out.splitlines()[-8:]))

    def update(self) -> None:
        """Fetch the package lists from the first mirror that has the suites."""
        self.progress("reading the package lists", None)
        with self._disk_errors():
            if not self.suites:
                self._configure(None)
                # One broken third-party source must not stop us; what is missing then says so itself.
                with contextlib.suppress(DebsError):
                    self._apt("apt-get", "update", "-q")
                return
            error = DebsError(
                "this machine's apt sources name no Debian mirror", f"set {MIRROR_VARIABLE} to one"
            )
            for mirror in debian_mirrors(self.etc):
                self._configure(mirror)
                try:
                    self._apt("apt-get", "update", "-q", "--error-on=any")
                    return
                except DebsError as problem:
                    error = problem
            raise error

    def depends(self, package: str) -> list[str]:
        """Return the names that ``package`` depends on directly, as apt would choose them."""
        out = self._apt("apt-cache", "depends", "--no-recommends", "--no-suggests", package)
        return re.findall(r"(?m)^ *\|?Depends: ([^<\s]+)$", out)

    def _download(self, packages: Sequence[str], closure: bool, release: str | None) -> list[Path]:
        options = ["-t", release] if release else []
        if closure:
            command = ["apt-get", "install", "-qq", "-y", "--download-only", *options, *packages]
        else:
            command = ["apt-get", "download", "-qq", *options, *packages]
        empty = self.work / "none"
        (empty / "partial").mkdir(parents=True, exist_ok=True)
        # Asked with an empty archive directory, because apt does not list what is there already.
        listing = self._apt(*command, "--print-uris", "-o", f"Dir::Cache::archives={empty}", cwd=empty)
        wanted = re.findall(r"(?m)^'[^']*' (\S+) (\d+)", listing)
        total = sum(int(size) for _, size in wanted)
        archives = self.work / "archives"
        self._refuse_small_disk(total)

        def watch() -> None:
            done = sum(size for size in map(_size, archives.rglob("*.deb")) if size)
            self.progress(
                f"downloading {len(wanted)} packages, {total / 1e6:.0f} MB: {done / 1e6:.0f} MB",
                min(1.0, done / max(1, total)),
            )

        watch()
        self._apt(*command, watch=watch, cwd=archives)
        return [archives / name for name, _ in wanted]

    def _refuse_small_disk(self, download: int) -> None:
        free, need = shutil.disk_usage(self.work).free, download * (UNPACKED + 1)
        if free < need:
            raise DebsError(
                f"the disk is too full ({need / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free)",
                f"free some space under {self.work} or set XDG_CACHE_HOME",
            )

    def fetch(
        self,
        target: Path,
        packages: Sequence[str],
        *,
        closure: bool = True,
        release: str | None = None,
        finish: Callable[[Path], object] = lambda tree: None,
    ) -> Path:
        """Download ``packages``, unpack them and make the tree appear as ``target``, replacing an old one.

        ``closure`` takes all dependencies along, ``release`` is apt's ``-t``. ``finish(tree)`` may prune or
        check the tree before it appears. Interrupted at any moment, ``target`` is whole, or not there.
        """
        for stale in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        debs = self._download(packages, closure, release)
        fresh = target.parent / f".{target.name}.new"
        with self._disk_errors():
            fresh.mkdir(parents=True)
            try:
                self._unpack(debs, fresh)
                finish(fresh)
                if target.exists():
                    target.rename(target.parent / f".{target.name}.old")
                fresh.rename(target)
            finally:
                for stale in target.parent.glob(f".{target.name}.*"):
                    shutil.rmtree(stale, ignore_errors=True)
            for deb in debs:
                deb.unlink(missing_ok=True)
        return target

    def _unpack(self, debs: Iterable[Path], tree: Path) -> None:
        debs = list(debs)
        for number, deb in enumerate(debs):
            self.progress(f"unpacking {len(debs)} packages: {deb.name.split('_')[0]}", number / len(debs))
            done = subprocess.run(
                ["dpkg-deb", "-x", str(deb), str(tree)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                deb.unlink(missing_ok=True)  # damaged: fetched anew the next time
                raise self._explain(f"dpkg-deb -x {deb.name}", done.stderr)
        self.progress(f"unpacking {len(debs)} packages: done", 1.0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # apt renames what is complete
        return 0


def main(argv: Sequence[str]) -> int:
    """``debs.py DIR PACKAGE...``: unpack packages of the machine's own release into DIR, no dependencies."""
    if len(argv) < 2:
        print(f"usage: debs.py DIR PACKAGE...\n{main.__doc__}", file=sys.stderr)
        return 2
    shown = [""]

    def show(text: str, fraction: float | None = None) -> None:
        if (stage := text.partition(":")[0]) != shown[0]:
            print(f"  {stage}", file=sys.stderr, flush=True)
            shown[0] = stage

    try:
        with Debs(cache_home() / "own-release", progress=show) as debs:
            debs.update()
            debs.fetch(Path(argv[0]).resolve(), argv[1:], closure=False)
    except DebsError as error:
        print(f"debs.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
