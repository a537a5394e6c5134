#!/usr/bin/env python3
"""Measures what pushing a source image again sends, on real dependency trees, against a real registry.

usage: run.py IMGRELAY FOLDER [npm] [go]

FOLDER is used for everything and can be deleted afterwards. `npm` needs npm and its registry; `go` needs apt-get and
the Debian packages below, whose sources become the `vendor` folder of an app. docker-registry has to be installed.
What was sent is read off the registry's storage: bytes of blobs, manifests and configurations that were not there.
Two more tables: both ways of layering into a tar with time and memory, and how long resource matching takes.
"""
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time

NPM = """next@14 react@18 react-dom@18 @angular/core @angular/common @angular/compiler rxjs typescript@5.2.2 webpack
webpack-cli eslint jest lodash@4.17.20 moment date-fns express""".split()
GO = """golang-github-docker-docker-dev golang-github-docker-distribution-dev golang-github-containerd-containerd-dev
golang-google-cloud-dev golang-github-prometheus-client-golang-dev golang-golang-x-net-dev golang-golang-x-sys-dev
golang-golang-x-text-dev golang-golang-x-crypto-dev golang-google-grpc-dev golang-github-spf13-cobra-dev
golang-google-protobuf-dev golang-golang-x-tools-dev golang-google-genproto-dev golang-github-stretchr-testify-dev
golang-github-sirupsen-logrus-dev golang-github-aws-aws-sdk-go-dev""".split()


NPM_CHANGES = []


def run(*words, **options):
    return subprocess.run(words, check=True, **options)


class Registry:
    def __init__(self, folder):
        self.data = os.path.join(folder, "registry")
        shutil.rmtree(self.data, ignore_errors=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % probe.getsockname()[1]
        config = os.path.join(folder, "registry.yml")
        with open(config, "w") as file:
            json.dump({"version": "0.1", "log": {"level": "error"}, "http": {"addr": self.host},
                       "storage": {"filesystem": {"rootdirectory": self.data}}}, file)
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        time.sleep(1)

    def size(self):
        return sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(self.data + "/docker/registry/v2/blobs") for name in names)


