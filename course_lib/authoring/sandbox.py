"""Runs untrusted code, which can only access its own temporary folder.

    process = start(["python", "/task/script.py"], readable={"/task": folder})

It uses namespaces of the Linux kernel. The process has no network and sees no other process. Its
root is a new, empty file system, in which only the named folders are mounted, read-only. There are
limits on memory, time, files and processes. `faults` tests all of this on this machine and says
what is not enforced.

This file is also the program that sets up the namespaces from inside: `unshare` starts it, and it
mounts the folders, drops all privileges and becomes the command.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

NOBODY = 65534
MOUNT = dict(
    RDONLY=1, NOSUID=2, NODEV=4, NOEXEC=8, REMOUNT=32, NOATIME=1024, NODIRATIME=2048,
    BIND=4096, REC=16384, PRIVATE=1 << 18, RELATIME=1 << 21,
)  # fmt: skip
DETACH, NO_NEW_PRIVS, DROP_BOUNDING = 2, 38, 24
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
LIMITS = {  # of a process
    "DATA": 4 << 30,  # bytes of memory
    "FSIZE": 50 << 20,  # bytes in a file
    "NPROC": 64,  # processes and threads
    "NOFILE": 256,
    "CORE": 0,
}
TEMPORARY = "64m"  # size of the temporary folder


# ---- from outside ------------------------------------------------------------------------------


def start(
    command: Sequence[str],
    readable: Mapping[str, Path] | None = None,
    hidden: Iterable[Path] = (),
    cpu_seconds: int = 600,
    environment: dict[str, str] | None = None,
    confined: bool = True,
) -> subprocess.Popen:
    """Start the command with its standard output as a pipe.

    readable: what it may read besides Python and the system's libraries: its path for a folder or
        file, and where that is on this machine.
    hidden: folders that it must not read, even if Python's folder contains them.
    confined: False for trusted code; then only the time is limited.
    """
    spec = {
        "command": list(map(str, command)),
        "readable": {str(each): str(each) for each in python_folders()}
        | {target: str(source) for target, source in (readable or {}).items()},
        "hidden": list(map(str, hidden)),
        "limits": LIMITS | {"CPU": cpu_seconds},
        "environment": {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **(environment or {})},
        "confined": confined,
    }
    own = [sys.executable, "-I", __file__, json.dumps(spec)]
    return subprocess.Popen(
        [*namespaces(), *own] if confined else own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: subprocess.Popen) -> None:
    """Kill it completely. When a namespace's first process dies, the kernel kills the others."""
    import psutil  # imported here, because the part inside only has the standard library

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.kill()
    process.wait()
    process.stdout.close()


def namespaces() -> list[str]:
    """The command that makes namespaces; an ordinary user also needs a user namespace."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    own = ["--mount", "--net", "--pid", "--ipc", "--uts"]
    return ["unshare", *user, *own, "--fork", "--kill-child", "--"]


def python_folders() -> list[Path]:
    """Where this Python and its packages are."""
    real = Path(os.path.realpath(sys.executable)).parents[1]
    folders = sorted({Path(sys.prefix), Path(sys.base_prefix), real} - {Path("/usr")})
    return [f for f in folders if not any(f.is_relative_to(g) for g in folders if g != f)]


# ---- does it work on this machine? -------------------------------------------------------------

PROBE = """
import json, os, socket, sys
secret, outside = sys.argv[1:]
found = []
def expect_refusal(what, action):
    try:
        action()
    except (OSError, MemoryError):
        return
    found.append(what)
def write(path):
    with open(path, "w") as file:
        file.write("x")
def fork():
    for _ in range(200):
        if os.fork() == 0:
            import time
            time.sleep(30)
            os._exit(0)
def connect():
    socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=2)
expect_refusal("reading outside its folder", lambda: open(secret).read())
expect_refusal("writing outside its folder", lambda: write(outside))
expect_refusal("using the network", connect)
expect_refusal("using much memory", lambda: bytearray(5 << 30))
expect_refusal("writing large files", lambda: open("/tmp/large", "wb").write(bytes(80 << 20)))
expect_refusal("starting many processes", fork)
write("/tmp/own")
print(json.dumps(found), flush=True)
"""


def faults() -> list[str]:
    """What this machine doesn't enforce; [] if it can run untrusted code."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        return ["it needs Linux and the command unshare (util-linux)"]
    import socket

    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret = Path(folder, "secret")
        secret.write_text("x")
        port = {"PORT": str(server.getsockname()[1])}
        command = [sys.executable, "-I", "-c", PROBE, str(secret), f"{folder}/outside"]
        process = start(command, environment=port)
        try:
            said, _ = process.communicate(timeout=60)
            return [f"it doesn't refuse {what}" for what in json.loads(said)]
        except (ValueError, subprocess.TimeoutExpired):
            return ["the kernel refuses the namespaces that it needs"]
        finally:
            stop(process)


