#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real guests migrate over TLS: test-tls.py VERSION [WORD...]; words select tests.

Certificates and pre-shared keys, through the proxy and without it, with several connections and
post-copy's own; and each thing that can be wrong with a certificate is told, with the destination
as good as before: the same one takes the guest afterwards.
"""
import pathlib
import shutil
import sys
import tempfile

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "16M", "rate": 1000}
NAME = "b.example"
# The newest machine type of that version, and one that all have.
MACHINES = {"7.2": "pc-i440fx-7.2", "10.0": "pc-i440fx-10.0", "11.1": "pc-i440fx-11.0"}

PKI = tempfile.TemporaryDirectory(prefix="qmig-tls-")
TOP = pathlib.Path(PKI.name)
GOOD, OTHER, PSK, PSK2 = TOP / "good", TOP / "other", TOP / "psk", TOP / "psk2"


def pki(*args):
    """Make something with `qmig pki`."""
    done = lib.run("pki", *map(str, args))
    check(done.code == 0, done.err)


def make_pki():
    """The directories of all tests."""
    pki("all", GOOD, "--host", NAME, "--host", "127.0.0.1")
    pki("all", OTHER, "--host", NAME)
    pki("psk", PSK)
    pki("psk", PSK2)


def directory(name, **kinds):
    """A directory of its own: the CA of GOOD, and for each end days, or a directory to copy."""
    path = TOP / name
    if path.exists():
        return path
    path.mkdir()
    shutil.copy(GOOD / "ca-cert.pem", path)
    for kind, what in kinds.items():
        if isinstance(what, int):
            extra = ("--host", NAME) if kind == "server" else ()
            pki(kind, path, "--ca", GOOD, f"--days={what}", *extra)
        else:
            for part in ("cert", "key"):
                shutil.copy(what / f"{kind}-{part}.pem", path)
    return path


def pair(machine=None, **options):
    """A pair with a dirtying guest."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(qemu, qemu, accel=lib.accel(qemu), mem_mib=128, workload=WORKLOAD,
                       machine=machine or MACHINES[VERSION], **options)


def tls(*more, path=GOOD):
    """The options of a migration by certificates."""
    return ("--tls", f"--tls-dir={path}", f"--tls-destination={NAME}", *more)


def psk(*more, path=PSK):
    """The options of one by keys."""
    return ("--tls", "--tls-psk", f"--tls-dir={path}", *more)


def objects(side):
    """Names below /objects."""
    return {item["name"] for item in side.cmd("qom-list", path="/objects")}


def left_clean(p, before):
    """Nothing that TLS needed is left on either side."""
    for side in (p.src, p.dst):
        if side.alive():
            check("qmig-tls" not in objects(side), f"{side.name}: objects: {objects(side)}")
            check(objects(side) == before[side.name], f"{side.name}: {objects(side)}")
            check(not [b for b in side.cmd("query-named-block-nodes")
                       if b.get("node-name") == "qmig-tls"], f"{side.name}: no node is left")
            check("qmig-tls" not in {c["label"] for c in side.cmd("query-chardev")},
                  f"{side.name}: no character device is left")


def moves(*options, machine=None, also=None):
    """A test: the guest moves whole, settings and objects are as before."""
    def test():
        with pair(machine) as p:
            p.wait_ticking(p.src)
            before = {side.name: objects(side) for side in (p.src, p.dst)}
            settings = {side.name: lib.settings(side) for side in (p.src, p.dst)}
            report = lib.moved_whole(p, *options)
            left_clean(p, before)
            for side in (p.src, p.dst):
                check(lib.settings(side) == settings[side.name], f"{side.name}: settings")
            check(not [m for m in report["messages"] if "not rehearsed" in m],
                  f"both handshakes were rehearsed: {report['messages']}")
            if also is not None:
                also(report)
    return test


def was_read(report):
    """The plugins saw what was in it; both legs were encrypted."""
    check(report["proxy"]["plugins"]["stats"]["complete"] == 1, "the stream was read to its end")
    for channel in report["proxy"]["channels"]:
        check(channel["tls_source"].startswith("TLSv1.3") and
              channel["tls_destination"].startswith("TLSv1.3"), f"encrypted: {channel}")


def with_multifd(report):
    """Main and four multifd channels."""
    was_read(report)
    kinds = [c["kind"] for c in report["proxy"]["channels"] if c["bytes_forward"] > 0]
    check(kinds.count("main") == 1 and kinds.count("multifd") == 4, f"channels: {kinds}")


def was_rewritten(report):
    """By the encoder."""
    was_read(report)
    check(report["proxy"]["channels"][0]["mode"] == "rewrite", "rewritten")


