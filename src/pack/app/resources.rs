//! Cloud Foundry's resource matching: which files a client has, and which of them need not be sent.
//!
//! Texts only: the request of a client (`POST /v3/resource_matches`), the response to it, and the list that comes with
//! an upload. The rules are Cloud Controller's and those of the unmodified cf command line (docs/cloud-foundry.md).

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{FileSum, Malformed, limits};
use crate::tar::display_name;

/// Permissions of a file that has none in the request, as in Cloud Controller.
const DEFAULT_MODE: u32 = 0o744;

/// A file that is to be taken from an earlier image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Path inside the app, `/`-separated; no `..`, not absolute.
    pub path: Vec<u8>,
    /// Which file.
    pub sum: FileSum,
    /// Permission bits.
    pub mode: u32,
}

/// Why a list of resources is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Not JSON, or JSON of another shape.
    #[error("the list of resources is not valid JSON: {0}")]
    Json(String),
    /// One entry is not valid.
    #[error("`resources[{number}]`: {problem}")]
    Entry {
        /// Which, from 0.
        number: usize,
        /// Which field, what it is, and what was expected.
        problem: String,
    },
    /// The request names no file.
    #[error("`resources`: array must have at least 1 resource")]
    Empty,
    /// More than Cloud Controller takes in one request.
    #[error("`resources`: array can have at most {limit} resources, found {found}")]
    TooMany {
        /// How many there are.
        found: usize,
        /// Most accepted.
        limit: usize,
    },
}

/// The object around the list, which an upload may leave out.
#[derive(Deserialize)]
struct RequestDocument<'a> {
    #[serde(borrow)]
    resources: Vec<&'a RawValue>,
}

/// An entry as it is written, in the terms of v3 or of v2.
#[derive(Deserialize)]
struct AskedEntry {
    checksum: Option<Checksum>,
    size_in_bytes: Option<u64>,
    path: Option<String>,
    sha1: Option<String>,
    size: Option<u64>,
    #[serde(rename = "fn")]
    name: Option<String>,
    mode: Option<String>,
}

#[derive(Deserialize)]
struct Checksum {
    value: String,
}

/// One file of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// The checksum as it was sent.
    checksum: String,
    sum: FileSum,
    path: Option<String>,
    mode: Option<String>,
}

fn entry(number: usize, raw: &RawValue) -> Result<Asked, ResourceError> {
    let wrong = |problem: String| ResourceError::Entry { number, problem };
    let entry: AskedEntry =
        serde_json::from_str(raw.get()).map_err(|error| wrong(Malformed::from(error).to_string()))?;
    let checksum = entry.checksum.map(|checksum| checksum.value).or(entry.sha1);
    let checksum = checksum.ok_or_else(|| wrong("`checksum.value` is missing".to_owned()))?;
    let size = entry.size_in_bytes.or(entry.size);
    let size = size.ok_or_else(|| wrong("`size_in_bytes` is missing".to_owned()))?;
    let sum = FileSum::parse(&checksum, size).map_err(|error| wrong(format!("`checksum.value`: {error}")))?;
    if let Some(mode) = &entry.mode
        && (mode.is_empty() || !mode.bytes().all(|byte| matches!(byte, b'0'..=b'7')))
    {
        let found = display_name(mode.as_bytes());
        return Err(wrong(format!("`mode`: `{found}` is not a file mode, expected octal digits as `644`")));
    }
    Ok(Asked { checksum, sum, path: entry.path.or(entry.name), mode: entry.mode })
}

/// Splits the list into its entries, whether the object around it is there or not.
fn entries(text: &str, bare: bool) -> Result<Vec<&RawValue>, ResourceError> {
    let failed = |error: serde_json::Error| ResourceError::Json(Malformed::from(error).to_string());
    if bare && text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(failed);
    }
    serde_json::from_str::<RequestDocument<'_>>(text).map(|document| document.resources).map_err(failed)
}

/// A request of resource matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchRequest {
    asked: Vec<Asked>,
}

#[derive(Serialize)]
struct ResponseDocument<'a> {
    resources: Vec<KnownResource<'a>>,
}

#[derive(Serialize)]
struct KnownResource<'a> {
    checksum: KnownChecksum<'a>,
    size_in_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    mode: &'a str,
}

#[derive(Serialize)]
struct KnownChecksum<'a> {
    value: &'a str,
}

