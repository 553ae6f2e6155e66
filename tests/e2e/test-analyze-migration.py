#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`qmig stream device --json` and `qmig stream desc --json` beside QEMU's own
scripts/analyze-migration.py: every device, every field, every value, of streams that real QEMUs
save. test-analyze-migration.py VERSION | alone-VERSION | golden …; "alone" is a machine for each
device that QEMU has, one after the other.

The script is not ours and not here: $QMIG_QEMU_SOURCE names a source tree of QEMU, otherwise
`test-vm/fetch-qemu --source` gets the script alone. The scripts of old versions cannot read all
that is new (and say so); of the newest, every stream has to be read.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import lib
from lib import check

from vmkit import cleanup

SCRATCH = pathlib.Path(lib.SCRATCH.name)
GOLDEN = lib.TOP / "tests/golden"
DRIVE = "driver=null-co,size=16M,read-zeroes=on"

# Words of a QEMU's command line. "?WORDS" is left out where QEMU does not know the device.
PLAIN = ["-nic", "user,model=e1000", "-vga", "std"]
DISKS = [
    "-drive", f"if=none,id=d0,{DRIVE}", "-drive", f"if=none,id=d1,{DRIVE}",
    "-drive", f"if=none,id=d2,{DRIVE}", "-drive", f"if=ide,{DRIVE}",
    "-drive", "if=ide,index=2,media=cdrom",
    "-device", "virtio-blk-pci,drive=d0", "-device", "virtio-scsi-pci,id=scsi",
    "-device", "scsi-hd,bus=scsi.0,drive=d1", "-device", "scsi-cd,bus=scsi.0",
]
USB = ["-device", "usb-kbd,bus=usb.0", "-device", "usb-tablet,bus=usb.0",
       "-device", "usb-storage,bus=usb.0,drive=d2", "-device", "usb-hub,bus=usb.0"]
VIRTIO = ["-device", "virtio-net-pci,mq=on,vectors=6", "-device", "virtio-balloon-pci",
          "-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "virtconsole",
          "-device", "virtio-keyboard-pci"]
NETWORK = [word for model in ("rtl8139", "pcnet", "ne2k_pci", "i82559er", "e1000e", "vmxnet3",
                              "tulip", "?igb") for word in ("-device", model)]
ODD = ["-device", "cirrus-vga", "-device", "lsi53c895a", "-device", "megasas",
       "-device", "pvscsi", "-device", "mptsas1068", "-device", "am53c974",
       "-device", "sdhci-pci", "-device", "AC97,audiodev=none", "-device", "ES1370,audiodev=none",
       "-device", "intel-hda", "-device", "hda-duplex,audiodev=none",
       "-audiodev", "none,id=none", "-device", "i6300esb",
       "-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc",
       "-device", "pci-serial", "-device", "pvpanic-pci", "-device", "vmgenid",
       "-device", "tpci200", "-device", "pcie-pci-bridge", "-device", "sb16,audiodev=none"]

# One machine for each of these; no matter which of them a QEMU does not have.
BACKENDS = [
    "-drive", f"if=none,id=drive,{DRIVE}", "-chardev", "null,id=char", "-audiodev", "none,id=audio",
    "-netdev", "user,id=net", "-object", "memory-backend-ram,id=mem,size=128M",
    "-object", "memory-backend-ram,id=erst,size=128K",
]
BUSES = ["-device", "virtio-scsi-pci", "-device", "qemu-xhci", "-device", "intel-hda",
         "-device", "virtio-serial-pci", "-device", "usb-ccid", "-device", "tpci200",
         "-device", "ipmi-bmc-sim,id=bmc"]
