# SPDX-License-Identifier: MIT
"""The file systems that are compared: each with a server of its own on the same files, and mounted afresh for each measurement."""
import getpass
import os
import re
import shutil
import socket
import time

from links import wait_for_port
from processes import Failed, cpu_seconds, kill, run, start, stop, tree, wait_until

SSHD = "/usr/sbin/sshd"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
UNMOUNT_DEADLINE_S = 60  # what sshfs has asked for in vain is still on its way, on a link that loses packets


def mountinfo(mountpoint):
    """The minor device number of what is mounted there; None if nothing is. Asks nobody who might hang."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            fields = line.split()
            if fields[4] == mountpoint:
                return int(fields[2].split(":")[1])
    return None


class FileSystem:
    """`server`: the process on the server's side; `client`: the one of the mount, while there is one."""

    def __init__(self, name, home, files, link):
        self.name, self.files, self.link = name, files, link
        self.home = os.path.join(home, name.replace(" ", "-"))
        self.mountpoint = os.path.join(self.home, "mnt")
        os.makedirs(self.mountpoint, mode=0o700, exist_ok=True)
        self.server = self.client = None

    def mount(self):
        with open(os.path.join(self.home, "client.log"), "wb") as log:
            self.client = start(self.link.at_client(self.mount_command()), stdout=log, stderr=log, env=self.environment())
        wait_until(f"mount of {self.name}", lambda: mountinfo(self.mountpoint) is not None or self.client.poll() is not None)
        if self.client.poll() is not None:
            with open(os.path.join(self.home, "client.log"), encoding="utf-8", errors="replace") as log:
                raise Failed(f"{self.name} does not mount: {log.read().strip()[-200:]}")
        run(["stat", self.mountpoint], 20)

    def unmount(self):
        """Always ends the mount; by force, if it does not end in time, which counts as a failure."""
        try:
            if mountinfo(self.mountpoint) is not None:
                run(["fusermount3", "-u", self.mountpoint], UNMOUNT_DEADLINE_S)
                wait_until(f"end of {self.name}'s client", lambda: self.client.poll() is not None, UNMOUNT_DEADLINE_S)
        finally:
            self.unmount_by_force()

    def unmount_by_force(self):
        minor = mountinfo(self.mountpoint)
        if minor is not None:
            abort = f"/sys/fs/fuse/connections/{minor}/abort"
            if os.path.exists(abort):
                with open(abort, "w", encoding="utf-8") as file:
                    file.write("1")
            run(["fusermount3", "-uz", self.mountpoint], 10)
        if self.client:
            kill(self.client)
            self.client = None

    def close(self):
        self.unmount_by_force()
        if self.server:
            stop(self.server)

    def environment(self):
        return None

    def client_processes(self):
        return tree(self.client.pid) if self.client else []

    def server_processes(self):
        return tree(self.server.pid)

    def cpu_seconds(self):
        return cpu_seconds(self.client_processes() + self.server_processes())

    def requests(self):
        """How many requests the client has sent so far; None if it does not say."""
        return None

    def traffic(self):
        """Messages and bytes so far, by unit; None if the client does not say."""
        return None


class Remofs(FileSystem):
    def __init__(self, name, home, files, link, build, options=(), insecure=False, congestion=None):
        super().__init__(name, home, files, link)
        self.build, self.options = build, list(options)
        self.config = os.path.join(self.home, "config")
        self.log = os.path.join(self.home, "server.log")
        self.insecure = insecure
        self.congestion = congestion

    def start_server(self):
        os.mkdir(self.config, 0o700)
        command = [f"{self.build}/server/remofile-server", "--listen", f"tcp://{self.link.server_address}:0", self.files]
        if self.congestion:
            command += ["--congestion-control", self.congestion]
            self.options.append(f"congestion={self.congestion}")
        if self.insecure:
            command.append("--insecure")
            self.options.append("insecure")
        else:
            run([f"{self.build}/cli/remofile", "generate-keys"], env=self.environment())
            shutil.copy(f"{self.config}/identity.pub", f"{self.config}/authorized_keys")
            self.options.append(f"server_key={self.config}/server.pub")
        with open(self.log, "wb") as log:
            self.server = start(self.link.at_server(command), stdout=log, stderr=log, env=self.environment())
        wait_until("listening remofile-server", lambda: self.port() is not None)

    def environment(self):
        return dict(os.environ, REMOFILE_CONFIG_DIR=self.config)

    def port(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            found = re.search(r"listening on tcp://\S+:(\d+)", log.read())
        return found and found[1]

    def mount_command(self):
        source = f"{self.link.server_address}:{self.port()}:/"
        return [f"{self.build}/remofs/remofs", source, self.mountpoint, "-f", "-o", ",".join(self.options)]

    def counters(self):
        """What the client logs on SIGUSR1."""
        path = os.path.join(self.home, "client.log")
        before = os.path.getsize(path)
        os.kill(self.client.pid, 10)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with open(path, encoding="utf-8", errors="replace") as log:
                log.seek(before)
                text = log.read()
            if "files.known=" in text:
                return {name: int(value) for name, value in re.findall(r"(\S+)=(\d+)", text)}
            time.sleep(0.01)
        raise Failed("remofs does not log its counters")

    def traffic(self):
        counters = self.counters()
        mebibytes = (counters.get("client.bytes_sent", 0) + counters.get("client.bytes_received", 0)) / (1 << 20)
        return {"requests": self.requests_in(counters), "messages": counters.get("client.messages_sent", 0),
                "messages waited for": counters.get("client.round_trips", 0), "MiB moved": mebibytes}

    def requests(self):
        return self.requests_in(self.counters())

    @staticmethod
    def requests_in(counters):
        return sum(value for name, value in counters.items() if name.startswith("client.requests."))


class Sshfs(FileSystem):
    def __init__(self, name, home, files, link, options=()):
        super().__init__(name, home, files, link)
        self.options = list(options)
        self.port = None

    def start_server(self):
        for key in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.home}/{key}"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(f"{self.home}/sshd_config", "w", encoding="utf-8") as config:
            config.write(
                f"Port {self.port}\nListenAddress {self.link.server_address}\nHostKey {self.home}/host\n"
                f"AuthorizedKeysFile {self.home}/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
                f"PermitRootLogin yes\nMaxStartups 100\nSubsystem sftp {SFTP_SERVER}\n"
            )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with open(f"{self.home}/sshd.log", "wb") as log:
            self.server = start(self.link.at_server([SSHD, "-D", "-e", "-f", f"{self.home}/sshd_config"]), stdout=log, stderr=log)
        wait_for_port(self.link, self.port)

    def ssh_options(self):
        return [f"IdentityFile={self.home}/user", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                "LogLevel=ERROR"]

    def ssh_command(self):
        """ssh to the server's side, as words of a shell."""
        options = " ".join(f"-o {option}" for option in self.ssh_options())
        return f"ssh -p {self.port} {options} {getpass.getuser()}@{self.link.server_address}"

    def mount_command(self):
        options = [f"port={self.port}", *self.ssh_options(), *self.options]
        source = f"{getpass.getuser()}@{self.link.server_address}:{self.files}"
        return ["sshfs", "-f", source, self.mountpoint, "-o", ",".join(options)]


class Local(FileSystem):
    """The served files themselves: this machine's page cache, without anything between."""

    def __init__(self, home, files, link):
        super().__init__("local", home, files, link)
        self.mountpoint = files

    def mount(self):
        pass

    def unmount(self):
        pass

    unmount_by_force = unmount
