"""A folder with Debian sid's debug builds of the newest CPythons and its debuggers, entered with chroot.

``python -m tests.support.sid`` makes it (about 80 s, 0.8 GB below REFDBG_CACHE) or does nothing when it is there.
``[*inside(root), "gdb", …]`` runs a program in it. Nothing stays mounted: the mounts are that program's.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
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
ENTER = """\
set -e
root=$1
bind() { mkdir -p "$root$1"; mount --bind "$1" "$root$1"; }
bind /dev
[ ! -d /dev/pts ] || bind /dev/pts  # lldb starts programs on a terminal of its own
bind /proc
bind "$2"
bind "$3"
shift 3
PATH=/usr/bin:/bin exec "$(command -v chroot)" "$root" "$@"
"""


def sources() -> str:
    """The suite's apt source, in the archive that this machine uses."""
    uris = re.search(r"^URIs:.*$", APT_SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    signed = re.search(r"^Signed-By:.*$", APT_SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    if uris is None:
        raise ContainerError(f"{APT_SOURCES} names no archive (URIs:)")
    lines = ["Types: deb", uris.group(), f"Suites: {SUITE}", "Components: main", *([signed.group()] if signed else [])]
    return "".join(f"{line}\n" for line in lines)


def recipe() -> list[str]:
    """The options of mmdebstrap that say what is in the root."""
    return [f"--include={','.join(PACKAGES)}", f"--customize-hook={NO_SOURCES}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNUSED)]


def place() -> Path:
    """The folder of the root that this recipe makes."""
    key = hashlib.sha256("\n".join([*recipe(), sources(), os.uname().machine]).encode()).hexdigest()[:16]
    return cache_folder() / f"debian-{SUITE}-{key}"


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
        bootstrap(SUITE, made, source, *recipe(),
                  '--aptopt=APT::Sandbox::User "root"',  # its own user may not enter a home directory
                  f'--aptopt=Acquire::Check-Valid-Until "{checks_age()}"', work=folder)
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


def inside(root: Path) -> list[str]:
    """What to put before a command line to run it in the root, with this environment.

    The checkout and the folder of temporary files are where they are here.
    """
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    return ["unshare", "--mount", "--propagation", "private", "env", f"PATH={path}", "sh", "-c", ENTER, "enter",
            str(root), str(CHECKOUT), tempfile.gettempdir()]


if __name__ == "__main__":
    try:
        print(provide())
    except ContainerError as error:
        sys.exit(f"no root of Debian {SUITE}: {error}")