ALONE = {
    "pc-q35": """
        AC97,audiodev=audio ES1370,audiodev=audio hda-duplex,audiodev=audio
        hda-micro,audiodev=audio hda-output,audiodev=audio ich9-intel-hda usb-audio,audiodev=audio
        virtio-sound-pci,audiodev=audio
        VGA ati-vga bochs-display cirrus-vga qxl qxl-vga ramfb secondary-vga virtio-gpu-pci
        virtio-vga vmware-svga i2c-ddc
        am53c974 dc390 ich9-ahci ide-cd ide-hd,drive=drive lsi53c810 lsi53c895a megasas
        megasas-gen2 mptsas1068 nvme,drive=drive,serial=x piix3-ide piix4-ide pvscsi scsi-cd
        scsi-hd,drive=drive sdhci-pci ufs virtio-blk-pci,drive=drive virtio-scsi-pci
        e1000 e1000-82544gc e1000-82545em e1000e i82550 i82551 i82557a i82557b i82557c i82558a
        i82558b i82559a i82559b i82559c i82559er i82562 i82801 igb ne2k_pci pcnet rtl8139 rocker
        tulip virtio-net-pci,netdev=net vmxnet3
        ich9-usb-ehci1 ich9-usb-ehci2 ich9-usb-uhci1 ich9-usb-uhci6 nec-usb-xhci pci-ohci
        piix3-usb-uhci piix4-usb-uhci usb-ehci usb-bot usb-ccid usb-host usb-hub usb-kbd usb-mouse
        usb-redir,chardev=char usb-serial,chardev=char usb-storage,drive=drive usb-tablet
        usb-wacom-tablet usb-net,netdev=net ccid-card-passthru,chardev=char
        cxl-downstream i82801b11-bridge ioh3420 pci-bridge,chassis_nr=1 pcie-pci-bridge
        pcie-root-port pxb-pcie x3130-upstream xio3130-downstream
        acpi-erst,memdev=erst amd-iommu edu i6300esb intel-iommu ipoctal232 ivshmem-plain,memdev=mem
        pci-ipmi-bt,bmc=bmc pci-ipmi-kcs,bmc=bmc smbus-ipmi,bmc=bmc pci-serial,chardev=char
        pci-serial-4x pci-testdev pvpanic-pci tpci200 uefi-vars-x64 vmclock vmcoreinfo vmgenid
        pc-dimm,memdev=mem virtio-mem-pci,memdev=mem virtio-pmem-pci,memdev=mem
        virtio-balloon-pci virtio-iommu-pci virtio-keyboard-pci virtio-mouse-pci
        virtio-multitouch-pci virtio-rng-pci virtio-rtc-pci virtio-serial-pci virtio-tablet-pci
        virtconsole,chardev=char virtserialport,chardev=char""",
    "pc-i440fx": """
        adlib,audiodev=audio cs4231a,audiodev=audio gus,audiodev=audio sb16,audiodev=audio
        hyperv-testdev i8042 ib700 isa-applesmc isa-cirrus-vga isa-debug-exit
        isa-debugcon,chardev=char isa-fdc isa-ide isa-ipmi-bt,bmc=bmc isa-ipmi-kcs,bmc=bmc
        isa-parallel,chardev=char isa-serial,chardev=char isa-vga mc146818rtc ne2k_isa pc-testdev
        pvpanic sga""",
    "microvm": """
        virtio-balloon-device virtio-blk-device,drive=drive virtio-gpu-device virtio-keyboard-device
        virtio-mem,memdev=mem virtio-net-device,netdev=net virtio-pmem,memdev=mem virtio-rng-device
        virtio-scsi-device virtio-serial-device virtio-sound-device,audiodev=audio""",
}


