"""Control groups: what an agent and all that it starts may use together of memory, processor and processes.

Each controller stands for itself: whichever this machine lets us use is a layer of the sandbox. A group is made below the node's own,
so that whatever bounds the node bounds its agents too:

v1  each controller has a tree; the group lies in the folder of the node's own group, where whoever runs the node may make one.
v2  one tree, in which a group with processes has none below it that are bounded. So the node's own group serves only if nothing but
    the tree's root is above; else the group that it lies in, where that was handed over: systemd's ``Delegate=yes`` with
    ``DelegateSubgroup=node``.

Only the standard library, as in ``kernel``. Sources: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

import contextlib
import errno
import os
import time
from dataclasses import dataclass

MEMORY, CPU, PIDS = "memory", "cpu", "pids"
CONTROLLERS = (MEMORY, CPU, PIDS)
LAYERS = {f"cgroup-{name}": name for name in CONTROLLERS}
"""The name of a layer, and the controller it means."""
_PERIOD_US = 100_000
"""The kernel's default: in each period a group may use its share of it."""
_LEAST_QUOTA_US = 1_000
_REMOVE_ROUNDS = 40
"""Rounds of 5 ms: a group is busy for a moment after its last process was collected."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a controller's groups are made, and by which version's rules."""

    folder: str
    version: int


@dataclass(frozen=True, slots=True)
class Group:
    """One group, in as many folders as its controllers lie in."""

    places: dict[str, Place]
    name: str

    def make(self) -> None:
        """Raises OSError where it may not be made, or a v2 controller is not handed on."""
        for controller, place in self.places.items():
            if place.version == 2:
                with contextlib.suppress(OSError):  # it may be on already, or the group hold processes; the look below decides
                    _write(place.folder, "cgroup.subtree_control", f"+{controller}")
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{place.folder}/{self.name}")
            _look(f"{place.folder}/{self.name}", _BOUND[controller, place.version])

    def bound(self, *, memory_bytes: int, cpu_millis: int, processes: int) -> None:
        """Set the bounds of those controllers that it has."""
        if MEMORY in self.places:
            self._set(MEMORY, _BOUND[MEMORY, self.places[MEMORY].version], memory_bytes)
            with contextlib.suppress(OSError):  # a kernel that does not count swap has no such file
                if self.places[MEMORY].version == 1:
                    self._set(MEMORY, "memory.memsw.limit_in_bytes", memory_bytes)
                else:
                    self._set(MEMORY, "memory.swap.max", 0)
        if PIDS in self.places:
            self._set(PIDS, "pids.max", processes)
        self.bound_cpu(cpu_millis)

    def bound_cpu(self, cpu_millis: int) -> None:
        """Thousandths of a processor, if it has this controller."""
        if CPU not in self.places:
            return
        quota_us = max(_LEAST_QUOTA_US, cpu_millis * _PERIOD_US // 1000)
        try:
            if self.places[CPU].version == 1:
                self._set(CPU, "cpu.cfs_quota_us", quota_us)
            else:
                self._set(CPU, "cpu.max", f"{quota_us} {_PERIOD_US}")
        except OSError as error:
            if error.errno != errno.EINVAL:  # the group above has less than this, and bounds it
                raise

    def join(self) -> None:
        """Put the calling process into it, and with it whatever it starts from here on."""
        for place in self.places.values():
            _write(f"{place.folder}/{self.name}", "cgroup.procs", "0")

    def open_events(self) -> int | None:
        """A handle of the file that counts what was killed for want of memory; to be asked by ``kills``. None without memory."""
        place = self.places.get(MEMORY)
        if place is None:
            return None
        file = "memory.oom_control" if place.version == 1 else "memory.events"
        return os.open(f"{place.folder}/{self.name}/{file}", os.O_RDONLY | os.O_CLOEXEC)

    def remove(self) -> None:
        """Take it away; what is still in use stays, for ``sweep``."""
        for folder in {place.folder for place in self.places.values()}:
            _remove(f"{folder}/{self.name}")

    def _set(self, controller: str, file: str, value: object) -> None:
        _write(f"{self.places[controller].folder}/{self.name}", file, str(value))


_BOUND = {
    (MEMORY, 1): "memory.limit_in_bytes",
    (MEMORY, 2): "memory.max",
    (CPU, 1): "cpu.cfs_quota_us",
    (CPU, 2): "cpu.max",
    (PIDS, 1): "pids.max",
    (PIDS, 2): "pids.max",
}
"""The file that a group has only if the controller is on."""


def own_places() -> dict[str, list[Place]]:
    """For each controller the places where a group of this process's may be made, the likeliest first."""
    with open("/proc/self/cgroup", encoding="utf-8") as groups, open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return places(groups.read(), mounts.read())


def places(groups: str, mounts: str) -> dict[str, list[Place]]:
    """What /proc/self/cgroup and /proc/self/mountinfo (proc(5)) say of it; empty lists where nothing is mounted."""
    found: dict[str, list[Place]] = {name: [] for name in CONTROLLERS}
    own = [parts for line in groups.splitlines() if len(parts := line.split(":", 2)) == 3]
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        for _, names, path in own:
            inside = path == root or root == "/" or path.startswith(root + "/")
            controllers = CONTROLLERS if kind == "cgroup2" else tuple(set(names.split(",")) & set(options.split(",")))
            if not inside or (kind == "cgroup2") != (names == ""):
                continue
            relative = path[len(root.rstrip("/")) :].strip("/")
            folder = f"{point}/{relative}".rstrip("/")
            version = 2 if kind == "cgroup2" else 1
            for name in set(controllers) & set(CONTROLLERS):
                found[name].append(Place(folder, version))
                if version == 2 and relative:
                    found[name].append(Place(os.path.dirname(folder), version))
    return {name: sorted(places, key=lambda place: place.version) for name, places in found.items()}


def kills(handle: int) -> int:
    """How often the kernel has ended a process of the group for want of memory."""
    os.lseek(handle, 0, os.SEEK_SET)
    for line in os.read(handle, 4096).decode().splitlines():
        word, _, count = line.partition(" ")
        if word == "oom_kill":
            return int(count)
    return 0  # a kernel before 4.13 does not count


def sweep(found: dict[str, list[Place]], prefix: str) -> None:
    """Take away the groups whose names begin so and that nothing runs in: a node that was killed had no time for it."""
    for folder in {place.folder for listed in found.values() for place in listed}:
        with contextlib.suppress(OSError):  # not ours to look into
            for entry in os.listdir(folder):
                if entry.startswith(prefix):
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{folder}/{entry}")


def _write(folder: str, file: str, text: str) -> None:
    handle = os.open(f"{folder}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _look(folder: str, file: str) -> None:
    os.stat(f"{folder}/{file}")


def _remove(folder: str) -> None:
    for _ in range(_REMOVE_ROUNDS):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.005)
        else:
            return
