"""The launcher: between the node and an agent's process; it builds the sandbox, waits, and leaves nothing behind.

    node --- launcher (outer) --- init (PID 1 of a namespace) --- agent --- whatever the agent starts

The node starts it with the agent's stdin, stdout and stderr on 0, 1 and 2, and two pipes:

``CONTROL`` (3)  one line of JSON, the plan; then the words ``served`` (it has started: from here on its share of a processor holds)
                 and ``term`` (ask the agent to end), or the end of the file, by which also a node that was killed speaks: everything is
                 killed at once.
``STATUS`` (4)   lines of JSON: ``{"layers": […]}`` once the sandbox stands, ``{"refused": …}`` if it cannot be built or
                 the program not be run, ``{"exited": code}`` at the end (below 0: the number of a signal; ``starved``: it was killed
                 for want of memory).

Where the kernel gives a PID namespace, the end of init takes everything with it, processes in sessions of their own too.
Where it does not, the launcher adopts every orphan (PR_SET_CHILD_SUBREAPER) and kills what descends from it.

It runs as ``python -I -S`` with the standard library alone: no site-packages, 15 ms, and the least memory.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, cast

from meshos.adapters.onprem import cgroups, kernel, seccomp

CONTROL, STATUS = 3, 4
MAX_PLAN_BYTES = 1 << 20
KILL_ROUNDS = 400
"""Rounds of 5 ms in which descendants are looked for and killed, where there is no PID namespace."""

Plan = dict[str, Any]
"""The JSON of ``sandbox.Plan``; typed and checked on the node's side, which is the only one that writes it."""


def main(control: int, status: int) -> NoReturn:
    """Read the plan, build the sandbox, run the agent, wait for its end. The two pipes come under any number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the node's terminal is the node's affair
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (control, status)]
    os.closerange(3, min(moved))
    for fd, place in zip(moved, (CONTROL, STATUS), strict=True):
        os.dup2(fd, place, inheritable=False)
        os.close(fd)
    plan = _read_plan()
    if plan.get("probe"):
        _say(_probe(plan))
        os._exit(0)
    try:
        kernel.adopt_orphans()
        group = _make_group(plan)
        _enter_namespaces(plan)
    except OSError as error:
        _refuse("sandbox", error)
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready_read)
        os.close(go_write)
        _init(plan, group, ready_write, go_read)
    os.close(ready_write)
    os.close(go_read)
    _let_go_of_standard_streams()
    if os.read(ready_read, 1):
        os.write(go_write, b"g")
    os.close(ready_read)
    os.close(go_write)
    _Outer(plan, child, group).run()


def _read_plan() -> Plan:
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(CONTROL, 65536)
        data += chunk
        if not chunk or len(data) > MAX_PLAN_BYTES:
            os._exit(2)
    return cast(Plan, json.loads(data))


def _say(message: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the node is gone; CONTROL says so too
        os.write(STATUS, json.dumps(message).encode() + b"\n")


def _refuse(what: str, error: OSError) -> NoReturn:
    _say({"refused": what, "errno": error.errno, "text": f"{error.strerror} ({error.filename})"})
    os._exit(1)


def _let_go_of_standard_streams() -> None:
    """So that the end of the agent is the end of its pipes."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


# -- the outer process -----------------------------------------------------------------------------------------------