class Script:
    """One analyze-migration.py."""

    def __init__(self, source):
        self.path = source / "scripts/analyze-migration.py"
        self.read, self.refused = 0, {}
        # 7.2 tells an array by "index"; later ones, by a name that comes again: of such arrays of
        # a later QEMU the old script says only the last element.
        self.lists_by_index = "nullptr" not in self.path.read_text(encoding="utf-8")

    def knows(self, stream):
        """Whether it was made for what that QEMU writes."""
        return stream.name.startswith("7.2") or not self.lists_by_index

    def run(self, stream, *options):
        """Its JSON; None when it cannot read @stream."""
        done = subprocess.run([sys.executable, self.path, *options, "-f", stream],
                              capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        # The last exception only tells that there was one, with the whole description.
        said = [line for line in done.stderr.splitlines()
                if "Error: " in line or line.startswith("Exception: ")]
        self.refused[stream.name] = said[0][:100] if said else f"exit {done.returncode}"
        return None


def find_scripts():
    """Oldest first."""
    named = os.environ.get("QMIG_QEMU_SOURCE")
    sources = [pathlib.Path(named)] if named else sorted(
        (lib.TOP / ".cache/qemu-source").glob("[0-9]*"),
        key=lambda path: [int(n) for n in path.name.split(".")])
    return [Script(source) for source in sources
            if (source / "scripts/analyze-migration.py").exists()]


SCRIPTS = find_scripts()
COUNT = {"streams": 0, "devices": 0, "values": 0}


# ---- what the script would print for our values -------------------------------------------------

def raw(value, kind, size):
    """The bytes of a value, in hexadecimal as the script has them."""
    if isinstance(value, dict):
        return state_bytes(value)
    if value is None:
        return b"0"
    if isinstance(value, (bool, int)):
        return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    check(isinstance(value, str), f"a value of type {kind}: {value!r}")
    return bytes.fromhex(value)


def state_bytes(state):
    """The bytes that a state was read from."""
    whole = b"".join(raw(value, field["type"], field["size"])
                     for field in state["fields"] for value in values_of(field))
    for sub in state.get("subsections", []):
        name = sub["name"].encode()
        whole += (b"\x05" + bytes([len(name)]) + name + sub["version"].to_bytes(4, "big")
                  + state_bytes(sub))
    return whole


def values_of(field):
    """An array's values, or the one."""
    return field["values"] if "values" in field else [field["value"]]


def said(value, kind, size):
    """A value as the script says it."""
    COUNT["values"] += 1
    if kind == "struct" and isinstance(value, dict):
        return said_state(value)
    if value is None:
        return "nullptr"
    if kind == "bool":
        check(isinstance(value, bool), f"a bool is one: {value!r}")
        return value
    numeric = kind.removesuffix(" equal").removesuffix(" le").removeprefix("u")
    if numeric not in ("int8", "int16", "int32", "int64"):
        return raw(value, kind, size).hex(" ")
    check(type(value) is int, f"{kind} is a number: {value!r}")
    unsigned = value & ((1 << 8 * size) - 1)
    check(value == unsigned or value == unsigned - (1 << 8 * size), f"{kind} fits: {value}")
    check(value >= 0 or kind[0] == "i", f"{kind} has no sign: {value}")
    text = f"0x{unsigned:0{2 * size}x}"
    # It takes these two for signed, by mistake.
    if kind in ("uint8 equal", "uint16 equal") and unsigned >> (8 * size - 1):
        value = unsigned - (1 << 8 * size)
    return f"{text} ({value})" if value < 0 else text


def said_state(state):
    """A state as the script says it: names that come again make lists."""
    out = {}
    for field in state["fields"]:
        for value in values_of(field):
            out.setdefault(field["name"], []).append(said(value, field["type"], field["size"]))
    for sub in state.get("subsections", []):
        out[sub["name"]] = [said_state(sub)]
    return {name: values[0] if len(values) == 1 else values for name, values in out.items()}


def as_lists(said_there):
    """What a script of 7.2 says: an array of one is a list too. As the later ones say it."""
    if isinstance(said_there, dict):
        return {name: as_lists(value) for name, value in said_there.items()}
    if isinstance(said_there, list):
        return as_lists(said_there[0]) if len(said_there) == 1 else list(map(as_lists, said_there))
    return said_there


# ---- comparing ----------------------------------------------------------------------------------

def differences(ours, theirs, where):
    """Paths at which two trees differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in {**ours, **theirs}:
            yield from differences(ours.get(name, "nothing"), theirs.get(name, "nothing"),
                                   f"{where}/{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{where}[{i}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{where}: qmig {str(ours)[:200]}, script {str(theirs)[:200]}"


def qmig_json(*args):
    """What a subcommand of `qmig stream` prints."""
    done = lib.run("stream", *args)
    check(done.code == 0, f"qmig stream {' '.join(map(str, args))}: exit 0, got {done.code}: "
                          f"{done.err}")
    return json.loads(done.out)


def blocks_of(stream):
    """The block list as the script says it."""
    names = {}
    for block in qmig_json("stat", "--json", str(stream))["blocks"]:
        names[block["name"]] = f"0x{block['length']:016x}"
    return {"section sizes": names}


def compare(stream):
    """One stream with all scripts made for it; how many of them read it."""
    devices = qmig_json("device", "--json", str(stream))
    description = qmig_json("desc", "--json", str(stream))
    for device in devices:
        check("reason" not in device, f"{stream.name}: {device['name']} is read by name: "
                                      f"{device.get('reason')}")
        check(len(state_bytes(device)) == device["size"],
              f"{stream.name}: {device['name']}: each of its {device['size']} bytes is in a value")
    ours = {f"{device['name']} ({device['section']})": said_state(device) for device in devices}
    check(len(ours) == len(devices), "each section once")
    COUNT["streams"] += 1
    COUNT["devices"] += len(devices)
    read = 0
    for script in filter(lambda script: script.knows(stream), SCRIPTS):
        theirs = script.run(stream)
        if theirs is None:
            continue
        ram = [name for name in theirs if name.startswith("ram (")]
        check(len(ram) == 1, f"one section ram: {ram}")
        wrong = list(differences(blocks_of(stream), theirs.pop(ram[0]), "ram"))
        theirs = as_lists(theirs) if script.lists_by_index else theirs
        check(list(ours) == list(theirs), f"{stream.name}: the same sections in the same order: "
                                          f"{list(ours)} and {list(theirs)}")
        wrong += differences(ours, theirs, stream.name)
        wrong += differences(description, script.run(stream, "-d", "desc"), "desc")
        check(not wrong, f"{script.path}: {len(wrong)} differences: " + "\n".join(wrong[:20]))
        script.read += 1
        read += 1
    return read


# ---- streams of real QEMUs ----------------------------------------------------------------------

def knows_device(qemu, name):
    """Whether -device takes it. (The whole list makes QEMU load modules, perhaps another's.)"""
    done = subprocess.run([*qemu.argv, "-machine", "none", "-device", f"{name},help"], timeout=30,
                          capture_output=True, text=True, check=False)
    return "options:" in done.stdout


def words_for(qemu, words):
    """@words without the devices that this QEMU does not have."""
    out = []
    for word in words:
        if word.startswith("?") and not knows_device(qemu, word[1:].split(",")[0]):
            out.pop()       # its -device
        else:
            out.append(word.removeprefix("?"))
    return out


def save(qemu, name, words, run_s=0.3):
    """Start that machine, let its firmware run a little, save it. Return: the path. VmError."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=SCRATCH))
    socket, stream, said_by_qemu = directory / "qmp", directory / name, directory / "stderr"
    with open(said_by_qemu, "wb") as stderr:
        process = cleanup.spawn(
            [*qemu.argv, "-nodefaults", "-no-user-config", "-display", "none", "-S",
             "-qmp", f"unix:{socket},server=on,wait=off", *words], stdout=stderr, stderr=stderr)
    try:
        qmp = lib.vm.Qmp(str(socket), 20, lambda: process.poll() is None)
        qmp.command("cont")
        time.sleep(run_s)
        qmp.command("stop")
        qmp.command("migrate-set-parameters", {"max-bandwidth": 1 << 33})
        qmp.command("migrate", {"uri": f"exec:cat > {stream}"})
        deadline = time.monotonic() + 60
        while (info := qmp.command("query-migrate")).get("status") != "completed":
            check(info.get("status") not in ("failed", "cancelled"), f"{name}: saved: {info}")
            check(time.monotonic() < deadline, f"{name}: saved in time: {info}")
            time.sleep(0.01)
        qmp.close()
    except lib.vm.VmError as error:
        cleanup.end(process)
        raise lib.vm.VmError(f"{name}: {error}: {said_by_qemu.read_text().strip()}") from None
    finally:
        cleanup.end(process)
    return stream


def make_findable(stream):
    """
    The script looks for the description from its first brace on, and takes a byte of its length
    for one. Where the length has such a byte, the description gets blanks at its end.
    """
    data = stream.read_bytes()
    start = data.rindex(b"\0\x06\0") + 6
    length = wanted = len(data) - start
    check(data[start - 4:start] == length.to_bytes(4, "big"), f"{stream.name}: a description ends it")
    while b"{" in wanted.to_bytes(4, "big"):
        wanted += 1
    if wanted > length:
        stream.write_bytes(data[:start - 4] + wanted.to_bytes(4, "big") + data[start:]
                           + b" " * (wanted - length))


def flash():
    """A flash chip whose firmware does nothing: at the reset vector it jumps to itself."""
    path = SCRATCH / "flash"
    path.write_bytes(bytes(65520) + b"\xeb\xfe" + bytes(14))
    return path


def machines(version):
    """name: words."""
    qemu = lib.vm.find_qemus().get(version)
    kvm = ["-accel", "kvm"] if qemu and lib.vm.kvm_works(qemu) else ["-accel", "tcg"]
    pc, q35 = (["-machine", f"pc-{kind}-{version}", "-m", "32M"] for kind in ("i440fx", "q35"))
    old = "2.12" if version != "11.1" else "5.2"
    pxb = [word for n in range(4) for word in
           ("-device", f"pcie-root-port,id=port{n},chassis={n},slot={n}")]
    return {
        "pc": [*pc, *kvm, "-smp", "4", "-device", "piix3-usb-uhci,id=usb", *PLAIN, *DISKS, *USB],
        "pc-tcg": [*pc, "-accel", "tcg", "-cpu", "max", *PLAIN, *DISKS, "-device",
                   "qemu-xhci,id=usb", *USB, "-icount", "shift=3"],
        "pc-old": ["-machine", f"pc-i440fx-{old}", "-m", "32M", *kvm, *PLAIN, *DISKS],
        "pc-odd": [*pc, *kvm, *PLAIN, *NETWORK, *ODD],
        "q35": [*q35, *kvm, "-smp", "4", *PLAIN, *DISKS, *VIRTIO, *pxb,
                "-device", "qemu-xhci,id=usb", *USB, "-device", "intel-iommu"],
        "q35-gpu": [*q35, *kvm, "-vga", "virtio", "-device", "?qxl", "-device", "vmware-svga",
                    "-device", "bochs-display", *VIRTIO, "-device", "nec-usb-xhci,id=usb",
                    "-device", "usb-mouse,bus=usb.0", "-device", "virtio-iommu-pci"],
        "q35-old": ["-machine", f"pc-q35-{old}", "-m", "32M", *kvm, *PLAIN, *DISKS, *VIRTIO,
                    "-drive", f"if=pflash,format=raw,file={flash()}"],
        "microvm": ["-machine", "microvm", "-m", "32M", *kvm, "-device", "virtio-net-device",
                    "-device", "virtio-rng-device"],
    }


def need_script(version):
    """Skip where no script can be compared with."""
    if not any(version == "7.2" or not script.lists_by_index for script in SCRIPTS):
        raise lib.Skip("no analyze-migration.py for this: QMIG_QEMU_SOURCE=DIR or "
                       "test-vm/fetch-qemu --source")


def saved(version, name):
    """A test: the stream of that machine."""
    def test():
        need_script(version)
        qemu = lib.qemu(version)
        stream = save(qemu, f"{version}-{name}", words_for(qemu, machines(version)[name]))
        make_findable(stream)
        compare(stream)
        stream.unlink()
        check(stream.name not in SCRIPTS[-1].refused,
              f"the newest script reads it: {SCRIPTS[-1].refused}")
    return test


def alone(version):
    """A test: a machine for each device. What a QEMU refuses is told, no more."""
    def test():
        need_script(version)
        qemu, compared = lib.qemu(version), 0
        for machine, devices in ALONE.items():
            kind = machine if machine == "microvm" else f"{machine}-{version}"
            words = ["-machine", kind, "-m", "32M,slots=2,maxmem=1G", "-accel",
                     "kvm" if lib.vm.kvm_works(qemu) else "tcg", *BACKENDS]
            for device in devices.split():
                name = f"{version}-{machine}-{device}"
                buses = BUSES if machine != "microvm" else []
                try:
                    stream = save(qemu, name, [*words, *buses, "-device", device], run_s=0)
                except lib.vm.VmError as error:
                    reason = [line for line in str(error).splitlines()
                              if name in line or not re.search("warning:|terminating on", line)]
                    print(f"# not saved: {device}: {reason[-1]}"[:150])
                    continue
                make_findable(stream)
                compare(stream)
                stream.unlink()
                compared += 1
        check(compared > 100, f"most devices are compared: {compared}")
    return test


def golden():
    """The recorded streams that the script can read."""
    need_script("7.2")
    read = 0
    for packed in sorted(GOLDEN.glob("*.zst")):
        stream = SCRATCH / packed.stem
        subprocess.run(["zstd", "-q", "-d", "-f", packed, "-o", stream], check=True)
        if "postcopy" not in packed.stem:
            read += compare(stream)
        stream.unlink()
    check(read, "some of them can be read")


def tally():
    """What was compared; a script that reads nothing would prove nothing."""
    need_script("7.2")
    print(f"# {COUNT['streams']} streams, {COUNT['devices']} devices, {COUNT['values']} values")
    for script in SCRIPTS:
        print(f"# {script.path}: read {script.read}, cannot read {len(script.refused)}")
        for name, reason in script.refused.items():
            print(f"#   {name}: {reason}")


def main():
    """All tests of the versions that are asked for."""
    tests = []
    for word in sys.argv[1:]:
        if word == "golden":
            tests.append(("golden streams", golden))
        elif word.startswith("alone-"):
            tests.append((f"{word}", alone(word.removeprefix("alone-"))))
        else:
            tests += [(f"{word} {name}", saved(word, name)) for name in machines(word)]
    lib.run_tests([*tests, ("compared", tally)])


if __name__ == "__main__":
    main()
