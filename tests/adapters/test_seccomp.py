"""The filter of system calls, instruction by instruction: also for the architecture that this machine is not."""

import errno
import re
import struct
from pathlib import Path

import pytest

from meshos.adapters.onprem import seccomp

ALLOWED, KILLED = 0x7FFF_0000, 0x8000_0000
NO_FAMILY = 0x0005_0000 | errno.EAFNOSUPPORT
REFUSED = 0x0005_0000 | errno.EPERM
ABSENT = 0x0005_0000 | errno.ENOSYS
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), seccomp.DENIED_X86_64),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), seccomp.DENIED_AARCH64),
}


def judge(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the kernel would make of this call (Documentation/networking/filter.rst): the value that the filter returns."""
    full = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *full)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return int(value)
        else:
            true = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += yes if true else no


@pytest.mark.parametrize("name", seccomp.MACHINES)
def test_each_call_is_judged_by_its_number_and_what_it_is_asked(name: str) -> None:
    machine = seccomp.MACHINES[name]
    program = seccomp.program(machine)
    assert len(program) % 8 == 0 and len(program) // 8 <= 4096

    def of(number: int, *arguments: int) -> int:
        return judge(program, machine.audit, number, *arguments)

    assert {of(number) for number in machine.denied} == {REFUSED}
    others = set(range(500)) - set(machine.denied) - {machine.socket, machine.socketpair, machine.clone, seccomp.CLONE3}
    assert {of(number, 1, 2, 3) for number in others} == {ALLOWED}
    assert [of(machine.socket, family) for family in (2, 10, 16)] == [ALLOWED] * 3
    assert {of(machine.socket, family) for family in range(64) if family not in (2, 10, 16)} == {NO_FAMILY}
    assert of(machine.socket, seccomp.AF_UNIX | 1 << 32) == NO_FAMILY, "the kernel looks at the low half only, and so does the filter"
    stream, datagram, sequenced, flags = 1, 2, 5, 0o2004000
    assert [of(machine.socketpair, 1, kind | flags) for kind in (stream, sequenced)] == [ALLOWED] * 2
    assert of(machine.socketpair, 1, datagram | flags) == NO_FAMILY
    assert of(machine.clone, 17) == of(machine.clone, 0x3D0F00) == ALLOWED, "fork, and a thread"
    assert [of(machine.clone, 17 | 1 << bit) for bit in (17, 25, 26, 27, 28, 29, 30)] == [REFUSED] * 7
    assert of(seccomp.CLONE3) == ABSENT


def test_calls_of_another_interface_get_nowhere() -> None:
    machine = seccomp.MACHINES["x86_64"]
    program = seccomp.program(machine)
    assert judge(program, 0x4000_0003, 102) == KILLED, "socketcall of 32-bit x86"
    assert judge(program, machine.audit, 0x4000_0000 + machine.socket, seccomp.AF_UNIX) == ABSENT, "x32"


@pytest.mark.parametrize("name", HEADERS)
def test_the_numbers_are_the_kernels(name: str) -> None:
    header, denied = HEADERS[name]
    if not header.exists():
        pytest.skip(f"no {header}")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    machine = seccomp.MACHINES[name]
    asked = {"socket": machine.socket, "socketpair": machine.socketpair, "clone": machine.clone, "clone3": seccomp.CLONE3}
    for call, number in {**denied, **seccomp.DENIED_SINCE_5_1, **asked}.items():
        assert int(found[call]) == number if call in found else call in ("mount_setattr", "quotactl_fd", "process_madvise"), call