class Bench:
    def __init__(self, program, registry, name):
        self.program, self.registry, self.name = program, registry, name

    def push(self, app, repository=None, layers="auto", more=()):
        before, start = self.registry.size(), time.time()
        target = "%s/%s:latest" % (self.registry.host, repository or self.name)
        result = run(self.program, "push", "-s", target, "-f", app, "--layers", layers, "--json", "--quiet",
                     *more, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        seconds = time.time() - start
        return self.registry.size() - before, json.loads(result), seconds

    def tar(self, app, layers):
        """Packs into a tar, with no registry; returns seconds, peak MiB and bytes of it."""
        target, start = app + ".tar", time.time()
        process = subprocess.Popen([self.program, "push", "-s", "-f", app, "--layers", layers, "--quiet",
                                    "--to-oci-tar", target], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit("push failed")
        seconds, size = time.time() - start, os.path.getsize(target)
        os.unlink(target)
        return seconds, usage.ru_maxrss / 1024, size

    def tars(self, app):
        """Packs both ways in turn, and takes each one's quickest time of three."""
        runs = [(layers, self.tar(app, layers)) for _ in range(3) for layers in ("1", "auto")]
        print("\n| into a tar | MB | s | peak, MiB |\n|---|---|---|---|")
        for layers in ("1", "auto"):
            own = [run for way, run in runs if way == layers]
            print("| `--layers %s` | %.3f | %.1f | %.0f |" % (
                layers, own[0][2] / 1e6, min(run[0] for run in own), max(run[1] for run in own)), flush=True)

    def matching(self, app):
        """Asks about the first 5,000 files, without the list beside the image and with it."""
        asked = []
        for folder, _, names in os.walk(app):
            for name in names:
                path = os.path.join(folder, name)
                if len(asked) < 5000 and os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path):
                    with open(path, "rb") as file:
                        sha1 = hashlib.sha1(file.read()).hexdigest()
                    asked.append({"checksum": {"value": sha1}, "size_in_bytes": os.path.getsize(path),
                                  "path": os.path.relpath(path, app), "mode": "644"})
        request = json.dumps({"resources": asked}).encode()
        image = "%s/%s:latest" % (self.registry.host, self.name)
        bits, empty = app + "-bits.zip", app + "-resources.json"
        with open(empty, "w") as file:
            file.write("[]")
        if not os.path.exists(bits):
            run("zip", "-q", "-r", "-y", "-1", bits, ".", cwd=app)
        print("\n| match, %d files asked about | matched | s |\n|---|---|---|" % len(asked))
        for what in ("from the layers", "from the list"):
            if what == "from the list":
                before, start = self.registry.size(), time.time()
                run(self.program, "push", "-s", image, "-f", bits, "--layers", "auto", "--resources", empty, "--quiet",
                    stdout=subprocess.DEVNULL)
                print("| the push that writes the list: %.3f MB more | | %.1f |" % (
                    (self.registry.size() - before) / 1e6, time.time() - start))
            start = time.time()
            answer = run(self.program, "match", "-s", image, "--quiet", input=request, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
            print("| %s | %d | %.2f |" % (what, len(json.loads(answer)["resources"]), time.time() - start), flush=True)

    def changed(self, what, app, change, more=()):
        """Pushes a changed copy over what is there, prints what it took, and goes back."""
        copy = app + "-changed"
        shutil.rmtree(copy, ignore_errors=True)
        # Links are enough where a change replaces files; npm may write into them.
        run("cp", "-a", *([] if change in NPM_CHANGES else ["-l"]), app, copy)
        change(copy)
        sent, result, seconds = self.push(copy, more=more)
        print("| %s | %.3f | %d | %.1f |" % (what, sent / 1e6, result["layers"], seconds), flush=True)
        shutil.rmtree(copy)
        self.push(app)

    def table(self, app, changes):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(app) for name in names]
        size = sum(os.path.getsize(path) for path in files)
        print("\n%s: %d files, %.1f MB\n" % (self.name, len(files), size / 1e6))
        print("| push | sent, MB | layers | s |\n|---|---|---|---|")
        # In turn, each from nothing, and the quickest of three: what else runs on the machine must not decide.
        firsts = {"1": [], "auto": []}
        for layers in ("1", "auto") * 3:
            shutil.rmtree(self.registry.data + "/docker/registry/v2", ignore_errors=True)
            firsts[layers].append(self.push(app, layers=layers))
        for name, layers in (("first, one layer", "1"), ("first, `--layers auto`", "auto")):
            sent, result, seconds = min(firsts[layers], key=lambda push: push[2])
            print("| %s | %.3f | %d | %.1f |" % (name, sent / 1e6, result["layers"], seconds), flush=True)
        for what, change, *more in changes:
            self.changed(what, app, change, *more)
        self.tars(app)
        self.matching(app)


def append(*paths):
    def change(app):
        for path in paths:
            path = os.path.join(app, path)
            with open(path, "rb") as file:
                content = file.read()
            os.unlink(path)
            with open(path, "wb") as file:
                file.write(content + b"\n// edited\n")
    return change


def upgraded_modules(*modules):
    """Changes one source file of each module, and the lists of modules."""
    def change(app):
        sources = [min(os.path.relpath(os.path.join(folder, name), app)
                       for folder, _, names in os.walk(os.path.join(app, "vendor", module))
                       for name in names if name.endswith(".go")) for module in modules]
        append(*sources, "go.mod", "go.sum", "vendor/modules.txt")(app)
    return change


def new_folder(app):
    os.makedirs(app + "/src/brand-new")
    for number in range(40):
        shutil.copy(app + "/src/m0/f0.js", "%s/src/brand-new/g%d.js" % (app, number))


def own_files(app):
    random.seed(3)
    words = [str(random.randrange(10 ** 9)) if number % 3 else "function return const" for number in range(4000)]
    for number in range(220):
        folder = "%s/%s/m%d" % (app, ("src", "pages", "components", "lib")[number % 4], number % 11)
        os.makedirs(folder, exist_ok=True)
        with open("%s/f%d.js" % (folder, number), "w") as file:
            file.write(" ".join(random.choices(words, k=random.randrange(50, 900))))


def npm(app, *packages):
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", "--silent", *packages,
        cwd=app, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def upgrade(package):
    def change(app):
        npm(app, package)
    NPM_CHANGES.append(change)
    return change


def npm_table(program, folder, registry):
    app = folder + "/npm"
    if not os.path.exists(app):
        os.makedirs(app)
        run("npm", "init", "-y", cwd=app, stdout=subprocess.DEVNULL)
        npm(app, *NPM)
        own_files(app)
    Bench(program, registry, "npm").table(app, [
        ("no change", lambda app: None),
        ("no change, another compression level", lambda app: None, ["--compression", "gzip:9"]),
        ("1 own file edited", append("src/m0/f0.js")),
        ("4 own files edited", append("src/m0/f0.js", "pages/m1/f1.js", "components/m2/f2.js", "lib/m3/f3.js")),
        ("new folder, 40 files", new_folder),
        ("1 file in a dependency", append("node_modules/express/lib/express.js")),
        ("lodash 4.17.20 to 4.17.21", upgrade("lodash@4.17.21")),
        ("typescript 5.2.2 to 5.3.3", upgrade("typescript@5.3.3")),
        ("moment removed", lambda app: run("rm", "-r", app + "/node_modules/moment")),
    ])


def go_table(program, folder, registry):
    app = folder + "/go"
    if not os.path.exists(app):
        debs = folder + "/debs"
        os.makedirs(debs, exist_ok=True)
        run("apt-get", "download", "-qq", *GO, cwd=debs)
        for name in os.listdir(debs):
            run("dpkg-deb", "-x", os.path.join(debs, name), folder + "/gocode")
        os.makedirs(app + "/cmd/app")
        shutil.move(folder + "/gocode/usr/share/gocode/src", app + "/vendor")
        # The project's own code: one that Debian has too.
        shutil.move(app + "/vendor/github.com/docker/docker", app + "/internal")
        for name in ("go.mod", "go.sum", "vendor/modules.txt", "cmd/app/main.go"):
            with open(os.path.join(app, name), "w") as file:
                file.write("module example\n")
    Bench(program, registry, "go").table(app, [
        ("no change", lambda app: None),
        ("no change, another compression level", lambda app: None, ["--compression", "gzip:9"]),
        ("1 own file edited", append("cmd/app/main.go")),
        ("1 file deep in the own code edited", append("internal/client/client.go")),
        ("1 module upgraded (cobra)", upgraded_modules("github.com/spf13/cobra")),
        ("golang.org/x upgraded, 5 modules", upgraded_modules(*[
            "golang.org/x/" + name for name in ("net", "sys", "text", "crypto", "tools")])),
    ])


def main(program, folder, *what):
    os.makedirs(folder, exist_ok=True)
    program = os.path.abspath(program)
    registry = Registry(folder)
    try:
        for name, table in (("npm", npm_table), ("go", go_table)):
            if not what or name in what:
                table(program, os.path.abspath(folder), registry)
    finally:
        registry.process.kill()


main(*sys.argv[1:])
