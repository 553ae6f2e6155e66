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


def _contents(files=None):
    """Contents of @files without end, each from a page's begin on as in a page cache."""
    round_number = 0
    while True:
        n_bytes = 0
        for path in files or _list_files():
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


def template(path, size, start, content):
    """A file to begin a guest's memory with: zero up to @start, then contents."""
    with open(path, "wb") as file:
        # Whole: where a hole is read through a mapping, its page is allocated then.
        os.posix_fallocate(file.fileno(), 0, size)
    prefill(path, start, size, 1.0, content)


def pool(path, size, content):
    """A file for what the guest writes, of files that template() takes last. (Pair(pool=…))"""
    last = _list_files()[::-1]
    pieces = {"files": _contents, "text": _texts}
    source = pieces[content](last) if content in pieces else CONTENTS[content]()
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(next(source)[:size - file.tell()])


def sample(n_bytes):
    """That many bytes of mixed real content, for the guest's own pages."""
    data = bytearray()
    for piece in _contents():
        data += piece[:256 << 10].rstrip(b"\0")
        if len(data) >= n_bytes:
            return bytes(data[:n_bytes])


def _is_text(data):
    """ASCII without control characters but those of lines."""
    return data.isascii() and not data.translate(None, _PRINTABLE)


_PRINTABLE = bytes(range(32, 127)) + b"\t\n\r\f"


def _texts(files=None):
    """Texts, sources, scripts of this machine, one behind the other."""
    empty = 0
    for piece in _contents(files):
        piece = piece[:256 << 10].rstrip(b"\0")
        if _is_text(piece):
            empty = 0
            yield piece
        elif (empty := empty + 1) > _MAX_FILES:
            yield b"No text was found on this machine.\n" * 4096


def _random():
    """What no codec makes smaller; the same on every run."""
    source = random.Random(2)
    while True:
        yield source.randbytes(_CHUNK)


def _sparse(source):
    """64 KiB of a heap hardly used: a few numbers in each page, the rest zero."""
    data = bytearray(64 << 10)
    for page in range(0, len(data), PAGE):
        for _ in range(source.randrange(4, 40)):
            at = page + source.randrange(0, PAGE, 8)
            data[at:at + 8] = (0x7f00_0000_0000 + source.getrandbits(24) * 16).to_bytes(8, "little")
    return bytes(data)


# Of which memory in use consists, by parts of a hundred: pages never written, files in the page
# cache, heaps, pages that are elsewhere as well (a library that a container has once more, a
# buffer beside the cache), and what is compressed or encrypted already.
_USED = (("zero", 25), ("file", 43), ("sparse", 12), ("again", 10), ("random", 10))


def _used():
    """Memory of a guest that has been in use, in runs of 64 KiB; the same on every run."""
    source, noise, files = random.Random(3), _random(), _contents()
    kinds, weights = [kind for kind, _ in _USED], [weight for _, weight in _USED]
    run, pending, past = 64 << 10, bytearray(), []
    while True:
        kind = source.choices(kinds, weights)[0]
        if kind == "zero":
            yield bytes(run)
        elif kind == "sparse":
            yield _sparse(source)
        elif kind == "random":
            yield next(noise)[:run]
        elif kind == "again" and past:
            yield source.choice(past)
        else:
            while len(pending) < run:
                pending += next(files)
            piece = bytes(pending[:run])
            del pending[:run]
            # Not all of it, and of all ages.
            if len(past) < 2048:
                past.append(piece)
            else:
                past[source.randrange(len(past))] = piece
            yield piece


CONTENTS = {"files": _contents, "text": _texts, "random": _random, "used": _used}


def prefill(path, start, end, fill, content="files"):
    """Put contents into a part of [start, end), spread evenly in chunks of 1 MiB."""
    if fill <= 0 or end <= start:
        return 0
    source, pending, written, share = CONTENTS[content](), bytearray(), 0, 0.0
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
