"""What an agent's process may see and use: the plan that the launcher carries out, and which layers this machine gives.

An agent sees everything world-readable but the nodes' folders, writes only into its private folder, and reaches no process
but its own. Several layers hold that, each by itself; what a machine does not give is missing from ``layers``:

``own-uid``          root only: a uid that nothing else has, derived from the agent's id
``user-namespace``   not root: the way to the two below
``mount-namespace``  hidden folders are covered; an interpreter in a closed home folder is shown all the same
``pid-namespace``    it sees and reaches its own processes only, and none survives it
``landlock``         reading and writing by rules of the kernel, signals to others refused (ABI 6)
``seccomp``          no Unix sockets (the user's session bus), no system call that is a door into other processes or the kernel
``cgroup-memory``, ``cgroup-cpu``, ``cgroup-pids``: what it and all it starts use together is bounded; without the first each process
                     by itself is (``rlimits``), without the second nothing holds ``resources.cpu``
``rlimits``, ``no-new-privs``, ``clean-environment``: always
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

import meshos
from meshos.adapters.onprem import cgroups
from meshos.adapters.onprem import limits as bounds
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId
from meshos.protocols.tasks.agent_file import Resources

FIRST_UID, UIDS = 1_900_000_000, 1 << 20
"""A range that systemd's list of uids leaves unused (systemd.io/UIDS-GIDS), large enough that two agents seldom share one."""

ALWAYS = ("rlimits", "no-new-privs", "clean-environment")
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine gives: found once by ``probe``."""

    root: bool
    layers: tuple[str, ...]
    landlock_abi: int
    groups: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """For each usable controller the folder that its groups are made in, and its version."""
    group: str = ""
    """What the names of this node's groups begin with."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the launcher needs; its JSON goes through a pipe, so that no token stands in a command line."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    folder: str
    uid: int
    layers: tuple[str, ...]
    hidden: tuple[str, ...]
    needed: tuple[str, ...]
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...]
    limits: Mapping[str, int]
    groups: Mapping[str, tuple[str, int]]
    group: str
    bounds: Mapping[str, int]
    """Of the control group; the arguments of ``cgroups.Group.bound``."""
    start_cpu_millis: int
    label: str = ""
    """For whom it is, to be seen in a list of processes."""

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, default=list).encode() + b"\n"

    def group_of(self, launcher: int) -> cgroups.Group:
        """The control group that the launcher of this process id has made."""
        return cgroups.Group({name: cgroups.Place(*place) for name, place in self.groups.items()}, f"{self.group}{launcher}")


def launcher_command(control: int, status: int, label: str = "") -> list[str]:
    """How the launcher is started: isolated, without site-packages, from wherever this package lies; it inherits two pipes.

    ``label`` does nothing; it says in a list of processes for whom this one is.
    """
    root = str(Path(meshos.__file__).resolve().parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from meshos.adapters.onprem.launch import main; main({control}, {status})"
    return [sys.executable, "-I", "-S", "-c", code, label]


def agent_uid(agent: AgentId) -> int:
    """The uid of an agent, the same on every start."""
    return FIRST_UID + int.from_bytes(hashlib.sha256(b"meshos/agent-uid/1\0" + agent.encode()).digest()[:8], "big") % UIDS


async def probe(folder: Path) -> Host:
    """Try each layer in a process of its own. ``folder`` is the one that private folders lie in; it exists."""
    group = f"meshos-{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:12]}-"
    question = json.dumps({"probe": True, "uid": FIRST_UID, "folder": str(folder), "group": group}).encode() + b"\n"
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        os.write(control_write, question)
        run = partial(trio.run_process, stdin=subprocess.DEVNULL, capture_stderr=True, check=False, pass_fds=(control_read, status_write))
        done = await run(launcher_command(control_read, status_write), env={})
        os.close(status_write)
        status_write = -1
        answer = json.loads(os.read(status_read, 65536) or b"{}")
    finally:
        for fd in (control_read, control_write, status_read, status_write):
            if fd >= 0:
                os.close(fd)
    if "layers" not in answer:
        raise Refused("sandbox-broken", f"the launcher of agents does not run here: {bytes(done.stderr or b'')[-200:]!r}")
    groups = {name: (str(place), int(version)) for name, (place, version) in answer["groups"].items()}
    return Host(os.geteuid() == 0, tuple(answer["layers"]), int(answer["landlock_abi"]), groups, group)


def make_plan(
    host: Host,
    agent: AgentId,
    command: tuple[str, ...],
    variables: Mapping[str, str],
    *,
    folder: Path,
    private: Path,
    hidden: tuple[Path, ...],
    resources: Resources,
) -> Plan:
    """The plan for one replica. Makes its private folder (``home``: writable, ``inbox``: files sent along).

    Raises Refused: ``agent-not-here`` (no such program or folder), ``sandbox-too-weak`` (root, but no way to stop being it).
    """
    uid = agent_uid(agent)
    folder, private = folder.resolve(), private.resolve()
    if not folder.is_dir():
        raise Refused("agent-not-here", f"the agent's folder {folder} is not on this machine", hint="deploy it from where its file lies")
    if any(folder == path or path in folder.parents for path in hidden):
        raise BadInput("bad-runtime", f"the agent's folder {folder} lies in a node's folder", hint="keep agents elsewhere")
    layers = host.layers
    if host.root and "own-uid" not in layers:
        raise Refused("sandbox-too-weak", "this node runs as root and cannot give agents another uid", hint="run it as an ordinary user")
    program = find_program(command[0], folder)
    home, inbox = _make_private(private, uid if "own-uid" in layers else None)
    needed = _needed(program, folder, private)
    veiled = [str(path) for path in hidden]
    if "own-uid" in layers:
        closed = sorted({ancestor for path in needed for ancestor in _closed_ancestors(path, uid)})
        if closed and "mount-namespace" not in layers:
            raise Refused("sandbox-too-weak", f"an agent's own uid cannot enter {closed[0]}", hint=f"chmod o+x {closed[0]}")
        veiled += closed
    covered, own_uid = "mount-namespace" in layers, "own-uid" in layers
    if not own_uid and "landlock" not in layers:
        veiled.append(str(Path.home().resolve()))
    return Plan(
        command=(program, *command[1:]),
        env=_environment(variables, home),
        folder=str(folder),
        uid=uid,
        layers=(*layers, *ALWAYS),
        hidden=tuple(veiled),
        needed=tuple(needed),
        readable=("/",) if covered and own_uid else (*readable_roots(hidden), *needed, str(inbox)),
        writable=(str(home), *(("/dev/shm",) if covered else ())),
        devices=_DEVICES,
        limits=_limits(resources.memory_bytes, own_uid=own_uid),
        groups={name: host.groups[name] for layer, name in cgroups.LAYERS.items() if layer in layers},
        group=host.group,
        bounds={"memory_bytes": resources.memory_bytes, "cpu_millis": resources.cpu_millis, "processes": bounds.MAX_PROCESSES},
        start_cpu_millis=bounds.START_CPU_MILLIS,
        label=str(private),
    )


def find_program(name: str, folder: Path) -> str:
    """The program's path; ``python`` is the node's interpreter. Raises Refused ``agent-not-here``."""
    if name in ("python", "python3"):
        return sys.executable
    if "/" in name:
        path = folder / name
        found = str(path) if path.is_file() and os.access(path, os.X_OK) else None
    else:
        found = shutil.which(name, path=_search_path())
    if found is None:
        raise Refused("agent-not-here", f"the program {name[:80]!r} is not on this machine", hint="install it here, or give its path")
    return found


def _search_path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), *_SYSTEM_PATH))


