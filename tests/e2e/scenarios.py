# SPDX-License-Identifier: LGPL-2.1-or-later
"""The migrations that the stream matrix records: one row each."""
import dataclasses


@dataclasses.dataclass
class Scenario:
    """What runs and how it migrates; see recorder.py."""
    name: str
    source: str                     # QEMU version
    machine: str
    how: str = "precopy"            # a method of recorder.Recording
    source_caps: list = dataclasses.field(default_factory=list)
    both_caps: list = dataclasses.field(default_factory=list)
    destination_caps: list = dataclasses.field(default_factory=list)
    parameters: dict = dataclasses.field(default_factory=dict)
    destination: str = ""           # QEMU version, if another
    guest: str = "bios"             # bios: the code is the BIOS; disk: SeaBIOS starts it
    accel: str = "kvm"
    mem_mib: int = 4
    memory_size: str = ""           # the whole of -m, if more is to be said
    memory: str = "file"            # file (shared), ram (anonymous), huge (memfd, 2 MiB pages)
    machine_options: str = ""
    cpus: int = 1
    devices: list = dataclasses.field(default_factory=list)
    commands: list = dataclasses.field(default_factory=list)
    pattern_pages: int = 256
    bandwidth: int = 2 << 20        # bytes/s as long as passes are wanted
    cuts: int = 1
    unsent: list = dataclasses.field(default_factory=list)  # blocks whose pages do not travel
    quick: bool = False             # part of the normal run


VERSIONS = ("7.2", "10.0", "11.1")
RETURN = ["return-path"]


def pc(version):
    """The PC of that version."""
    return f"pc-i440fx-{version}"


def _plain():
    for v in VERSIONS:
        yield Scenario(f"{v}-plain", v, pc(v), source_caps=RETURN, quick=True)
        yield Scenario(f"{v}-no-return-path-q35", v, f"pc-q35-{v}")
        yield Scenario(f"{v}-file", v, pc(v), "file", quick=v == "10.0")
        yield Scenario(f"{v}-xbzrle", v, pc(v), source_caps=[*RETURN, "xbzrle"], quick=True)
        if v != "7.2":
            yield Scenario(f"{v}-old-machine", v, pc("7.2"), source_caps=RETURN)
            yield Scenario(f"{v}-old-machine-xbzrle", v, "pc-q35-7.2",
                           source_caps=[*RETURN, "xbzrle"])
    yield Scenario("7.2-to-11.1", "7.2", pc("7.2"), source_caps=RETURN, destination="11.1")
    yield Scenario("11.1-to-7.2", "11.1", pc("7.2"), source_caps=RETURN, destination="7.2")
    yield Scenario("10.0-to-11.1", "10.0", pc("10.0"), source_caps=RETURN, destination="11.1")
    yield Scenario("7.2-compress", "7.2", pc("7.2"), source_caps=RETURN, both_caps=["compress"],
                   quick=True, bandwidth=128 << 10)
    yield Scenario("7.2-compress-xbzrle", "7.2", pc("7.2"), source_caps=[*RETURN, "xbzrle"],
                   both_caps=["compress"], bandwidth=128 << 10)
    yield Scenario("7.2-compress-file", "7.2", pc("7.2"), "file", both_caps=["compress"])
    yield Scenario("11.1-switchover-ack", "11.1", pc("10.0"), both_caps=[*RETURN, "switchover-ack"])


def _multifd():
    for v in VERSIONS:
        for method, channels in (("none", 2), ("zlib", 3), ("zstd", 4)):
            yield Scenario(f"{v}-multifd-{method}", v, pc(v), source_caps=RETURN,
                           both_caps=["multifd"], mem_mib=16, quick=method == "zstd",
                           parameters={"multifd-compression": method,
                                       "multifd-channels": channels})
        if v == "7.2":
            continue
        # Until 8.0 each section ends with a SYNC; until 8.2 zero pages travel on main.
        for machine in ("7.2", "8.0", "8.1", "8.2"):
            yield Scenario(f"{v}-multifd-machine-{machine}", v, pc(machine), source_caps=RETURN,
                           both_caps=["multifd"], mem_mib=16, quick=machine == "8.0",
                           parameters={"multifd-compression": "zlib"})
        for detection in ("none", "legacy"):
            yield Scenario(f"{v}-multifd-zero-{detection}", v, pc(v), source_caps=RETURN,
                           both_caps=["multifd"], parameters={"zero-page-detection": detection})
    yield Scenario("7.2-to-11.1-multifd", "7.2", pc("7.2"), source_caps=RETURN, mem_mib=16,
                   both_caps=["multifd"], parameters={"multifd-compression": "zstd"},
                   destination="11.1")
    yield Scenario("11.1-multifd-postcopy", "11.1", pc("11.1"), "postcopy", mem_mib=16,
                   both_caps=["multifd", "postcopy-ram"])


