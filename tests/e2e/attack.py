# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever should not come into a tunnel, comes, in many ways at once."""
import collections
import concurrent.futures
import contextlib
import os
import random
import select
import socket
import ssl
import struct
import threading
import time

WORKERS = 12
HANGING = 40          # more than one address may have, fewer than fit at the door
PATIENCE_S = 15
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")
RECORD = struct.Struct(">BHH")


def head(kind, length, plain=None, stream=0):
    """The head of a frame whose checksum is wrong."""
    return struct.pack(">BBHIIIQQ", kind, 0, stream, length, length if plain is None else plain,
                       0, 0, 0)


class Attack:
    """
    @n attempts at @port. @good and @other: directories with client certificates, of the far end's
    CA and of another one. `kinds` counts what was tried, `failed` what could not even connect.
    """

    def __init__(self, port, n, good, other, seed=5):
        self.port, self.n = port, n
        self.random = random.Random(seed)
        self.kinds = collections.Counter()
        self.failed = []
        self.hanging = []
        self.lock = threading.Lock()
        self.contexts = {"good": self.context(good, good), "other": self.context(other, good)}
        self.seconds = 0.0

    @staticmethod
    def context(own, trusted):
        """A client that shows @own's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(trusted / "ca-cert.pem")
        context.load_cert_chain(own / "client-cert.pem", own / "client-key.pem")
        return context

    def connect(self, number):
        """From one of many addresses of this host, now and then from the near end's."""
        connection = socket.socket()
        connection.settimeout(PATIENCE_S)
        connection.bind((f"127.0.0.{1 + number % 60}", 0))
        connection.connect(("127.0.0.1", self.port))
        return connection

    @staticmethod
    def shown_out(connection):
        """Wait until the far end has had enough."""
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                pass

    # ---- what they do ----

    def garbage(self, connection, _):
        """Some other protocol, or none."""
        connection.sendall(random.choice([b"GET / HTTP/1.1\r\nHost: far\r\n\r\n", os.urandom(300),
                                          b"QEVM\0\0\0\3", b"\0" * 64]))
        self.shown_out(connection)

    def gone(self, connection, _):
        """Nothing at all, and away; with a reset, every other time."""
        if random.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def half(self, connection, _):
        """The beginning of a handshake, and away."""
        connection.sendall(CLIENT_HELLO[:random.randrange(1, len(CLIENT_HELLO))])

    def big_record(self, connection, _):
        """More than a record may hold."""
        connection.sendall(RECORD.pack(22, 0x0301, 0xffff) + os.urandom(4096))
        self.shown_out(connection)

    def with_tls(self, connection, who, data):
        """After a whole handshake."""
        with contextlib.suppress(OSError):
            with self.contexts[who].wrap_socket(connection, do_handshake_on_connect=True) as tls:
                tls.sendall(data)
                self.shown_out(tls)

    def stranger(self, connection, _):
        """A certificate of somebody else's CA."""
        self.with_tls(connection, "other", b"")

    def big_frame(self, connection, _):
        """One who may come in, and begins with a frame of 4 GiB, or of the largest of a session."""
        self.with_tls(connection, "good", random.choice([head(1, 0xffffffff), head(1, 513),
                                                         head(17, 512 << 10, stream=1)]))

    def damaged(self, connection, _):
        """One who may come in, and whose first frame is not whole."""
        self.with_tls(connection, "good", head(3, 54) + os.urandom(54))

    def slow(self, connection, _):
        """Hang at the door: silent, or with half a handshake."""
        if random.random() < 0.7:
            connection.sendall(CLIENT_HELLO[:random.randrange(1, len(CLIENT_HELLO))])
        with self.lock:
            self.hanging.append(connection)

    def one(self, number):
        """One attempt."""
        kind = KINDS[number % len(KINDS)]
        self.sweep()
        if kind == "slow" and len(self.hanging) >= HANGING:
            kind = "half"       # there are enough of them at any time
        try:
            connection = self.connect(number)
        except OSError as error:
            with self.lock:
                self.failed.append(error)
            return
        try:
            with contextlib.suppress(OSError):
                getattr(self, kind)(connection, number)
        finally:
            if kind != "slow":
                connection.close()
            with self.lock:
                self.kinds[kind] += 1

    def sweep(self):
        """Those that were shown out leave."""
        with self.lock:
            ready = select.select(self.hanging, [], [], 0)[0]
            for connection in ready:
                connection.close()
                self.hanging.remove(connection)

    def run(self):
        """All of them; ends when the last one was shown out."""
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for done in pool.map(self.one, range(self.n)):
                del done
        end = time.monotonic() + PATIENCE_S
        while self.hanging and time.monotonic() < end:
            self.sweep()
            time.sleep(0.05)
        self.seconds = time.monotonic() - begin


# Handshakes cost this side more than that one: fewer of them.
KINDS = ["garbage", "gone", "half", "big_record", "slow", "garbage", "gone", "half", "big_record",
         "stranger", "garbage", "gone", "half", "slow", "big_frame", "garbage", "gone", "half",
         "damaged", "slow"]
