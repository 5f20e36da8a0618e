# SPDX-License-Identifier: MIT
"""A client of the Remofile protocol, version 2, written from docs/PROTOCOL.md alone.

It shares no code with the programs under test, so that what they and the document say can be held against each other.
"""
import struct
import time
from dataclasses import dataclass, field

import lz4.block
import zmq
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from zmq.utils.monitor import recv_monitor_message

MAGIC = 0x4652
VERSION = 2
KIND_REQUEST, KIND_REPLY, KIND_PUSH = 1, 2, 3
LINK, BULK, RESENT, DROP_SET_ID, KEEP_SET_ID, VOID, IN_ORDER = 1, 2, 4, 8, 16, 32, 64
RAW, LZ4, ZEROS = 0, 1, 2
FEATURE_LZ4, FEATURE_ZEROS, FEATURE_SEALED_LANES, FEATURE_SET_ID, FEATURE_LEASES = 1, 2, 4, 8, 16
FEATURE_EXCLUSIVE_LEASES, FEATURE_LENT_INODES = 32, 64
OVERTAKES = 1  # a reply's message flag
NO_ATTRIBUTES, WITH_NODES, ATTRIBUTES_ALONE = 0, 1, 2  # of READDIR
MAX_BULK = 1048576

OPCODES = {
    name: number
    for number, name in [
        (1, "HELLO"), (2, "ATTACH"), (3, "BYE"), (4, "PING"), (5, "CANCEL"), (6, "CREDENTIAL"), (7, "SERVER_STATUS"),
        (8, "INVALIDATED"), (9, "LANE_TICKET"), (10, "RETURN_LEASES"), (11, "TAKE_LEASES"), (12, "SHARE_LEASES"), (13, "LEND_INODES"), (14, "EXPORTS"), (16, "LOOKUP"), (17, "FORGET"), (18, "GETATTR"), (19, "SETATTR"), (20, "READLINK"),
        (21, "MKNOD"), (22, "MKDIR"), (23, "UNLINK"), (24, "RMDIR"), (25, "SYMLINK"), (26, "RENAME"), (27, "LINK"),
        (28, "ACCESS"), (29, "STATFS"), (30, "MAKE_LENT"), (32, "OPEN"), (33, "CREATE"), (34, "TMPFILE"), (35, "READ"), (36, "WRITE"),
        (37, "RELEASE"), (38, "FLUSH"), (39, "FSYNC"), (40, "FALLOCATE"), (41, "SEEK"), (42, "COPY_RANGE"), (44, "FETCH"),
        (48, "OPENDIR"), (49, "READDIR"), (50, "RELEASEDIR"), (51, "FSYNCDIR"), (52, "LIST"), (56, "GETXATTR"), (57, "SETXATTR"),
        (58, "LISTXATTR"), (59, "REMOVEXATTR"), (64, "GETLK"), (65, "SETLK"), (66, "FLOCK"),
    ]
}  # fmt: skip
PUSH_INVALIDATE, PUSH_SHUTDOWN = 0x8001, 0x8002
ALL_LEASES = 1  # INVALIDATE's flag
CONTENT, NAME, ENDED, DIRECTORY, SHARED = 0, 1, 2, 3, 4  # a lease_change's what
NO_LIMIT = 2**32 - 1  # of trust_ms

STATUS = {
    "ok": 0, "not_permitted": 1, "no_entry": 2, "io_error": 3, "bad_handle": 5, "try_again": 6, "access_denied": 8,
    "exists": 10, "not_directory": 12, "is_directory": 13, "invalid": 14, "read_only": 18, "name_too_long": 22,
    "no_locks": 23, "not_implemented": 24, "not_empty": 25, "symlink_loop": 26, "no_data": 27, "not_supported": 29, "stale": 30, "interrupted": 34,
    "cancelled": 200, "malformed": 201, "version_mismatch": 202, "not_authorized": 203, "bad_token": 204, "in_use": 205,
    "no_session": 206, "limit_exceeded": 207, "shutting_down": 208, "export_needed": 212,
}  # fmt: skip

O_READ, O_WRITE, O_APPEND, O_TRUNCATE, O_EXCLUSIVE, O_HOLD = 1, 2, 4, 8, 16, 512


