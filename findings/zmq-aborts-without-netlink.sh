#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zmq_bind() of a numeric address aborts the process if sockets of the family AF_NETLINK are refused, as
# RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX in a unit of systemd refuses them. Before it looks at the address it
# asks getifaddrs() whether that is the name of an interface, and takes any failure but two for a fault of its own, where
# an error of zmq_bind() would be expected, or "no such interface".
# Seen: libzmq 4.3.4 (Debian 12): "Address family not supported by protocol (src/ip_resolver.cpp:542)", SIGABRT.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/bind.py" <<'END'
import ctypes
import errno
import os
import socket
import struct

libc, zmq = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libzmq.so.5")
version = [ctypes.c_int() for _ in range(3)]
zmq.zmq_version(*map(ctypes.byref, version))
print("libzmq", ".".join(str(part.value) for part in version), flush=True)

# socket(AF_NETLINK, ...) fails with EAFNOSUPPORT from here on (seccomp; x86_64, where it is system call 41).
statements = [
    (0x20, 0, 0, 0),  # load the number of the system call
    (0x15, 0, 3, 41),
    (0x20, 0, 0, 16),  # load its first argument
    (0x15, 0, 1, socket.AF_NETLINK),
    (0x06, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
    (0x06, 0, 0, 0x7FFF0000),
]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *words) for words in statements))
rules = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(statements), ctypes.addressof(program)))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, rules, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

zmq.zmq_ctx_new.restype = zmq.zmq_socket.restype = ctypes.c_void_p
zmq.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
zmq.zmq_bind.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
router = zmq.zmq_socket(zmq.zmq_ctx_new(), 6)
print("zmq_bind:", zmq.zmq_bind(router, b"tcp://127.0.0.1:*"), flush=True)
os._exit(0)
END
status=0
python3 "$work/bind.py" || status=$?
echo "exit status: $status"
[ "$status" -eq 134 ] || {
    echo 'changed: it was 134 (SIGABRT)'
    exit 1
}