def refused(texts, *options, then=(), source=None):
    """
    A test: exit 2 and every one of @texts; nothing is left, the guest runs on; and the same
    destination takes it with the options @then. @source(p): set up something.
    """
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            if source is not None:
                source(p)
            before = {side.name: objects(side) for side in (p.src, p.dst)}
            settings = lib.settings(p.src)
            there = lib.settings(p.dst)
            done = lib.run(*lib.migrate_args(p), *options)
            lib.stayed_whole(p, done, 2, settings)
            for text in texts:
                check(text in done.err, f"\"{text}\" in: {done.err}")
            check(lib.settings(p.dst) == there, "the destination's settings are put back")
            check(p.dst.status() == "inmigrate", "the destination waits as before")
            left_clean(p, before)
            lib.moved_whole(p, *(then or tls()))
    return test


def postcopy(*options):
    """A test: the guest goes over in post-copy."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            done = lib.run(*lib.migrate_args(p), *tls(), "--postcopy-after-precopy",
                           "--keep-source", "--bandwidth=100MiB/s", *options)
            check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
            p.wait_ticking(p.dst)
            check(p.running() == ["dst"], f"one guest runs: {p.running()}")
            check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
            check("qmig-tls" not in objects(p.src) | objects(p.dst), "no object is left")
            kinds = {c["kind"] for c in done.report()["proxy"]["channels"]}
            check("--cap=postcopy-preempt" not in options or VERSION == "10.0" or
                  "preempt" in kinds, f"channels: {kinds}")
    return test


def own_objects():
    """--tls-creds: objects of the user's are used and stay; wrong ones are told."""
    with pair() as p:
        p.wait_ticking(p.src)
        for side, end in ((p.src, "client"), (p.dst, "server")):
            side.cmd("object-add", **{"qom-type": "tls-creds-x509", "id": "mine", "dir": str(GOOD),
                                      "endpoint": end})
        p.src.cmd("object-add", **{"qom-type": "tls-creds-x509", "id": "wrong", "dir": str(GOOD),
                                   "endpoint": "server"})
        for creds, text in (("none", "has no object \"none\""),
                            ("wrong,mine", "wanted endpoint=client"), (",", "wanted ID or ID,ID")):
            done = lib.run(*lib.migrate_args(p), *tls(f"--tls-creds={creds}"))
            lib.stayed_whole(p, done, 2)
            check(text in done.err, f"\"{text}\" in: {done.err}")
        lib.moved_whole(p, *tls("--tls-creds=mine"))
        check("mine" in objects(p.src) and "mine" in objects(p.dst), "they stay")


def authorization(p):
    """The destination lets in who is called so."""
    p.dst.cmd("object-add", **{"qom-type": "authz-simple", "id": "yes",
                               "identity": "O=qmig,CN=client"})
    p.dst.cmd("object-add", **{"qom-type": "authz-simple", "id": "no",
                               "identity": "O=qmig,CN=somebody"})


def unreadable(texts, client, server, *options, then=()):
    """
    A test: the same where qmig cannot read the files, as on another host. Objects of the user's
    whose files are gone stand for that: QEMU has read them, only the rehearsal can tell.
    """
    def source(p):
        for side, end, path in ((p.src, "client", client), (p.dst, "server", server)):
            copy = TOP / f"hidden-{end}"
            shutil.copytree(path, copy)
            kind = "psk" if (path / "keys.psk").exists() else "x509"
            more = {"username": "qemu"} if (kind, end) == ("psk", "client") else {}
            side.cmd("object-add", **{"qom-type": f"tls-creds-{kind}", "id": "mine",
                                      "dir": str(copy), "endpoint": end, **more})
            shutil.rmtree(copy)
    return refused(texts, *options, "--tls-creds=mine", then=then, source=source)


def over_a_link():
    """Both hosts are others, with tcp between: the source is tried before it is made to wait."""
    with lib.vm.Link(None) as link, pair(link=link) as p:
        p.wait_ticking(p.src)
        report = lib.moved_whole(
            p, "--tls", f"--tls-dir={LINK}", f"--migrateuri=tcp:{link.dst_addr}:0",
            f"--listen=tcp:{link.src_addr}:0", prefix=link.exec_prefix)
        was_read(report)
        check(not [m for m in report["messages"] if "not rehearsed" in m], report["messages"])
    with lib.vm.Link(None) as link, pair(link=link) as p:
        p.wait_ticking(p.src)
        report = lib.moved_whole(p, "--tls", f"--tls-dir={LINK}", "--direct",
                                 f"--migrateuri=tcp:{link.dst_addr}:0")
        check(not [m for m in report["messages"] if "not rehearsed" in m], report["messages"])


