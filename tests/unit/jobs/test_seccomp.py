"""The filter, run by an interpreter of classic BPF: what it lets through on each architecture."""

from __future__ import annotations

import struct

import pytest

from polyshare.jobs import seccomp

ALLOW = 0x7FFF0000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "x86_64": {"read": 0, "clone": 56, "socket": 41, "unshare": 272, "memfd_create": 319, "clone3": 435},
    "aarch64": {"read": 63, "clone": 220, "socket": 198, "unshare": 97, "memfd_create": 279, "clone3": 435},
}


def run(machine: str, number: int, argument: int = 0, audit: int | None = None) -> int:
    program = seccomp.filter_for(machine)
    assert program is not None
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    data = struct.pack("<IIQ6Q", number, audit or AUDIT[machine], 0, argument, 0, 0, 0, 0, 0)
    at, a = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            a = struct.unpack_from("<I", data, k)[0]
        elif op == 0x06:
            return k
        else:
            at += yes if {0x15: a == k, 0x35: a >= k, 0x45: bool(a & k)}[op] else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_ordinary_calls_pass_and_dangerous_ones_do_not(machine: str) -> None:
    number = NUMBERS[machine]
    assert run(machine, number["read"]) == ALLOW
    assert run(machine, number["unshare"]) == 0x50001
    assert run(machine, number["memfd_create"]) == 0x50001
    assert run(machine, number["clone3"]) == 0x50026
    assert run(machine, number["clone"], 0x3D0F00) == ALLOW  # a thread
    assert run(machine, number["clone"], 0x1200011) == ALLOW  # fork
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(machine, number["clone"], flag | 17) == 0x50001
    for family in (1, 2, 10, 16):
        assert run(machine, number["socket"], family) == ALLOW
    for family in (0, 3, 17, 38, 40):
        assert run(machine, number["socket"], family) == 0x50061


def test_calls_of_other_architectures_do_not_pass() -> None:
    assert run("x86_64", 0, audit=0x40000003) == 0x50026
    assert run("x86_64", 0x40000000) == 0x50026


def test_an_unknown_architecture_has_no_filter() -> None:
    assert seccomp.filter_for("riscv64") is None
