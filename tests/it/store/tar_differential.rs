//! imgrelay's tar reader beside Python's, GNU tar and the crate `tar` on generated archives, with a list of allowed
//! differences.
//!
//! `cargo test --test it tar_differential -- --ignored` tests many more.
//!
//! If two readers find different files in one archive, files can be hidden from a scanner. imgrelay may refuse what
//! another reader accepts; each reason is listed. What it reads, the others must read, with the same result.

use std::path::{Path, PathBuf};

use imgrelay::tar::{EntryKind, Reader};
use serde_json::{Value, json};
use testkit::random::Random;
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball, pax_records};
use testkit::tools::{run, script, tool};

use crate::targets::recipe::{layers, sealed};

const ARCHIVES: usize = 600;

/// Why imgrelay refuses what Python or GNU tar reads: part of its message, and the reason.
///
/// There is no list of archives that only imgrelay reads, or that are read differently, because there must be none.
const STRICTER: [(&str, &str); 22] = [
    (
        "a global extended header sets",
        "GNU tar and Python apply it to all entries that follow, the crate to none",
    ),
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
        "continues after its",
        "both read a long name to its zero byte, Python also records, for every size that is given",
    ),
    ("sparse", "GNU's sparse files are not expanded"),
    ("more than", "our limits"),
    ("number", "fields that are no numbers are zero for Python"),
];

/// Archives that the crate `tar` refuses and the others read: part of its message, and the reason.
const REFUSED_BY_THE_CRATE: [(&str, &str); 2] = [
    ("malformed pax extension", "it ends a record at the first line break, which a value may have"),
    ("numeric field was not a number", "it takes no empty field for zero"),
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
        let mut xattrs: Vec<(String, String)> =
            entry.xattrs.iter().map(|(name, value)| (raw(name), raw(value))).collect();
        xattrs.sort();
        entries.push(json!([
            raw(&entry.path[..end]),
            kind,
            entry.mode,
            entry.size,
            raw(&entry.link),
            entry.uid,
            entry.gid,
            entry.mtime,
            xattrs,
        ]));
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| error.to_string())?;
    }
    Ok(entries)
}

/// Generated archives, and the same with changed header fields and corrected checksums.
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

/// Archives whose entries have owners, modes, times and extended attributes, in headers and in records for one entry or
/// for all.
fn archives_with_owners(seed: u64, count: usize) -> Vec<Vec<u8>> {
    const NUMBERS: [&[u8]; 10] =
        [b"0", b"7", b"1000", b"2097152", b"4294967295", b"", b"007", b"-1", b"+1", b" 5"];
    // No fraction before 1970: GNU tar 1.34 reads -1.5 as -0.5.
    const TIMES: [&[u8]; 9] = [b"0", b"12", b"12.5", b"12.000", b"-1", b"-2", b"1e3", b"", b"1700000000.25"];
    fn one<T: Copy>(random: &mut Random, values: &[T]) -> T {
        values[usize::try_from(random.below(values.len() as u64)).unwrap()]
    }
    let mut random = Random::new(seed);
    let records = |random: &mut Random| {
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        for key in [
            "uid",
            "gid",
            "mtime",
            "SCHILY.xattr.user.a",
            "SCHILY.xattr.user.b",
            "SCHILY.xattr.user.a",
            "comment",
        ] {
            match (random.below(4), key) {
                (0, "mtime") => records.push((key, one(random, &TIMES))),
                (0, "uid" | "gid") => records.push((key, one(random, &NUMBERS))),
                (0, _) => records.push((key, one(random, &[&b"1"[..], b"", b"\0=\n", b"\xff"]))),
                _ => {}
            }
        }
        pax_records(&records)
    };
    let mut archive = || {
        let mut tar = Tarball::new();
        for number in 0..=random.below(3) {
            for (flag, one_in) in [(b'g', 6), (b'x', 2)] {
                if random.below(one_in) == 0 {
                    let records = records(&mut random);
                    tar = tar.entry(&Header::new("records", flag, records.len() as u64), &records);
                }
            }
            let mode = one(&mut random, &[0o644, 0o755, 0o4711, 0o1777, 0o000, 0o7777]);
            let mut header =
                Header::new(format!("f{number}"), one(&mut random, b"0055127"), 0).mode(mode).link("x");
            (header.uid, header.gid) =
                (one(&mut random, &[0, 1, 1000, 0o7_777_777]), one(&mut random, &[0, 5, 0o7_777_777]));
            tar = tar.entry(&header, b"");
        }
        let mut tar = tar.finish();
        if random.below(2) == 0 {
            // The time in the first header.
            tar[136..147]
                .copy_from_slice(one(&mut random, &[b"00000000014", b"14524770000", b"77777777777"]));
        }
        sealed(&tar)
    };
    (0..count).map(|_| archive()).collect()
}

/// Another reader's result: the entries, or a refusal. A property that it does not show is null.
type Seen = Result<Vec<Value>, String>;

