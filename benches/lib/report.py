"""From figures to text: markdown tables, and one picture."""

import os
import re
from xml.sax.saxutils import escape

MIB = 1 << 20
MARKS = ("<!-- results: written by benches/compare -->", "<!-- end of results -->")


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(header) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def wall(cost):
    spread = f" ({cost['low']:.2f}–{cost['high']:.2f})" if cost["runs"] > 1 else ""
    return f"{cost['wall']:.2f}{spread}"


def ratio(value, base):
    return f"{value / base:.2f}" if base else "–"


def named(name, best):
    return f"**{name}**" if best else name


def shares(row):
    """Returns the two limits in seconds: the slowest stage alone, and all work shared out over the cores."""
    limit, cores = row["limit"], row["limit"]["cores"]
    stages = {"compressing on all cores": limit["compress"] / cores,
              "hashing twice at the same time": max(limit["hash_in"], limit["hash_out"], (limit["hash_in"] + limit["hash_out"]) / cores),
              "reading": limit["read"]}
    slowest = max(stages, key=stages.get)
    work = (limit["compress"] + limit["hash_in"] + limit["hash_out"] + limit["read"] + limit["write"]) / cores
    return slowest, stages[slowest], work


def packing(rows):
    parts = []
    for row in rows:
        own = row["rows"]["imgrelay"]
        parts.append(f"#### ({row['key']}) {row['title']}: {row['files']:,} files, {row['bytes'] / 1e6:.0f} MB\n")
        lines = []
        for name, cost in row["rows"].items():
            lines.append([named(name, name == "imgrelay"), wall(cost), ratio(cost["wall"], own["wall"]),
                          f"{cost['cpu']:.2f}", ratio(cost["cpu"], own["cpu"]), f"{cost['peak'] / MIB:.0f}",
                          f"{cost['size'] / 1e6:.1f}", ratio(cost["size"], own["size"])])
        header = ["", "wall s (min–max)", "× imgrelay", "CPU s", "× imgrelay", "peak MiB", "output MB", "× imgrelay"]
        parts.append(table(header, lines) + "\n")
        if "limit" in row:
            slowest, seconds, work = shares(row)
            hashing = row["limit"]["hash_in"] + row["limit"]["hash_out"]
            apart = f" (one after the other {hashing:.2f} s)" if slowest.startswith("hashing") else ""
            parts.append(f"Limit: {slowest} {seconds:.2f} s{apart}, of which imgrelay reaches "
                         f"{100 * seconds / own['wall']:.0f} %; "
                         f"all the work (reading, deflating, two digests, writing) spread over "
                         f"{row['limit']['cores']} cores takes {work:.2f} s, {100 * work / own['wall']:.0f} %.\n")
        if row.get("calls"):
            top = ", ".join(f"{name} {count:,}" for name, count in row["calls"]["top"])
            parts.append(f"System calls: {row['calls']['per_file']:.2f} per file ({top}).\n")
    return "\n".join(parts)


def reading(rows):
    parts = []
    for row in rows:
        parts.append(f"#### ({row['key']}) {row['title']}: {row['stored'] / 1e6:.0f} MB of layer, "
                     f"{row['bytes'] / 1e6:.0f} MB unpacked\n")
        lines = []
        for name, cost in row["rows"].items():
            base = "imgrelay pull" if "tar" in name.split() and "verify" not in name and "sha256" not in name \
                or name == "imgrelay pull" else "imgrelay verify"
            own = row["rows"].get(base, cost)
            lines.append([named(name, name.startswith("imgrelay")), wall(cost), ratio(cost["wall"], own["wall"]),
                          f"{cost['cpu']:.2f}", ratio(cost["cpu"], own["cpu"]), f"{cost['peak'] / MIB:.0f}"])
        header = ["", "wall s (min–max)", "× imgrelay", "CPU s", "× imgrelay", "peak MiB"]
        parts.append(table(header, lines) + "\n")
    return "\n".join(parts)


