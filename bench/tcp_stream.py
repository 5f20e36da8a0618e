# SPDX-License-Identifier: MIT
"""One plain TCP connection that carries a file: the yardstick for what a link can do.

usage: tcp_stream.py serve ADDRESS FILE            prints its port; answers one client
       tcp_stream.py read|write ADDRESS PORT FILE  prints the seconds from connecting to the last byte's arrival
"""
import socket
import sys
import time

BLOCK = 1 << 20


def drain(connection):
    buffer = bytearray(BLOCK)
    while connection.recv_into(buffer):
        pass


def serve(address, path):
    with socket.create_server((address, 0)) as listener, open(path, "rb") as file:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
        with connection:
            if connection.recv(1) == b"r":
                connection.sendfile(file)
            else:
                drain(connection)
                connection.sendall(b".")


def read(connection, _):
    connection.sendall(b"r")
    drain(connection)


def write(connection, file):
    connection.sendall(b"w")
    connection.sendfile(file)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


def main():
    mode, address, *rest = sys.argv[1:]
    if mode == "serve":
        return serve(address, rest[0])
    port, path = rest
    with open(path, "rb") as file:
        started = time.monotonic()
        with socket.create_connection((address, int(port))) as connection:
            {"read": read, "write": write}[mode](connection, file)
    print(time.monotonic() - started)


main()
