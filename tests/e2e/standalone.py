# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both ends of a tunnel as programs of their own, for migrations that plain QMP drives."""
import threading
import time

import lib
from lib import check
from breaks import RelayLink
from tunnel import Far, Near
from witness import Witness

PATIENCE_S = 60
_POLL_S = 0.01
MULTIFD = ("multifd",)
# Capabilities and parameters of both QEMUs.
MODES = {
    "plain": ((), {}),
    "xbzrle": (("xbzrle",), {}),
    "multifd none": (MULTIFD, {"multifd-channels": 2}),
    "multifd zlib": (MULTIFD, {"multifd-channels": 2, "multifd-compression": "zlib"}),
    "multifd zstd": (MULTIFD, {"multifd-channels": 2, "multifd-compression": "zstd"}),
    "postcopy": (("postcopy-ram",), {}),
    "preempt": (("postcopy-ram", "postcopy-preempt"), {}),
}


def is_postcopy(mode):
    """Whether the guest goes over before its memory."""
    return "postcopy-ram" in MODES[mode][0]


def make_pair(version, mode):
    """Small, so that a migration takes seconds; post-copy shall have something to do."""
    qemu = lib.qemu(version)
    return lib.vm.Pair(qemu, accel=lib.accel(qemu), mem_mib=96, fill=0.4, content="used",
                       workload={"ws": "16M", "rate": 1500 if is_postcopy(mode) else 400,
                                 "content": "random"})


def status(side):
    """Of its migration."""
    return side.cmd("query-migrate", timeout=PATIENCE_S).get("status")


def wait_status(side, words):
    """Until a side's migration is in one of @words."""
    deadline = time.monotonic() + PATIENCE_S
    while (now := status(side)) not in words:
        check(time.monotonic() < deadline, f"{side.name}: {now}, wanted {words}")
        time.sleep(_POLL_S)
    return now


class Ends:
    """The tunnel's two programs with a link between that can break; they carry to @destination."""

    def __init__(self, directory, destination, number=0):
        self.entry = f"unix:{directory}/near{number}.sock"
        self.link = RelayLink()
        self.far = self.near = None
        try:
            self.far = Far(options=("--insecure", f"--connect={destination}"))
            self.link.target = ("127.0.0.1", self.far.port)
            self.near = Near(self.entry, self.link.address)
        except BaseException:
            self.close()
            raise

    def close(self):
        """End all."""
        for thing in (self.near, self.far, self.link):
            if thing is not None:
                thing.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def begin(p, entry, destination, mode, suspended):
    """Tell both what is wanted, and start. Unless @suspended, the guest runs there on arrival."""
    names, parameters = MODES[mode]
    on = [{"capability": name, "state": True} for name in ("return-path", *names)]
    for side in (p.src, p.dst):
        side.cmd("migrate-set-capabilities", capabilities=on)
        side.cmd("migrate-set-parameters", **{"max-bandwidth": 15 << 20,
                                              "max-postcopy-bandwidth": 2 << 20, **parameters})
    p.dst.cmd("migrate-incoming", uri=destination)
    if not suspended:
        p.dst.cmd("cont")
    p.src.cmd("migrate", uri=entry)


def arrived(p, suspended, witness, told):
    """On the destination alone, equal, never twice."""
    check(p.src.status() != "running", f"it does not run on the source: {told}")
    pages = p.compare_ram() if suspended else p.compare_unwritten()
    check(not pages, f"memory is equal; {len(pages)} pages differ, first {pages[:5]}: {told}")
    if suspended:
        check(p.running() == [], f"nobody runs before cont: {p.running()}")
        p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    time.sleep(0.5)
    check(p.running() == ["dst"], f"one guest runs: {p.running()}: {told}")
    alone(p, witness, told)


def alone(p, witness, told):
    """Never were there two, and nobody saw wrong memory."""
    witness.stop()
    double = witness.doubled()
    check(double is None, f"two guests executed: {double}; {told}")
    check(not witness.went_back(), f"the guest went back in time: {told}")
    check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()}; {told}")


# ---- a link that breaks ------------------------------------------------------------------------

class Breaking:
    """
    A migration whose link breaks once.

    at   seconds from its start on, or what the source must say: a function of query-migrate
    """

    def __init__(self, p, ends, mode, at, strike, seconds):
        self._p, self._ends, self._mode = p, ends, mode
        self._at = at if callable(at) else lambda _: time.monotonic() >= self.begun + at
        self._strike, self._seconds = strike, seconds
        self.struck_ns = None
        self.begun = time.monotonic()
        self._asked, self._mender = False, None

    def run(self):
        """Until it has ended, and its link is as before; query-migrate of the source."""
        try:
            return self._run()
        finally:
            if self._mender:
                self._mender.cancel()
                self._mender.join()
            self._ends.link.mend()

    def _run(self):
        end = None
        while True:
            info = self._p.src.cmd("query-migrate", timeout=self._seconds + PATIENCE_S)
            now = time.monotonic()
            if end is None and self._at(info):
                self._strike(self._ends.link)
                self.struck_ns, end = time.monotonic_ns(), now + self._seconds
                # Not by this loop: a QEMU that waits for the link at its end answers nobody.
                self._mender = threading.Timer(self._seconds, self._ends.link.mend)
                self._mender.start()
            elif end and now < end and self._strike is RelayLink.cut_one:
                self._strike(self._ends.link)
            if info.get("status") in ("completed", "failed", "postcopy-paused"):
                return info
            self._go_over(info)
            check(now < self.begun + self._seconds + PATIENCE_S,
                  f"it ends: {info}; near: {self._ends.near.text}; far: {self._ends.far.text}")
            time.sleep(_POLL_S)

    def _go_over(self, info):
        if is_postcopy(self._mode) and not self._asked and \
                info.get("ram", {}).get("dirty-sync-count", 0) > 1:
            self._asked = True
            self._p.src.cmd("migrate-start-postcopy")


