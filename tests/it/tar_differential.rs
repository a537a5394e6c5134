//! Our tar reader against Python's on thousands of made-up archives, with a written list of where they may differ.
//!
//! Two readers that see different files in one archive are how something gets past a scanner. Where we refuse and
//! Python does not is our strictness; each reason is listed. Where both read, they read the same.

use std::path::PathBuf;

use imgrelay::tar::{EntryKind, Reader};
use serde_json::{Value, json};
use testkit::random::Random;
use testkit::scratch::Scratch;
use testkit::tools::{run, script};

use crate::targets::recipe::{layers, sealed};

const ARCHIVES: usize = 600;

/// Why we refuse what Python reads: part of our message, and the reason for being strict.
const STRICTER: [(&str, &str); 18] = [
    ("has no `key=`", "a PAX record that cannot be read; Python passes over it"),
    ("has no valid length", "a PAX record that cannot be read; Python passes over it"),
    ("single zero block", "some readers stop there and others go on"),
    ("the name is empty", "nothing can be made of it"),
    (
        "but is not a file",
        "Python passes over the data or gives it to a link; others take it for the next header",
    ),
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

/// Archives from recipes, and the same with a header field changed and the checksum made right again.
fn archives() -> Vec<Vec<u8>> {
    let mut random = Random::new(77);
    let mut archives = Vec::new();
    while archives.len() < ARCHIVES {
        let recipe = random.bytes(60);
        for tar in layers(&recipe, b"/absolute/outside") {
            let mut changed = tar.clone();
            let at = random.below(tar.len().min(2048) as u64) as usize;
            changed[at] = *random.pick(&[b"0", b"7", b"\0", b" ", b"/", b"x", b"\xff"]).first().unwrap();
            archives.extend([tar, sealed(&changed)]);
        }
    }
    archives
}

#[test]
fn python_sees_the_same_entries_in_every_archive_that_both_read() {
    let folder = Scratch::new("differential");
    let archives = archives();
    let paths: Vec<PathBuf> =
        archives.iter().enumerate().map(|(at, bytes)| folder.write(format!("{at}.tar"), bytes)).collect();
    let printed = run(script("tar_many.py").args(&paths)).success();
    let theirs: Vec<Value> = printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(theirs.len(), archives.len());
    let (mut same, mut stricter, mut both_refuse) = (0, 0, 0);
    let mut findings = Vec::new();
    for (at, (bytes, theirs)) in archives.iter().zip(&theirs).enumerate() {
        match (ours(bytes), theirs) {
            (Ok(ours), Value::Array(theirs)) if ours == *theirs => same += 1,
            (Ok(ours), theirs) => findings.push(format!(
                "{at}: we read {ours:?}\n    Python {theirs}\n    {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(512)])
            )),
            (Err(_), Value::String(_)) => both_refuse += 1,
            (Err(error), _) if STRICTER.iter().any(|(part, _)| error.contains(part)) => stricter += 1,
            (Err(error), theirs) => findings.push(format!("{at}: we refuse ({error})\n    Python {theirs}")),
        }
    }
    eprintln!(
        "{} archives: {same} the same, {stricter} only we refuse, {both_refuse} both refuse",
        archives.len()
    );
    assert!(
        findings.is_empty(),
        "{} differences:\n{}",
        findings.len(),
        findings[..findings.len().min(12)].join("\n")
    );
    assert!(same > ARCHIVES / 4 && stricter > 0, "{same} {stricter}");
}
