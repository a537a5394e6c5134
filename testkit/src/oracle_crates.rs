//! Independent readers, crates that many Rust programs use: `oci-spec` parses documents, `tar` reads archives and
//! layers.
//!
//! The program under test uses neither. If a crate reads other values than the document or archive has, that is a
//! problem of the program, or a difference that is listed here with its reason.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest, OciLayout};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Largest file of a layout that is read into memory, bytes; documents are small.
const DOCUMENT_BYTES: u64 = 4 << 20;
/// Members that other programs write into a configuration and `oci-spec` drops, and why they may be there.
const DROPPED: [(&str, &str); 10] = [
    ("/container", "docker, of the container an image was made from"),
    ("/container_config", "docker, as above"),
    ("/docker_version", "docker"),
    ("/id", "imgpkg's tar in docker's form"),
    ("/parent", "docker"),
    ("/throwaway", "docker"),
    ("/config/Healthcheck", "docker's own extension of the configuration"),
    ("/config/Shell", "docker, as above"),
    ("/x-unknown", "a member that no specification has, which tests add"),
    ("/variant", "older versions of the crate drop it"),
];

/// Returns the problems that the two crates find in an OCI layout (tar, compressed tar or folder), one line for each.
#[must_use]
pub fn problems(layout: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let files = match files(layout, &mut problems) {
        Ok(files) => files,
        Err(error) => return vec![format!("`tar` cannot read `{}`: {error}", layout.display())],
    };
    let mut checker = Checker { files: &files, problems };
    checker.document::<OciLayout>("oci-layout");
    if let Some(index) = checker.document::<ImageIndex>("index.json") {
        checker.follow(&index, 0);
    }
    checker.problems
}

/// One file of a layout.
enum Content {
    /// A whole document.
    Document(Vec<u8>),
    /// Too large for a document.
    Large,
}

/// Reads the files of a layout, and every archive among them to its end.
fn files(layout: &Path, problems: &mut Vec<String>) -> std::io::Result<BTreeMap<String, Content>> {
    let mut files = BTreeMap::new();
    let mut add = |name: String, size: u64, reader: &mut dyn Read| -> std::io::Result<()> {
        let mut start = Vec::new();
        let _ = reader.take(DOCUMENT_BYTES + 1).read_to_end(&mut start)?;
        let whole = start.len() as u64 == size;
        if !start.starts_with(b"{") {
            let mut layer = decoded(start.chain_with(reader))?;
            let mut is_tar = [0_u8; 512];
            if read_up_to(&mut layer, &mut is_tar)? == 512 && &is_tar[257..262] == b"ustar" {
                let read = entries((&is_tar[..]).chain(layer));
                // The crate ends a record at the first line break, which a name may have.
                let known = |error: &std::io::Error| error.to_string() == "malformed pax extension";
                let error = read.err().filter(|error| !known(error));
                problems.extend(error.map(|error| format!("`tar` cannot read `{name}`: {error}")));
            }
        }
        let content = if whole { Content::Document(start) } else { Content::Large };
        let _ = files.insert(name, content);
        Ok(())
    };
    if layout.is_dir() {
        for entry in walkdir::WalkDir::new(layout).sort_by_file_name() {
            let entry = entry.map_err(std::io::Error::from)?;
            if entry.file_type().is_file() {
                let name = entry.path().strip_prefix(layout).expect("below the layout").display().to_string();
                add(
                    name,
                    entry.metadata().map_err(std::io::Error::from)?.len(),
                    &mut File::open(entry.path())?,
                )?;
            }
        }
    } else {
        let mut archive = tar::Archive::new(decoded(BufReader::new(File::open(layout)?))?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
                let size = entry.size();
                add(name, size, &mut entry)?;
            }
        }
    }
    Ok(files)
}

/// Bytes that were read already, before the rest.
trait ChainWith {
    fn chain_with<R: Read>(&self, rest: R) -> impl Read;
}

impl ChainWith for Vec<u8> {
    fn chain_with<R: Read>(&self, rest: R) -> impl Read {
        self.as_slice().chain(rest)
    }
}

