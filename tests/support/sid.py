"""A folder with Debian sid's debug builds of the newest CPythons and its debuggers, entered with chroot.

``python -m tests.support.sid`` makes it (about 100 s, 1 GB below REFDBG_CACHE) or does nothing when it is there.
``command(["gdb", …], results)`` is the command line that runs a program inside. Nothing stays mounted: the mounts
belong to the program.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.containers import (
    APT_SOURCES,
    CHECKOUT,
    NO_SOURCES,
    ContainerError,
    bootstrap,
    cache_folder,
    install_packages,
    unavailable,
)

SUITE = "sid"
PYTHONS = ("python3.14-dbg", "python3.15-dbg")
PACKAGES = ("usr-is-merged", *PYTHONS, "gdb", "lldb")
UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/lib/*.a")
INSIDE = "/refdbg"  # the checkout
RESULTS = "/results"  # a folder of the test
MOUNT_POINTS = f"mkdir .{INSIDE} .{RESULTS}"
ENTER = f"""\
set -e
mount --bind /dev "$1/dev"
mount --bind /proc "$1/proc"
mount --bind "$2" "$1{INSIDE}"
mount --bind "$3" "$1{RESULTS}"
root=$1
shift 3
exec chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 XDG_CACHE_HOME={RESULTS} "$@"
"""


def sources() -> str:
    """The suite's apt source, in the archive that this machine uses."""
    uris = re.search(r"^URIs:.*$", APT_SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    signed = re.search(r"^Signed-By:.*$", APT_SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    if uris is None:
        raise ContainerError(f"{APT_SOURCES} names no archive (URIs:)")
    lines = ["Types: deb", uris.group(), f"Suites: {SUITE}", "Components: main", *([signed.group()] if signed else [])]
    return "".join(f"{line}\n" for line in lines)


def place() -> Path:
    """The folder of the root that this script makes; another list of packages has another one."""
    recipe = Path(__file__).read_bytes() + os.uname().machine.encode() + sources().encode()
    return cache_folder() / f"debian-{SUITE}-{hashlib.sha256(recipe).hexdigest()[:16]}"


def provide() -> Path:
    """The root, made when it is missing. Raises ContainerError when it cannot be made here."""
    reason = unavailable()
    if reason:
        raise ContainerError(reason)
    root = place()
    if root.exists():
        return root
    install_packages()
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmdebstrap-", dir=root.parent) as folder:
        made, source = Path(folder, "root"), Path(folder, f"{SUITE}.sources")
        source.write_text(sources(), encoding="utf-8")
        bootstrap(SUITE, made, source, f"--include={','.join(PACKAGES)}",
                  f"--customize-hook={NO_SOURCES} && {MOUNT_POINTS}",
                  '--aptopt=APT::Sandbox::User "root"',  # its own user may not enter a home directory
                  f'--aptopt=Acquire::Check-Valid-Until "{checks_age()}"',
                  *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNUSED), work=folder)
        try:
            made.rename(root)
        except OSError:
            if not root.exists():  # two runs at once do no harm
                raise
    return root


def checks_age() -> str:
    """Whether this machine's apt refuses the lists of an archive that lags behind, which the root's must not undo."""
    done = subprocess.run(["apt-config", "shell", "value", "Acquire::Check-Valid-Until"], text=True,
                          stdout=subprocess.PIPE, check=False)
    return "false" if "false" in done.stdout else "true"


def command(program: Sequence[str], results: Path, root: Path) -> list[str]:
    """The command line that runs *program* in the root: the checkout is INSIDE there, the folder *results* RESULTS."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "enter", str(root), str(CHECKOUT),
            str(results), *program]


def refdbg_run(*arguments: str) -> list[str]:
    """The command line of refdbg-run in the root."""
    code = f"import sys; sys.path.insert(0, {INSIDE!r}); from refdbg.launch.run import main; main()"
    return ["python3", "-c", code, *arguments]


if __name__ == "__main__":
    try:
        print(provide())
    except ContainerError as error:
        sys.exit(f"no root of Debian {SUITE}: {error}")
