//! Small texts: references, digests, headers, documents, locks, credentials files.

use std::collections::BTreeMap;
use std::sync::Arc;

use std::net::ToSocketAddrs as _;

use imgrelay::lock::{BundleLock, ImagesLock, PackageRule, read_packaging_objects};
use imgrelay::model::{Config, Digest, Document, RawDocument, Reference, Registry, Repository, Tag};
use imgrelay::pack::{
    ConfigEdits, Elf, MatchRequest, MediaTypes, ResourceError, Start, compose_runnable, parse_resources,
};
use imgrelay::registry::{
    Credential, CredentialHelpers, CredentialSource, DockerConfig, HelperError, Keychain, fuzzing,
};
use imgrelay::tree::{Filter, ignore_text};
use sha2::Digest as _;

/// What is accepted must not drive a terminal; what is refused is escaped where it is printed.
fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
}

/// What is accepted is printed in a form that is accepted as the same thing.
pub(super) fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let printed = reference.to_string();
        assert_eq!(printed.parse::<Reference>().as_ref(), Ok(&reference), "{printed}");
        assert!(printed.is_ascii() && is_plain(&printed) && !printed.contains(' '), "{printed:?}");
        let name = reference.repository.name();
        assert!(!name.contains("..") && !name.starts_with('/') && !name.contains("//"), "{name}");
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!((1..=128).contains(&text.len()) && !text.starts_with(['.', '-']), "{text:?}");
        assert!(!text.contains(['/', '\\', '%', ' ']), "{text:?}");
    }
    if let Ok(registry) = text.parse::<Registry>() {
        assert_eq!(registry.as_str().parse::<Registry>().as_ref(), Ok(&registry));
        assert!(!registry.host().contains(['/', '@', '?', '#']), "{text:?}");
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.to_string().parse::<Repository>().as_ref(), Ok(&repository));
    }
}

/// What is accepted is exactly an algorithm and its number of hexadecimal digits: nothing that could be a path.
pub(super) fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(digest) = text.parse::<Digest>() else { return };
    assert_eq!(digest.to_string(), text);
    assert!(matches!(digest.hex().len(), 64 | 96 | 128), "{text}");
    assert!(digest.hex().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{text}");
}

/// Values come from the header, with every kind of quoting; nothing grows.
pub(super) fn challenge(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let headers: Vec<&str> = text.split('\n').collect();
    for realm in fuzzing::challenge_realms(&headers) {
        assert!(!realm.is_empty() && realm.len() <= text.len(), "{realm:?}");
    }
}

/// What is said about a text that holds no certificates has none of the text in it.
pub(super) fn pem(data: &[u8]) {
    let begins = data.windows(11).filter(|part| *part == b"-----BEGIN ").count();
    match fuzzing::certificates(data) {
        Ok(found) => assert!((1..=begins).contains(&found), "{found} of {begins}"),
        Err(problem) => {
            assert!(problem.contains("`ca.pem`") && problem.len() < 300, "{problem}");
            assert!(!problem.contains(char::is_control), "{problem:?}");
        }
    }
}

/// A host that is an address is the one that the system connects to, and none of this machine may be named.
pub(super) fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((address, may_be_named)) = fuzzing::address_of_host(text) else { return };
    let here = address.is_loopback() || address.is_unspecified() || address.to_canonical().is_loopback();
    assert!(!(here && may_be_named), "{text}");
    // Others are names, which would be looked up.
    let numeric = !text.ends_with('.') && !text.starts_with('[');
    if numeric && let Ok(mut found) = (text, 80).to_socket_addrs() {
        assert!(found.any(|found| found.ip() == address), "{text}: {address}");
    }
}

