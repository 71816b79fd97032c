"""Build and run docker/Dockerfile for real on Debian 12, as root, with podman in place of a Docker engine.

``with engine() as podman:`` installs what is missing of the Debian packages and takes the base image from the cache (or
makes it with mmdebstrap). Images stay in a store in the cache, so that only the layers that have changed are built
again. Nothing under /etc is edited: podman's settings are two files in a work folder of its own.

``python -m tests.support.containers`` builds the images of docker/compose.yaml that the suite tests: those that need
not build a CPython; with REFDBG_IMAGES=all every one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

SUITE = "bookworm"
BASE = f"localhost/debian:{SUITE}-slim"  # what `FROM debian:bookworm-slim` resolves to
APT_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
PACKAGES = ("podman", "runc", "mmdebstrap", "podman-compose")
CHECKOUT = Path(__file__).resolve().parents[2]
COMPOSE = CHECKOUT / "docker" / "compose.yaml"
#: The name of this checkout's images, as other checkouts use the same store.
IMAGE = f"refdbg-{hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:8]}"

CONTAINERS_CONF = """\
[containers]
netns = "host"
volumes = [{volumes}]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{store}"
runroot = "{run}"
"""

#: For mmdebstrap's hook, afterwards: the sources themselves must not stay in what it has made.
NO_SOURCES = 'cd "$1" && rm -rf etc/apt/sources.list etc/apt/sources.list.d/*'

#: Folder of the container in which this machine's pip configuration is mounted.
PIP_MOUNT = "/run/host-pip"

#: What a base image needs to be mounted over; made with an empty file or folder each, so no name of a host stays.
MOUNT_POINTS = f"mkdir -p .{PIP_MOUNT} && touch etc/pip.conf .{APT_SOURCES}"


class ContainerError(Exception):
    """A step failed; the message has the end of its output."""


def unavailable() -> str | None:
    """Why no container can be built here, or None."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return "containers are built as root on Linux only"
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        release = ""
    if f"VERSION_CODENAME={SUITE}" not in release or "ID=debian" not in release.splitlines():
        return f"containers are built on Debian {SUITE} only"
    if not APT_SOURCES.is_file():
        return f"no {APT_SOURCES} to make the base image from"
    return None


def cache_folder() -> Path:
    """Where the base image is kept, outside the checkout."""
    own = os.environ.get("REFDBG_CACHE")
    cache = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "refdbg")
    return cache.absolute() / "containers"


def call(argv: Sequence[str], env: dict[str, str] | None = None, timeout: float = 600) -> str:
    """Run a step and return its standard output."""
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=timeout, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise ContainerError(f"{' '.join(argv)}: exit status {done.returncode}\n{tail}")
    return done.stdout


def install_packages() -> None:
    """Install those of the three tools that are missing."""
    missing = [package for package in PACKAGES if shutil.which(package) is None]
    if not missing:
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get of the same make may be at work.
    install = ["apt-get", "install", "--option=DPkg::Lock::Timeout=600", "-y", "--no-install-recommends", *missing]
    try:
        call(install, env)
    except ContainerError:  # no package lists yet, or old ones
        call(["apt-get", "update"], env)
        call(install, env)


def bootstrap(suite: str, target: Path, sources: Path, *options: str, work: str) -> None:
    """Make a minimal Debian with mmdebstrap. *target*: a tarball or a folder; *work*: for what it makes meanwhile."""
    call(["mmdebstrap", "--mode=root", "--variant=minbase", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
          *options, suite, str(target), str(sources)],
         {**os.environ, "TMPDIR": work})


def base_tarball() -> Path:
    """The base image's files as a tarball, made when it is missing or the machine's apt sources have changed."""
    recipe = "\n".join([SUITE, os.uname().machine, MOUNT_POINTS, APT_SOURCES.read_text(encoding="utf-8")])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    tarball = cache_folder() / f"debian-{SUITE}-{key}.tar.gz"
    if tarball.exists():
        return tarball
    tarball.parent.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30
    with tempfile.TemporaryDirectory(prefix="mmdebstrap-", dir=memory if roomy else tarball.parent) as folder:
        made = Path(folder, "base.tar.gz")
        made.parent.chmod(0o755)  # apt's own user looks in
        bootstrap(SUITE, made, APT_SOURCES, "--include=usr-is-merged",
                  f"--customize-hook={NO_SOURCES} && {MOUNT_POINTS}", work=folder)
        part = tarball.with_name(f"{tarball.name}.{os.getpid()}")
        shutil.copyfile(made, part)
        part.replace(tarball)  # two test runs at once do no harm
    return tarball