class _Outer:
    """Carries words to the agent, kills everything when CONTROL ends, reports nothing that init has not."""

    def __init__(self, plan: Plan, child: int, group: cgroups.Group) -> None:
        self._child, self._group = child, group
        self._namespace = "pid-namespace" in plan["layers"]
        self._cpu_millis = int(plan["bounds"]["cpu_millis"])

    def run(self) -> NoReturn:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        poll = select.poll()
        poll.register(CONTROL, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wake_read:
                    os.read(wake_read, 512)
                    if _reap(self._child):
                        self._end()
                else:
                    self._heed(os.read(CONTROL, 512).split())

    def _heed(self, words: list[bytes]) -> None:
        if not words:
            self._end()
        if b"served" in words:
            self._group.bound_cpu(self._cpu_millis)
        if b"term" in words:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _end(self) -> NoReturn:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        if not self._namespace:
            _kill_descendants()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        self._group.remove()
        os._exit(0)


def _reap(child: int) -> bool:
    """Collect every ended child; True once ``child`` is among them, or nobody is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == child:
            return True
        if pid == 0:
            return False


def _kill_descendants() -> None:
    """Stop, then kill, everything that descends from this process, until nothing does."""
    for _ in range(KILL_ROUNDS):
        found = _descendants()
        if not found:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks while the others are killed
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


def _descendants() -> list[int]:
    """The living descendants of this process, from /proc (proc_pid_stat(5): the 4th field is the parent)."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(entry)] = int(fields[1])
    own = os.getpid()
    found: list[int] = []
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != own:
            ancestor = parents[ancestor]
        if ancestor == own and pid != own:
            found.append(pid)
    return found


# -- init ------------------------------------------------------------------------------------------------------------


def _init(plan: Plan, group: cgroups.Group, ready: int, go: int) -> NoReturn:
    """Build the rest of the sandbox from inside, start the agent, collect orphans, report how the agent ended."""
    try:
        group.join()
        events = group.open_events()
        if "mount-namespace" in plan["layers"]:
            _veil(plan)
        _drop(plan)
    except OSError as error:
        _refuse("sandbox", error)
    if "pid-namespace" in plan["layers"]:
        kernel.die_with_parent(signal.SIGKILL)
    else:
        kernel.adopt_orphans()
    os.write(ready, b"r")
    if not os.read(go, 1):
        os._exit(0)  # the outer process ended before the line above could bind this one's life to it
    os.close(ready)
    os.close(go)
    agent = os.fork()
    if agent == 0:
        _become_agent(plan)
    _let_go_of_standard_streams()
    signal.signal(signal.SIGTERM, lambda *_: _ask_to_end(agent))
    while True:
        pid, status = os.wait()
        if pid == agent:
            code = os.waitstatus_to_exitcode(status)
            starved = code == -signal.SIGKILL and events is not None and cgroups.kills(events) > 0
            _say({"exited": code, "starved": starved})
            os._exit(0)


def _ask_to_end(agent: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(agent, signal.SIGTERM)


def _become_agent(plan: Plan) -> NoReturn:
    try:
        os.setsid()
        for name, value in plan["limits"].items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
        os.umask(0o077)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(plan["folder"])
        _say({"layers": plan["layers"]})
        os.execve(plan["command"][0], plan["command"], plan["env"])
    except OSError as error:
        _refuse("program", error)


def _make_group(plan: Plan) -> cgroups.Group:
    """The control group of this agent, bounded; in no folder at all where no controller is a layer."""
    places = {name: cgroups.Place(*plan["groups"][name]) for layer, name in cgroups.LAYERS.items() if layer in plan["layers"]}
    group = cgroups.Group(places, f"{plan['group']}{os.getpid()}")
    bounds = plan["bounds"]
    group.make()
    group.bound(**{**bounds, "cpu_millis": max(bounds["cpu_millis"], plan["start_cpu_millis"])})
    return group


def _enter_namespaces(plan: Plan) -> None:
    layers = plan["layers"]
    uid, gid = os.getuid(), os.getgid()
    if "user-namespace" in layers:
        kernel.unshare(kernel.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    flags = (kernel.CLONE_NEWNS if "mount-namespace" in layers else 0) | (kernel.CLONE_NEWPID if "pid-namespace" in layers else 0)
    if flags:
        kernel.unshare(flags)


def _veil(plan: Plan) -> None:
    """Cover the hidden folders with empty ones, and bring back, in their places, the needed folders inside them.

    From the outermost path inwards, so that a needed folder in a hidden one is seen, and a hidden one in that is not.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    hidden, needed = set(plan["hidden"]), set(plan["needed"])
    handles = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in needed if os.path.exists(path)}
    covers: list[str] = []
    for path in sorted(hidden | needed, key=lambda p: (p.count("/"), p)):
        if path in hidden:
            if os.path.isdir(path):
                kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
                covers.append(path)
            if path not in needed:
                continue
        if path in handles and any(path == cover or path.startswith(cover.rstrip("/") + "/") for cover in covers):
            if not os.path.exists(path):
                os.makedirs(path, mode=0o755)
            kernel.mount(f"/proc/self/fd/{handles[path]}", path, None, kernel.MS_BIND | kernel.MS_REC)
    for handle in handles.values():
        os.close(handle)
    if "pid-namespace" in plan["layers"]:
        with contextlib.suppress(OSError):  # refused where /proc is covered in parts, as in some containers: the old one stays
            kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    with contextlib.suppress(OSError):  # there may be none; Landlock then refuses writing below /dev
        kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "mode=1777,size=64m")


def _drop(plan: Plan) -> None:
    """Give up, in this order: groups, uid, the way to new privileges, the file tree, system calls."""
    if "own-uid" in plan["layers"]:
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    kernel.no_new_privileges()
    if "landlock" in plan["layers"]:
        kernel.landlock(kernel.landlock_abi(), plan["readable"], plan["writable"], plan["devices"])
    if "seccomp" in plan["layers"]:
        kernel.filter_calls(seccomp.program(seccomp.MACHINES[os.uname().machine]))


# -- what this machine can do ----------------------------------------------------------------------------------------


def _probe(plan: Plan) -> dict[str, object]:
    """Which layers work here, each tried in a child of its own."""
    root = os.geteuid() == 0

    def namespaces(*layers: str) -> bool:
        def attempt() -> None:
            _enter_namespaces({"layers": list(layers)})
            if "mount-namespace" in layers:
                kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
                kernel.mount("tmpfs", plan["folder"], "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
            if os.fork() == 0:
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))

        return _works(attempt)

    base = [] if root else ["user-namespace"]
    found: list[str] = []
    if root and _works(lambda: _drop({"layers": ["own-uid"], "uid": plan["uid"]})):
        found.append("own-uid")
    if base and namespaces(*base):
        found += base
    if root or found:
        found += [layer for layer in ("mount-namespace", "pid-namespace") if namespaces(*base, layer)]
    if kernel.landlock_abi() > 0:
        found.append("landlock")
    if os.uname().machine in seccomp.MACHINES and _works(lambda: _drop({"layers": ["seccomp"]})):
        found.append("seccomp")
    groups = _probe_groups(plan["group"])
    found += [layer for layer, name in cgroups.LAYERS.items() if name in groups]
    return {"layers": found, "landlock_abi": kernel.landlock_abi(), "groups": groups}


def _probe_groups(prefix: str) -> dict[str, tuple[str, int]]:
    """The controllers that can be used, and where; what an earlier node of this folder left behind is taken away first."""
    try:
        places = cgroups.own_places()
    except OSError:
        return {}
    cgroups.sweep(places, prefix)
    found: dict[str, tuple[str, int]] = {}
    for controller, candidates in places.items():
        for place in candidates:
            group = cgroups.Group({controller: place}, f"{prefix}{os.getpid()}")

            def attempt(group: cgroups.Group = group) -> None:
                group.make()
                group.bound(memory_bytes=1 << 30, cpu_millis=1000, processes=64)
                group.join()

            works = _works(attempt)
            group.remove()
            if works:
                found[controller] = (place.folder, place.version)
                break
    return found


def _works(attempt: Callable[[], object]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
