"""Which system calls an agent may not make: a filter in classic BPF, for seccomp(2).

What files and signals cannot bar is barred here. A Unix socket is opened by a path that no rule of Landlock looks at (before ABI 9), so
that an agent with the user's own uid would reach the session bus and with it everything the user may do; so it gets no such
socket at all, but for ``socketpair``, whose two ends know only each other (event loops need it). The rest are doors into other processes
and the kernel that no server needs: debugging, keys, modules, mounts, namespaces. io_uring is among them since it opens sockets
past any filter.

Only the standard library, as in ``kernel``. Numbers: asm/unistd_64.h and asm-generic/unistd.h; a test compares them.
"""

import errno
import struct
from dataclasses import dataclass

AF_UNIX = 1
_FAMILIES = (2, 10, 16)
"""AF_INET, AF_INET6, AF_NETLINK (what libc lists network interfaces with). No AF_UNIX, AF_ALG, AF_VSOCK, AF_PACKET."""
_SOCK_TYPE_MASK, _SOCK_DGRAM = 0xF, 2
_CLONE_NEW = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: in a user namespace of its own a process may try all that root may."""

DENIED_X86_64 = {
    "ptrace": 101,
    "syslog": 103,
    "pivot_root": 155,
    "acct": 163,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "iopl": 172,
    "ioperm": 173,
    "init_module": 175,
    "delete_module": 176,
    "quotactl": 179,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "userfaultfd": 323,
}
DENIED_AARCH64 = {
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "quotactl": 60,
    "acct": 89,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "delete_module": 106,
    "syslog": 116,
    "ptrace": 117,
    "reboot": 142,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "swapon": 224,
    "swapoff": 225,
    "perf_event_open": 241,
    "open_by_handle_at": 265,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "finit_module": 273,
    "bpf": 280,
    "userfaultfd": 282,
    "kexec_file_load": 294,
}
DENIED_SINCE_5_1 = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
"""Numbered alike on every architecture."""
CLONE3 = 435
"""Its flags lie in memory, where a filter cannot look; as if the kernel were older, libc then takes ``clone``."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One architecture: AUDIT_ARCH_… of linux/audit.h, the calls that are looked at by their arguments, and those denied."""

    audit: int
    socket: int
    socketpair: int
    clone: int
    denied: tuple[int, ...]
    first_foreign: int | None = None
    """Numbers from here on belong to another interface of the same architecture (x32 on x86-64)."""


MACHINES = {
    "x86_64": Machine(0xC000_003E, 41, 53, 56, (*DENIED_X86_64.values(), *DENIED_SINCE_5_1.values()), 0x4000_0000),
    "aarch64": Machine(0xC000_00B7, 198, 199, 220, (*DENIED_AARCH64.values(), *DENIED_SINCE_5_1.values())),
}
"""By what ``uname -m`` says."""

# linux/bpf_common.h, linux/seccomp.h; offsets into struct seccomp_data (little-endian: the low half of an argument comes first).
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One struct sock_filter; ``yes`` and ``no`` are how many instructions a test skips."""
    return struct.pack("=HBBI", code, yes, no, value)


def _give(error: int) -> bytes:
    return _op(_RETURN, _ERRNO | error)


def program(machine: Machine) -> bytes:
    """The filter for ``machine``: instructions of 8 bytes each.

    A process of another architecture (32-bit x86) is killed by SIGSYS: its calls have other numbers, so the list would mean others.
    """
    allow, refuse = _op(_RETURN, _ALLOW), _give(errno.EPERM)
    code = [_op(_LOAD, _ARCH), _op(_EQUAL, machine.audit, yes=1), _op(_RETURN, _KILL_PROCESS), _op(_LOAD, _NR)]
    if machine.first_foreign is not None:
        code += [_op(_AT_LEAST, machine.first_foreign, no=1), _give(errno.ENOSYS)]
    code += [_op(_EQUAL, CLONE3, no=1), _give(errno.ENOSYS)]
    for number in machine.denied:
        code += [_op(_EQUAL, number, no=1), refuse]
    no_family = _give(errno.EAFNOSUPPORT)
    families = [_op(_EQUAL, family, yes=len(_FAMILIES) - place) for place, family in enumerate(_FAMILIES)]
    socket = [_op(_LOAD, _ARG0), *families, no_family, allow]
    # A datagram end may be connected anew, to any path; a stream's may not.
    socketpair = [_op(_LOAD, _ARG1), _op(_AND, _SOCK_TYPE_MASK), _op(_EQUAL, _SOCK_DGRAM, no=1), no_family, allow]
    clone = [_op(_LOAD, _ARG0), _op(_ANY_BIT, _CLONE_NEW, no=1), refuse, allow]
    for number, body in ((machine.socket, socket), (machine.socketpair, socketpair), (machine.clone, clone)):
        code += [_op(_EQUAL, number, no=len(body)), *body]
    return b"".join([*code, allow])