def pip_settings() -> list[tuple[str, str]]:
    """This machine's pip configuration as (option, value); of an option set twice, the one that counts is last."""
    output = call([sys.executable, "-m", "pip", "config", "list"])
    settings: list[tuple[int, str, str]] = []
    for line in output.splitlines():
        name, equals, value = line.partition("=")
        section, dot, option = name.strip().rpartition(".")
        if equals and dot and section in ("global", "install", ":env:"):
            rank = ("global", "install", ":env:").index(section)
            settings.append((rank, option, value.strip()[1:-1]))
    return [(option, value) for _rank, option, value in sorted(settings)]


def write_pip_configuration(work: Path, settings: Sequence[tuple[str, str]]) -> list[str]:
    """Write pip.conf for the container and return the volumes it needs.

    Certificates and constraints are copied, folders of packages are mounted below PIP_MOUNT; anything that is no path
    (an index, a timeout) goes in as it is.
    """
    copies = work / "pip"
    copies.mkdir()
    options: dict[str, str] = {}
    folders: list[str] = []

    def inside(location: str) -> str:
        """The location as the container sees it."""
        url = urlsplit(location)
        path = Path(unquote(url.path)) if url.scheme == "file" else Path(location)
        if url.scheme not in ("", "file"):
            return location
        if path.is_dir():
            # an index's pages have links to files beside it
            top = path.parent if url.scheme == "file" and path.parent != Path("/") else path
            if str(top) not in folders:
                folders.append(str(top))
                (copies / str(folders.index(str(top)))).mkdir()
            path = Path(PIP_MOUNT, str(folders.index(str(top))), path.relative_to(top))
        elif path.is_file():
            copied = f"{len(list(copies.iterdir()))}-{path.name}"
            shutil.copyfile(path, copies / copied)
            path = Path(PIP_MOUNT, copied)
        else:
            return ""
        return path.as_uri() if url.scheme == "file" else str(path)

    for option, value in settings:
        if option in ("cert", "client-cert", "constraint", "find-links", "index-url", "extra-index-url"):
            value = " ".join(filter(None, map(inside, value.replace("\\n", " ").split())))
        elif option not in ("trusted-host", "no-index", "timeout", "default-timeout", "retries", "proxy"):
            continue
        if value:
            options[option] = value
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    if "cert" not in options and system.is_file():
        options["cert"] = inside(str(system))
    text = "[global]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
    (work / "pip.conf").write_text(text, encoding="utf-8")
    return [f"{work}/pip.conf:/etc/pip.conf:ro", f"{copies}:{PIP_MOUNT}:ro",
            *(f"{folder}:{PIP_MOUNT}/{number}:ro" for number, folder in enumerate(folders))]


