#!/usr/bin/env python3
"""Extracts an image's layers by the rules of kpack's registry sources, as an ordinary user with umask 022 would see it.

usage: kpack_extract.py FOLDER LAYOUT.tar          the one image of an OCI layout tar
       kpack_extract.py FOLDER --layers LAYER…     layers as they are, lowest first

Prints a line for everything that does not come out as it was packed; exit status 1 where kpack's build fails.

The rules, observed on kpack bfa95d79 (pkg/registry/fetch.go, pkg/archive/archive.go) with ggcr v0.20.6:
compression is told by content, never by media type; folders and regular files are all there is, links and devices are
dropped without a word; whiteouts are files; owner, time and special bits are ignored; a file that is there keeps its
mode and gets the new content; folders above a file are made with 0777.
"""
import io
import json
import os
import subprocess
import sys
import tarfile

UMASK = 0o022


class Fails(Exception):
    pass


def unpacked(data):
    if data[:2] == b"\x1f\x8b":
        return subprocess.run(["gzip", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def make_folder(root, path, mode, modes):
    place = root
    for part in [part for part in path.split("/") if part not in ("", ".")]:
        parent, place = place, os.path.join(place, part)
        if os.path.isdir(place):
            continue
        if os.path.lexists(place):
            raise Fails(f"mkdir {path}: not a directory")
        if modes.get(parent, 0o755) & 0o300 != 0o300:
            raise Fails(f"mkdir {path}: permission denied")
        os.mkdir(place)
        modes[place] = mode & ~UMASK
    return place


def extract(layers, root):
    said, modes, owners = [], {}, {}
    for number, layer in enumerate(layers):
        with tarfile.open(fileobj=io.BytesIO(unpacked(layer)), mode="r:") as tar:
            for entry in tar:
                name = entry.name
                if ".." in name.split("/"):
                    raise Fails(f"{name}: leads out of the folder")
                if entry.isdir():
                    make_folder(root, name, entry.mode & 0o777, modes)
                elif entry.isreg():
                    if os.path.basename(name).startswith(".wh."):
                        said.append(f"whiteout written as a file: {name}")
                    clean = os.path.normpath(name.lstrip("/"))
                    parent = make_folder(root, os.path.dirname(clean), 0o777, modes)
                    place = os.path.join(parent, os.path.basename(clean))
                    if os.path.isdir(place):
                        raise Fails(f"open {name}: is a directory")
                    if os.path.lexists(place):
                        said.append(f"in layers {owners[place]} and {number}: {name}")
                        if modes[place] & 0o200 == 0:
                            raise Fails(f"open {name}: permission denied")
                    elif modes.get(parent, 0o755) & 0o300 != 0o300:
                        raise Fails(f"open {name}: permission denied")
                    else:
                        modes[place] = entry.mode & 0o777 & ~UMASK
                        if modes[place] != entry.mode:
                            said.append(f"mode {entry.mode:o} becomes {modes[place]:o}: {name}")
                    if modes[place] & 0o600 != 0o600:
                        said.append(f"cannot be read and written by its owner: {name}")
                    owners[place] = number
                    with open(place, "wb") as file:
                        file.write(tar.extractfile(entry).read())
                else:
                    said.append(f"dropped: {name}")
    for place in sorted(modes, reverse=True):
        os.chmod(place, modes[place])
    return said


def layers_of(path):
    with tarfile.open(path) as tar:
        def blob(digest):
            return tar.extractfile("blobs/" + digest.replace(":", "/")).read()

        roots = {entry["digest"] for entry in json.load(tar.extractfile("index.json"))["manifests"]}
        if len(roots) != 1:
            raise Fails(f"{len(roots)} images in the layout")
        manifest = json.loads(blob(roots.pop()))
        if "manifests" in manifest:
            raise Fails("an index, expected an image")
        config = json.loads(blob(manifest["config"]["digest"]))
        labels = (config.get("config") or {}).get("Labels") or {}
        if labels.get("source.contenttype.kpack.io"):
            raise Fails("the label `source.contenttype.kpack.io` makes kpack expect an archive")
        return [blob(layer["digest"]) for layer in manifest["layers"]]


def main(folder, *rest):
    os.makedirs(folder, exist_ok=True)
    try:
        if rest[0] == "--layers":
            layers = []
            for path in rest[1:]:
                with open(path, "rb") as file:
                    layers.append(file.read())
        else:
            layers = layers_of(rest[0])
        said = extract(layers, folder)
    except Fails as failure:
        print(f"fails: {failure}")
        sys.exit(1)
    for line in said:
        print(line)


main(*sys.argv[1:])