/// A link leads to http or https at an origin that was parsed, and its query is not printed.
pub(super) fn link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let next = fuzzing::next_link(text);
    for reference in next.iter().map(String::as_str).chain([text]) {
        let Some((request, shown)) = fuzzing::join("https://reg.example/v2/a/tags/list?n=1", reference)
        else {
            continue;
        };
        assert!(request.starts_with("https://") || request.starts_with("http://"), "{request:?}");
        assert!(request.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{request:?}");
        let authority = request.split('/').nth(2).unwrap_or_default();
        assert!(!authority.is_empty() && !authority.contains('@'), "{request:?}");
        // What is printed is the same place.
        assert_eq!(shown.split('/').nth(2), Some(authority), "{shown:?}");
        for parameter in shown.split_once('?').map_or("", |(_, query)| query).split('&') {
            let value = parameter.strip_prefix("sig=");
            assert!(value.is_none_or(|value| value == "***"), "{shown:?}");
        }
    }
}

/// A server cannot make us wait for longer than our own bound.
pub(super) fn retry_after(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (value, date) = text.split_once('\n').unwrap_or((text, ""));
    if let Some(pause) = fuzzing::retry_after(value, date) {
        assert!(pause <= std::time::Duration::from_secs(3600), "{text:?}: {pause:?}");
    }
}

/// Bytes stay as they are; their digest is computed; a document is one thing only.
pub(super) fn document(data: &[u8]) {
    let announcements = [
        None,
        Some("application/vnd.oci.image.manifest.v1+json"),
        Some("application/vnd.oci.image.index.v1+json"),
        Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    ];
    for announced in announcements {
        let raw = match RawDocument::parse(data.to_vec(), announced) {
            Ok(raw) => raw,
            Err(error) => {
                assert!(error.to_string().len() < 2 * data.len() + 1000);
                continue;
            }
        };
        assert_eq!(raw.bytes(), data);
        let sum: String = sha2::Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(raw.digest().to_string(), format!("sha256:{sum}"));
        assert_eq!(raw.descriptor().size, data.len() as u64);
        // Each descriptor takes its digest of 64 and more digits.
        assert!(raw.document().children().len() * 64 <= data.len());
        match raw.document() {
            Document::Manifest(_) => assert!(raw.manifest().is_some() && raw.index().is_none()),
            Document::Index(_) => assert!(raw.index().is_some() && raw.manifest().is_none()),
        }
        // Announced as what it turned out to be, it is the same again.
        let again = RawDocument::parse(data.to_vec(), Some(raw.media_type())).unwrap();
        assert_eq!(again.document(), raw.document());
    }
}