impl MatchRequest {
    /// Reads the body of `POST /v3/resource_matches`: 1 to [`limits::MATCH_FILES`] files.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        let raw = entries(text, false)?;
        if raw.is_empty() {
            return Err(ResourceError::Empty);
        }
        if raw.len() > limits::MATCH_FILES {
            return Err(ResourceError::TooMany { found: raw.len(), limit: limits::MATCH_FILES });
        }
        let asked: Result<_, _> =
            raw.into_iter().enumerate().map(|(number, raw)| entry(number, raw)).collect();
        Ok(Self { asked: asked? })
    }

    /// Makes the response with the files that `has` knows, in the order of the request.
    ///
    /// The command line caches the response by checksum alone and sends no file whose checksum was in it. So every
    /// path of a checksum is in the response, or none: none when one checksum is given with two sizes, and none when
    /// it is empty. It reads `mode` of every entry as a number, so that is always there.
    #[must_use]
    pub fn response(&self, has: impl Fn(&FileSum) -> bool) -> String {
        let mut sizes: HashMap<[u8; 20], Option<u64>> = HashMap::new();
        for asked in &self.asked {
            let size = sizes.entry(asked.sum.sha1()).or_insert(Some(asked.sum.size));
            *size = size.filter(|size| *size == asked.sum.size);
        }
        let default = format!("{DEFAULT_MODE:o}");
        let known = |asked: &&Asked| {
            let one_size = sizes.get(&asked.sum.sha1()).copied().flatten().is_some();
            one_size && asked.sum.size > 0 && has(&asked.sum)
        };
        let known_resources = self.asked.iter().filter(known).map(|asked| KnownResource {
            checksum: KnownChecksum { value: &asked.checksum },
            size_in_bytes: asked.sum.size,
            path: asked.path.as_deref(),
            mode: asked.mode.as_deref().unwrap_or(&default),
        });
        let response = ResponseDocument { resources: known_resources.collect() };
        serde_json::to_string(&response).expect("texts and numbers are always JSON")
    }
}

/// Reads the `resources` that come with an upload: a list, or an object with it, in the terms of v3 or of v2.
///
/// Errors: also a path that leads out of the app, and one that is there twice.
pub fn parse_resources(text: &str) -> Result<Vec<Resource>, ResourceError> {
    let raw = entries(text, true)?;
    if raw.len() > limits::ARCHIVE_ENTRIES {
        return Err(ResourceError::TooMany { found: raw.len(), limit: limits::ARCHIVE_ENTRIES });
    }
    let mut resources = Vec::with_capacity(raw.len());
    let mut seen = HashSet::new();
    for (number, raw) in raw.into_iter().enumerate() {
        let asked = entry(number, raw)?;
        let wrong = |problem: String| ResourceError::Entry { number, problem };
        let path = asked.path.ok_or_else(|| wrong("`path` is missing".to_owned()))?;
        let shown = display_name(path.as_bytes());
        check_path(&path).map_err(|problem| wrong(format!("`path`: `{shown}` {problem}")))?;
        let path = path.into_bytes();
        if !seen.insert(path.clone()) {
            return Err(wrong(format!("`path`: `{shown}` is there twice")));
        }
        resources.push(Resource { path, sum: asked.sum, mode: mode(asked.mode.as_deref()) });
    }
    Ok(resources)
}

