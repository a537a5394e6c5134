"""A throw-away SeaweedFS with one bucket on free loopback ports, from the folder that `ci/setup` fills."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

from measure import remove

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = os.path.join(ROOT, ".venv", "bin")
BUCKET = "ci-images"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI"


def free_ports(count):
    """Finds free ports whose numbers plus 10,000 are free too: SeaweedFS takes both."""
    found = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
        if port not in found:
            found.append(port)
    return found


class BucketServer:
    """The server; `stop` ends it and removes its files."""

    def __init__(self, work):
        self.folder = f"{work}/weed"
        os.makedirs(f"{self.folder}/data", exist_ok=True)
        port, self.master, volume, self.filer = free_ports(4)
        self.host = f"127.0.0.1:{port}"
        config = f"{self.folder}/s3.json"
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        with open(config, "w") as file:
            json.dump({"identities": [{"name": "bench", "credentials": [keys],
                                       "actions": ["Admin", "Read", "Write", "List"]}]}, file)
        words = [f"{TOOLS}/weed", "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100",
                 "-master.volumeSizeLimitMB=256", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
                 f"-s3.port={port}", f"-master.port={self.master}", f"-volume.port={volume}",
                 f"-filer.port={self.filer}", f"-dir={self.folder}/data", f"-s3.config={config}"]
        self.log = f"{self.folder}/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 120
        while not self.is_up(port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS did not start, see {self.log}")
            time.sleep(0.05)
        self.ask(self.filer, f"/buckets/{BUCKET}/", "POST")

    def ask(self, port, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def is_up(self, port):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return b'"fid"' in self.ask(self.master, "/dir/assign")
        except OSError:
            return False

    def wipe(self, prefix):
        """Deletes what is below a prefix, and gives its space back."""
        try:
            self.ask(self.filer, f"/buckets/{BUCKET}/{prefix}?recursive=true", "DELETE")
        except OSError:
            return
        self.ask(self.master, "/vol/vacuum?garbageThreshold=0.001")

    def stop(self):
        # It takes up to 20 s to stop by itself.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        remove(self.folder)


def environment(variables, host):
    """Adds endpoint and keys for imgrelay, and the remote `bucket:` for rclone."""
    remote = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": f"http://{host}", "ACCESS_KEY_ID": ACCESS_KEY,
              "SECRET_ACCESS_KEY": SECRET_KEY}
    return {**variables, "AWS_ENDPOINT_URL_S3": f"http://{host}", "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "RCLONE_CONFIG": "/dev/null",
            **{f"RCLONE_CONFIG_BUCKET_{name}": value for name, value in remote.items()}}
