#!/usr/bin/env python3
"""Prints the entries of a tar, compressed or not, as one JSON list, read by Python's tarfile.

usage: tar_entries.py TAR        names that are not UTF-8 come with `\\udcXX` in place of the bytes
"""
import hashlib
import json
import sys
import tarfile

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def describe(tar, entry):
    content = tar.extractfile(entry) if entry.isreg() else None
    return {
        "name": entry.name,
        "kind": KINDS.get(entry.type, "other"),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "uname": entry.uname,
        "gname": entry.gname,
        "mtime": entry.mtime,
        "size": entry.size,
        "target": entry.linkname,
        "pax": entry.pax_headers,
        "sha256": hashlib.sha256(content.read()).hexdigest() if content else "",
    }


with tarfile.open(sys.argv[1], "r:*") as tar:
    json.dump([describe(tar, entry) for entry in tar], sys.stdout)
