"""A Chromium for the tests: the one on PATH, else Debian's, fetched into the cache without root.

The fetched copy is relocatable: its own loader starts it with its own libraries and fonts, so it runs on
any x86-64 Linux. ``python chromium.py`` fetches it with progress (217 MB) and prints how to start it.
"""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from workbench.vm.debs import Debs, DebsError, Progress, cache_home, silent

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu-core")
SUITE = "trixie"
#: A tree fetched by an incompatible version of this file is fetched anew.
TREE = "chromium-1"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
)  # fmt: skip
#: Without sandbox and GPU nothing needs these: Mesa's drivers and what they compile with.
UNUSED = ("libLLVM*", "libgallium*", "libz3*")

# The loader is copied beside the program because Chromium looks for its data beside /proc/self/exe. For the
# same reason its children cannot be started as /proc/self/exe, which would be the bare loader.
START = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
lib=$here/usr/lib/x86_64-linux-gnu
export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/usr/lib/chromium/loader" --library-path "$here/usr/lib/chromium:$lib:$lib/pulseaudio" \\
    "$here/usr/lib/chromium/chromium" {options}"$@"
"""
TOP_OPTIONS = '--no-zygote "--browser-subprocess-path=$here/child" '
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


def probe(path: Path | str) -> str | None:
    """Return the version of the browser at ``path`` if it starts here, else None."""
    if "/snap/" in str(Path(path).resolve()) or Path(path).resolve().name == "snap":
        return None  # confined: it sees neither the profile nor the pipe that drives it
    try:
        done = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"Chrom\w+ (\d[\d.]+)", done.stdout)
    return match[1] if match and not done.returncode else None


def find() -> Path | None:
    """Return a usable browser that is there already: the system's, else the fetched one, else None."""
    on_path = (shutil.which(name) for name in NAMES)
    for path in [*filter(None, on_path), cache_home() / TREE / "start"]:
        if probe(path):
            return Path(path)
    return None


def fetch(progress: Progress = silent) -> Path:
    """Return a browser, fetching it if there is none. Raises DebsError that says what to do."""
    if found := find():
        return found
    if platform.machine() != "x86_64":
        raise DebsError(f"the browser kit is for x86-64, this is {platform.machine()}: install chromium")
    with Debs(cache_home() / "debs", (SUITE,), progress) as debs:
        if found := find():  # another process may have fetched while we waited
            return found
        debs.update()
        debs.fetch(cache_home() / TREE, PACKAGES, finish=_finish)
    return cache_home() / TREE / "start"


def _finish(tree: Path) -> None:
    """Make an unpacked tree start, drop what it does not need, and refuse one that shows no page."""
    for name in ("doc", "man", "locale", "icons"):
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)
    for pattern in UNUSED:
        for path in (tree / "usr/lib/x86_64-linux-gnu").glob(pattern):
            path.unlink()
    program = tree / "usr/lib/chromium"
    shutil.copy(next(tree.glob("usr/lib*/**/ld-linux-x86-64.so.2")).resolve(), program / "loader")
    (tree / "fonts.conf").write_text(FONTS)
    for name, options in (("start", TOP_OPTIONS), ("child", "")):
        (tree / name).write_text(START.format(options=options))
        (tree / name).chmod(0o755)
    page = "data:text/html,<p id=here>shown</p>"
    show = [str(tree / "start"), "--headless", *FLAGS, "--dump-dom", page]
    done = subprocess.run(show, capture_output=True, text=True, timeout=60, check=False)
    if "shown" not in done.stdout:
        raise DebsError(f"the fetched Chromium does not run here:\n{done.stderr[-2000:]}")


def main() -> int:
    """Fetch a browser unless there is one; print where it is."""
    from workbench.vm.progress import Progress as Shown

    progress = Shown()
    try:
        path = fetch(progress)
    except DebsError as error:
        progress.done()
        print(f"no browser for the tests: {error}", file=sys.stderr)
        return 1
    progress.done()
    print(f"Chromium {probe(path)} is at {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