def conditions(results):
    m = results["machine"]
    versions = [f"{text}" if name in text.lower() else f"{name} {text}" for name, text in m["versions"].items() if text]
    absent = [name for name, text in m["versions"].items() if not text]
    lines = [f"{m['date']}; {m['cores']} cores of {m['cpu']}, {m['memory']} GiB, Linux {m['kernel']}; inputs and "
             f"outputs in {m['medium']}, page cache warm. Load average {m['load_before']:.1f} before, "
             f"{m.get('load_after', 0):.1f} after. Median of the runs, taken in turn; peak memory of the largest process.",
             f"Versions: {'; '.join(versions)}."]
    if absent:
        lines.append(f"Absent, so left out: {', '.join(absent)}.")
    if results.get("scale", 1) != 1:
        lines.append(f"**Inputs at {results['scale']:g} of their full size.**")
    if results["quick"]:
        lines.append("**A quick run with tiny inputs and an unoptimised build: the figures mean nothing.**")
    return "\n".join(lines) + "\n"


def everything(results):
    parts = [conditions(results)]
    if results["pack"]:
        parts += ["### Packing a folder\n", packing(results["pack"])]
    if "flat" in results:
        flat = results["flat"]
        parts.append(f"### Memory\n\nOne file of {flat['bytes'] / MIB:.0f} MiB, a quarter of it noise: peak "
                     f"{flat['peak'] / MIB:.0f} MiB, {flat['wall']:.1f} s.\n")
    if results["reading"]:
        parts += ["### Checking and unpacking\n", reading(results["reading"])]
    if "start" in results:
        start = results["start"]
        parts.append(f"### Start and size\n\n`imgrelay version`: {start['version'] * 1000:.2f} ms "
                     f"(`true`: {start['true'] * 1000:.2f} ms); executable {start['binary'] / 1e6:.1f} MB.\n")
    return "\n".join(parts)


COLORS = {"imgrelay": "#0b6e4f", "tar + gzip": "#8d99ae", "tar + pigz": "#6c7a89", "umoci (folder)": "#b08968",
          "buildah": "#c9705f", "registry round trip (buildah + skopeo)": "#9c6ea8"}


def picture(results):
    """Returns an SVG: for each corpus one bar per tool, as long as its wall time."""
    width, left, bar, x_end = 860, 250, 17, 640
    out, y = [], 58
    for row in results["pack"]:
        shown = [(name, cost) for name, cost in row["rows"].items() if name in COLORS]
        longest = max(cost["wall"] for _, cost in shown)
        out.append(f'<text x="20" y="{y}" class="h">{escape(row["title"])}, {row["files"]:,} '
                   f'file{"s" if row["files"] > 1 else ""}, {row["bytes"] / 1e6:.0f} MB</text>')
        y += 10
        for name, cost in shown:
            length = max(2, (x_end - left) * cost["wall"] / longest)
            weight = ' class="b"' if name == "imgrelay" else ""
            label = name.replace("registry round trip (buildah + skopeo)", "through a registry")
            out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end"{weight}>{escape(label)}</text>'
                       f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" rx="2" fill="{COLORS[name]}"/>'
                       f'<text x="{left + length + 8:.1f}" y="{y + 12}"{weight}>{cost["wall"]:.2f} s · '
                       f'{cost["cpu"]:.1f} s CPU · {cost["size"] / 1e6:.0f} MB</text>')
            y += bar
        y += 26
    m = results["machine"]
    out.append(f'<text x="20" y="{y}" class="s">Wall time, CPU time and size of the output. {escape(m["date"])}, '
               f'{m["cores"]} cores of {escape(m["cpu"])}, in {escape(m["medium"])}; made by benches/compare.</text>')
    style = ("text{font:12px system-ui,sans-serif;fill:#222}.t{font-size:17px;font-weight:600}.h{font-weight:600}"
             ".b{font-weight:700}.s{font-size:11px;fill:#666}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 16}" role="img" '
            f'aria-label="Time from a folder to an image, by tool"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/><text x="20" y="30" class="t">From a folder to an image: '
            f'shorter is better</text>\n' + "\n".join(out) + "\n</svg>\n")


def renew(page, marks, section):
    """Replaces what stands between two marks of a page."""
    with open(page) as file:
        text = file.read()
    pattern = re.escape(marks[0]) + ".*" + re.escape(marks[1])
    text, count = re.subn(pattern, lambda _: f"{marks[0]}\n\n{section}\n{marks[1]}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page} does not have the two marks that frame the results: {marks[0]}")
    with open(page, "w") as file:
        file.write(text)


def write(results, folder):
    """Renews the marked part of performance.md, and the picture."""
    renew(os.path.join(folder, "performance.md"), MARKS, everything(results))
    if results["pack"]:
        with open(os.path.join(folder, "performance.svg"), "w") as file:
            file.write(picture(results))