pub(super) fn config(data: &[u8]) {
    match Config::parse(data) {
        Ok(config) => {
            assert!(config.rootfs.diff_ids.len() * 64 <= data.len());
            edited(&config, data);
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A configuration that was edited has what was asked for, and the rest as it was.
fn edited(config: &Config, data: &[u8]) {
    let start = Start { config: data.to_vec(), layers: Vec::new(), media_types: MediaTypes::Oci };
    let edits = ConfigEdits { user: Some("7".to_owned()), ..ConfigEdits::default() };
    let Ok(made) = compose_runnable(&start, &[], &edits, &BTreeMap::new()) else { return };
    let again = Config::parse(&made.image.config).unwrap();
    assert_eq!(again.config.user.as_deref(), Some("7"));
    assert_eq!(
        (again.config.env, again.config.labels),
        (config.config.env.clone(), config.config.labels.clone())
    );
    assert_eq!((&again.os, &again.rootfs), (&config.os, &config.rootfs));
}

/// What a program says of itself is no longer than its beginning.
pub(super) fn program(data: &[u8]) {
    if let Some(elf) = Elf::parse(data) {
        assert!(data.starts_with(b"\x7fELF"));
        assert!(elf.loader.is_none_or(|loader| loader.starts_with(b"/") && loader.len() <= data.len()));
    }
}

/// A text that is accepted is the same text in every encoding, and its patterns are ready or refused with their line.
pub(super) fn ignore_file(data: &[u8]) {
    let Ok(text) = ignore_text(data) else { return };
    assert!(!text.contains('\0'), "{text:?}");
    let units = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect()
    };
    for bytes in [units([0xFF, 0xFE], u16::to_le_bytes), units([0xFE, 0xFF], u16::to_be_bytes)] {
        assert_eq!(ignore_text(&bytes).as_ref(), Ok(&text));
    }
    match Filter::default().with_patterns(&text) {
        Ok(filter) => {
            let _ = filter.excludes(b"secrets/key", false);
        }
        Err(problem) => assert!(!problem.is_empty()),
    }
}

/// What is read is written so that it is read as the same.
pub(super) fn images_lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ImagesLock::parse(text) {
        Ok(lock) => {
            let yaml = lock.to_yaml();
            assert_eq!(ImagesLock::parse(&yaml).as_ref(), Ok(&lock), "{yaml}");
        }
        Err(error) => drop(error.to_string()),
    }
}

/// What is read is written so that it is read as the same.
pub(super) fn bundle_lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match BundleLock::parse(text) {
        Ok(lock) => {
            let yaml = lock.to_yaml();
            assert_eq!(BundleLock::parse(&yaml).as_ref(), Ok(&lock), "{yaml}");
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A response is a request again, with every path of a checksum or none; no path of an upload leads out.
pub(super) fn resources(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match MatchRequest::parse(text) {
        Ok(request) => {
            assert_eq!(request.response(|_| false), r#"{"resources":[]}"#);
            let all = request.response(|_| true);
            match MatchRequest::parse(&all) {
                Ok(again) => assert_eq!(again.response(|_| true), all),
                // Nothing but empty files and contradictions.
                Err(ResourceError::Empty) => {}
                Err(error) => panic!("{error}: {all}"),
            }
        }
        Err(error) => assert!(error.to_string().len() < 2 * data.len() + 1000),
    }
    for resource in parse_resources(text).unwrap_or_default() {
        let path = std::str::from_utf8(&resource.path).unwrap();
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
        assert!(!path.contains('\0') && resource.mode <= 0o777, "{path:?} {:o}", resource.mode);
    }
}

/// Each document has its line, and a document of another group breaks that one rule only.
pub(super) fn package(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read_packaging_objects(text) {
        Ok(objects) => {
            for object in objects {
                let rules = object.broken_rules();
                let is_other = rules.iter().any(|rule| matches!(rule, PackageRule::OtherKind { .. }));
                assert!(!is_other || rules.len() == 1, "{rules:?}");
                // For YAML a carriage return ends a line too.
                assert!(object.line <= text.matches(['\n', '\r']).count() as u64 + 1, "{object:?}");
                rules.iter().for_each(|rule| assert!(!rule.to_string().is_empty()));
            }
        }
        Err(error) => drop(error.to_string()),
    }
}

#[derive(Debug)]
struct NoHelpers;

impl CredentialHelpers for NoHelpers {
    fn get(&self, _: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        assert!(!server.is_empty());
        Ok(None)
    }
}

/// Returns what a credentials file says openly: every key, and values that name users or programs.
fn names_of(value: &serde_json::Value) -> Vec<&str> {
    let Some(members) = value.as_object() else { return Vec::new() };
    let mut names = Vec::new();
    for (key, value) in members {
        names.push(key.as_str());
        match (key.as_str(), value.as_str()) {
            (_, None) => names.extend(names_of(value)),
            ("auth" | "password" | "identitytoken" | "registrytoken", _) => {}
            (_, Some(text)) => names.push(text),
        }
    }
    names
}

/// Neither an error nor the debug form tells what the file holds.
pub(super) fn docker_config(data: &[u8]) {
    const SECRET: &str = "c2VjcmV0LXNlY3JldA";
    // Where hosts, users and programs are named it is no secret.
    let written: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    if names_of(&written).iter().any(|name| name.contains(SECRET)) {
        drop(DockerConfig::parse(data, "config.json"));
        return;
    }
    let config = match DockerConfig::parse(data, "config.json") {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(SECRET) && text.len() < 1000, "{text:?}");
            return;
        }
    };
    let keychain = Keychain::with_helpers(vec![CredentialSource::File(config)], Arc::new(NoHelpers));
    assert!(!format!("{keychain:?}").contains(SECRET));
    for name in ["docker.io/library/a", "reg.example/team/app", "127.0.0.1:5000/a"] {
        let found = keychain.lookup(&name.parse().unwrap());
        assert!(!format!("{found:?}").contains(SECRET), "{name}");
    }
}
