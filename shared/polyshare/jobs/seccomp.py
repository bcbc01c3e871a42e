"""A seccomp filter that takes from a sandbox what namespaces leave it: the kernel's riskier calls and uncounted memory.

It is a denylist: bubblewrap's namespaces are the wall, and ordinary programs must not notice the filter.
"""

from __future__ import annotations

import errno
import os
import struct

_CLONE_NEW = 0x7E020000  # CLONE_NEW NS, CGROUP, UTS, IPC, USER, PID, NET
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all are per network namespace; AF_VSOCK is not

# call: number on x86-64, number on arm64 (None: there is none)
_DENIED = {
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    # large attack surface
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    # not per namespace
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "syslog": (103, 116),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "quotactl": (179, 60), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "acct": (163, 89),
    # memory that belongs to no process, so that no sum over processes finds it
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    # leaving the cores it was given
    "sched_setaffinity": (203, 122),
}  # fmt: skip
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data (little endian)
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def filter_for(machine: str | None = None) -> bytes | None:
    """The filter as an array of struct sock_filter (linux/filter.h), or None for an architecture it does not know."""
    known = _ARCHITECTURES.get(machine or os.uname().machine)
    if known is None:
        return None
    column, audit = known
    program = [
        _op(_LOAD, _ARCH), _op(_EQUAL, audit, 1, 0), _op(_RETURN, _ERRNO | errno.ENOSYS),  # no 32-bit calls
        _op(_LOAD, _NUMBER), _op(_AT_LEAST, 0x40000000, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS),  # nor x32's
    ]  # fmt: skip
    for numbers in _DENIED.values():
        program += [_op(_EQUAL, numbers[column], 0, 1), _op(_RETURN, _ERRNO | errno.EPERM)]
    # clone3's flags are behind a pointer: libc falls back to clone, whose flags can be read
    program += [_op(_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    program += [_op(_EQUAL, _CLONE[column], 0, 4), _op(_LOAD, _ARGUMENT), _op(_ANY_BIT, _CLONE_NEW, 0, 1)]
    program += [_op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)]
    program += [_op(_EQUAL, _SOCKET[column], 0, len(_FAMILIES) + 2), _op(_LOAD, _ARGUMENT)]
    for index, family in enumerate(_FAMILIES):
        program.append(_op(_EQUAL, family, len(_FAMILIES) - index, 0))
    program += [_op(_RETURN, _ERRNO | errno.EAFNOSUPPORT), _op(_RETURN, _ALLOW)]
    return b"".join(program)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