/// Decompresses gzip (all members) or zstd, detected by the first bytes.
fn decoded<'a>(mut reader: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut start = [0_u8; 4];
    let length = read_up_to(&mut reader, &mut start)?;
    let whole = std::io::Cursor::new(start).take(length as u64).chain(reader);
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Returns the entries of a tar as lines of these fields of [`entries`]; names as text, permissions in octal.
pub fn lines(tar: &[u8], fields: &[&str]) -> Vec<String> {
    let text = |hex: &str| {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).expect("a name in UTF-8")
    };
    let shown = |entry: &Value, field: &&str| match (*field, &entry[*field]) {
        ("path" | "link", Value::String(hex)) => text(hex),
        ("mode", Value::Number(mode)) => format!("{:o}", mode.as_u64().expect("not negative")),
        (_, Value::String(word)) => word.clone(),
        (_, other) => other.to_string(),
    };
    let line = |entry: &Value| fields.iter().map(|field| shown(entry, field)).collect::<Vec<_>>().join(" ");
    let entries = entries(tar).expect("a whole tar");
    entries.iter().map(|entry| line(entry).trim_end().to_owned()).collect()
}

/// Reads a tar with the crate `tar` to its end; one JSON object for each entry.
///
/// Shape: `path` and `link` in hexadecimal, `kind`, `mode`, `size` (0 except for files), `uid`, `gid`, `mtime`, and
/// `xattrs` as pairs of name and value in hexadecimal. Errors: as the crate has them, also for data that is missing.
pub fn entries(reader: impl Read) -> std::io::Result<Vec<Value>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut archive = tar::Archive::new(reader);
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        // The crate returns these as entries; it does not apply them.
        if header.entry_type().is_pax_global_extensions() {
            continue;
        }
        let kind = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => "file",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Char | tar::EntryType::Block => "device",
            tar::EntryType::Directory => "folder",
            tar::EntryType::Fifo => "pipe",
            _ => "other",
        };
        let mode = header.mode()? & 0o7777;
        let (mut uid, mut gid, mut mtime) = (header.uid()?, header.gid()?, header.mtime()?.cast_signed());
        let path = entry.path_bytes().into_owned();
        let is_link = matches!(kind, "hardlink" | "symlink");
        let link =
            entry.link_name_bytes().filter(|_| is_link).map(|link| link.into_owned()).unwrap_or_default();
        let mut xattrs = Vec::new();
        if let Some(records) = entry.pax_extensions()? {
            for record in records {
                let record = record?;
                let number = || String::from_utf8_lossy(record.value_bytes()).into_owned();
                match record.key_bytes() {
                    b"uid" => uid = number().parse().map_err(std::io::Error::other)?,
                    b"gid" => gid = number().parse().map_err(std::io::Error::other)?,
                    b"mtime" => {
                        mtime = number().parse::<f64>().map_err(std::io::Error::other)?.floor() as i64
                    }
                    key => {
                        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                            // The last of several values applies.
                            xattrs.retain(|(known, _)| *known != hex(name));
                            xattrs.push((hex(name), hex(record.value_bytes())));
                        }
                    }
                }
            }
        }
        let size = if kind == "file" { entry.size() } else { 0 };
        let read = std::io::copy(&mut entry, &mut std::io::sink())?;
        if kind == "file" && read != size {
            return Err(std::io::Error::other(format!("{read} bytes of data, the header says {size}")));
        }
        found.push(json!({
            "path": hex(&path), "kind": kind, "mode": mode, "size": size, "link": hex(&link), "uid": uid, "gid": gid,
            "mtime": mtime, "xattrs": xattrs,
        }));
    }
    Ok(found)
}

struct Checker<'files> {
    files: &'files BTreeMap<String, Content>,
    problems: Vec<String>,
}

impl Checker<'_> {
    /// Parses a document as its type, serialises it again and compares the members.
    fn document<T: DeserializeOwned + Serialize>(&mut self, name: &str) -> Option<Value> {
        let Content::Document(bytes) = self.files.get(name)? else {
            self.problems.push(format!("`{name}` is too large for a document"));
            return None;
        };
        let written: Value = match serde_json::from_slice(bytes) {
            Ok(written) => written,
            Err(error) => {
                self.problems.push(format!("`{name}` is no JSON: {error}"));
                return None;
            }
        };
        match serde_json::from_slice::<T>(bytes) {
            Ok(parsed) => {
                let parsed = serde_json::to_value(&parsed).expect("the crate's types are JSON");
                disagreements(&written, &parsed, "", &mut |problem| {
                    self.problems.push(format!("`{name}`: {problem}"));
                });
            }
            Err(error) => self.problems.push(format!("`oci-spec` cannot parse `{name}`: {error}")),
        }
        Some(written)
    }

    /// Checks all documents that an index names.
    fn follow(&mut self, index: &Value, depth: usize) {
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            let Some(name) = blob_of(descriptor) else { continue };
            let media_type = descriptor["mediaType"].as_str().unwrap_or("");
            if media_type.contains("index") || media_type.contains("manifest.list") {
                let child = self.document::<ImageIndex>(&name);
                if let Some(child) = child.filter(|_| depth < 8) {
                    self.follow(&child, depth + 1);
                }
            } else if let Some(manifest) = self.document::<ImageManifest>(&name) {
                let kind = manifest["config"]["mediaType"].as_str().unwrap_or("");
                let is_image = kind.contains("image.config.v1") || kind.contains("container.image.v1");
                if let Some(name) = blob_of(&manifest["config"]).filter(|_| is_image) {
                    let _ = self.document::<ImageConfiguration>(&name);
                }
            }
        }
    }
}