@dataclass(frozen=True)
class Podman:
    """A podman with a store of its own. *work*: for its settings, and what it needs meanwhile."""

    store: Path
    work: Path

    @property
    def run(self) -> Path:
        """Where it keeps the state of running containers.

        `podman container cleanup` refuses a path of more than 50 characters; each `podman run` would wait 20 s for it.
        """
        return Path("/run", f"refdbg-{self.store.name}")

    @property
    def env(self) -> dict[str, str]:
        """What every call of this podman needs, also one by docker/triage."""
        return {**os.environ, "CONTAINERS_CONF": f"{self.work}/containers.conf", "TMPDIR": f"{self.work}/tmp",
                "CONTAINERS_STORAGE_CONF": f"{self.work}/storage.conf", "BUILDAH_ISOLATION": "chroot",
                "BUILDAH_FORMAT": "docker"}

    def __call__(self, *arguments: str, timeout: float = 600) -> str:
        return call(["podman", *arguments], self.env, timeout)

    def configure(self) -> None:
        """Write the settings into the empty work folder."""
        (self.work / "tmp").mkdir()
        volumes = [*write_pip_configuration(self.work, pip_settings()), f"{APT_SOURCES}:{APT_SOURCES}:ro"]
        quoted = ", ".join(f'"{volume}"' for volume in volumes)
        (self.work / "containers.conf").write_text(CONTAINERS_CONF.format(volumes=quoted), encoding="utf-8")
        (self.work / "storage.conf").write_text(STORAGE_CONF.format(store=self.store, run=self.run), encoding="utf-8")

    def identity(self, image: str) -> str | None:
        """The id of the image that has this name."""
        return self("image", "ls", "--quiet", "--no-trunc", "--filter", f"reference={image}").strip() or None

    def build(self, tag: str, *options: str) -> None:
        """Build docker/Dockerfile."""
        with self.replacing(tag):
            self("build", "--pull=never", "-f", str(CHECKOUT / "docker" / "Dockerfile"), "-t", f"localhost/{tag}",
                 *options, str(CHECKOUT), timeout=3600)

    def compose(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run podman-compose with docker/compose.yaml."""
        return subprocess.run(
            ["podman-compose", "-p", IMAGE, "-f", str(COMPOSE), *arguments], text=True, stdin=subprocess.DEVNULL,
            env={**self.env, "REFDBG_IMAGE": f"localhost/{IMAGE}", **env}, capture_output=True, check=False,
            timeout=3600,
        )  # fmt: skip

    @contextlib.contextmanager
    def replacing(self, *tags: str) -> Iterator[None]:
        """Remove the images that had these tags, if others have them afterwards."""
        before = {tag: self.identity(tag) for tag in tags}
        yield
        for tag, old in before.items():
            if old and self.identity(tag) != old:
                with contextlib.suppress(ContainerError):  # another checkout has the same one
                    self("rmi", old)

    def clean(self) -> None:
        """Remove containers and mounts that were left, by others too: to be called when nobody else uses the store."""
        with contextlib.suppress(ContainerError, subprocess.TimeoutExpired):
            self("rm", "-fa", timeout=120)
        for folder in self.run, self.store:
            for mounted in reversed(mounts_below(folder)):
                subprocess.run(["umount", mounted], stderr=subprocess.DEVNULL, check=False)


def mounts_below(folder: Path) -> list[str]:
    """The mount points below a folder, in the order in which they were mounted."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(f"{folder}/"):
            found.append(point)
    return found


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Whether nobody else holds this lock, which is held meanwhile."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def engine() -> Iterator[Podman]:
    """A podman that has the base image. Its images outlive it; containers and mounts do not."""
    install_packages()
    tarball = base_tarball()
    store = tarball.with_name(f"store-{tarball.name.partition('.')[0].rpartition('-')[2]}")
    lock = store.with_suffix(".lock")
    with tempfile.TemporaryDirectory(prefix="podman-", dir=tarball.parent) as work:
        podman = Podman(store, Path(work))
        podman.configure()
        with alone(lock) as first:
            if first:
                podman.clean()  # after a run that was killed
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if podman.identity(BASE) is None:
                podman("import", "--change", 'CMD ["bash"]', str(tarball), BASE)
            yield podman
        with alone(lock) as last:
            if last:
                podman.clean()


def services() -> dict[str, Any]:
    """The services of docker/compose.yaml by name."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def matrix() -> dict[str, Any]:
    """Those that are tested: of which the suite has the CPython as a package.

    With REFDBG_IMAGES=all in the environment the others, too: each builds its CPython, which takes many minutes.
    """
    every = os.environ.get("REFDBG_IMAGES") == "all"
    return {name: each for name, each in services().items() if every or "SOURCE" not in each["build"]["args"]}


def build_matrix(podman: Podman) -> None:
    """Build the images of the `matrix`, in the place of this checkout's last ones."""
    podman.build(f"{IMAGE}:refdbg", "--target", "refdbg")  # has a name so that what takes its place removes it
    with podman.replacing(*podman("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", IMAGE).split()):
        built = podman.compose("build", *matrix())
    if built.returncode:
        raise ContainerError("\n".join((built.stdout + built.stderr).splitlines()[-30:]))


def main() -> None:
    """Build what the tests will run."""
    reason = unavailable()
    if reason:
        raise ContainerError(reason)
    with engine() as podman:
        build_matrix(podman)


if __name__ == "__main__":
    try:
        main()
    except ContainerError as error:
        sys.exit(f"no images: {error}")