/// Reads permissions; Go's own bits for special files, which the command line sends too, are above them.
fn mode(text: Option<&str>) -> u32 {
    let Some(text) = text else { return DEFAULT_MODE };
    let last = text.len().saturating_sub(3);
    text.get(last..).and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or(DEFAULT_MODE)
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > limits::PATH_BYTES {
        return Err("has more than 4096 bytes");
    }
    if path.starts_with('/') {
        return Err("is absolute, expected a path inside the app");
    }
    if path.contains('\0') {
        return Err("has a NUL byte");
    }
    for component in path.split('/') {
        match component {
            ".." => return Err("leads out of the app with `..`"),
            name if name.len() > 255 => return Err("has a part of more than 255 bytes"),
            "" | "." => return Err("is not the path of a file, expected names with `/` between them"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "002d760bea1be268e27077412e11a320d0f164d3";
    const TWO: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";

    fn v3(sha1: &str, size: u64, path: &str) -> String {
        format!(r#"{{"checksum":{{"value":"{sha1}"}},"size_in_bytes":{size},"path":"{path}","mode":"645"}}"#)
    }

    fn request(entries: &[String]) -> String {
        format!(r#"{{"resources":[{}]}}"#, entries.join(","))
    }

    #[test]
    fn the_response_is_the_subset_with_the_same_four_members() {
        let (known, other) = (v3(ONE, 36, "path/to/file"), v3(TWO, 3, "b"));
        let asked = MatchRequest::parse(&request(&[known.clone(), other])).unwrap();
        let has = FileSum::parse(ONE, 36).unwrap();
        assert_eq!(asked.response(|sum| *sum == has), request(&[known]));
        assert_eq!(asked.response(|_| false), r#"{"resources":[]}"#);
    }

    #[test]
    fn every_path_of_a_file_is_answered_and_mode_is_always_there() {
        let bare = format!(r#"{{"checksum":{{"value":"{ONE}"}},"size_in_bytes":36,"path":"c"}}"#);
        let asked = MatchRequest::parse(&request(&[v3(ONE, 36, "a"), v3(ONE, 36, "b"), bare])).unwrap();
        let response: serde_json::Value = serde_json::from_str(&asked.response(|_| true)).unwrap();
        let of = |name: &str| -> Vec<String> {
            let list = response["resources"].as_array().unwrap();
            list.iter().map(|one| one[name].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(of("path"), ["a", "b", "c"]);
        assert_eq!(of("mode"), ["645", "645", "744"]);
    }

    #[test]
    fn a_checksum_with_two_sizes_and_an_empty_file_are_not_answered() {
        let asked =
            MatchRequest::parse(&request(&[v3(ONE, 36, "a"), v3(ONE, 37, "b"), v3(TWO, 0, "c")])).unwrap();
        assert_eq!(asked.response(|_| true), r#"{"resources":[]}"#, "the client would send none of them");
    }

    #[test]
    fn a_request_that_breaks_the_rules_is_refused_with_its_entry_and_field() {
        let many = vec![v3(ONE, 36, "a"); 5001];
        assert!(MatchRequest::parse(&request(&many[..5000])).is_ok());
        let long = format!("{ONE}0");
        for (text, expected) in [
            (request(&many), "`resources`: array can have at most 5000 resources, found 5001"),
            (request(&[]), "`resources`: array must have at least 1 resource"),
            ("{}".into(), "missing field `resources`"),
            ("[]".into(), "the list of resources is not valid JSON"),
            ("".into(), "the list of resources is not valid JSON: it is empty"),
            (r#"{"resources":["#.into(), "the list of resources is not valid JSON: the text ends"),
            (format!(r#"{{"resources":{}"#, "[".repeat(100_000)), "the text ends inside a value at line 1"),
            (request(&[v3(ONE, 1, "a"), "7".into()]), "`resources[1]`: invalid type: integer `7`"),
            (request(&["{}".into()]), "`resources[0]`: `checksum.value` is missing"),
            (request(&[v3(&long, 1, "a")]), "`resources[0]`: `checksum.value`: `002d"),
            (request(&[v3(ONE, 1, "a").replace("size_in", "sise_in")]), "`size_in_bytes` is missing"),
            (request(&[v3(ONE, 1, "a").replace(":1,", ":-1,")]), "invalid value: integer `-1`"),
            (request(&[v3(ONE, 1, "a").replace(":1,", ":1.5,")]), "invalid type: floating point `1.5`"),
            (request(&[v3(ONE, 1, "a").replace("645", "0o7")]), "`mode`: `0o7` is not a file mode"),
            (request(&[v3(ONE, 1, "a").replace("645", "")]), "`mode`: `` is not a file mode"),
        ] {
            let error = MatchRequest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
        }
    }

    #[test]
    fn an_upload_takes_both_forms_and_keeps_to_the_app() {
        let resource =
            |path: &str, mode| Resource { path: path.into(), sum: FileSum::parse(ONE, 36).unwrap(), mode };
        let two =
            format!(r#"[{{"fn":"b","sha1":"{ONE}","size":36,"mode":"40000755"}},{}]"#, v3(ONE, 36, "a"));
        assert_eq!(parse_resources(&two).unwrap(), [resource("b", 0o755), resource("a", 0o645)]);
        assert_eq!(parse_resources(&request(&[v3(ONE, 36, "a")])).unwrap(), [resource("a", 0o645)]);
        assert_eq!(parse_resources("[]").unwrap(), []);
        for longest in ["n".repeat(255), "d/".repeat(2047) + "dd"] {
            assert!(parse_resources(&request(&[v3(ONE, 36, &longest)])).is_ok(), "{} bytes", longest.len());
        }
        for (path, expected) in [
            ("/etc/passwd", "`/etc/passwd` is absolute"),
            ("../a", "`../a` leads out of the app"),
            ("a/../../b", "leads out of the app"),
            ("a//b", "is not the path of a file"),
            ("", "is not the path of a file"),
            ("a/", "is not the path of a file"),
            ("a\\u0000b", "has a NUL byte"),
            (&format!("a/{}", "n".repeat(256)), "has a part of more than 255 bytes"),
            (&("d/".repeat(2048) + "d"), "has more than 4096 bytes"),
        ] {
            let error = parse_resources(&request(&[v3(ONE, 1, path)])).unwrap_err().to_string();
            assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
        }
        let twice = parse_resources(&request(&[v3(ONE, 1, "a"), v3(TWO, 1, "a")])).unwrap_err();
        assert_eq!(twice.to_string(), "`resources[1]`: `path`: `a` is there twice");
        let none = parse_resources(&format!(r#"[{{"sha1":"{ONE}","size":1}}]"#)).unwrap_err();
        assert_eq!(none.to_string(), "`resources[0]`: `path` is missing");
    }
}