def black_hole_halts_no_guest():
    """The source's way to the proxy swallows packets: told, and the guest runs on meanwhile."""
    with lib.vm.Link(None) as link, pair(link=link) as p:
        p.wait_ticking(p.src)
        link.set_up(False)
        began_ns = p.src.ticks.last_ns
        done = lib.run(*lib.migrate_args(p), "--tls", f"--tls-dir={LINK}",
                       f"--migrateuri=tcp:{link.dst_addr}:0", f"--listen=tcp:{link.dst_addr}:0",
                       "--timeout=10s", prefix=link.dst_exec_prefix)
        lib.stayed_whole(p, done, done.code)
        check(done.code in (3, 5), f"exit 3 or 5, got {done.code}: {done.err}")
        check("was not rehearsed (the source does not get a connection there)" in done.err,
              done.err)
        gap = max((length for _, length in p.src.ticks.gaps(1, began_ns)), default=0)
        print(f"# longest silence of the guest: {gap:.0f} ms")
        check(gap < 2000, f"the guest was not halted: {gap:.0f} ms")


def with_disks():
    """Disks are copied over TLS, past the proxy; a certificate they would stumble over is told."""
    with pair(disks=[lib.vm.Disk()]) as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), *tls("--copy-storage-all"),
                       f"--tls-source-dir={NO_CLIENT}")
        lib.stayed_whole(p, done, 2)
        check("client-cert.pem is missing" in done.err, done.err)
        report = lib.moved_whole(p, *tls("--copy-storage-all"))
        was_read(report)
        check(lib.vm.disks.equal(p.src.disks[0], p.dst.disks[0], p.disks[0].format,
                                 p.disks[0].format), "images equal")


def left_by_a_killed_one():
    """An object of a qmig that was killed is in nobody's way."""
    with pair() as p:
        p.wait_ticking(p.src)
        p.src.cmd("object-add", **{"qom-type": "tls-creds-x509", "id": "qmig-tls",
                                   "dir": str(OTHER), "endpoint": "client"})
        report = lib.moved_whole(p, *tls())
        check([m for m in report["messages"] if "an earlier qmig left" in m], report["messages"])
        check("qmig-tls" not in objects(p.src), "it is gone")


def captured():
    """--record keeps what was in the encrypted migration: it can be read and checked."""
    with pair() as p, tempfile.TemporaryDirectory() as scratch:
        p.wait_ticking(p.src)
        lib.moved_whole(p, *tls(f"--record={scratch}/capture"))
        done = lib.run("stream", "check", f"{scratch}/capture")
        check(done.code == 0, f"the capture is whole: {done.out}{done.err}")


