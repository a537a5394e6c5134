#!/usr/bin/env python3
"""Makes the uncompressed layer that `imgpkg push` makes of some paths, from its description alone.

usage: imgpkg_layer.py [--preserve-permissions] [--exclude PATH]... [--output FILE] PATH...

Prints `sha256:<diff_id> <bytes>`. Slow, simple and independent: it checks the program's own writer.

The description, in short. Every path is walked depth first, the names of a folder in byte order; a folder root
becomes an entry `.`, a file root an entry with its base name. Entries carry no time, no owner and mode & 0700
(folders: 0700). Headers are USTAR where the name fits, PAX where it does not. With kept permissions modes are those of
Go's os.FileMode, folders all get the mode of their root, and modes beyond seven octal digits force GNU headers.
"""
import argparse
import hashlib
import os
import posixpath
import stat
import sys

BLOCK = 512
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
FILE, FOLDER, PAX_RECORDS, GNU_LONG_NAME = b"0", b"5", b"x", b"L"
LARGEST_USTAR_SIZE = 8**11 - 1
LARGEST_OCTAL_MODE = 8**7 - 1


class Sink:
    """Counts and hashes what is written, and keeps it in a file if asked."""

    def __init__(self, file=None):
        self.hasher, self.count, self.file = hashlib.sha256(), 0, file

    def write(self, data):
        self.hasher.update(data)
        self.count += len(data)
        if self.file:
            self.file.write(data)

    def pad(self):
        self.write(bytes(-self.count % BLOCK))


def is_ascii(name):
    return all(0 < byte < 0x80 for byte in name)


def only_ascii(name):
    return bytes(byte for byte in name if byte < 0x80)


def octal(value, width):
    """Zero-filled octal with a NUL behind; what does not fit is written as 0."""
    digits = b"%0*o" % (width - 1, value)
    return (digits if len(digits) < width else b"0" * (width - 1)) + b"\0"


def binary(value, width):
    """GNU's form for numbers octal cannot hold: big-endian with the top bit set."""
    if value < 8 ** (width - 1):
        return octal(value, width)
    return bytes([0x80]) + value.to_bytes(width - 1, "big")


def name_field(name):
    field = name[:100].ljust(100, b"\0")
    if len(name) > 100 and field.endswith(b"/"):
        # The writer cuts trailing slashes so that a cut name does not look like a folder.
        kept = len(name[:99].rstrip(b"/"))
        field = field[:kept] + b"\0" + field[kept + 1 :]
    return field


def split_name(name):
    """Returns (prefix, name) if the name needs and allows USTAR's two fields, else None."""
    if len(name) <= 100 or not is_ascii(name):
        return None
    length = len(name)
    if length > 156:
        length = 156
    elif name.endswith(b"/"):
        length -= 1
    at = name[:length].rfind(b"/")
    rest = len(name) - at - 1
    if at <= 0 or at > 155 or not 0 < rest <= 100:
        return None
    return name[:at], name[at + 1 :]


def header(name, mode, size, kind, magic=USTAR, prefix=b"", devices=True, number=octal):
    fields = [
        name_field(name),
        number(mode, 8),
        octal(0, 8),  # uid
        octal(0, 8),  # gid
        number(size, 12) if magic == GNU else octal(size, 12),
        octal(0, 12),  # mtime
        b" " * 8,  # the checksum counts itself as blanks
        kind,
        bytes(100),  # link name
        magic,
        bytes(64),  # user and group name
        octal(0, 8) * 2 if devices else bytes(16),
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(fields)
    assert len(block) == BLOCK, len(block)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax_record(key, value):
    """`LENGTH key=value\\n`, where LENGTH counts its own digits."""
    body = b" %s=%s\n" % (key, value)
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return b"%d%s" % (length, body)


def write_header(sink, name, mode, size, kind):
    if mode > LARGEST_OCTAL_MODE:
        if len(name) > 100:
            sink.write(header(b"././@LongLink", 0, len(name) + 1, GNU_LONG_NAME, GNU, devices=False))
            sink.write(name + b"\0")
            sink.pad()
        sink.write(header(name, mode, size, kind, GNU, number=binary))
        return
    split = split_name(name)
    fits = is_ascii(name) and (len(name) <= 100 or split)
    if fits and size <= LARGEST_USTAR_SIZE:
        prefix, short = split or (b"", name)
        sink.write(header(short, mode, size, kind, prefix=prefix))
        return
    records = b""
    if not is_ascii(name) or len(name) > 100:
        records += pax_record(b"path", name)
    if size > LARGEST_USTAR_SIZE:
        records += pax_record(b"size", b"%d" % size)
    folder, _, base = name.rpartition(b"/")
    title = only_ascii(posixpath.normpath(posixpath.join(folder, b"PaxHeaders.0", base)))[:100].rstrip(b"/")
    sink.write(header(title, 0, len(records), PAX_RECORDS, devices=False))
    sink.write(records)
    sink.pad()
    sink.write(header(only_ascii(name), mode, size, kind))


def go_mode(status):
    """The bits of Go's os.FileMode, which imgpkg writes as they are."""
    mode = status.st_mode & 0o777
    for bit, shift in ((stat.S_ISUID, 23), (stat.S_ISGID, 22), (stat.S_ISVTX, 20)):
        mode |= bool(status.st_mode & bit) << shift
    return mode | stat.S_ISDIR(status.st_mode) << 31


class Layer:
    def __init__(self, sink, keep_permissions, excluded):
        self.sink, self.keep, self.excluded = sink, keep_permissions, excluded

    def add_root(self, path):
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            self.folder_mode = go_mode(status) if self.keep else 0o700
            self.walk(path.rstrip(b"/") or b"/", b".")
        else:
            self.file(path, posixpath.basename(path.rstrip(b"/")), status)

    def walk(self, path, name):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            self.file(path, name, status)
        elif not stat.S_ISDIR(status.st_mode):
            sys.exit(f"imgpkg_layer.py: {os.fsdecode(path)!r} is neither a file nor a folder")
        elif name not in self.excluded:
            write_header(self.sink, name, self.folder_mode, 0, FOLDER)
            for child in sorted(os.listdir(path)):
                self.walk(path + b"/" + child, child if name == b"." else name + b"/" + child)

    def file(self, path, name, status):
        if name in self.excluded:
            return
        mode = go_mode(status) if self.keep else status.st_mode & 0o700
        write_header(self.sink, name, mode, status.st_size, FILE)
        with open(path, "rb") as content:
            while piece := content.read(1 << 20):
                self.sink.write(piece)
        self.sink.pad()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--preserve-permissions", action="store_true")
    parser.add_argument("--exclude", action="append")
    parser.add_argument("--output")
    parser.add_argument("paths", nargs="*")
    options = parser.parse_args()
    excluded = [os.fsencode(path) for path in (options.exclude or [".git"])]
    sink = Sink(open(options.output, "wb") if options.output else None)
    layer = Layer(sink, options.preserve_permissions, excluded)
    for path in options.paths:
        layer.add_root(os.fsencode(path))
    sink.write(bytes(2 * BLOCK))
    if sink.file:
        sink.file.close()
    print(f"sha256:{sink.hasher.hexdigest()} {sink.count}")


if __name__ == "__main__":
    main()
