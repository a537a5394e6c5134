"""What is packed: trees made from what a Debian system has, and seeded generators.

The trees (a) and (b) depend on what is installed; the generated ones (c), (d), (e) are the same everywhere.
"""

import hashlib
import os
import random
import shutil

MB = 1_000_000
MIB = 1 << 20
SOURCE_ROOTS = ["/usr/include", "/usr/lib/python3", "/usr/lib/python3.*", "/usr/share/perl", "/usr/share/perl5",
                "/usr/share/vim", "/usr/share/X11", "/usr/share/tcltk", "/usr/share/i18n", "/usr/share/mime",
                "/usr/share/javascript", "/usr/share/go-*", "/usr/lib/go-*/src", "/usr/share/doc", "/usr/lib/gcc",
                "/usr/lib/node_modules", "/usr/share/nodejs", "/usr/share/postgresql", "/usr/share/icons",
                "/usr/share/locale"]
PACKED = (".gz", ".xz", ".bz2", ".zst", ".png", ".jpg", ".jpeg", ".gif", ".mo", ".pyc", ".jar", ".whl", ".zip",
          ".so", ".a", ".o", ".ttf", ".otf", ".woff", ".woff2", ".pdf", ".cache", ".gresource", ".db", ".exe")
BINARY_ROOTS = ["/usr/bin", "/usr/lib", "/usr/sbin"]


def files_below(roots):
    """Yields regular files below the roots that exist, in a fixed order, symbolic links passed over."""
    import glob
    for pattern in roots:
        for root in sorted(glob.glob(pattern)):
            for folder, folders, names in os.walk(root):
                folders.sort()
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                        continue
                    yield path


def copy_until(paths, target, limit):
    """Copies files, with their paths, until the limit is reached; returns files and bytes."""
    count = total = 0
    for path in paths:
        size = os.path.getsize(path)
        if total + size > limit:
            continue
        to = target + path
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copyfile(path, to)
        shutil.copymode(path, to)
        count, total = count + 1, total + size
        if total > limit * 0.995:
            break
    return count, total


def spread(paths):
    """Orders paths by a hash, so that a limit takes a sample of all folders and not the first ones."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())


def source_tree(target, limit):
    texts = [p for p in files_below(SOURCE_ROOTS) if not p.endswith(PACKED) and os.path.getsize(p) < 2 * MB]
    return copy_until(texts, target, limit)


def is_binary(path):
    if not 4096 <= os.path.getsize(path) <= 64 * MB:
        return False
    with open(path, "rb") as file:
        start = file.read(8)
    return start[:4] == b"\x7fELF" or start == b"!<arch>\n"


def binary_tree(target, limit):
    return copy_until(spread(p for p in files_below(BINARY_ROOTS) if is_binary(p)), target, limit)


def small_files(target, count):
    """Files of about 1 KB of words, a hundred folders."""
    rng = random.Random(20260101)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 11))) for _ in range(4000)]
    total = 0
    folders = max(1, min(100, count // 10))
    for folder in range(folders):
        os.makedirs(f"{target}/part-{folder:03}")
    for number in range(count):
        size = rng.randint(512, 1536)
        text = b" ".join(rng.choices(words, k=size // 6))[:size]
        with open(f"{target}/part-{number % folders:03}/file-{number:06}.txt", "wb") as file:
            file.write(text)
        total += len(text)
    return count, total


def noise_file(target, size):
    """One file that no compressor can shrink."""
    rng = random.Random(20260102)
    os.makedirs(target, exist_ok=True)
    with open(f"{target}/noise.bin", "wb") as file:
        for _ in range(size // MIB):
            file.write(rng.randbytes(MIB))
    return 1, size // MIB * MIB


def mixed_file(target, size):
    """One file, a quarter of it noise, the rest compressible."""
    rng = random.Random(20260103)
    os.makedirs(target, exist_ok=True)
    with open(f"{target}/mixed.bin", "wb") as file:
        for number in range(size // MIB):
            noise = rng.randbytes(MIB // 64)
            file.write(rng.randbytes(MIB) if number % 4 == 0 else noise * 32 + noise.hex().encode() * 16)
    return 1, size // MIB * MIB


def plan(scale):
    """Returns key, title, maker and its limit for every corpus of the packing table."""
    return [
        ("a", "source-like tree", source_tree, int(scale * 280) * MB),
        ("b", "mixed binaries", binary_tree, int(scale * 300) * MB),
        ("c", "small files", small_files, int(scale * 100_000)),
        ("d", "incompressible file", noise_file, int(scale * 2048) * MIB),
    ]
