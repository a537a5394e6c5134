//! Our tar reader against Python's and GNU tar on made-up archives, with a written list of where they may differ.
//!
//! `cargo test --test it tar_differential -- --ignored` goes through many more.
//!
//! Two readers that see different files in one archive are how something gets past a scanner. Where we refuse and
//! another does not is our strictness; each reason is listed. What we read the others read, and the same.

use std::path::{Path, PathBuf};

use imgrelay::tar::{EntryKind, Reader};
use serde_json::{Value, json};
use testkit::random::Random;
use testkit::scratch::Scratch;
use testkit::tools::{run, script, tool};

use crate::targets::recipe::{layers, sealed};

const ARCHIVES: usize = 600;

/// Why we refuse what Python or GNU tar reads: part of our message, and the reason for being strict.
///
/// There is no list of archives that only we read, or that are read differently: there must be none.
const STRICTER: [(&str, &str); 21] = [
    ("has no `key=`", "a PAX record that cannot be read; Python passes over it"),
    ("has no valid length", "a PAX record that cannot be read; Python passes over it"),
    ("single zero block", "some readers stop there and others go on"),
    ("the name is empty", "nothing can be made of it"),
    (
        "but is not a file",
        "Python passes over the data or gives it to a link; others take it for the next header",
    ),
    ("slashes only", "GNU tar lists a file called `/` as a file and one called `//` as a folder"),
    ("multi-volume", "the rest is in another file"),
    ("has no name", "nothing can be made of it; Python gives it an empty name"),
    ("the tar ends", "Python takes a cut archive for a short one"),
    ("unknown type", "Python takes an entry of unknown type for a file"),
    ("is of type", "Python takes an entry of unknown type for a file"),
    ("not a header", "Python stops at the first block that is no header, as if the archive ended there"),
    ("checksum", "as above"),
    ("two extension headers", "readers disagree on which of them counts"),
    ("zero byte", "a name that ends early for some readers"),
    ("extension header", "one with nothing to extend"),
    ("without a target", "nothing can be made of it; Python gives it an empty one"),
    (
        "goes on behind",
        "both read a long name to its zero byte, Python also records, for every size that is given",
    ),
    ("sparse", "GNU's sparse files are not expanded"),
    ("more than", "our limits"),
    ("number", "fields that are no numbers are zero for Python"),
];

fn ours(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
        let kind = match entry.kind {
            EntryKind::File => "file",
            EntryKind::HardLink => "hardlink",
            EntryKind::Symlink => "symlink",
            EntryKind::Directory => "folder",
            EntryKind::CharacterDevice | EntryKind::BlockDevice => "device",
            EntryKind::Fifo => "pipe",
        };
        let raw = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Python drops the slashes at the end of names.
        let end = entry.path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        entries.push(json!([raw(&entry.path[..end]), kind, entry.mode, entry.size, raw(&entry.link)]));
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| error.to_string())?;
    }
    Ok(entries)
}

/// Archives from recipes, and the same with header fields changed and the checksums made right again.
fn archives(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut archives = Vec::new();
    while archives.len() < count {
        let recipe = random.bytes(60);
        for tar in layers(&recipe, b"/absolute/outside") {
            let mut changed = tar.clone();
            for _ in 0..=random.below(2) {
                let at = usize::try_from(random.below(tar.len().min(2048) as u64)).unwrap();
                changed[at] = *random.pick(&[b"0", b"7", b"\0", b" ", b"/", b"x", b"\xff"]).first().unwrap();
            }
            archives.extend([tar, sealed(&changed)]);
        }
    }
    archives
}

/// What another reader makes of an archive: its entries, or that it refuses.
type Seen = Result<Vec<Value>, String>;

/// Compares with another reader.
fn compare(reader: &str, archives: &[Vec<u8>], theirs: &[Seen]) {
    assert_eq!(theirs.len(), archives.len());
    let (mut same, mut ours_only, mut both_refuse) = (0, 0, 0);
    let mut findings = Vec::new();
    for (at, (bytes, theirs)) in archives.iter().zip(theirs).enumerate() {
        match (ours(bytes), theirs) {
            (Ok(ours), Ok(theirs)) if ours == *theirs => same += 1,
            (Ok(ours), theirs) => findings.push(format!(
                "{at}: we read {ours:?}\n    {reader} {theirs:?}\n    {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(512)])
            )),
            (Err(_), Err(_)) => both_refuse += 1,
            (Err(error), _) if STRICTER.iter().any(|(part, _)| error.contains(part)) => ours_only += 1,
            (Err(error), theirs) => {
                findings.push(format!("{at}: we refuse ({error})\n    {reader} {theirs:?}"));
            }
        }
    }
    eprintln!(
        "{reader}, {} archives: {same} the same, {ours_only} only we refuse, {both_refuse} both refuse",
        archives.len()
    );
    assert!(
        findings.is_empty(),
        "{} differences:\n{}",
        findings.len(),
        findings[..findings.len().min(12)].join("\n")
    );
    assert!(same > archives.len() / 4 && ours_only > 0, "{same} {ours_only}");
}

