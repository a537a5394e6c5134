#!/usr/bin/env python3
"""Validates OCI image layouts: a tar, a compressed tar, or a folder.

usage: oci_validate.py [--schemas FOLDER] LAYOUT...

Prints one line `error: …` or `warning: …` for each thing that is wrong or doubtful; ends with 1 if it printed any.
Warnings are what the specification allows but a careful writer avoids.

Checked: the tar itself; the JSON documents by image-spec's own schemas (found where the Debian package
golang-github-opencontainers-image-spec-dev puts them, or in $OCI_SCHEMAS); every descriptor's digest and size; media
types against content; layers against diff_ids, history and each other; blobs without a reference; Docker's manifest.json
against the index.
"""
import argparse
import base64
import gzip
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib

import jsonschema

SCHEMAS = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema"
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
INDEXES = {OCI + "index.v1+json", DOCKER + "distribution.manifest.list.v2+json"}
MANIFESTS = {OCI + "manifest.v1+json", DOCKER + "distribution.manifest.v2+json"}
CONFIGS = {OCI + "config.v1+json", DOCKER + "container.image.v1+json"}
LAYERS = {
    OCI + "layer.v1.tar": "tar",
    OCI + "layer.v1.tar+gzip": "gzip",
    OCI + "layer.v1.tar+zstd": "zstd",
    OCI + "layer.nondistributable.v1.tar": "tar",
    OCI + "layer.nondistributable.v1.tar+gzip": "gzip",
    OCI + "layer.nondistributable.v1.tar+zstd": "zstd",
    DOCKER + "image.rootfs.diff.tar": "tar",
    DOCKER + "image.rootfs.diff.tar.gzip": "gzip",
}
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
REF_NAME = re.compile(r"[A-Za-z0-9._:@/+-]+")
REPO_TAG = re.compile(r"[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
PIECE = 1 << 20


class Broken(Exception):
    """A document or blob that cannot be followed any further."""


class Schemas:
    """image-spec's JSON schemas, each made self-contained."""

    def __init__(self, folder):
        self.documents = {path.name: json.loads(path.read_text()) for path in pathlib.Path(folder).glob("*.json")}
        self.formats = jsonschema.FormatChecker(formats=[])
        self.formats.checks("date-time")(lambda text: not isinstance(text, str) or bool(DATE_TIME.fullmatch(text)))
        self.validators = {}

    def resolve(self, node, name):
        """Puts what references point at in their place; image-spec's do not point at themselves."""
        if isinstance(node, list):
            return [self.resolve(item, name) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str):
            target, _, pointer = node["$ref"].partition("#")
            name = target or name
            found = self.documents[name]
            for step in filter(None, pointer.split("/")):
                found = found[step]
            return self.resolve(found, name)
        return {key: self.resolve(value, name) for key, value in node.items() if key not in ("id", "definitions")}

    def complaints(self, name, document):
        if name not in self.validators:
            schema = self.resolve(self.documents[name + ".json"], name + ".json")
            self.validators[name] = jsonschema.Draft4Validator(schema, format_checker=self.formats)
        for error in self.validators[name].iter_errors(document):
            yield f"schema {name}: /{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"


class Folder:
    """A layout as files in a folder."""

    def __init__(self, path, report):
        self.files = {}
        for folder, _, names in os.walk(path):
            for name in names:
                full = os.path.join(folder, name)
                if os.path.islink(full) or not os.path.isfile(full):
                    report.error(f"`{full}` is not a regular file")
                else:
                    self.files[os.path.relpath(full, path)] = full

    def open(self, name):
        return open(self.files[name], "rb")


class Tar:
    """A layout as a tar, compressed or not."""

    def __init__(self, path, report):
        self.tar = tarfile.open(path, "r:*")
        self.files = {}
        for member in self.tar:
            name = member.name.removeprefix("./")
            if member.name.startswith("/") or ".." in name.split("/"):
                report.error(f"tar entry `{member.name}` has an unsafe name")
            if member.isdir():
                continue
            if not member.isreg():
                report.error(f"tar entry `{member.name}` is neither file nor folder")
            elif name in self.files:
                report.error(f"tar entry `{name}` occurs twice")
            else:
                self.files[name] = member
        with open(path, "rb") as raw:
            magic = raw.read(4)
            raw.seek(max(0, os.path.getsize(path) - 1024))
            compressed = magic[:2] in (b"\x1f\x8b", b"BZ") or magic == b"\xfd7zX"
            if not compressed and raw.read() != bytes(1024):
                report.warning("the tar does not end with two blocks of zeros")

    def open(self, name):
        return self.tar.extractfile(self.files[name])


class Report:
    def __init__(self):
        self.lines = []

    def error(self, text):
        self.lines.append("error: " + text)

    def warning(self, text):
        self.lines.append("warning: " + text)


class Hashing:
    """A reader that hashes what passes."""

    def __init__(self, source):
        self.source, self.hasher, self.tail = source, hashlib.sha256(), b""

    def read(self, size=-1):
        data = self.source.read(size)
        self.hasher.update(data)
        self.tail = (self.tail + data)[-1024:]
        return data

    def drain(self):
        while self.read(PIECE):
            pass


class Layout:
    def __init__(self, path, schemas):
        self.report, self.schemas = Report(), schemas
        self.store = (Folder if os.path.isdir(path) else Tar)(path, self.report)
        self.referenced = set()
        self.images = []  # (config file, layer files), to compare with manifest.json

    def document(self, name):
        def members(pairs):
            if len(dict(pairs)) != len(pairs):
                self.report.error(f"`{name}` has a JSON member twice")
            return dict(pairs)

        if name not in self.store.files:
            raise Broken(f"`{name}` is missing")
        try:
            document = json.loads(self.store.open(name).read().decode("utf-8"), object_pairs_hook=members)
        except ValueError as error:
            raise Broken(f"`{name}` is not JSON: {error}")
        return document

    def check(self, schema, document, place):
        for complaint in self.schemas.complaints(schema, document):
            self.report.error(f"{place}: {complaint}")

    def blob(self, descriptor, place):
        """Checks what a descriptor says about its bytes, and returns their file name."""
        digest = descriptor.get("digest")
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise Broken(f"{place}: `{digest}` is not a digest")
        algorithm, _, hex_digits = digest.partition(":")
        name = f"blobs/{algorithm}/{hex_digits}"
        if name not in self.store.files:
            raise Broken(f"{place}: `{name}` is missing")
        self.referenced.add(name)
        found, size = self.measure(name)
        if found != hex_digits:
            self.report.error(f"{place}: `{name}` holds bytes with digest {algorithm}:{found}")
        if descriptor.get("size") != size:
            self.report.error(f"{place}: size {descriptor.get('size')}, but `{name}` has {size} bytes")
        if "data" in descriptor:
            if base64.b64decode(descriptor["data"]) != self.store.open(name).read():
                self.report.error(f"{place}: the embedded data is not the blob")
        return name

    def measure(self, name):
        hasher, size = hashlib.new(name.split("/")[1]), 0
        source = self.store.open(name)
        while piece := source.read(PIECE):
            hasher.update(piece)
            size += len(piece)
        return hasher.hexdigest(), size

    def follow(self, descriptor, place):
        name, said = self.blob(descriptor, place), descriptor.get("mediaType")
        if said not in INDEXES | MANIFESTS:
            self.report.warning(f"{place}: media type {said} is neither manifest nor index")
            return
        document = self.document(name)
        if document.get("mediaType") is None:
            self.report.warning(f"{place}: the document does not repeat its media type")
        elif document["mediaType"] != said:
            self.report.error(f"{place}: the descriptor says {said}, the document {document['mediaType']}")
        if said in INDEXES:
            self.check("image-index-schema", document, place)
            self.index(document, place)
        else:
            self.check("image-manifest-schema", document, place)
            self.manifest(document, descriptor, place)

    def index(self, document, place):
        for number, descriptor in enumerate(document.get("manifests") or []):
            name = (descriptor.get("annotations") or {}).get("org.opencontainers.image.ref.name")
            if name is not None and not REF_NAME.fullmatch(name):
                self.report.error(f"{place}/manifests/{number}: `{name}` is not a reference name")
            try:
                self.follow(descriptor, f"{place}/manifests/{number}")
            except Broken as problem:
                self.report.error(str(problem))

    def manifest(self, document, descriptor, place):
        config_name = self.blob(document["config"], f"{place}/config")
        layers = document["layers"]
        names = [self.blob(layer, f"{place}/layers/{number}") for number, layer in enumerate(layers)]
        if document["config"].get("mediaType") not in CONFIGS:
            return  # an artifact: what its blobs mean is its own affair
        self.images.append((config_name, names))
        config = self.document(config_name)
        self.check("config-schema", config, f"{place}/config")
        for key in ("os", "architecture", "variant"):
            wanted = (descriptor.get("platform") or {}).get(key)
            if wanted is not None and wanted != config.get(key) and wanted != "unknown":
                self.report.error(f"{place}: platform {key} `{wanted}`, but the config has `{config.get(key)}`")
        diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
        if len(diff_ids) != len(layers):
            self.report.error(f"{place}: {len(layers)} layers, but {len(diff_ids)} diff_ids")
        history = config.get("history") or []
        filled = [step for step in history if not step.get("empty_layer")]
        if history and len(filled) != len(layers):
            self.report.error(f"{place}: {len(layers)} layers, but {len(filled)} history entries that are not empty")
        below = set()
        for number, (name, layer) in enumerate(zip(names, layers)):
            diff_id = diff_ids[number] if number < len(diff_ids) else None
            below |= self.layer(name, layer.get("mediaType"), diff_id, f"{place}/layers/{number}", below)

    def layer(self, name, media_type, diff_id, place, below):
        """Unpacks a layer on the fly; returns the paths in it."""
        expected = LAYERS.get(media_type)
        if expected is None:
            return set()
        with self.store.open(name) as source:
            start = source.read(4)
        found = "gzip" if start[:2] == b"\x1f\x8b" else "zstd" if start == b"\x28\xb5\x2f\xfd" else "tar"
        if found != expected:
            self.report.error(f"{place}: media type {media_type}, but the bytes are {found}")
        paths = set()
        try:
            with self.decompress(name, found) as plain:
                hashing = Hashing(plain)
                try:
                    self.entries(hashing, paths, below, place)
                except tarfile.TarError as error:
                    self.report.error(f"{place}: not a tar: {error}")
                hashing.drain()
        except (OSError, EOFError, zlib.error, subprocess.CalledProcessError) as error:
            self.report.error(f"{place}: cannot be decompressed: {error}")
            return paths
        computed = "sha256:" + hashing.hasher.hexdigest()
        if diff_id is not None and computed != diff_id:
            self.report.error(f"{place}: diff_id {diff_id}, but the tar has {computed}")
        if hashing.tail != bytes(1024):
            self.report.warning(f"{place}: the tar does not end with two blocks of zeros")
        return paths

    def decompress(self, name, kind):
        source = self.store.open(name)
        if kind == "gzip":
            return gzip.GzipFile(fileobj=source)
        if kind == "zstd":
            plain = tempfile.TemporaryFile()
            with tempfile.TemporaryFile() as packed:
                while piece := source.read(PIECE):
                    packed.write(piece)
                packed.seek(0)
                command = ["zstd", "-dcq"]
                subprocess.run(command, stdin=packed, stdout=plain, stderr=subprocess.DEVNULL, check=True)
            plain.seek(0)
            return plain
        return source

    def entries(self, source, paths, below, place):
        for entry in tarfile.open(fileobj=source, mode="r|"):
            path = entry.name.removeprefix("./")
            if entry.name.startswith("/") or ".." in path.split("/"):
                self.report.error(f"{place}: entry {entry.name!r} has an unsafe name")
            if path in paths and not entry.isdir():
                self.report.error(f"{place}: entry {path!r} occurs twice")
            if entry.islnk() and entry.linkname.removeprefix("./") not in paths | below:
                self.report.error(f"{place}: {path!r} is a hard link to {entry.linkname!r}, which comes later or never")
            paths.add(path)

    def docker_contents(self):
        """`manifest.json` lets older `docker load` read a layout; it must tell the same story as the index."""
        for number, image in enumerate(self.document("manifest.json")):
            if (image["Config"], image["Layers"]) not in self.images:
                self.report.error(f"manifest.json/{number}: Config and Layers are those of no image in the index")
            for tag in image.get("RepoTags") or []:
                if not REPO_TAG.fullmatch(tag):
                    self.report.error(f"manifest.json/{number}: `{tag}` is not a name with a tag")

    def leftovers(self):
        for name in sorted(self.store.files):
            if name.startswith("blobs/"):
                if name in self.referenced:
                    continue
                self.report.warning(f"nothing refers to `{name}`")
                known = re.fullmatch(r"blobs/(sha256|sha512)/([0-9a-f]+)", name)
                if not known or self.measure(name)[0] != known.group(2):
                    self.report.error(f"`{name}` does not hold what its name says")
            elif name not in ("oci-layout", "index.json", "manifest.json", "repositories"):
                self.report.warning(f"`{name}` does not belong into a layout")

    def validate(self):
        for name, schema in (("oci-layout", "image-layout-schema"), ("index.json", "image-index-schema")):
            self.attempt(lambda: self.check(schema, self.document(name), name))
        if "index.json" in self.store.files:
            self.attempt(lambda: self.index(self.document("index.json"), "index.json"))
        if "manifest.json" in self.store.files:
            self.attempt(self.docker_contents)
        self.leftovers()
        return self.report.lines

    def attempt(self, step):
        try:
            step()
        except Broken as problem:
            self.report.error(str(problem))
        except (KeyError, TypeError, AttributeError, ValueError) as problem:
            self.report.error(f"the structure cannot be followed: {problem!r}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schemas", default=os.environ.get("OCI_SCHEMAS") or SCHEMAS)
    parser.add_argument("layouts", nargs="+")
    options = parser.parse_args()
    if not os.path.isdir(options.schemas):
        sys.exit(f"oci_validate.py: no schemas in `{options.schemas}`: run ci/setup")
    schemas, sound = Schemas(options.schemas), True
    for path in options.layouts:
        try:
            lines = Layout(path, schemas).validate()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            lines = [f"error: cannot be read: {error}"]
        for line in dict.fromkeys(lines):
            print(line)
        sound = sound and not lines
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
