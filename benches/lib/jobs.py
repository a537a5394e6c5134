"""What is compared with what: the commands of every table, those of absent programs left out."""

import os
import re
import shutil
import subprocess

from measure import remove, run, size_of


# Blobs moved at a time where a tool has to be told; imgrelay moves as many that are large, and `FAR_PARALLEL` small ones.
PARALLEL = 5
FAR_PARALLEL = 16


def quote(path):
    return "'" + path.replace("'", "'\\''") + "'"


def has(*names):
    return all(shutil.which(name) for name in names)


def clear(*paths):
    """Returns a function that removes what the last run left."""
    return lambda: remove(*paths)


def packing(program, source, work, registry, full):
    """Folder to image: imgrelay, two archives of the same content, and tools that write images."""
    out = f"{work}/out"
    os.makedirs(out, exist_ok=True)
    tar, q = f"{out}/image.tar", quote
    push = [program, "push", "-i", "registry.example/team/app", "-f", source, "--to-oci-tar", tar, "--quiet"]
    file_jobs = [("imgrelay", push, clear(tar), lambda: size_of(tar))]
    if full:
        for level in ("gzip:1", "zstd:3"):
            file_jobs.append((f"imgrelay {level}", [*push, "--compression", level], clear(tar), lambda: size_of(tar)))
    for name in ("gzip", "pigz"):
        if has("tar", name):
            archive = f"{out}/{name}.tar.gz"
            line = f"tar -C {q(source)} -cf - . | {name} >{q(archive)}"
            file_jobs.append((f"tar + {name}", line, clear(archive), lambda archive=archive: size_of(archive)))
    if has("umoci"):
        layout = f"{out}/umoci"
        line = (f"umoci init --layout {q(layout)} && umoci new --image {q(layout)}:v1 && "
                f"umoci insert --image {q(layout)}:v1 {q(source)} /")
        file_jobs.append(("umoci (folder)", line, clear(layout), lambda: size_of(layout)))
    if has("buildah"):
        storage, archive = f"{out}/buildah", f"{out}/buildah.tar"
        policy = f"{work}/policy.json"
        with open(policy, "w") as file:
            file.write('{"default": [{"type": "insecureAcceptAnything"}]}')
        b = f"buildah --root {q(storage)}/root --runroot {q(storage)}/run --storage-driver vfs"
        made = f"c=$({b} from scratch) && {b} copy -q $c {q(source)} / >{q(out)}/log"
        commit = f"{b} commit -q --disable-compression=false --signature-policy {q(policy)}"
        line = f"{made} && {commit} $c oci-archive:{q(archive)}"
        file_jobs.append(("buildah", line, clear(storage, archive), lambda: size_of(archive)))
        if registry and has("skopeo"):
            name = f"docker://{registry.host}/team/app:v1"
            line = (f"{made} && {commit} --tls-verify=false $c {name} && skopeo --insecure-policy copy -q "
                    f"--src-tls-verify=false {name} oci-archive:{q(archive)}")

            def before():
                remove(storage, archive)
                registry.wipe()
            file_jobs.append(("registry round trip (buildah + skopeo)", line, before, lambda: size_of(archive)))
    return file_jobs


def reading(program, tar, layer, work):
    """Checking and unpacking an image tar, against hashing it and against unpacking its layer by GNU tar."""
    out, q = f"{work}/unpacked", quote
    nothing = lambda: 0  # noqa: E731
    jobs = [("imgrelay verify", [program, "verify", "--tar", tar, "--quiet"], lambda: None, nothing)]
    if has("openssl"):
        jobs.append(("openssl sha256 of the tar", ["openssl", "dgst", "-sha256", tar], lambda: None, nothing))
    jobs.append(("sha256sum of the tar", ["sha256sum", tar], lambda: None, nothing))
    jobs.append(("gzip -dc + sha256sum", f"gzip -dc {q(layer)} | sha256sum", lambda: None, nothing))
    pull = [program, "pull", "--tar", tar, "-o", out, "--quiet"]
    jobs.append(("imgrelay pull", pull, clear(out), nothing))
    jobs.append(("GNU tar -xzf", f"mkdir {q(out)} && tar -C {q(out)} -xzf {q(layer)}", clear(out), nothing))
    if has("pigz"):
        line = f"mkdir {q(out)} && pigz -dc {q(layer)} | tar -C {q(out)} -xf -"
        jobs.append(("pigz -dc + GNU tar", line, clear(out), nothing))
    return jobs


def environment_for(work, registry=None):
    """Returns the environment of the jobs: a trusted certificate, and nothing else that matters."""
    os.makedirs(f"{work}/home", exist_ok=True)
    variables = {"HOME": f"{work}/home", "PATH": os.environ["PATH"], "TMPDIR": f"{work}/tmp", "LC_ALL": "C"}
    if registry and registry.certificate:
        variables["SSL_CERT_FILE"] = registry.certificate
    os.makedirs(variables["TMPDIR"], exist_ok=True)
    return variables