fn files(folder: &Scratch, archives: &[Vec<u8>]) -> Vec<PathBuf> {
    archives.iter().enumerate().map(|(at, bytes)| folder.write(format!("{at}.tar"), bytes)).collect()
}

fn python(paths: &[PathBuf]) -> Vec<Seen> {
    let printed = run(script("tar_many.py").args(paths)).success();
    let seen = printed.stdout.lines().map(|line| match serde_json::from_str(line).unwrap() {
        Value::Array(entries) => Ok(entries),
        refusal => Err(refusal.to_string()),
    });
    seen.collect()
}

/// Lists an archive with GNU tar; every end with an error counts as refused.
fn gnu(path: &Path) -> Seen {
    let mut command = tool("tar");
    command.args(["-tvP", "--numeric-owner", "--full-time", "--quoting-style=c", "-f"]).arg(path);
    let output = command.env("LC_ALL", "C").env("TZ", "UTC").output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(text.lines().map(gnu_entry).collect())
}

/// Reads one line of the list: `-rw-r--r-- 0/0 4 1970-01-01 00:00:00 "name"`, and where links lead.
fn gnu_entry(line: &str) -> Value {
    let (head, names) = line.split_once('"').unwrap_or_else(|| panic!("no name in `{line}`"));
    let (name, rest) = unquoted(names);
    let link = rest.split_once('"').map(|(_, link)| unquoted(link).0).unwrap_or_default();
    let mut words = head.split_whitespace();
    let (mode, _, size) = (words.next().unwrap(), words.next(), words.next().unwrap());
    let kind = match mode.as_bytes()[0] {
        // The list shows the header's type; what GNU tar makes of a contiguous file with such a name is a folder.
        b'C' if name.ends_with(b"/") => "folder",
        b'-' | b'C' => "file",
        b'd' => "folder",
        b'l' => "symlink",
        b'h' => "hardlink",
        b'b' | b'c' => "device",
        b'p' => "pipe",
        _ => "other",
    };
    let mut bits = 0;
    for (at, letter) in mode.bytes().skip(1).enumerate() {
        let bit = 0o400 >> at;
        bits |= match letter {
            b'r' | b'w' | b'x' => bit,
            b's' | b't' => bit | 0o4000 >> (at / 3),
            b'S' | b'T' => 0o4000 >> (at / 3),
            _ => 0,
        };
    }
    let size = if kind == "file" { size.parse::<u64>().unwrap() } else { 0 };
    let raw = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let link = if matches!(kind, "symlink" | "hardlink") { raw(&link) } else { String::new() };
    json!([raw(&name[..end]), kind, bits, size, link])
}

/// Reads a text in C's quotes up to its end, and returns what comes after.
fn unquoted(text: &str) -> (Vec<u8>, &str) {
    let (mut out, mut at) = (Vec::new(), 0);
    let bytes = text.as_bytes();
    while bytes[at] != b'"' {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let escape = bytes[at + 1];
        if escape.is_ascii_digit() {
            out.push(u8::from_str_radix(&text[at + 1..at + 4], 8).unwrap());
            at += 4;
            continue;
        }
        out.push(match escape {
            b'a' => 7,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            other => other,
        });
        at += 2;
    }
    (out, &text[at + 1..])
}

fn compare_all(seed: u64, count: usize) {
    let folder = Scratch::new("differential");
    let archives = archives(seed, count);
    let paths = files(&folder, &archives);
    compare("Python", &archives, &python(&paths));
    let listed: Vec<Seen> = paths.iter().map(|path| gnu(path)).collect();
    compare("GNU tar", &archives, &listed);
}

#[test]
fn python_and_gnu_tar_see_the_same_entries_in_every_archive_that_both_read() {
    compare_all(77, ARCHIVES);
}

#[test]
#[ignore = "a hundred times as many take minutes"]
fn python_and_gnu_tar_see_the_same_entries_in_many_more_archives() {
    for seed in 0..20 {
        compare_all(1000 + seed, 3000);
    }
}
