# SPDX-License-Identifier: MIT
"""Follows README.md, section Use, to the letter: its commands are taken out of it and run, by root and by an ordinary user.

Everything happens in namespaces of its own: a network in which server.example is, an /etc/hosts and /etc/passwd that say
so, /srv, /mnt and /usr/local. The server and the client of two machines have a configuration directory each.
"""

import os
import pathlib
import pty
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77  # as meson takes it
ADDRESS = "10.77.0.1"


def commands_after(heading):
    """The indented block that follows the first line that begins so, without its indentation."""
    lines = iter(README.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.lstrip().startswith(heading):
            break
    else:
        raise AssertionError(f"README.md has no line that begins with {heading!r}")
    block = []
    for line in lines:
        if line.startswith("    "):
            block.append(line.strip())
        elif block and line.strip():
            break
    return block


def typed(block):
    """What a person types of a block that shows answers too."""
    return [line[2:] for line in block if line.startswith("$ ")]


class Machine:
    """A user of the one machine, whose home and configuration are a server's or a client's."""

    def __init__(self, user, uid, home, config, config_at):
        self.user, self.uid, self.home, self.config = user, uid, home, config
        # There, the configuration directory is this machine's. It lasts as long as the process.
        enter = f"umount -nila -t fuse.remofs; mount --bind {config} {config_at} && echo ready && exec sleep infinity"
        self.inside = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "--propagation=private", "sh", "-c", enter], stdout=subprocess.PIPE)

    def command(self, script):
        become = ["setpriv", "--pdeathsig", "TERM"]  # what was started ends with us, even if we are killed
        if self.uid != 0:
            become += [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return ["nsenter", "-t", str(self.inside.pid), "-m", "env", "-C", str(self.home), f"HOME={self.home}", f"USER={self.user}",
                *become, "sh", "-euc", script]

    def run(self, script):
        done = subprocess.run(self.command(script), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError(f"exit status {done.returncode} of:\n{script}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def run_at_terminal(self, script, typed_text):
        ours, theirs = pty.openpty()
        try:
            os.write(ours, typed_text.encode())
            done = subprocess.run(self.command(script), stdin=theirs, capture_output=True, text=True, timeout=60, check=False)
        finally:
            os.close(ours)
            os.close(theirs)
        if done.returncode != 0:
            raise AssertionError(f"exit status {done.returncode} of:\n{script}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self, script, log):
        return subprocess.Popen(self.command("exec " + script), stdout=log, stderr=log)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.05)


class ReadmeTest(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=SCRATCH))
        self.directory.chmod(0o755)
        self.processes = []
        for left in pathlib.Path("/srv/files").iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def tearDown(self):
        for process in self.processes:
            process.terminate()
            process.wait(timeout=20)
        # Daemons go too, of which there are no others in this network.
        for pid in daemons():
            os.kill(pid, 15)
        wait_for(lambda: not daemons())

    def machine(self, user, uid, name):
        home = pathlib.Path("/root") if uid == 0 else pathlib.Path("/home") / user
        config = self.directory / name
        config.mkdir()
        os.chown(config, uid, uid)
        config_at = pathlib.Path("/etc/remofile") if uid == 0 else home / ".config/remofile"
        config_at.mkdir(parents=True, exist_ok=True)
        for path in [home, home / ".config"]:
            if uid and path.exists():
                os.chown(path, uid, uid)
        machine = Machine(user, uid, home, config, config_at)
        with machine.inside.stdout as ready:
            ready.readline()
        self.processes.append(machine.inside)
        return machine

    def on_one_machine(self, user, uid):
        machine = self.machine(user, uid, "one")
        script = "\n".join(commands_after("**On one machine"))
        script = script.replace("...", "echo content > ~/mnt/file; [ $(cat ~/files/file) = content ]")
        machine.run(script)

    def between_machines(self, user, uid):
        server = self.machine(user, uid, "server")
        client = self.machine(user, uid, "client")
        os.chown("/srv/files", uid, uid)
        listen = typed(commands_after("1. On the server"))[0]
        log = self.directory / "log"
        with open(log, "w", encoding="utf-8") as output:
            self.processes.append(server.start(listen, output))
        wait_for(lambda: "which must show " in log.read_text(encoding="utf-8"))
        line = re.search(r"on a client: (remofs .*)", log.read_text(encoding="utf-8")).group(1)
        key = re.search(r"which must show (\S*)", log.read_text(encoding="utf-8")).group(1)

        said = client.run("\n".join(typed(commands_after("2. On the client"))))
        own = re.search(r"public key: (.*)", said).group(1)
        self.assertEqual((client.config / "identity.pub").read_text(encoding="utf-8").strip(), own)
        place = "/etc/remofile" if uid == 0 else "~/.config/remofile"
        server.run(f"cat >> {place}/authorized_keys <<'END'\n{own} a comment\nEND")

        # README: an ordinary user names a directory of her own in place of /mnt.
        mountpoint = "/mnt" if uid == 0 else f"{client.home}/there"
        os.makedirs(mountpoint, exist_ok=True)
        os.chown(mountpoint, uid, uid)
        unmount = f"fusermount3 -u {mountpoint}" if uid else f"umount {mountpoint}"
        # The line that the server shows for clients that are not to ask it.
        client.run(line.replace(" /mnt ", f" {mountpoint} ") + f"; {unmount}")

        trust, mount = typed(commands_after("4. On the client"))
        said = client.run_at_terminal(trust, "y\n")
        self.assertIn(f"server.example:6768 has the key {key}\n", said)
        self.assertEqual((client.config / "known_servers").read_text(encoding="utf-8"), f"server.example:6768 {key}\n")
        client.run(mount.replace(" /mnt", f" {mountpoint}") + f"; echo content > {mountpoint}/by-mount")
        self.assertEqual(pathlib.Path("/srv/files/by-mount").read_text(encoding="utf-8"), "content\n")
        client.run(unmount)
        self.without_a_mount(client)
        return client, key

    def without_a_mount(self, client):
        client.run("mkdir -p photos notes; echo photo > photos/p; echo note > notes/n")
        client.run("\n".join(commands_after("**Without a mount**")))
        self.assertEqual(pathlib.Path("/srv/files/photos/p").read_text(encoding="utf-8"), "photo\n")
        self.assertEqual(pathlib.Path("/srv/files/notes/n").read_text(encoding="utf-8"), "note\n")

    def test_one_machine_root(self):
        self.on_one_machine("root", 0)

    def test_one_machine_user(self):
        self.on_one_machine("alice", 20001)

    def test_machines_root(self):
        client, key = self.between_machines("root", 0)
        line = commands_after("**In /etc/fstab**")[0]
        (client.config / "server.example.pub").write_text(key + "\n", encoding="utf-8")
        client.run(f"cat > /etc/fstab <<'END'\n{line}\nEND\nmount /mnt\n[ $(cat /mnt/by-mount) = content ]\n"
                   "findmnt -n -o OPTIONS /mnt | grep nosuid\numount /mnt")

    def test_machines_user(self):
        client, _ = self.between_machines("alice", 20001)
        # The line for a user, as the README says.
        line = commands_after("**In /etc/fstab**")[0].replace("allow_other", "user,noauto")
        line = re.sub(r",server_key=\S*", "", line).replace("/mnt", f"{client.home}/there")
        pathlib.Path("/etc/fstab").write_text(line + "\n", encoding="utf-8")
        client.run(f"mount ~/there\n[ $(cat ~/there/by-mount) = content ]\nfusermount3 -u {client.home}/there")


def daemons():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
            same_network = os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
            if program in ("remofile-server", "remofs") and same_network:
                found.append(int(pid))
        except OSError:
            pass
    return found


def surround(programs):
    """What the user finds: programs, names and places. In namespaces of this process alone."""
    def run(*command):
        subprocess.run(command, check=True)

    run("mount", "--make-rprivate", "/")
    scratch = pathlib.Path(SCRATCH)
    for place in ["/srv", "/mnt", "/home", "/root", "/usr/local"]:
        own = scratch / ("place" + place.replace("/", "-"))
        own.mkdir()
        os.makedirs(place, exist_ok=True)
        run("mount", "--bind", str(own), place)
    for folder in ["bin", "sbin"]:
        os.mkdir(f"/usr/local/{folder}")
    for program in programs:
        folder = "sbin" if program.name == "remofile-server" else "bin"
        shutil.copy(program, f"/usr/local/{folder}/{program.name}")
    os.mkdir("/srv/files")
    os.makedirs("/home/alice")
    os.chown("/home/alice", 20001, 20001)
    os.makedirs("/etc/remofile", exist_ok=True)
    hostname = os.uname().nodename
    for file, more in [("/etc/hosts", f"{ADDRESS} server.example {hostname}\n"),
                       ("/etc/passwd", "alice:x:20001:20001::/home/alice:/bin/sh\n"),
                       ("/etc/fstab", "")]:
        text = pathlib.Path(file).read_text(encoding="utf-8") if os.path.exists(file) else ""
        if file == "/etc/hosts":
            text = "127.0.0.1 localhost\n"
        own = scratch / os.path.basename(file)
        own.write_text(text + more, encoding="utf-8")
        if not os.path.exists(file):
            pathlib.Path(file).touch()
        run("mount", "--bind", str(own), file)
    if os.stat("/dev/fuse").st_mode & 0o666 != 0o666:
        # As udev has it everywhere else.
        own = scratch / "fuse"
        os.mknod(own, 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        os.chmod(own, 0o666)
        run("mount", "--bind", str(own), "/dev/fuse")
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")


def main():
    global README, SCRATCH
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or shutil.which("ip") is None:
        print("skipped: needs root, /dev/fuse and iproute2")
        return SKIPPED
    if os.environ.get("README_SURROUNDED") is None:
        # Once more, where nothing of this machine is touched.
        entered = subprocess.run(["unshare", "-m", "-n", "true"], check=False)
        if entered.returncode != 0:
            print("skipped: namespaces cannot be had")
            return SKIPPED
        with tempfile.TemporaryDirectory(prefix="remofs-readme-") as scratch:
            os.chmod(scratch, 0o755)
            environment = {**os.environ, "README_SURROUNDED": scratch, "PATH": "/usr/local/sbin:/usr/local/bin:" + os.environ["PATH"]}
            environment.pop("REMOFILE_CONFIG_DIR", None)
            return subprocess.run(["unshare", "-m", "-n", sys.executable, *sys.argv], env=environment, check=False).returncode
    README = pathlib.Path(sys.argv[1])
    SCRATCH = os.environ["README_SURROUNDED"]
    surround([pathlib.Path(program) for program in sys.argv[2:]])
    program = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2)
    return 0 if program.result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