/// Tells whether another reader has the same properties, as far as it shows them.
fn agree(ours: &[Value], theirs: &[Value]) -> bool {
    let same = |(ours, theirs): (&Value, &Value)| {
        let fields = |entry: &Value| entry.as_array().cloned().unwrap_or_default();
        let (ours, theirs) = (fields(ours), fields(theirs));
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(ours, theirs)| theirs.is_null() || ours == theirs)
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// Compares with another reader, and allows its listed refusals; returns the differences.
fn compare(reader: &str, archives: &[Vec<u8>], theirs: &[Seen], refused: &[(&str, &str)]) -> Vec<String> {
    assert_eq!(theirs.len(), archives.len());
    let (mut same, mut ours_only, mut theirs_only, mut both_refuse) = (0, 0, 0, 0);
    let mut findings = Vec::new();
    for (at, (bytes, theirs)) in archives.iter().zip(theirs).enumerate() {
        match (ours(bytes), theirs) {
            (Ok(ours), Ok(theirs)) if agree(&ours, theirs) => same += 1,
            (Ok(_), Err(error)) if refused.iter().any(|(part, _)| error.contains(part)) => theirs_only += 1,
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
        "{reader}, {} archives: {same} the same, {ours_only} only we refuse, {theirs_only} only they, {both_refuse} both",
        archives.len()
    );
    if same <= archives.len() / 4 || ours_only == 0 {
        findings.push(format!("{reader}: {same} archives are the same, {ours_only} only we refuse"));
    }
    let count = findings.len();
    findings.truncate(12);
    findings.extend((count > 12).then(|| format!("{reader}: {count} differences in all")));
    findings
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

/// Reads one line of the list: `-rw-r--r-- 0/0 4 1970-01-01 00:00:00 "name"`, and the targets of links.
fn gnu_entry(line: &str) -> Value {
    let (head, names) = line.split_once('"').unwrap_or_else(|| panic!("no name in `{line}`"));
    let (name, rest) = unquoted(names);
    let link = rest.split_once('"').map(|(_, link)| unquoted(link).0).unwrap_or_default();
    let words: Vec<&str> = head.split_whitespace().collect();
    let [mode, owner, size, date, time] = words[..] else { panic!("five words: `{line}`") };
    let (uid, gid) = owner.split_once('/').unwrap();
    let number = |text: &str| text.parse::<u64>().map_or(Value::Null, Value::from);
    let kind = match mode.as_bytes()[0] {
        // The list shows the header's type; GNU tar extracts a contiguous file with such a name as a folder.
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
    json!([raw(&name[..end]), kind, bits, size, link, number(uid), number(gid), seconds(date, time), null])
}

/// The seconds since 1970 of `YYYY-MM-DD` and `HH:MM:SS` with or without a fraction; null for years with more digits.
fn seconds(date: &str, time: &str) -> Value {
    let numbers =
        |text: &str, at: char| -> Vec<i64> { text.split(at).filter_map(|part| part.parse().ok()).collect() };
    let whole = time.split('.').next().unwrap_or(time);
    let (&[year, month, day], &[hour, minute, second]) = (&numbers(date, '-')[..], &numbers(whole, ':')[..])
    else {
        return Value::Null;
    };
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |year: i64| if is_leap(year) { 366 } else { 365 };
    let years: i64 =
        if year >= 1970 { (1970..year).map(days_of).sum() } else { -(year..1970).map(days_of).sum::<i64>() };
    let months = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: i64 = months.iter().take(usize::try_from(month - 1).unwrap_or(0)).sum();
    Value::from((((years + before + day - 1) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads an archive with the crate `tar`.
fn by_crate(bytes: &[u8]) -> Seen {
    let entries = testkit::oracle_crates::entries(bytes).map_err(|error| error.to_string())?;
    let row = |entry: Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
        // The crate keeps the zero bytes behind a long name.
        let cut = |mut name: String, end: &str| {
            while name.ends_with(end) {
                name.truncate(name.len() - end.len());
            }
            name
        };
        let name = cut(text("path"), "00");
        let is_folder = name.ends_with("2f") && entry["kind"] == "file";
        let path = cut(name, "2f");
        let mut xattrs = entry["xattrs"].as_array().cloned().unwrap_or_default();
        xattrs.sort_by_key(ToString::to_string);
        let kind = if is_folder { json!("folder") } else { entry["kind"].clone() };
        let size = if is_folder { json!(0) } else { entry["size"].clone() };
        json!([
            path,
            kind,
            entry["mode"],
            size,
            cut(text("link"), "00"),
            entry["uid"],
            entry["gid"],
            entry["mtime"],
            xattrs
        ])
    };
    Ok(entries.into_iter().map(row).collect())
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

fn compare_all(archives: &[Vec<u8>]) {
    let folder = Scratch::new("differential");
    let paths = files(&folder, archives);
    let mut findings = compare("Python", archives, &python(&paths), &[]);
    let listed: Vec<Seen> = paths.iter().map(|path| gnu(path)).collect();
    findings.extend(compare("GNU tar", archives, &listed, &[]));
    let read: Vec<Seen> = archives.iter().map(|bytes| by_crate(bytes)).collect();
    findings.extend(compare("the crate `tar`", archives, &read, &REFUSED_BY_THE_CRATE));
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn python_gnu_tar_and_the_crate_tar_see_the_same_entries_in_every_archive_that_all_read() {
    compare_all(&archives(77, ARCHIVES));
}

#[test]
fn owners_modes_times_and_xattrs_are_the_same_for_python_gnu_tar_and_the_crate_tar() {
    compare_all(&archives_with_owners(78, ARCHIVES));
}

#[test]
#[ignore = "a hundred times as many take minutes"]
fn readers_see_the_same_entries_in_many_more_archives() {
    for seed in 0..20 {
        compare_all(&archives(1000 + seed, 3000));
        compare_all(&archives_with_owners(1000 + seed, 3000));
    }
}