def _postcopy():
    # So much memory that the cut does not come at the end of the postcopy.
    long = {"mem_mib": 16, "pattern_pages": 2048}
    for v in VERSIONS:
        yield Scenario(f"{v}-postcopy", v, pc(v), "postcopy", both_caps=["postcopy-ram"],
                       quick=True)
        yield Scenario(f"{v}-postcopy-smp4-q35", v, f"pc-q35-{v}", "postcopy", cpus=4,
                       both_caps=["postcopy-ram"])
        yield Scenario(f"{v}-preempt", v, pc(v), "postcopy", quick=v != "10.0",
                       both_caps=["postcopy-ram", "postcopy-preempt"])
        yield Scenario(f"{v}-recovery", v, pc(v), "recovery", both_caps=["postcopy-ram"],
                       quick=True, **long)
        yield Scenario(f"{v}-recovery-preempt", v, pc(v), "recovery",
                       both_caps=["postcopy-ram", "postcopy-preempt"], **long)
        yield Scenario(f"{v}-recovery-twice", v, pc(v), "recovery", cuts=2,
                       both_caps=["postcopy-ram"], **long)
        yield Scenario(f"{v}-postcopy-huge", v, pc(v), "postcopy", mem_mib=16, memory="huge",
                       both_caps=["postcopy-ram"], quick=v == "11.1")
        yield Scenario(f"{v}-postcopy-huge-unused", v, pc(v), source_caps=["postcopy-ram"],
                       destination_caps=["postcopy-ram"], mem_mib=16, memory="huge")
        # An urgent page comes while a huge page of main is half sent.
        yield Scenario(f"{v}-preempt-huge", v, pc(v), "postcopy", mem_mib=16, memory="huge",
                       both_caps=["postcopy-ram", "postcopy-preempt"])
        if v != "7.2":
            yield Scenario(f"{v}-preempt-machine-7.2", v, pc("7.2"), "postcopy",
                           both_caps=["postcopy-ram", "postcopy-preempt"])
    # The multifd channels do not come again after the break.
    yield Scenario("11.1-multifd-recovery", "11.1", pc("11.1"), "recovery",
                   both_caps=["multifd", "postcopy-ram"], **long)
    yield Scenario("7.2-postcopy-compress", "7.2", pc("7.2"), "postcopy", bandwidth=128 << 10,
                   both_caps=["postcopy-ram", "compress"])
    yield Scenario("7.2-to-11.1-postcopy", "7.2", pc("7.2"), "postcopy", destination="11.1",
                   both_caps=["postcopy-ram"])


def _files():
    for v in VERSIONS:
        yield Scenario(f"{v}-snapshot", v, pc(v), "snapshot", source_caps=["background-snapshot"],
                       memory="ram", quick=v == "11.1")
        yield Scenario(f"{v}-ignore-shared", v, pc(v), both_caps=["x-ignore-shared"],
                       unsent=["pc.ram"], quick=v == "11.1")
        yield Scenario(f"{v}-uuid", v, pc(v), source_caps=["validate-uuid"],
                       devices=["-uuid", "11223344-5566-7788-99aa-bbccddeeff00"])
        if v == "7.2":
            continue
        for name, caps in (("mapped-ram", ["mapped-ram"]),
                           ("mapped-ram-multifd", ["mapped-ram", "multifd"])):
            yield Scenario(f"{v}-{name}", v, pc(v), "file", source_caps=caps, quick=True)
        yield Scenario(f"{v}-mapped-ram-old-machine", v, "pc-q35-7.2", "file", mem_mib=16,
                       source_caps=["mapped-ram"])
    # 10.0 fails: "Failed to write bitmap to file: Bad address".
    yield Scenario("11.1-mapped-ram-ignore-shared", "11.1", pc("11.1"), "file", unsent=["pc.ram"],
                   source_caps=["mapped-ram", "x-ignore-shared"], quick=True)


DISK = ["-drive", "if=none,id=drive0,node-name=disk0,format=raw,file={dir}/{side}.disk",
        "-device", "virtio-blk-pci,id=blk0,drive=drive0,bootindex=1"]


def _disks():
    bitmap = ("block-dirty-bitmap-add", {"node": "disk0", "name": "bitmap0", "granularity": 65536})
    write = ("human-monitor-command", {"command-line": 'qemu-io disk0 "write -P 5 64k 200k"'})
    for v in VERSIONS:
        yield Scenario(f"{v}-bitmaps", v, pc(v), source_caps=RETURN, both_caps=["dirty-bitmaps"],
                       devices=DISK, commands=[bitmap, write], quick=v == "7.2")
        yield Scenario(f"{v}-bitmaps-postcopy", v, pc(v), "postcopy",
                       both_caps=["dirty-bitmaps", "postcopy-ram"],
                       devices=DISK, commands=[bitmap, write])
    yield Scenario("7.2-block", "7.2", pc("7.2"), source_caps=[*RETURN, "block"], devices=DISK,
                   commands=[write], quick=True)


