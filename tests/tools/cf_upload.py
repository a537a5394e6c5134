#!/usr/bin/env python3
"""Uploads a folder as the unmodified cf command line does, with imgrelay in the place of the API that it calls.

usage: cf_upload.py FOLDER OUT -- MATCH…

MATCH… is the command that answers `POST /v3/resource_matches`, request on standard input. Written into the folder OUT:
`package.zip`, the part `bits` (missing when everything matched), `resources.json`, the part `resources`, and
`requests`, how many requests of at most 5,000 files were made.

The rules, read in cf CLI ccfd649d1 (actor/sharedaction/resource.go, actor/v7pushaction/create_bits_package*.go):
default ignores at any depth; directories and links are entries of the zip, and are never fingerprinted; nothing of
size 0 is asked about; requests have at most 5,000 files; answers are kept by checksum alone, and a file whose checksum
is known is not sent; `mode` of a response is parsed as an octal number.
"""
import hashlib
import json
import os
import stat
import subprocess
import sys
import zipfile

IGNORED = {".cfignore", ".DS_Store", ".git", ".gitignore", ".hg", ".svn", "_darcs", "manifest.yaml", "manifest.yml"}


def walk(folder):
    for name in sorted(os.listdir(folder)):
        if name not in IGNORED:
            path = os.path.join(folder, name)
            yield path
            if os.path.isdir(path) and not os.path.islink(path):
                yield from walk(path)


def main(folder, out, dashes, *match):
    entries = []
    for path in walk(folder):
        info = os.lstat(path)
        entry = {"path": os.path.relpath(path, folder).replace(os.sep, "/"), "info": info, "sha1": None}
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                entry["sha1"] = hashlib.sha1(file.read()).hexdigest()
        entries.append(entry)
    asked = [{"checksum": {"value": entry["sha1"]}, "size_in_bytes": entry["info"].st_size, "path": entry["path"],
              "mode": "%o" % stat.S_IMODE(entry["info"].st_mode)}
             for entry in entries if entry["sha1"] and entry["info"].st_size > 0]
    matched, requests = {}, 0
    for start in range(0, len(asked), 5000):
        requests += 1
        request = json.dumps({"resources": asked[start:start + 5000]}).encode()
        answer = subprocess.run(match, input=request, stdout=subprocess.PIPE, check=True).stdout
        for one in json.loads(answer)["resources"]:
            int(one["mode"], 8)
            matched[one["checksum"]["value"]] = one
    os.makedirs(out)
    # The list has every path that is not sent.
    listed = [one for one in asked if one["checksum"]["value"] in matched]
    with open(os.path.join(out, "resources.json"), "w") as file:
        json.dump(listed, file)
    with open(os.path.join(out, "requests"), "w") as file:
        file.write(str(requests))
    left = [entry for entry in entries if entry["sha1"] not in matched]
    if not left:
        return
    with zipfile.ZipFile(os.path.join(out, "package.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in left:
            mode, path = entry["info"].st_mode, os.path.join(folder, entry["path"])
            is_folder = stat.S_ISDIR(mode)
            info = zipfile.ZipInfo(entry["path"] + ("/" if is_folder else ""), (2024, 2, 3, 4, 5, 6))
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFDIR | 0o755 if is_folder else mode) << 16
            if is_folder:
                archive.writestr(info, b"")
            elif stat.S_ISLNK(mode):
                archive.writestr(info, os.readlink(path))
            else:
                with open(path, "rb") as file:
                    archive.writestr(info, file.read())


main(*sys.argv[1:])
