"""A registry that is far away: a TCP proxy that delays what a client sends, and images to move.

The proxy delays only the way to the registry, by a fixed time, so that each request takes that time longer and parts of
one request do not wait for each other. Connecting is not delayed. It also counts requests, by their first lines.
With a rate, all connections together move so many bytes in a second, each way.
"""

import gzip
import hashlib
import io
import json
import queue
import random
import re
import socket
import tarfile
import threading
import time

REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/\S*) HTTP/1\.1\r\n")


class Rate:
    """So many bytes in a second, shared by all that pass; without a rate nothing waits."""

    def __init__(self, bytes_per_second):
        self.rate, self.lock, self.free_at = bytes_per_second, threading.Lock(), 0

    def passed(self, count):
        """Waits until so many bytes are over the line."""
        if not self.rate:
            return
        with self.lock:
            self.free_at = max(self.free_at, time.monotonic()) + count / self.rate
            over_at = self.free_at
        time.sleep(max(0, over_at - time.monotonic()))


class FarRegistry:
    """A registry of `registry.py` behind a delay in seconds; stopped by `stop`, which leaves the registry itself."""

    certificate = None

    def __init__(self, registry, delay, rate=None):
        self.to_registry, self.to_client = Rate(rate), Rate(rate)
        self.registry = registry
        name, port = registry.host.rsplit(":", 1)
        self.target, self.delay = (name, int(port)), delay
        self.lock, self.requests = threading.Lock(), []
        self.open, self.most_open = 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A line with a rate does not take in more than it can move soon.
            held = queue.Queue(16 if self.to_registry.rate else 0)
            with self.lock:
                self.open += 1
                self.most_open = max(self.most_open, self.open)
            for work in ((self.hold, client, held), (self.release, held, server), (self.answer, server, client)):
                threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def hold(self, client, held):
        """Reads what the client sends and notes when it may go on."""
        while True:
            try:
                data = client.recv(1 << 16)
            except OSError:
                data = b""
            held.put((time.monotonic() + self.delay, data))
            if not data:
                return
            found = REQUEST.match(data)
            if found:
                with self.lock:
                    self.requests.append((found[1].decode(), found[2].decode()))

    def release(self, held, server):
        while True:
            due, data = held.get()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    return server.shutdown(socket.SHUT_WR)
                self.to_registry.passed(len(data))
                server.sendall(data)
            except OSError:
                return

    def answer(self, server, client):
        try:
            while data := server.recv(1 << 16):
                self.to_client.passed(len(data))
                client.sendall(data)
        except OSError:
            pass
        for end in (client, server):
            end.close()
        with self.lock:
            self.open -= 1

    @property
    def url(self):
        return f"http://{self.host}"

    def wipe(self):
        self.registry.wipe()

    def count(self):
        """Returns how many requests came since it was last asked, and forgets them."""
        with self.lock:
            count, self.requests = len(self.requests), []
            return count

    def stop(self):
        self.listener.close()


def index_tar(path, images, layer_sizes, shared, tag="v1"):
    """Writes an OCI layout tar with one index under a tag, of so many images with layers of these bytes each; the first
    layers are shared by all.

    Returns the digests of the layers and configurations.
    """
    rng = random.Random(f"20260105 {tag}")
    seen, blobs = set(), {}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out:
        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))

        def blob(data, media_type):
            digest = hashlib.sha256(data).hexdigest()
            if digest not in seen:
                seen.add(digest)
                add(f"blobs/sha256/{digest}", data)
            if media_type.endswith(("gzip", "config.v1+json")):
                blobs[f"sha256:{digest}"] = None
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

        def layer(name, layer_bytes):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                entry = tarfile.TarInfo(name)
                entry.size = layer_bytes
                tar.addfile(entry, io.BytesIO(rng.randbytes(layer_bytes)))
            plain = inner.getvalue()
            descriptor = blob(gzip.compress(plain, 0, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
            return descriptor, f"sha256:{hashlib.sha256(plain).hexdigest()}"

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        common = [layer(f"shared-{number:02}", size) for number, size in enumerate(layer_sizes[:shared])]
        manifests = []
        for image in range(images):
            own = common + [layer(f"image-{image:03}-{number:02}", size)
                            for number, size in enumerate(layer_sizes[shared:])]
            platform = {"architecture": "amd64", "os": "linux", "variant": f"v{image}"}
            config = blob(json.dumps({**platform, "config": {}, "rootfs": {
                "type": "layers", "diff_ids": [diff_id for _, diff_id in own]}}).encode(),
                "application/vnd.oci.image.config.v1+json")
            manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": [one for one, _ in own],
                                        "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode(),
                            "application/vnd.oci.image.manifest.v1+json")
            manifests.append({**manifest, "platform": platform})
        media_type = "application/vnd.oci.image.index.v1+json"
        index = blob(json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).encode(),
                     media_type)
        index["annotations"] = {"org.opencontainers.image.ref.name": tag}
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [index]}).encode())
    return list(blobs)