STRIKES = {"cut": RelayLink.cut, "black hole": RelayLink.black_hole,
           "slow": lambda link: link.slow(500_000), "one connection": RelayLink.cut_one}
PLACES = {
    "first pages": lambda info: info.get("status") == "active",
    "second pass": lambda info: info.get("ram", {}).get("dirty-sync-count", 0) > 1,
    "postcopy": lambda info: info.get("status") == "postcopy-active",
}
_references = {}


def migrate(version, mode, at, kind, seconds, suspended):
    """
    A migration with a break: @at is a place's name or a part of the time that one without takes.
    Return: what there is to tell.
    """
    when = PLACES[at] if at in PLACES else at * reference(version, mode)
    with make_pair(version, mode) as p:
        p.wait_ticking("src")
        destination = f"unix:{p.dir}/first.sock"
        witness = Witness(p)
        try:
            with Ends(p.dir, destination) as ends:
                begin(p, ends.entry, destination, mode, suspended)
                breaking = Breaking(p, ends, mode, when, STRIKES[kind], seconds)
                info = breaking.run()
                took = time.monotonic() - breaking.begun
                told = f"{info}; near: {ends.near.text}; far: {ends.far.text}"
                check(info["status"] == "completed", f"it completes: {told}")
                wait_status(p.dst, ["completed"])
            arrived(p, suspended, witness, told)
            struck = "" if breaking.struck_ns else ", over before it broke"
            return f"{took:.1f} s, blackout {p.blackout_ms():.0f} ms{struck}"
        finally:
            witness.stop()


def reference(version, mode):
    """Seconds of one that nothing disturbs."""
    if (version, mode) not in _references:
        with make_pair(version, mode) as p:
            p.wait_ticking("src")
            destination = f"unix:{p.dir}/first.sock"
            with Ends(p.dir, destination) as ends:
                begin(p, ends.entry, destination, mode, True)
                undisturbed = Breaking(p, ends, mode, lambda _: False, None, 0)
                info = undisturbed.run()
                check(info["status"] == "completed", f"undisturbed: {info}")
                _references[version, mode] = time.monotonic() - undisturbed.begun
    return _references[version, mode]


# ---- an end that is killed ---------------------------------------------------------------------

def _recover(p):
    """Through a new tunnel, to a new address of the destination."""
    wait_status(p.src, ["postcopy-paused"])
    # Of a near end that is gone its far end hopes that it comes back.
    if status(p.dst) == "postcopy-active":
        p.dst.cmd("migrate-pause")
    wait_status(p.dst, ["postcopy-paused"])
    destination = f"unix:{p.dir}/again.sock"
    p.dst.cmd("migrate-recover", uri=destination)
    with Ends(p.dir, destination, 1) as ends:
        p.src.cmd("migrate", uri=ends.entry, resume=True)
        wait_status(p.src, ["completed"])
        wait_status(p.dst, ["completed"])


def killed(version, who, mode):
    """kill -9 of an end: the guest goes on on the source, or post-copy goes on by a new tunnel."""
    with make_pair(version, mode) as p:
        p.wait_ticking("src")
        destination = f"unix:{p.dir}/first.sock"
        witness = Witness(p)
        try:
            with Ends(p.dir, destination) as ends:
                begin(p, ends.entry, destination, mode, False)
                wait_status(p.src, ["active"])
                time.sleep(0.5)
                if is_postcopy(mode):
                    p.src.cmd("migrate-start-postcopy")
                    wait_status(p.src, ["postcopy-active"])
                    wait_status(p.dst, ["postcopy-active"])
                    time.sleep(0.3)
                getattr(ends, who).kill()
                if who == "far":
                    # Its successor knows nothing of the session, and says so.
                    ends.far.again()
                if is_postcopy(mode):
                    _recover(p)
                else:
                    wait_status(p.src, ["failed"])
            if is_postcopy(mode):
                arrived(p, False, witness, "recovered")
                return "recovered"
            p.wait_ticking("src")
            check(p.running() == ["src"], f"it runs on the source alone: {p.running()}")
            alone(p, witness, "failed")
            return "on the source"
        finally:
            witness.stop()