# ---- from inside -------------------------------------------------------------------------------


def become(spec: dict) -> None:
    """Prepare this process, which is alone in its namespaces, and turn it into the command."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file too large is then an OSError
    with suppress(OSError):  # if memory runs out, the kernel kills this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    if spec["confined"]:
        new_root(spec["readable"], spec["hidden"])
    limits = spec["limits"] if spec["confined"] else {"CPU": spec["limits"]["CPU"]}
    for name, limit in limits.items():
        _, most = resource.getrlimit(kind := getattr(resource, f"RLIMIT_{name}"))
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))
    if spec["confined"]:
        drop_privileges()
    os.execve(spec["command"][0], spec["command"], spec["environment"])


def new_root(readable: Mapping[str, str], hidden: Sequence[str]) -> None:
    """Replace the file system by one with these folders, read-only, and /tmp."""
    mount(None, "/", flags="REC PRIVATE")
    root = "/tmp"  # in the new mount namespace; other processes don't see what is mounted there
    sources = {target: os.open(path, os.O_PATH) for target, path in readable.items()}
    mount("tmpfs", root, "tmpfs", "NOSUID NODEV", "size=16m,mode=755")
    for path, options in (("/tmp", f"size={TEMPORARY},mode=1777"), ("/dev/shm", "size=16m")):
        os.makedirs(root + path)
        mount("tmpfs", root + path, "tmpfs", "NOSUID NODEV", options)
    for path in SYSTEM:
        if os.path.islink(path):  # /lib -> usr/lib
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            bind(path, root + path)
    for target, source in sources.items():
        bind(f"/proc/self/fd/{source}", root + target)
        os.close(source)
    for path in DEVICES:
        bind(path, root + path, "NOSUID NOEXEC")
    for path in hidden:
        if os.path.isdir(root + path):
            mount("tmpfs", root + path, "tmpfs", "RDONLY NOSUID NODEV", "size=4k,mode=755")
    os.makedirs(f"{root}/proc")
    mount("proc", f"{root}/proc", "proc", "NOSUID NODEV NOEXEC")
    os.makedirs(f"{root}/old")
    os.chdir(root)
    if LIBC.syscall(PIVOT_ROOT[os.uname().machine], b".", b"old"):
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    if LIBC.umount2(b"/old", DETACH):
        raise OSError(ctypes.get_errno(), "umount")
    os.rmdir("/old")
    mount(None, "/", flags="REMOUNT BIND RDONLY NOSUID NODEV")
    os.chdir("/tmp")


def bind(source: str, target: str, options: str = "NOSUID NODEV") -> None:
    """Mount a folder or file a second time, read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT))
    mount(source, target, flags="BIND REC")
    flags = os.statvfs(target).f_flag  # flags that a user may not be allowed to remove
    kept = {name for name in ("NOSUID", "NODEV", "NOEXEC") if flags & getattr(os, f"ST_{name}")}
    kept |= {"NOATIME"} if flags & os.ST_NOATIME else {"RELATIME"}
    kept |= {"NODIRATIME"} if flags & os.ST_NODIRATIME else set()
    mount(None, target, flags=" ".join({*options.split(), *kept, "REMOUNT", "BIND", "RDONLY"}))


def mount(
    source: str | None, target: str, kind: str | None = None, flags: str = "", data: str = ""
) -> None:
    names = [each and each.encode() for each in (source, target, kind)]
    bits = sum(MOUNT[flag] for flag in set(flags.split()))
    if LIBC.mount(*names, ctypes.c_ulong(bits), data.encode() or None):
        error = ctypes.get_errno()
        raise OSError(error, f"mount {target}: {os.strerror(error)}")


def drop_privileges() -> None:
    """Drop all groups and capabilities for good; as root, also switch to another user."""
    LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        LIBC.prctl(DROP_BOUNDING, capability, 0, 0, 0)
    if is_real_root():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    LIBC.capset(header, (ctypes.c_uint32 * 6)())


def is_real_root() -> bool:
    """Whether this is the machine's root, not the root of a user namespace."""
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", "4294967295"]


if __name__ == "__main__":
    LIBC = ctypes.CDLL(None, use_errno=True)
    become(json.loads(sys.argv[1]))