def _environment(variables: Mapping[str, str], home: Path) -> dict[str, str]:
    """A clean environment: nothing of the node's own, no secret of whoever started it."""
    return {
        "PATH": _search_path(),
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "USER": "agent",
        "LOGNAME": "agent",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


def _limits(memory_bytes: int, *, own_uid: bool) -> dict[str, int]:
    """rlimits, each a process's own. RLIMIT_DATA counts private writable memory, which is what grows when memory leaks."""
    rlimits = {
        "RLIMIT_DATA": memory_bytes,
        "RLIMIT_NOFILE": bounds.MAX_OPEN_FILES,
        "RLIMIT_FSIZE": bounds.MAX_FILE_SIZE_BYTES,
        "RLIMIT_CORE": 0,
    }
    if own_uid:  # the kernel counts processes a uid, so that with a shared one it would count the user's own
        rlimits["RLIMIT_NPROC"] = bounds.MAX_PROCESSES
    return rlimits


def _needed(program: str, folder: Path, private: Path) -> list[str]:
    """Folders that must be seen even where they lie in a hidden or closed one, outermost first."""
    paths = {folder, private}
    if Path(sys.prefix) in Path(program).parents:
        paths |= {Path(sys.prefix), Path(sys.base_prefix)}
    for binary in (Path(program), Path(program).resolve()):
        paths.add(binary.parent.parent if binary.parent.name == "bin" else binary.parent)
    for path in list(paths):
        paths.add(path.resolve())
    paths -= {Path("/"), Path("/usr"), Path("/usr/local")}
    return sorted((str(path) for path in paths), key=lambda p: (p.count("/"), p))


def _closed_ancestors(path: str, uid: int) -> list[str]:
    """The outermost folder on the way to ``path`` that ``uid`` may not enter, as a list of none or one."""
    for ancestor in reversed(Path(path).parents):
        info = ancestor.stat()
        searchable = info.st_mode & (stat.S_IXUSR if info.st_uid == uid else stat.S_IXOTH)
        if not searchable:
            return [str(ancestor)]
    return []


def _make_private(private: Path, uid: int | None) -> tuple[Path, Path]:
    home, inbox = private / "home", private / "inbox"
    for path in (home, home / "tmp", inbox):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if uid is not None:
        os.chmod(private, 0o711)
        os.chmod(inbox, 0o711)
        for path in (home, home / "tmp"):
            os.chown(path, uid, uid, follow_symlinks=False)
    return home, inbox


def readable_roots(hidden: tuple[Path, ...]) -> tuple[str, ...]:
    """For an agent that shares the user's uid: paths whose subtrees hold what is world-readable, without the hidden folders.

    Descends only where it must: to a hidden folder, and into the user's home, where hidden entries (``.ssh``, ``.config``) are left
    out even if others could read them. Below a path that is given, modes are not looked at again.
    """
    avoid, home = {path.resolve() for path in hidden}, Path.home().resolve()
    found: list[str] = []

    def visit(folder: Path) -> None:
        try:
            closed = not folder.stat().st_mode & stat.S_IXOTH
            entries = [] if closed else sorted(folder.iterdir())
        except OSError:
            return
        for entry in entries:
            if entry in avoid or entry.is_symlink() or (folder == home and entry.name.startswith(".")):
                continue
            if entry == home or entry in home.parents or any(entry in path.parents for path in avoid):
                visit(entry)
                continue
            try:
                mode = entry.stat().st_mode
            except OSError:
                continue
            if mode & stat.S_IROTH:
                found.append(str(entry))

    visit(Path("/"))
    return tuple(found)