def pushing(program, tar, blobs, registry, parallel=PARALLEL):
    """Image tar to registry; `blobs` are the layers as files, for the floor that curl shows."""
    q = quote
    target = f"{registry.host}/team/app"
    nothing = lambda: 0  # noqa: E731
    ca = f"--cacert {q(registry.certificate)}" if registry.certificate else ""
    copy = [program, "copy", "--tar", tar, "--to-repo", target, "--quiet"]
    jobs = [("imgrelay copy", copy, registry.wipe, nothing), ("imgrelay copy, unchanged", copy, lambda: None, nothing)]
    if has("skopeo"):
        verify = "true" if registry.certificate else "false"
        copy = (f"skopeo --insecure-policy copy --all -q --dest-tls-verify={verify} oci-archive:{q(tar)} "
                f"docker://{target}:v1")
        jobs += [("skopeo copy oci-archive:", copy, registry.wipe, nothing),
                 ("skopeo copy oci-archive:, unchanged", copy, lambda: None, nothing)]
    if has("curl"):
        # One POST and one PUT per blob, several at a time, nothing hashed by the sender; HTTP/1.1, as the others.
        curl = f"curl --http1.1 -sSf -Z --parallel-max {parallel} {ca}"
        opened = " ".join(f"-o /dev/null {registry.url}/v2/team/app/blobs/uploads/" for _ in blobs)
        line = (f"set -- $({curl} -X POST -w '%header{{location}}\\n' {opened}); wanted=; for f in "
                f"{' '.join(map(q, blobs))}; do wanted=\"$wanted -T $f $1&digest=sha256:${{f##*/}}\"; shift; done; "
                f"{curl} -H Expect: -H 'Content-Type: application/octet-stream' $wanted")
        jobs.append(("floor: curl -T", line, registry.wipe, nothing))
    return jobs


def pulling(program, digests, work, registry, parallel=PARALLEL):
    """Registry to image tar; the image was pushed before."""
    q, out = quote, f"{work}/pulled"
    source = f"{registry.host}/team/app:v1"
    nothing = lambda: 0  # noqa: E731
    ca = f"--cacert {q(registry.certificate)}" if registry.certificate else ""
    jobs = [("imgrelay copy", [program, "copy", "-i", source, "--to-oci-tar", out, "--quiet"], clear(out), nothing)]
    if has("skopeo"):
        verify = "true" if registry.certificate else "false"
        copy = f"skopeo --insecure-policy copy --all -q --src-tls-verify={verify} docker://{source}"
        jobs.append(("skopeo copy to oci-archive:", f"{copy} oci-archive:{q(out)}:v1", clear(out), nothing))
        jobs.append(("skopeo copy to oci: (folder)", f"{copy} oci:{q(out)}:v1", clear(out), nothing))
    if has("curl"):
        wanted = " ".join(f"-o {q(out)}-{n} {registry.url}/v2/team/app/blobs/{d}" for n, d in enumerate(digests))
        jobs.append(("floor: curl -o", f"curl --http1.1 -sSf -Z --parallel-max {parallel} {ca} {wanted}",
                     clear(out, *(f"{out}-{n}" for n in range(len(digests)))), nothing))
    return jobs


def relaying(program, registry, clear_target):
    """Registry to another repository of the same registry, where blobs are mounted."""
    source, target = f"{registry.host}/team/app:v1", f"{registry.host}/team/other"
    nothing = lambda: 0  # noqa: E731
    jobs = [("imgrelay copy", [program, "copy", "-i", source, "--to-repo", target, "--quiet"], clear_target, nothing)]
    if has("skopeo"):
        copy = (f"skopeo --insecure-policy copy --all -q --src-tls-verify=false --dest-tls-verify=false "
                f"docker://{source} docker://{target}:v1")
        jobs.append(("skopeo copy", copy, clear_target, nothing))
    return jobs


def system_calls(command, environment, files):
    """Returns system calls per file of a command, as strace counts them; none without strace."""
    if not has("strace"):
        return None
    table = os.path.join(environment["TMPDIR"], "strace")
    run(["strace", "-f", "-c", "-o", table, *command], environment)
    counts = {}
    with open(table) as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 5 and words[0].replace(".", "").isdigit() and words[-1] != "total":
                counts[words[-1]] = int(words[3])
    top = sorted(counts.items(), key=lambda item: -item[1])[:7]
    return {"per_file": sum(counts.values()) / files, "top": top}


def version_of(name):
    """Returns the first line a program says about its version."""
    path = shutil.which(name)
    if not path:
        return None
    for flag in ("--version", "version"):
        done = subprocess.run([path, flag], capture_output=True, text=True)
        line = next((line for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")
        if done.returncode == 0 and line:
            # curl and OpenSSL go on about the libraries they stand on.
            return re.sub(r" \([^()]*\)( libcurl.*|$)", "", line.strip())
    return "unknown version"