make_pki()
EXPIRED_SERVER = directory("expired-server", server=-3, client=GOOD)
EXPIRED_CLIENT = directory("expired-client", server=GOOD, client=-3)
LINK = TOP / "link"
pki("all", LINK, "--host", lib.vm.Link.src_addr, "--host", lib.vm.Link.dst_addr)
NO_CLIENT = directory("no-client", server=GOOD)
FOREIGN_CLIENT = directory("foreign-client", server=GOOD, client=OTHER)
D = "--direct"
TESTS = [
    (f"{VERSION}: certificates, through the proxy, RAM equal", moves(*tls(), also=was_read)),
    (f"{VERSION}: certificates, rewritten by a plugin, RAM equal",
     moves(*tls("--plugin=null"), also=was_rewritten)),
    (f"{VERSION}: certificates, four connections, RAM equal",
     moves(*tls("--parallel-connections=4"), also=with_multifd)),
    (f"{VERSION}: certificates, four connections, machine 7.2 (no farewells), RAM equal",
     moves(*tls("--parallel-connections=4"), machine="pc-i440fx-7.2", also=with_multifd)),
    (f"{VERSION}: certificates, direct, RAM equal", moves(*tls(D))),
    (f"{VERSION}: certificates, direct, four connections, RAM equal",
     moves(*tls(D, "--parallel-connections=4"))),
    (f"{VERSION}: certificates, tcp, the name is the host's, RAM equal",
     moves("--tls", f"--tls-dir={GOOD}", "--migrateuri=tcp:127.0.0.1:0",
           "--listen=tcp:127.0.0.1:0", also=was_read)),
    (f"{VERSION}: pre-shared keys, through the proxy, RAM equal", moves(*psk(), also=was_read)),
    (f"{VERSION}: pre-shared keys, direct, RAM equal", moves(*psk(D))),
    (f"{VERSION}: post-copy over TLS", postcopy()),
    (f"{VERSION}: post-copy with preempt over TLS", postcopy("--cap=postcopy-preempt")),
    (f"{VERSION}: objects of the user's, used and kept", own_objects),
    (f"{VERSION}: an object left behind is removed", left_by_a_killed_one),
    (f"{VERSION}: a capture of an encrypted migration can be read", captured),
    (f"{VERSION}: an expired certificate of the destination is told first",
     refused(["server-cert.pem has expired", "expired-server", "good until"],
             *tls(f"--tls-destination-dir={EXPIRED_SERVER}"))),
    (f"{VERSION}: an expired certificate of the source is told first",
     refused(["client-cert.pem has expired"], *tls(f"--tls-source-dir={EXPIRED_CLIENT}"))),
    (f"{VERSION}: another name is told first, through the proxy and direct",
     refused(["is for another name", "wanted \"c.example\""], "--tls", f"--tls-dir={GOOD}",
             "--tls-destination=c.example", then=tls(D))),
    (f"{VERSION}: another CA is told first",
     refused(["is from another CA"], *tls(f"--tls-destination-dir={OTHER}"))),
    (f"{VERSION}: another CA of the source is told first, direct",
     refused(["is from another CA"], *tls(D, f"--tls-source-dir={OTHER}"))),
    (f"{VERSION}: a missing client certificate is told first",
     refused(["client-cert.pem is missing"], *tls(D, f"--tls-source-dir={NO_CLIENT}"))),
    (f"{VERSION}: a missing client certificate of the proxy is told first",
     refused(["the proxy has no client certificate"], *tls(f"--tls-proxy-dir={NO_CLIENT}"))),
    (f"{VERSION}: a name that tls-authz does not allow is told first, through the proxy",
     refused(["destination: TLS: it closes the connection after the handshake"],
             *tls("--tls-authz=no"), then=tls("--tls-authz=yes"), source=authorization)),
    (f"{VERSION}: a name that tls-authz does not allow is told first, direct",
     refused(["tls-authz does not allow its name"], *tls(D, "--tls-authz=no"),
             then=tls(D, "--tls-authz=yes"), source=authorization)),
    (f"{VERSION}: unreadable files: another name is told by the rehearsal, direct",
     unreadable(["source: TLS: it refuses the destination's certificate: it is for another name, "
                 "wanted c.example"], GOOD, GOOD, D, "--tls", "--tls-destination=c.example",
                then=tls(D))),
    (f"{VERSION}: unreadable files: another CA is told by the rehearsal, direct",
     unreadable(["source: TLS: it refuses the destination's certificate: it is from another CA"],
                GOOD, OTHER, *tls(D), then=tls(D))),
    (f"{VERSION}: unreadable files: a missing client certificate is told by the rehearsal, direct",
     unreadable(["destination: TLS: it does not accept the source's certificate: there is none"],
                NO_CLIENT, GOOD, *tls(D), then=tls(D))),
    (f"{VERSION}: unreadable files: another CA of the proxy is told by the rehearsal",
     unreadable(["source: TLS: it refuses the proxy's certificate: it is from another CA"],
                OTHER, GOOD, *tls())),
    (f"{VERSION}: unreadable files: a source without certificate is told by the rehearsal",
     unreadable(["source: TLS: the source shows no certificate"], NO_CLIENT, GOOD, *tls())),
    (f"{VERSION}: unreadable files: another CA of the destination is told by the rehearsal",
     unreadable(["destination: TLS: the destination's certificate is from another CA"],
                GOOD, OTHER, *tls())),
    (f"{VERSION}: unreadable files: another name of the destination is told by the rehearsal",
     unreadable(["destination: TLS: the destination's certificate is for another name: it "
                 "(O=qmig,CN=b.example) is for DNS:b.example"],
                GOOD, GOOD, "--tls", f"--tls-dir={GOOD}", "--tls-destination=c.example")),
    (f"{VERSION}: unreadable files: other keys are told by the rehearsal",
     unreadable(["TLS handshake with the source: the pre-shared keys differ"], PSK2, PSK,
                *psk(), then=psk())),
    (f"{VERSION}: unreadable files: other keys are told by the rehearsal, direct",
     unreadable(["the pre-shared keys differ"], PSK2, PSK, *psk(D), then=psk(D))),
    (f"{VERSION}: other hosts: both handshakes are rehearsed over tcp", over_a_link),
    (f"{VERSION}: a black hole before the proxy halts no guest", black_hole_halts_no_guest),
    (f"{VERSION}: disks over TLS", with_disks),
    (f"{VERSION}: different keys are told first",
     refused(["have different keys for user \"qemu\""], *psk(f"--tls-destination-dir={PSK2}"),
             then=psk())),
]
WORDS = sys.argv[2:]
lib.run_tests([t for t in TESTS if not WORDS or any(word in t[0] for word in WORDS)])