class ProtocolError(Exception):
    """The server sent what the document does not allow."""


class NoAnswer(Exception):
    """The server did not answer before the deadline."""


class StatusError(Exception):
    def __init__(self, status, opcode):
        name = next((name for name, number in STATUS.items() if number == status), str(status))
        super().__init__(f"{name} ({status}) in reply to opcode {opcode}")
        self.status = status


# ---- encoding ----


def u8(value):
    return struct.pack("<B", value)


def u16(value):
    return struct.pack("<H", value)


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def boolean(value):
    return u8(1 if value else 0)


def string(value):
    return u16(len(value)) + value


def timestamp(seconds, nanoseconds=0):
    return struct.pack("<qI", seconds, nanoseconds)


def new_node(number, reuse=False):
    return u64(number) + boolean(reuse)


def lock_range(kind, start, end, pid=0):
    return u8(kind) + u64(start, end) + u32(pid)


class Reader:
    """Takes fields off a reply's body; a body with bytes left over is an error."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ProtocolError("a reply's body is too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def boolean(self):
        value = self.u8()
        if value > 1:
            raise ProtocolError(f"a bool of {value}")
        return value == 1

    def string(self):
        return self.take(self.u16())

    def list_of(self, element):
        return [element() for _ in range(self.u16())]

    def timestamp(self):
        return self.number("q"), self.u32()

    def identity(self):
        return self.u64(), self.u64(), self.timestamp()

    def attributes(self):
        names = ("mode", "links", "uid", "gid", "rdev_major", "rdev_minor")
        found = {"identity": self.identity()}
        found.update((name, self.u32()) for name in names)
        found.update((name, self.u64()) for name in ("size", "blocks"))
        found["block_size"] = self.u32()
        found.update((name, self.timestamp()) for name in ("access", "modification", "change"))
        found["version"] = self.u64()
        return found

    def entry(self):
        return self.u64(), self.attributes()

    def client(self):
        who = {"name": self.string(), "address": self.string(), "since": self.u64(), "exclusive": self.boolean()}
        who.update(leases=self.u32(), revoked=self.u64(), expired=self.u64())
        return who

    def lease_change(self):
        return self.u64(), self.u8(), self.string()

    def invalidation(self):
        found = {"sequence": self.u64(), "flags": self.u8(), "nodes": self.list_of(self.u64)}
        found["changes"] = self.list_of(self.lease_change)
        self.end()
        return found

    def counter(self):
        return self.string(), self.u64()

    def lock_range(self):
        return self.u8(), self.u64(), self.u64(), self.u32()

    def directory_entry(self):
        cookie, inode, kind, name = self.u64(), self.u64(), self.u8(), self.string()
        node, attributes = self.entry()
        no_xattrs, target = self.boolean(), self.string()
        return {"cookie": cookie, "inode": inode, "type": kind, "name": name, "node": node, "attributes": attributes,
                "no_xattrs": no_xattrs, "target": target}

    def end(self):
        if self.at != len(self.data):
            raise ProtocolError(f"{len(self.data) - self.at} bytes left over in a reply's body")


@dataclass
class Record:
    opcode: int
    body: bytes = b""
    bulk: bytes = None  # as it goes over the wire
    bulk_size: int = None  # once decoded; of `bulk` unless given
    encoding: int = RAW
    flags: int = 0
    id: int = 0
    detail: int = 0

    def header(self):
        flags = self.flags | (BULK if self.bulk is not None else 0)
        size = 0 if self.bulk is None else len(self.bulk) if self.bulk_size is None else self.bulk_size
        return struct.pack("<IHBBQII", len(self.body), self.opcode, flags, self.encoding, self.id, self.detail, size)


def request(name, body=b"", bulk=None, **more):
    return Record(OPCODES[name], body, bulk, **more)


def encode_message(records, answered_below=0, received_bytes=0, kind=KIND_REQUEST, version=VERSION, magic=MAGIC, count=None):
    head = struct.pack(
        "<HBBHHQQ", magic, version, kind, len(records) if count is None else count, 0, answered_below, received_bytes
    )
    head += b"".join(record.header() + record.body for record in records)
    return [head] + [record.bulk for record in records if record.bulk is not None]


def decode_message(frames):
    """(kind, [Record with its bulk data decoded])"""
    kind, _, records = decode_message_with_flags(frames)
    return kind, records


def decode_message_with_flags(frames):
    """(kind, the message's flags, [Record with its bulk data decoded])"""
    head = frames[0]
    if len(head) < 24:
        raise ProtocolError("no message header")
    magic, version, kind, count, flags_of_message, answered_below, received_bytes = struct.unpack_from("<HBBHHQQ", head)
    known_flags = OVERTAKES if kind == KIND_REPLY else 0
    if (magic, version, flags_of_message & ~known_flags, answered_below, received_bytes) != (MAGIC, VERSION, 0, 0, 0):
        raise ProtocolError(f"bad message header {head[:24].hex()}")
    if kind not in (KIND_REPLY, KIND_PUSH) or not 1 <= count <= 64:
        raise ProtocolError(f"kind {kind} with {count} records")
    at = 24
    bulks = list(frames[1:])
    records = []
    for _ in range(count):
        if at + 24 > len(head):
            raise ProtocolError("head frame too short")
        body_bytes, opcode, flags, encoding, number, detail, bulk_size = struct.unpack_from("<IHBBQII", head, at)
        at += 24
        record = Record(opcode, head[at : at + body_bytes], None, bulk_size, encoding, flags, number, detail)
        if len(record.body) != body_bytes:
            raise ProtocolError("head frame too short for a body")
        at += body_bytes
        if flags & BULK:
            record.bulk = decode_bulk(bulks.pop(0), encoding, bulk_size)
        elif bulk_size or encoding:
            raise ProtocolError("bulk size or encoding without bulk")
        records.append(record)
    if at != len(head) or bulks:
        raise ProtocolError("bytes or frames left over in a message")
    return kind, flags_of_message, records


def decode_bulk(data, encoding, size):
    if size > MAX_BULK:
        raise ProtocolError(f"bulk of {size} bytes")
    if encoding == LZ4:
        data = lz4.block.decompress(data, uncompressed_size=size)
    elif encoding == ZEROS:
        if data:
            raise ProtocolError("zeros with bytes")
        data = bytes(size)
    elif encoding != RAW:
        raise ProtocolError(f"bulk encoding {encoding}")
    if len(data) != size:
        raise ProtocolError(f"bulk of {len(data)} bytes that says {size}")
    return data


# ---- talking ----


class Lane:
    """One DEALER socket. After a lost connection a new one is made."""

    def __init__(self, context, endpoint, server_key=None, keys=None):
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.received_bytes = 0
        self.last_flags = 0  # of the latest message
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        if server_key:
            self.socket.curve_serverkey = server_key
            self.socket.curve_publickey, self.socket.curve_secretkey = keys
        self.prepare()
        self.socket.connect(endpoint)

    def prepare(self):
        pass

    def send(self, records, answered_below=0):
        self.send_frames(encode_message(records, answered_below, self.received_bytes))

    def send_frames(self, frames):
        self.socket.send_multipart(frames)

    def open_frames(self, frames):
        return frames

    def receive_frames(self, timeout_s=10.0):
        if not self.socket.poll(int(timeout_s * 1000)):
            raise NoAnswer()
        frames = self.open_frames(self.socket.recv_multipart())
        self.received_bytes += sum(len(frame) for frame in frames)
        return frames

    def receive(self, timeout_s=10.0):
        kind, self.last_flags, records = decode_message_with_flags(self.receive_frames(timeout_s))
        return kind, records

    def handshake(self, timeout_s=10.0):
        """True once the handshake succeeded, else the ZAP status that ended it; None if neither came in time."""
        if not self.monitor.poll(int(timeout_s * 1000)):
            return None
        event = recv_monitor_message(self.monitor)
        return True if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED else event["value"]

    def close(self):
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


class Seal:
    """One direction of a sealed lane."""

    def __init__(self, key):
        self.cipher = AESGCM(key)
        self.messages = 0

    def frames(self, transform, frames):
        self.messages += 1
        return [
            transform(struct.pack("<QI", self.messages, number), frame, None if number else struct.pack("<I", len(frames)))
            for number, frame in enumerate(frames)
        ]

    def seal(self, frames):
        return self.frames(self.cipher.encrypt, frames)

    def open(self, frames):
        try:
            return self.frames(self.cipher.decrypt, frames)
        except InvalidTag as error:
            raise ProtocolError("a frame does not open") from error


class SealedLane(Lane):
    """A lane at the second port, by a ticket."""

    def __init__(self, context, endpoint, ticket, key_to_server, key_to_client):
        self.to_server, self.to_client = Seal(key_to_server), Seal(key_to_client)
        self.ticket = ticket
        super().__init__(context, endpoint)

    def prepare(self):
        self.socket.plain_username = self.ticket.hex().encode()

    def send_frames(self, frames):
        super().send_frames(self.to_server.seal(frames))

    def open_frames(self, frames):
        return self.to_client.open(frames)


@dataclass
class Client:
    """A session: numbers requests, matches replies, keeps pushes."""

    connect: object  # () -> Lane
    lane: Lane = None
    hello: dict = None
    next_id: int = 1
    unanswered: dict = field(default_factory=dict)  # id -> Record
    replies: dict = field(default_factory=dict)  # id -> Record, not yet taken
    pushes: list = field(default_factory=list)
    sent_at: dict = field(default_factory=dict)  # id -> when, of what is unanswered
    trusted_since: float = 0.0  # when the latest request was sent that was answered without `overtakes`
    lookups: int = 1000  # the numbers of nodes that LeasedDirectory has taken

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.lane:
            self.lane.close()
            self.lane = None

    def answered_below(self):
        return min(self.unanswered, default=self.next_id)

    def number(self, *records, flags=0):
        """Numbers the records, without sending them, and returns their ids."""
        for record in records:
            record.id = self.next_id
            record.flags |= flags
            self.next_id += 1
            self.unanswered[record.id] = record
            self.sent_at[record.id] = time.monotonic()
        return [record.id for record in records]

    def send(self, *records, flags=0):
        """Numbers the records, sends them in one message and returns their ids."""
        numbers = self.number(*records, flags=flags)
        self.lane.send(records, self.answered_below())
        return numbers

    def wait(self, number, timeout_s=10.0):
        """The reply to request `number`."""
        while number not in self.replies:
            self.take(*self.lane.receive(timeout_s))
        return self.replies.pop(number)

    def take(self, kind, records):
        for record in records:
            if kind == KIND_PUSH:
                if record.id or record.opcode < 0x8000:
                    raise ProtocolError("a push with an id or a request's opcode")
                self.pushes.append(record)
                continue
            asked = self.unanswered.pop(record.id, None)
            if asked is None:
                raise ProtocolError(f"a reply to request {record.id}, which is not unanswered")
            if asked.opcode != record.opcode:
                raise ProtocolError(f"a reply with opcode {record.opcode} to {asked.opcode}")
            if record.detail and (record.bulk is not None or (record.body and record.detail != STATUS["in_use"])):
                raise ProtocolError("an error reply with a body")
            self.replies[record.id] = record
            sent_at = self.sent_at.pop(record.id)
            if not self.lane.last_flags & OVERTAKES:
                self.trusted_since = max(self.trusted_since, sent_at)

    def exchange(self, *records):
        """Sends the records, each linked to the next, and returns their replies."""
        for record in records[:-1]:
            record.flags |= LINK
        return [self.wait(number) for number in self.send(*records)]

    def call(self, name, body=b"", bulk=None, **more):
        """One request; (body's Reader, bulk) or StatusError."""
        (reply,) = self.exchange(request(name, body, bulk, **more))
        if reply.detail:
            raise StatusError(reply.detail, reply.opcode)
        return Reader(reply.body), reply.bulk

    def list_directory(self, node, name=b"", new=None, handle=0, size=MAX_BULK, lease=False):
        """LIST's reply as a dictionary, with the entries by their names."""
        body = u64(node) + string(name) + (new or new_node(0)) + u64(handle) + u32(size) + boolean(lease)
        reader, bulk = self.call("LIST", body)
        found_node, attributes = reader.entry()
        count = reader.u16()
        found = {"node": found_node, "attributes": attributes, "end": reader.boolean(), "leased": reader.boolean()}
        found["trust_ms"], found["no_xattrs"] = reader.u32(), reader.boolean()
        reader.end()
        listing = Reader(bulk or b"")
        entries = [listing.directory_entry() for _ in range(count)]
        listing.end()
        found["entries"] = {entry["name"]: entry for entry in entries}
        found["cookie"] = entries[-1]["cookie"] if entries else 0
        return found

    def take_leases(self, *directories):
        """TAKE_LEASES's reply: (whether taken, whether empty) of each directory, and trust_ms."""
        reader, _ = self.call("TAKE_LEASES", u16(len(directories)) + u64(*directories))
        return self.taken(reader, len(directories))

    @staticmethod
    def taken(reader, count):
        leases = reader.list_of(lambda: (reader.boolean(), reader.boolean()))
        trust_ms = reader.u32()
        reader.end()
        if len(leases) != count or any(empty and not taken for taken, empty in leases):
            raise ProtocolError(f"leases {leases} of {count} directories")
        return leases, trust_ms

    def lend_inodes(self, directory, files=0, directories=0):
        """LEND_INODES's reply: the server's time, and (number, attributes) of each file and of each directory."""
        reader, _ = self.call("LEND_INODES", u64(directory) + u32(files, directories))
        now = reader.timestamp()
        lent = [reader.list_of(lambda: (reader.u64(), reader.attributes())) for _ in range(2)]
        reader.end()
        return now, *lent

    def make_lent(self, parent, name, new, lent, time, handle=0, flags=0, mode=0o644, umask=0o022):
        body = u64(parent) + string(name) + new_node(new) + u64(lent, handle) + u32(flags, mode, umask)
        reader, _ = self.call("MAKE_LENT", body + timestamp(*time))
        _, attributes = reader.entry()
        reader.end()
        return attributes

    def share_leases(self, *directories):
        self.call("SHARE_LEASES", u16(len(directories)) + u64(*directories))

    def fetch(self, parent, name, size=MAX_BULK):
        """(attributes, content), the content None if it does not come."""
        reader, bulk = self.call("FETCH", u64(parent) + string(name) + u32(size))
        attributes, complete = reader.attributes(), reader.boolean()
        reader.end()
        return attributes, (bulk or b"") if complete else None

    def wait_for_push(self, timeout_s=10.0):
        """The next INVALIDATE as a dictionary."""
        while not self.pushes:
            self.take(*self.lane.receive(timeout_s))
        push = self.pushes.pop(0)
        if push.opcode != PUSH_INVALIDATE:
            raise ProtocolError(f"push {push.opcode} in place of INVALIDATE")
        return Reader(push.body).invalidation()

    def confirm(self, sequence):
        self.call("INVALIDATED", u64(sequence))

    def say_hello(
        self, path=b"/", root=1, token=b"", features=0, flags=0, wait_ms=0, name=b"python", resume=False, versions=(2, 2),
        compression=0,
    ):
        """The reply as a dictionary. With `resume`, on a new lane in place of the lost one."""
        if self.lane is None:
            self.lane = self.connect()
        session, secret = (self.hello["session"], self.hello["secret"]) if resume else (0, bytes(16))
        body = u8(versions[0]) + u8(versions[1]) + u64(features) + u8(compression) + u32(flags, wait_ms)
        body += u64(session) + secret
        body += u64(root) + string(path) + string(name) + string(token)
        (number,) = self.send(request("HELLO", body))
        reply = self.wait(number, 10 + wait_ms / 1000)
        reader = Reader(reply.body)
        if reply.detail == STATUS["in_use"]:
            error = StatusError(reply.detail, reply.opcode)
            error.clients = reader.list_of(reader.client)
            reader.end()
            raise error
        if reply.detail:
            raise StatusError(reply.detail, reply.opcode)
        self.hello = {
            "version": reader.u8(), "features": reader.u64(), "session": reader.u64(), "secret": reader.take(16),
            "boot": reader.u64(), "resumed": reader.boolean(), "read_only": reader.boolean(),
            "client_identity": reader.boolean(), "server_uid": reader.u32(), "server_gid": reader.u32(),
            "root": reader.u64(), "attributes": reader.attributes(), "max_requests": reader.u32(),
            "request_bytes": reader.u32(), "reply_window_bytes": reader.u32(), "session_timeout_ms": reader.u32(),
            "ping_interval_ms": reader.u32(), "lease_term_ms": reader.u32(), "clients": reader.list_of(reader.client),
        }  # fmt: skip
        reader.end()
        return self.hello

    def lose_connection(self):
        self.lane.close()
        self.lane = None

    def resume(self, void=()):
        """Takes the session up on a new connection and sends again what was not answered; the requests `void` only to
        learn what has become of them."""
        old = sorted(self.unanswered.items())
        self.say_hello(resume=True)
        for number, record in old:
            record.flags |= RESENT
            if number in void:
                record.flags |= VOID
                record.bulk = None
            self.lane.send([record], self.answered_below())
        return self.hello


class LeasedDirectory:
    """What a client may answer for the server while it has the lease of a directory, as *Leases* has it."""

    def __init__(self, client, parent, name, node):
        self.client, self.parent, self.name, self.node = client, parent, name, node
        self.forget()

    def forget(self):
        self.leased = self.complete = False
        self.names = {}  # name -> attributes; None where they have to be asked for
        self.unknown = set()  # names that may stand for anything
        self.own_mode = None

    def in_force(self):
        # A tenth less than the term, for clocks of different speed.
        term_s = self.client.hello["lease_term_ms"] / 1000 * 0.9
        return self.leased and self.client.lane is not None and time.monotonic() - self.client.trusted_since < term_s

    def list(self):
        """Asks for the listing and the lease. What is told meanwhile voids it."""
        self.forget()
        number, own = (self.parent, self.name) if self.name else (self.node, b"")
        found = self.client.list_directory(number, own, new_node(self.node, False), lease=True)
        self.parent, self.name = self.node, b""
        if not found["leased"] or any(push.opcode == PUSH_INVALIDATE for push in self.client.pushes):
            return
        self.leased, self.complete = True, found["end"]
        self.own_mode = found["attributes"]["mode"]
        entries = found["entries"].items()
        self.names = {name: self.covered(entry["attributes"]) for name, entry in entries if name not in (b".", b"..")}

    @staticmethod
    def covered(attributes):
        """A file with several names is asked for each time; attributes without a mode say nothing."""
        return attributes if attributes["links"] == 1 and attributes["mode"] else None

    def listen(self, timeout_s=10.0):
        """Waits for a push, and confirms it."""
        self.take(self.client.wait_for_push(timeout_s))

    def take(self, push):
        """Lets go of what is void, and then confirms, which waits for nothing."""
        if push["flags"] & ALL_LEASES:
            self.forget()
        for node, what, name in push["changes"]:
            if node != self.node:
                continue
            if what == ENDED:
                self.forget()
            elif what == DIRECTORY:
                self.own_mode = None
            elif what == CONTENT:
                self.names[name] = None
            else:
                self.names.pop(name, None)
                self.unknown.add(name)
                self.own_mode = None
        self.client.confirm(push["sequence"])

    def find(self, name, ask=True):
        """The attributes of what the name stands for, from memory if they are known, else from the server."""
        if self.in_force() and name not in self.unknown:
            if self.names.get(name):
                return self.names[name]
            if self.complete and name not in self.names:
                return None
        if not ask:
            return None
        asked = len(self.client.pushes)
        self.client.lookups += 1
        reader, _ = self.client.call("LOOKUP", u64(self.node) + string(name) + new_node(self.client.lookups))
        _, attributes = reader.entry()
        if self.in_force() and len(self.client.pushes) == asked:
            self.names[name] = self.covered(attributes)
            self.unknown.discard(name)
        return attributes

    def known_names(self):
        """All names, of which those that are unknown are asked for."""
        if not self.in_force() or not self.complete:
            self.list()
        for name in list(self.unknown):
            try:
                self.find(name)
            except StatusError as error:
                if error.status != STATUS["no_entry"]:
                    raise
                self.unknown.discard(name)
        return set(self.names)
