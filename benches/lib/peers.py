"""What other clients of registries do with the same image: crane, regctl and oras, each left out where it is absent.

They are told the least that they need (plain http, a certificate), and keep their own defaults.
"""

import os
import tarfile

from jobs import clear, has, quote


def nothing():
    return 0


def regctl_host(registry):
    """Returns the option that tells regctl how to reach the registry."""
    tls = f"regcert={registry.certificate}" if registry.certificate else "tls=disabled"
    return f"--host 'reg={registry.host},{tls}'"


def oras_option(registry, side):
    option = f"ca-file {quote(registry.certificate)}" if registry.certificate else "plain-http"
    return f"--{side}{option}"


def pushing(tar, layout, registry):
    """Image tar, or a folder with the same layout, to registry."""
    q, target = quote, f"{registry.host}/team/app"
    jobs = []
    if has("crane"):
        insecure = "" if registry.certificate else "--insecure"
        jobs.append(("crane push (folder)", f"crane push {insecure} --index {q(layout)} {target}:v1"))
    if has("regctl"):
        jobs.append(("regctl image import", f"regctl {regctl_host(registry)} image import {target}:v1 {q(tar)}"))
    if has("oras"):
        jobs.append(("oras cp --from-oci-layout",
                     f"oras cp {oras_option(registry, 'to-')} --from-oci-layout {q(tar)}:v1 {target}:v1"))
    return [(name, command, registry.wipe, nothing) for name, command in jobs]


def pulling(work, registry):
    """Registry to a tar or folder; the image was pushed before."""
    q, out, source = quote, f"{work}/pulled-by-peer", f"{registry.host}/team/app:v1"
    jobs = []
    if has("crane"):
        insecure = "" if registry.certificate else "--insecure"
        jobs.append(("crane pull (folder)", f"crane pull {insecure} --platform all --format oci {source} {q(out)}"))
    if has("regctl"):
        jobs.append(("regctl image export", f"regctl {regctl_host(registry)} image export {source} {q(out)}"))
    if has("oras"):
        jobs.append(("oras cp --to-oci-layout (folder)",
                     f"oras cp {oras_option(registry, 'from-')} --to-oci-layout {source} {q(out)}:v1"))
    return [(name, command, clear(out), nothing) for name, command in jobs]


def relaying(registry, clear_target):
    """Registry to another repository of the same registry."""
    source, target = f"{registry.host}/team/app:v1", f"{registry.host}/team/other:v1"
    jobs = []
    if has("crane"):
        jobs.append(("crane copy", f"crane copy {'' if registry.certificate else '--insecure'} {source} {target}"))
    if has("regctl"):
        jobs.append(("regctl image copy", f"regctl {regctl_host(registry)} image copy {source} {target}"))
    if has("oras"):
        both = f"{oras_option(registry, 'from-')} {oras_option(registry, 'to-')}"
        jobs.append(("oras cp", f"oras cp {both} {source} {target}"))
    return [(name, command, clear_target, nothing) for name, command in jobs]


def unpacked(tar, folder):
    """Makes the folder with the layout that the tar has."""
    os.makedirs(folder, exist_ok=True)
    with tarfile.open(tar) as archive:
        archive.extractall(folder, filter="data")
