# SPDX-License-Identifier: MIT
"""What lies between client and server: this machine's loopback, or two network namespaces with an emulated link between them."""
import os
import re
import subprocess
import sys

from processes import Failed, run, start, stop, wait_until

TCP_STREAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tcp_stream.py")


class Loopback:
    title = "loopback"
    emulated = False
    server_address = "127.0.0.1"

    def at_server(self, command):
        return command

    def at_client(self, command):
        return command

    def close(self):
        pass


class EmulatedLink:
    """A targets.Link: a round trip, and a rate and lost packets in both directions. Needs root."""

    emulated = True
    server_address = "10.111.0.1"
    client_address = "10.111.0.2"

    def __init__(self, link, build):
        self.rtt_ms, self.rate_mbit, self.loss_percent = link
        self.title = link.title
        names = {end: f"remofs-bench-{os.getpid()}-{self.rtt_ms}-{end}" for end in ("server", "client")}
        self.namespaces, self.forwarder = names, None
        try:
            for name in names.values():
                run(["ip", "netns", "add", name])
                run(["ip", "-n", name, "link", "set", "lo", "up"])
                self.use_cubic(name)
            if self.has_netem():
                self.join_by_netem()
            else:
                self.join_by_forwarder(build)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def use_cubic(namespace):
        """What the kernels of most distributions use, whatever this machine does."""
        setting = "/proc/sys/net/ipv4/tcp_congestion_control"
        script = f'test "$(cat {setting})" = cubic || echo cubic >{setting}'
        try:
            run(["nsenter", f"--net=/run/netns/{namespace}", "sh", "-c", script])
        except Failed as reason:
            raise Failed("a network namespace may not use TCP's cubic: add it to net.ipv4.tcp_allowed_congestion_control") from reason

    def at_server(self, command):
        return ["nsenter", f"--net=/run/netns/{self.namespaces['server']}", *command]

    def at_client(self, command):
        return ["nsenter", f"--net=/run/netns/{self.namespaces['client']}", *command]

    def has_netem(self):
        try:
            run(["tc", "-n", self.namespaces["server"], "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
            run(["tc", "-n", self.namespaces["server"], "qdisc", "del", "dev", "lo", "root"])
            return True
        except (Failed, OSError):
            return False

    def join_by_netem(self):
        server, client = self.namespaces["server"], self.namespaces["client"]
        run(["ip", "-n", server, "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", client])
        self.set_addresses()
        for name in (server, client):
            run(["tc", "-n", name, "qdisc", "add", "dev", "link0", "root", "netem", "limit", "10000",
                 "delay", f"{self.rtt_ms / 2}ms", "rate", f"{self.rate_mbit}mbit", "loss", f"{self.loss_percent}%"])

    def join_by_forwarder(self, build):
        # A queue of a bandwidth × delay, as routers have, and no less than a megabyte.
        queue_kib = max(1024, self.rate_mbit * self.rtt_ms // 8)
        command = [f"{build}/bench/emulated_link", "--delay-ms", str(self.rtt_ms / 2), "--rate-mbit", str(self.rate_mbit),
                   "--queue-kib", str(queue_kib), "--loss-percent", str(self.loss_percent), self.namespaces["server"], self.namespaces["client"]]
        self.forwarder = start(command, stdout=subprocess.PIPE)
        if self.forwarder.stdout.readline() != b"ready\n":
            raise Failed("the emulated link does not start (it needs /dev/net/tun)")
        self.set_addresses()

    def set_addresses(self):
        for end, address, peer in (("server", self.server_address, self.client_address),
                                   ("client", self.client_address, self.server_address)):
            name = self.namespaces[end]
            run(["ip", "-n", name, "address", "add", address, "peer", peer, "dev", "link0"])
            run(["ip", "-n", name, "link", "set", "link0", "up"])

    def close(self):
        if self.forwarder:
            stop(self.forwarder)
        for name in self.namespaces.values():
            if os.path.exists(f"/run/netns/{name}"):
                run(["ip", "netns", "delete", name])


def tcp_stream_seconds(link, direction, path, deadline_s):
    """How long one plain TCP connection takes for the file, from connecting to the last byte."""
    server = start(link.at_server([sys.executable, TCP_STREAM, "serve", link.server_address, path]), stdout=subprocess.PIPE)
    try:
        port = re.fullmatch(r"(\d+)\n", server.stdout.readline().decode())
        if not port:
            raise Failed("the plain TCP stream does not start")
        command = [sys.executable, TCP_STREAM, direction, link.server_address, port[1], path]
        return float(run(link.at_client(command), deadline_s, output=True))
    finally:
        stop(server)


def wait_for_port(link, port):
    probe = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"

    def answers():
        try:
            run(link.at_client([sys.executable, "-c", probe, link.server_address, str(port)]), 10)
            return True
        except Failed:
            return False

    wait_until(f"answer at port {port}", answers)
