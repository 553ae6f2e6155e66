# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Links that a test breaks and mends: a relay between two ends of a TCP connection, and the cable of
a vm.Link. Both have the same methods:

    cut()        every connection is reset, and none can be made
    black_hole() nothing passes, and nobody is told
    slow(rate)   so many bytes a second, in both directions
    mend()       all is well again; what a black hole held back is a connection's to repeat
"""
import collections
import select
import socket
import struct
import subprocess
import threading
import time

_CHUNK = 64 << 10
_IDLE_S = 0.05
_RESET = struct.pack("ii", 1, 0)    # SO_LINGER: closing says RST


class _Way:
    """One direction of a connection: what was read and not written yet."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.held, self.ended, self.told = bytearray(), False, False

    def read(self, most):
        """Take bytes; how many. Raises OSError for a connection that broke."""
        data = self.source.recv(most)
        self.ended = not data
        self.held += data
        return len(data)

    def write(self):
        """Hand on what is held; the end, too."""
        if self.held:
            del self.held[:self.sink.send(self.held)]
        if self.ended and not self.held and not self.told:
            self.told = True
            self.sink.shutdown(socket.SHUT_WR)


class RelayLink:
    """
    Listens at .address ("127.0.0.1:PORT") and connects to .target (host, port), which may change
    meanwhile. One thread does all, so that what cut() and black_hole() say holds when they return.
    """
    exec_prefix = dst_exec_prefix = ()
    dst_addr = "127.0.0.1"

    def __init__(self, target=None):
        self.target = target
        self.bytes_passed = 0
        self.connections_made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._ways = []
        self._state, self._rate, self._budget, self._refilled = "open", 0, 0, time.monotonic()
        self._orders, self._done = collections.deque(), threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # ---- what a test says --------------------------------------------------------------------

    def cut(self):
        """Reset every connection; none can be made."""
        self._order("cut")

    def cut_one(self):
        """Reset one connection, the oldest; others stay, and new ones can be made."""
        self._order("cut one")

    def black_hole(self):
        """Nothing passes, nothing is refused."""
        self._order("hole")

    def slow(self, bytes_per_s):
        """All connections together pass so much, either direction."""
        self._rate = bytes_per_s
        self._order("open")

    def mend(self):
        """Everything passes."""
        self._rate = 0
        self._order("open")

    def close(self):
        """End all."""
        if not self._closed:
            self._closed = True
            self._order("end")
            self._thread.join(5)
            self._wake.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _order(self, order):
        self._done.clear()
        self._orders.append(order)
        self._wake.send(b"x")
        if not self._done.wait(10):
            raise AssertionError(f"the relay does not hear: {order}")

    # ---- its thread --------------------------------------------------------------------------

    def _run(self):
        turn = 0
        while self._obey():
            self._refill()
            readers = [self._woken]
            writers = []
            # What a black hole is offered stays in the kernel, as it would in a network.
            if self._state != "hole":
                readers.append(self._listener)
            if self._state == "open" and self._budget > 0:
                readers += [w.source for w in self._ways if not w.ended and len(w.held) < _CHUNK]
                writers = [w.sink for w in self._ways if w.held]
            readable, writable, _ = select.select(readers, writers, [], _IDLE_S)
            if self._woken in readable:
                continue
            if self._listener in readable:
                self._accept()
            # Another begins each time: where bytes are few, nobody shall starve.
            turn += 1
            first = turn % max(len(self._ways), 1)
            for way in self._ways[first:] + self._ways[:first]:
                if way in self._ways:
                    self._move(way, readable, writable)
        while self._ways:
            self._reset(self._ways[0])
        self._listener.close()
        self._woken.close()
        self._done.set()

    def _obey(self):
        """Do what was ordered; False: it was the end."""
        while self._orders:
            order = self._orders.popleft()
            self._woken.recv(1)
            if order == "end":
                return False
            if order == "cut one":
                self._reset(self._ways[0]) if self._ways else None
            elif order == "cut":
                self._state = "cut"
                while self._ways:
                    self._reset(self._ways[0])
            else:
                self._state = order
            self._done.set()
        return True

    def _refill(self):
        now = time.monotonic()
        if self._rate:
            self._budget = min(self._budget + (now - self._refilled) * self._rate,
                               max(self._rate / 20, 1500))
        else:
            self._budget = _CHUNK
        self._refilled = now

    def _accept(self):
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        if self._state == "cut" or not self.target:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            return
        try:
            far = socket.create_connection(self.target, timeout=2)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            return
        self.connections_made += 1
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways += [_Way(near, far), _Way(far, near)]

    def _move(self, way, readable, writable):
        try:
            if way.source in readable and self._budget > 0:
                n = way.read(_CHUNK)
                self.bytes_passed += n
                self._budget -= n if self._rate else 0
            if way.sink in writable or way.source in readable:
                way.write()
        except BlockingIOError:
            return
        except OSError:
            self._reset(way)
            return
        back = next((w for w in self._ways if w.source is way.sink), None)
        if way.told and back and back.told:
            self._drop(way)

    def _drop(self, way):
        """Forget a connection, both directions, and close it."""
        self._ways = [w for w in self._ways if way.source not in (w.source, w.sink)]
        way.source.close()
        way.sink.close()

    def _reset(self, way):
        for end in (way.source, way.sink):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop(way)


class CableLink:
    """A network of its own: the ends run in its two namespaces, and TCP sees what it would see."""

    def __init__(self, vm, rate="1gbit"):
        self._vm, self._rate = vm, rate
        self.link = vm.Link(rate)
        self.exec_prefix, self.dst_exec_prefix = self.link.exec_prefix, self.link.dst_exec_prefix
        self.dst_addr = self.link.dst_addr
        self._prohibited = False

    def _both(self):
        link = self.link
        return ((link.src_ns, link.dst_addr), (link.dst_ns, link.src_addr))

    def cut(self):
        """Both hosts get errors at once, on what was open and on what is tried."""
        self._prohibited = True
        for namespace, peer in self._both():
            subprocess.run(["ip", "-n", namespace, "route", "add", "prohibit", peer + "/32"],
                           check=True)
        for namespace, _ in self._both():
            subprocess.run(["ip", "netns", "exec", namespace, "ss", "-K", "-t", "state",
                            "connected"], check=True, stdout=subprocess.DEVNULL)

    def black_hole(self):
        """The other end of the cable is out: packets are lost."""
        self._set_far_end("down")

    def slow(self, bytes_per_s):
        """A rate in place of the link's own."""
        self.link.set_rate(8 * bytes_per_s)

    def mend(self):
        """As it was made."""
        if self._prohibited:
            for namespace, peer in self._both():
                subprocess.run(["ip", "-n", namespace, "route", "del", "prohibit", peer + "/32"],
                               check=False, stderr=subprocess.DEVNULL)
            self._prohibited = False
        self._set_far_end("up")
        self.link.set_rate(self._rate)

    def _set_far_end(self, how):
        subprocess.run(["ip", "-n", self.link.dst_ns, "link", "set", "veth0", how], check=True)

    def close(self):
        """Remove it."""
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