fn blob_of(descriptor: &Value) -> Option<String> {
    descriptor["digest"].as_str().map(|digest| format!("blobs/{}", digest.replacen(':', "/", 1)))
}

/// Reports where a document and its parsed form differ; a null or empty member may be left out.
fn disagreements(written: &Value, parsed: &Value, at: &str, report: &mut impl FnMut(String)) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match (written, parsed) {
        (Value::Object(written), Value::Object(parsed)) => {
            for (key, value) in written {
                let at = format!("{at}/{key}");
                match parsed.get(key) {
                    Some(parsed) => disagreements(value, parsed, &at, report),
                    None if empty(value) || DROPPED.iter().any(|(known, _)| *known == at) => {}
                    None => report(format!("`oci-spec` drops `{at}`")),
                }
            }
            for (key, value) in parsed.iter().filter(|(key, _)| !written.contains_key(*key)) {
                if !empty(value) {
                    report(format!("`oci-spec` adds `{at}/{key}` as {value}"));
                }
            }
        }
        (Value::Array(written), Value::Array(parsed)) if written.len() == parsed.len() => {
            for (index, (written, parsed)) in written.iter().zip(parsed).enumerate() {
                disagreements(written, parsed, &format!("{at}/{index}"), report);
            }
        }
        (written, parsed) if written == parsed || empty(written) && empty(parsed) => {}
        (written, parsed) => report(format!("`{at}` is {written}, and {parsed} for `oci-spec`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::tarball::{Header, Tarball};

    #[test]
    fn a_field_that_the_crate_reads_otherwise_is_reported() {
        let problems_of = |manifest: &str| {
            let scratch = Scratch::new("oracle-crates");
            let hex = crate::digest::of(manifest.as_bytes())["sha256:".len()..].to_owned();
            let index = json!({"schemaVersion": 2, "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{hex}"), "size": manifest.len(),
            }]});
            let tar = Tarball::new()
                .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
                .file("index.json", index.to_string())
                .file(format!("blobs/sha256/{hex}"), manifest);
            problems(&scratch.write("layout.tar", tar.finish())).join("\n")
        };
        let config = r#""config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;
        let with = |more: &str| problems_of(&format!(r#"{{"schemaVersion":2,{config},"layers":[]{more}}}"#));
        assert_eq!(with(""), "");
        assert_eq!(with(r#","annotations":{}"#), "");
        assert!(with(r#","anotations":{"a":"b"}"#).contains("`oci-spec` drops `/anotations`"));
        assert!(with(r#","annotations":{"a":1}"#).contains("`oci-spec` cannot parse"));
        assert!(problems_of(r#"{"schemaVersion":2"#).contains("is no JSON"));
    }

    #[test]
    fn entries_are_those_of_the_archive_and_a_cut_layer_is_reported() {
        let tar = Tarball::new()
            .pax(&[("mtime", b"12.5"), ("SCHILY.xattr.user.a", b"b")])
            .entry(&Header::new("f", b'0', 2).mode(0o640), b"hi")
            .finish();
        let [entry] = &entries(&tar[..]).unwrap()[..] else { panic!("one entry") };
        assert_eq!(
            (&entry["path"], &entry["mode"], &entry["mtime"]),
            (&json!("66"), &json!(0o640), &json!(12))
        );
        assert_eq!(entry["xattrs"], json!([["757365722e61", "62"]]));
        assert!(entries(&tar[..1536 + 512 + 1]).is_err());
        let scratch = Scratch::new("oracle-crates-cut");
        let cut = Tarball::new().file("blobs/sha256/aa", &tar[..1536 + 512 + 1]).finish();
        let found = problems(&scratch.write("layout.tar", cut)).join("\n");
        assert!(found.contains("`tar` cannot read `blobs/sha256/aa`"), "{found}");
    }
}