def _colo():
    for v in ("7.2", "10.0"):
        yield Scenario(f"{v}-colo", v, pc(v), "colo", both_caps=["x-colo"], quick=v == "7.2")
    both = ["x-colo", "return-path"]
    yield Scenario("11.1-colo", "11.1", pc("11.1"), "colo", both_caps=both, quick=True)
    yield Scenario("11.1-colo-q35-machine-7.2", "11.1", "pc-q35-7.2", "colo", both_caps=both)
    yield Scenario("11.1-colo-multifd", "11.1", pc("11.1"), "colo", both_caps=[*both, "multifd"])


def _devices():
    common = [*DISK, "-device", "VGA", "-netdev", "user,id=n0", "-device",
              "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01,romfile=",
              "-netdev", "hubport,id=n1,hubid=0", "-device",
              "e1000,netdev=n1,mac=52:54:00:00:00:02,romfile=",
              "-device", "virtio-scsi-pci,id=scsi0",
              "-drive", "if=none,id=cd0,media=cdrom", "-device", "scsi-cd,bus=scsi0.0,drive=cd0",
              "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci",
              "-device", "virtio-serial-pci", "-device", "isa-serial",
              "-device", "qemu-xhci,id=xhci", "-device", "usb-tablet,bus=xhci.0",
              "-device", "usb-kbd,bus=xhci.0"]
    boot = {"guest": "disk", "accel": "kvm", "mem_mib": 32, "devices": common}
    for v in VERSIONS:
        for kind in ("pc-i440fx", "pc-q35"):
            yield Scenario(f"{v}-devices-{kind[3:]}", v, f"{kind}-{v}", source_caps=RETURN,
                           cpus=4, quick=kind == "pc-q35" and v != "10.0", **boot)
            if v != "7.2":
                yield Scenario(f"{v}-devices-{kind[3:]}-7.2", v, f"{kind}-7.2",
                               source_caps=RETURN, **boot)
        yield Scenario(f"{v}-devices-postcopy", v, f"pc-q35-{v}", "postcopy", cpus=4,
                       both_caps=["postcopy-ram"], bandwidth=512 << 10, **boot)
        yield Scenario(f"{v}-devices-multifd", v, f"pc-q35-{v}", source_caps=RETURN,
                       both_caps=["multifd"], parameters={"multifd-compression": "zstd"}, **boot)
        yield Scenario(f"{v}-devices-snapshot", v, f"pc-q35-{v}", "snapshot", memory="ram",
                       source_caps=["background-snapshot"], **boot)
        yield Scenario(f"{v}-smp4", v, pc(v), source_caps=RETURN, cpus=4)
        flash = ["-drive", "if=none,id=code,format=raw,readonly=on,file={dir}/bios.bin",
                 "-drive", "if=none,id=vars,format=raw,file={dir}/{side}.vars"]
        yield Scenario(f"{v}-pflash", v, pc(v), source_caps=RETURN, guest="flash",
                       machine_options=",pflash0=code,pflash1=vars", devices=flash)
        if v != "7.2":
            mem = ["-object", "memory-backend-ram,id=vmem,size=64M", "-device",
                   "virtio-mem-pci,id=vm0,memdev=vmem,requested-size=0,block-size=2M"]
            for machine, quick in ((v, v == "11.1"), ("7.2", False)):
                yield Scenario(f"{v}-virtio-mem-{machine}", v, f"pc-q35-{machine}",
                               source_caps=RETURN, mem_mib=16, memory_size="16M,maxmem=256M",
                               devices=mem, quick=quick)


def _framing():
    for v in VERSIONS:
        yield Scenario(f"{v}-no-description", v, pc(v), source_caps=RETURN, quick=v == "11.1",
                       machine_options=",suppress-vmdesc=on")
        # Without suppress-vmdesc, 10.0 and 11.1 abort (json-writer.c: Assertion `depth').
        yield Scenario(f"{v}-no-configuration", v, pc(v), source_caps=RETURN,
                       machine_options=",suppress-vmdesc=on" if v != "7.2" else "",
                       devices=["-global", "migration.send-configuration=off"])
        yield Scenario(f"{v}-no-footer", v, pc(v), source_caps=RETURN,
                       devices=["-global", "migration.send-section-footer=off"])


ALL = [scenario for group in (_plain, _multifd, _postcopy, _files, _disks, _colo, _devices,
                              _framing) for scenario in group()]
