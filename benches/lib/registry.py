"""A throw-away docker-registry on a free loopback port, over http or TLS, and images to send to it."""

import gzip
import hashlib
import io
import json
import os
import random
import re
import subprocess
import tarfile
import time

from measure import remove

MIB = 1 << 20


class Registry:
    """A registry that is stopped by `stop`; `wipe` empties it while it runs."""

    def __init__(self, work, tls):
        self.folder = f"{work}/registry-{'tls' if tls else 'http'}"
        self.storage = f"{self.folder}/storage"
        self.certificate = f"{self.folder}/certificate.pem" if tls else None
        os.makedirs(self.storage, exist_ok=True)
        extra = ""
        if tls:
            key = f"{self.folder}/key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                            "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                            "-addext", "basicConstraints=critical,CA:false", "-keyout", key,
                            "-out", self.certificate], check=True, capture_output=True)
            extra = f", tls: {{certificate: '{self.certificate}', key: '{key}'}}"
        config = f"{self.folder}/config.yml"
        with open(config, "w") as file:
            file.write(f"version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage: {{filesystem: "
                       f"{{rootdirectory: '{self.storage}'}}, delete: {{enabled: true}}}}\n"
                       f"http: {{addr: '127.0.0.1:0'{extra}}}\n")
        self.log = f"{self.folder}/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        for _ in range(200):
            with open(self.log) as text:
                found = re.search(r"listening on (127\.0\.0\.1:\d+)", text.read())
            if found:
                self.host = found[1]
                return
            time.sleep(0.05)
        raise RuntimeError(f"docker-registry did not start, see {self.log}")

    @property
    def url(self):
        return f"{'https' if self.certificate else 'http'}://{self.host}"

    def wipe(self):
        remove(f"{self.storage}/docker")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def layout_tar(path, layers, layer_bytes, half=False, changed=None):
    """Writes an OCI layout tar with so many layers of noise, gzip-framed, and returns the layers' digests.

    With `half` every second MiB is zeros, and the layers are compressed: half of what is unpacked is stored. The layer with
    the number `changed` is another one than without it; the others are the same.
    """
    rng = random.Random(20260104)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out:
        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))

        def blob(data, media_type):
            digest = hashlib.sha256(data).hexdigest()
            add(f"blobs/sha256/{digest}", data)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        descriptors, diff_ids = [], []
        for number in range(layers):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                entry = tarfile.TarInfo(f"noise-{number:03}.bin")
                entry.size = layer_bytes
                parts = (bytes(MIB) if half and part % 2 else rng.randbytes(MIB) for part in range(layer_bytes // MIB))
                noise = b"".join(parts)
                tar.addfile(entry, io.BytesIO(noise[::-1] if number == changed else noise))
            plain = inner.getvalue()
            diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
            stored = gzip.compress(plain, 1 if half else 0, mtime=0)
            descriptors.append(blob(stored, "application/vnd.oci.image.layer.v1.tar+gzip"))
        config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                                  "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode(),
                      "application/vnd.oci.image.config.v1+json")
        manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": descriptors,
                                    "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode(),
                        "application/vnd.oci.image.manifest.v1+json")
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
    return [descriptor["digest"] for descriptor in descriptors]
