#!/usr/bin/env python3
"""Prints for each tar, one line each, the list of its entries as Python's tarfile reads them, or an error, as JSON.

An entry is [name, kind, mode, size, link, uid, gid, mtime, [[xattr, value]…]].

usage: tar_many.py TAR…          names are hexadecimal, because they can be any bytes
"""
import json
import math
import sys
import tarfile

KINDS = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink",
         tarfile.CHRTYPE: "device", tarfile.BLKTYPE: "device", tarfile.FIFOTYPE: "pipe"}
XATTR = "SCHILY.xattr."


def raw(text):
    return text.encode("utf-8", "surrogateescape").hex()


def entries(path):
    with tarfile.open(path, "r:", errorlevel=2) as tar:
        for entry in tar:
            kind = "file" if entry.isreg() else KINDS.get(entry.type, "other")
            # A name that ends with a slash is a folder's for GNU tar and for us, for every type. Python cuts
            # the slashes off the names in PAX records.
            if kind == "file" and entry.pax_headers.get("path", entry.name).endswith("/"):
                kind = "folder"
            size = entry.size if kind == "file" else 0
            link = raw(entry.linkname) if kind in ("symlink", "hardlink") else ""
            xattrs = sorted([raw(key.removeprefix(XATTR)), raw(value)]
                            for key, value in entry.pax_headers.items() if key.startswith(XATTR))
            yield [raw(entry.name.rstrip("/")), kind, entry.mode & 0o7777, size, link,
                   entry.uid, entry.gid, math.floor(entry.mtime), xattrs]


for path in sys.argv[1:]:
    try:
        answer = list(entries(path))
    except Exception as error:  # tarfile raises exceptions of many types
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer))
