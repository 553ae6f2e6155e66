# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest memory as files: filled as that of a used machine, and compared byte for byte."""
import os
import random
import stat

PAGE = 4096
_CHUNK = 1 << 20
# What the page cache of a machine holds: libraries and programs, texts, compressed files.
_ROOTS = ("/usr/lib", "/usr/bin", "/usr/share")
_MAX_PER_FILE = 2 << 20     # no single large file makes the picture
_MAX_FILES = 40000
_files = None


def _list_files():
    """Files in an order that mixes kinds and is the same on every run on this machine."""
    global _files
    if _files is None:
        shuffle = random.Random(1).shuffle
        _files = []
        for root in _ROOTS:
            paths = []
            for folder, folders, names in os.walk(root):
                folders.sort()
                paths += [os.path.join(folder, name) for name in names]
                if len(paths) > _MAX_FILES:
                    break
            _files += sorted(paths)
        shuffle(_files)
    return _files


def _contents():
    """Contents of files without end, each from a page's begin on as in a page cache."""
    round_number = 0
    while True:
        n_bytes = 0
        for path in _list_files():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode) or info.st_size < PAGE:
                    continue
                # A second round would make pages of the first again: shift by a little.
                data = os.pread(fd, _MAX_PER_FILE, round_number * 520)
            except OSError:
                continue
            finally:
                os.close(fd)
            n_bytes += len(data)
            yield data + bytes(-len(data) % PAGE)
        round_number += 1
        if not n_bytes:
            yield bytes(_CHUNK)     # a machine without such files: zero memory


def sample(n_bytes):
    """That many bytes of mixed real content, for the guest's own pages."""
    data = bytearray()
    for piece in _contents():
        data += piece[:256 << 10].rstrip(b"\0")
        if len(data) >= n_bytes:
            return bytes(data[:n_bytes])


def prefill(path, start, end, fill):
    """Put real contents into a part of [start, end), spread evenly in chunks of 1 MiB."""
    if fill <= 0 or end <= start:
        return 0
    source, pending, written, share = _contents(), bytearray(), 0, 0.0
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for at in range(start, end, _CHUNK):
            share += min(fill, 1.0)
            if share < 1.0 - 1e-9:
                continue
            share -= 1.0
            length = min(_CHUNK, end - at)
            while len(pending) < length:
                pending += next(source)
            with memoryview(pending) as view:
                os.pwrite(fd, view[:length], at)
            del pending[:length]
            written += length
    finally:
        os.close(fd)
    return written


def differing_pages(path_a, path_b):
    """Numbers of the pages that differ.

    By pread, not mmap: reading a hole of a tmpfs file through a mapping allocates the page.
    """
    pages = []
    a, b = bytearray(_CHUNK), bytearray(_CHUNK)
    with open(path_a, "rb", buffering=0) as file_a, open(path_b, "rb", buffering=0) as file_b:
        at = 0
        while True:
            n_a, n_b = os.preadv(file_a.fileno(), [a], at), os.preadv(file_b.fileno(), [b], at)
            if n_a != n_b or a != b:
                pages += [(at + offset) // PAGE for offset in range(0, max(n_a, n_b), PAGE)
                          if a[offset:min(offset + PAGE, n_a)] != b[offset:min(offset + PAGE, n_b)]]
            if n_a < _CHUNK and n_b < _CHUNK:
                return pages
            at += _CHUNK
