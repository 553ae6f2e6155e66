# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest memory as files: filled before the boot, compared afterwards."""
import os
import random
import sysconfig

MIB = 1 << 20
PAGE = 4096
POOL_BYTES = MIB
CHUNK = 4 * MIB
# The firmware keeps tables at the end of RAM below 4 GiB; a page or two would not survive.
TOP_LEFT_ZERO = MIB


def parse_size(text):
    """64M -> bytes."""
    text = str(text)
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)
    return int(text[:-1] if shift else text) << shift


def _files_below(folder, at_least):
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            if not os.path.islink(path) and os.path.isfile(path):
                if os.path.getsize(path) >= at_least:
                    yield path


def write_pool(path, content):
    """What pages of the working set are slices of (guest/pool.c)."""
    data = bytearray()
    if content == "random":
        data = random.Random(1).randbytes(POOL_BYTES)
    elif content == "text":
        for source in _files_below(sysconfig.get_paths()["stdlib"], 4096):
            if source.endswith(".py") and len(data) < POOL_BYTES:
                with open(source, "rb") as file:
                    data += file.read()
    with open(path, "wb") as file:
        file.write(bytes(data[:POOL_BYTES]))
        file.truncate(POOL_BYTES)


def make(path, size):
    """A memory file that is all holes."""
    with open(path, "wb") as file:
        file.truncate(size)


def prefill(path, start, size, share):
    """Fill a share of the memory behind start with files of the system, the rest stays zero."""
    left = int(max(size - TOP_LEFT_ZERO - start, 0) * min(max(share, 0.0), 1.0))
    with open(path, "r+b") as memory:
        memory.seek(start)
        while left > 0:
            before = left
            for source in _files_below("/usr/lib", 16384):
                if left <= 0:
                    break
                with open(source, "rb") as file:
                    left -= os.sendfile(memory.fileno(), file.fileno(), 0, left)
            if left == before:
                raise RuntimeError("nothing below /usr/lib to fill memory with")


def _chunks(descriptor, size):
    buffer = bytearray(CHUNK)
    for offset in range(0, size, CHUNK):
        # Not mmap: a read through it would turn the holes of the file into memory.
        length = os.preadv(descriptor, [buffer], offset)
        yield offset, buffer, length


def differing_pages(path_a, path_b):
    """Numbers of the pages that are not the same in both files."""
    different = []
    with open(path_a, "rb") as a, open(path_b, "rb") as b:
        size = os.fstat(a.fileno()).st_size
        if size != os.fstat(b.fileno()).st_size:
            raise RuntimeError(f"{path_a} and {path_b} differ in size")
        both = zip(_chunks(a.fileno(), size), _chunks(b.fileno(), size))
        for (offset, data_a, n_a), (_, data_b, n_b) in both:
            if n_a != n_b or n_a != min(CHUNK, size - offset):
                raise RuntimeError(f"{path_a}, {path_b}: short read at {offset}")
            if data_a != data_b:
                different += [(offset + at) // PAGE for at in range(0, n_a, PAGE)
                              if data_a[at:at + PAGE] != data_b[at:at + PAGE]]
    return different
