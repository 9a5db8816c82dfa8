"""Make the virtual environment of a fresh checkout: ``python3 bootstrap.py VENV``, from the top directory.

For machines with python3 and a C compiler only: where python3-venv is missing, pip comes from Debian's wheel
package; where Python.h is missing, it comes from the -dev package. ``debs.py`` fetches both, without root.
Standard library only; run as a script, before anything is installed.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = "lab,vm,data,test"
# From 4.25 on, jsonschema compiles 38 grammars whenever it is imported (rfc3987-syntax): more than a second
# of JupyterLab's start and of each process that reads notebooks. What checks an IRI is not needed here.
CONSTRAINTS = "jsonschema<4.25\n"
VERSION = "{}.{}".format(*sys.version_info)


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Run a command; end this program with one line if it fails."""
    done = subprocess.run([str(word) for word in command], env=env, check=False)
    if done.returncode:
        sys.exit(f"setup: `{' '.join(str(word) for word in command)}` failed")


def debian(target: Path, package: str) -> Path:
    """Return the directory with the unpacked Debian ``package``, fetching it once."""
    if not target.is_dir():
        say(f"fetching {package} from this machine's package mirror")
        run([sys.executable, HERE / "debs.py", target, package])
    return target


def say(text: str) -> None:
    """Show one step."""
    print(f"setup: {text}", flush=True)


def has(module: str) -> bool:
    """Say whether this Python has ``module``: Debian splits ensurepip off."""
    return (
        subprocess.run(
            [sys.executable, "-c", f"import {module}"], capture_output=True, check=False
        ).returncode
        == 0
    )


def make_venv(venv: Path) -> None:
    """Create ``venv`` with pip in it, whatever this Python comes with."""
    python = venv / "bin/python"
    if (
        python.exists()
        and subprocess.run([python, "-m", "pip", "-V"], capture_output=True, check=False).returncode == 0
    ):
        return
    say(f"creating {venv}")
    if has("ensurepip") and has("venv"):
        run([sys.executable, "-m", "venv", "--clear", venv])
        return
    if not has("venv"):
        sys.exit("setup: this Python has no venv module: install python3-venv")
    run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv])
    tree = debian(venv / "debian/pip", "python3-pip-whl")
    wheel = next(tree.glob("usr/share/python-wheels/pip-*.whl"), None)
    if wheel is None:
        sys.exit("setup: python3-pip-whl has no wheel of pip in it: install python3-venv")
    # A wheel is importable as it is: so pip installs itself.
    run([python, wheel / "pip", "install", "--quiet", "--no-index", wheel])


def compile_flags(venv: Path) -> dict[str, str]:
    """Return the environment for the compiler; where Python.h is missing it says where a fetched one is."""
    if (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return dict(os.environ)
    include = debian(venv / "debian/headers", f"libpython{VERSION}-dev") / "usr/include"
    # pyconfig.h includes its twin by a path that starts with the architecture's name.
    where = (include / f"python{VERSION}", include)
    flags = " ".join(shlex.quote(f"-I{path.resolve()}") for path in where)
    return dict(os.environ) | {"CFLAGS": f"{flags} {os.environ.get('CFLAGS', '')}".strip()}


def main(argv: Sequence[str]) -> None:
    """Set up the environment named in ``argv`` and install the checkout into it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs before pip could refuse
        sys.exit(f"setup: Python 3.11 or newer is needed, this is {VERSION}")
    venv = Path(argv[0] if argv else ".venv")
    make_venv(venv)
    env = compile_flags(venv)
    say(f"installing the checkout with [{EXTRAS}] into {venv}; the first time this takes minutes")
    limits = venv / "constraints.txt"
    limits.write_text(CONSTRAINTS)
    pip: list[str | Path] = [venv / "bin/python", "-m", "pip", "install", "--progress-bar", "on"]
    run([*pip, "-c", limits, "-e", f".[{EXTRAS}]"], env)


if __name__ == "__main__":
    main(sys.argv[1:])
