//! Certificates on disk: the system's authorities, and `certs.d` folders. Opens no connection.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::model::{Secret, limits, pem};
use crate::stream::read_file;

use super::pem::{parse_certificates, parse_identity};
use super::wire_options::{ClientIdentity, SystemTrust};

/// Where systems keep their authorities in one file; the first that exists is read.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// Where systems keep them one by one; read as well, for certificates that were only dropped there.
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Reads the system's authorities; of each certificate only what is needed to check others with it is kept.
pub(super) fn system_authorities(trust: &SystemTrust) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Debian has each certificate three times: in the bundle, in a file, and as a link to that. Decoding is what costs
    // time, and keeping the texts would cost more memory than all authorities together.
    let mut known = HashSet::new();
    let hashing = RandomState::new();
    let mut read_file = |path: &Path| {
        let before = roots.len();
        let text = read(path).unwrap_or_default();
        for block in pem::read(&text).blocks {
            if known.insert(hashing.hash_one(block.text)) {
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(block.text).flatten());
            }
        }
        roots.len() > before
    };
    match &trust.file {
        Some(file) => drop(read_file(file)),
        None => drop(BUNDLES.iter().find(|path| read_file(Path::new(path)))),
    }
    let folders: Vec<PathBuf> = if trust.directories.is_empty() {
        FOLDERS.iter().map(PathBuf::from).collect()
    } else {
        trust.directories.clone()
    };
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // The bundle is in the same folder on some systems and has been read.
            if name == "ca-certificates.crt" || name == "ca-bundle.crt" {
                continue;
            }
            // A link to a neighbour is OpenSSL's index of the folder; the neighbour has its turn.
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let target = || std::fs::read_link(entry.path());
            if !is_link || target().is_ok_and(|target| target.components().count() > 1) {
                read_file(&entry.path());
            }
        }
    }
    roots
}

/// Reads a file of certificates, which may be named by the environment and be anything.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_file(path, limits::CERTIFICATES_BYTES).map_err(|error| error.to_string())
}

/// Reads what `certs.d` folders hold for a host.
pub(super) fn certs_directory(
    folders: &[PathBuf],
    host: &str,
) -> Result<(Vec<CertificateDer<'static>>, Option<ClientIdentity>), String> {
    let mut certificates = Vec::new();
    let mut identity = None;
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder.join(host)) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let what = format!("`{}`", path.display());
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => certificates.extend(parse_certificates(&read(&path)?, &what)?),
                Some("cert") if identity.is_none() => {
                    let key = String::from_utf8(read(&path.with_extension("key"))?)
                        .map_err(|_| format!("the key of {what} is not an unencrypted PEM private key"))?;
                    let found = ClientIdentity { certificates: read(&path)?, key: Secret::new(key) };
                    parse_identity(&found, &what)?;
                    identity = Some(found);
                }
                _ => {}
            }
        }
    }
    Ok((certificates, identity))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LOCALHOST: &str = include_str!("../../tests/keys/localhost.crt");
    const OTHER: &str = include_str!("../../tests/keys/other.crt");
    const KEY: &str = include_str!("../../tests/keys/localhost.key");

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgrelay-trust-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn each_authority_of_the_system_is_read_once() {
        let root = folder("system");
        let (bundle, certificates) = (root.join("bundle.crt"), root.join("certs"));
        std::fs::create_dir(&certificates).unwrap();
        let read = |file: &Path| {
            let trust = SystemTrust { file: Some(file.to_owned()), directories: vec![certificates.clone()] };
            system_authorities(&trust).len()
        };
        assert_eq!(read(&bundle), 0, "no file and an empty folder");
        std::fs::write(&bundle, format!("# comment\n{LOCALHOST}")).unwrap();
        assert_eq!(read(&bundle), 1);
        // The same certificate as a file, and as OpenSSL's index of the folder.
        std::fs::write(certificates.join("localhost.pem"), LOCALHOST).unwrap();
        symlink("localhost.pem", certificates.join("0a1b2c3d.0")).unwrap();
        assert_eq!(read(&bundle), 1);
        assert_eq!(read(&root.join("absent")), 1, "from the folder");
        // A bundle in the folder is not read again; a link out of the folder is.
        std::fs::write(certificates.join("ca-certificates.crt"), OTHER).unwrap();
        std::fs::write(certificates.join("ca-bundle.crt"), OTHER).unwrap();
        symlink("ca-bundle.crt", certificates.join("bundle.pem")).unwrap();
        assert_eq!(read(&bundle), 1);
        std::fs::write(root.join("other.crt"), OTHER).unwrap();
        symlink("../other.crt", certificates.join("other.pem")).unwrap();
        assert_eq!(read(&bundle), 2);
        std::fs::write(certificates.join("noise"), "noise").unwrap();
        assert_eq!(read(&bundle), 2);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn certs_d_has_authorities_and_a_client_certificate_for_a_host() {
        let root = folder("certs.d");
        let host = root.join("reg.example:5000");
        std::fs::create_dir(&host).unwrap();
        let read = || certs_directory(&[root.join("absent"), root.clone()], "reg.example:5000");
        let (certificates, identity) = read().unwrap();
        assert!(certificates.is_empty() && identity.is_none());
        std::fs::write(host.join("ca.crt"), LOCALHOST).unwrap();
        std::fs::write(host.join("more.crt"), format!("{OTHER}{LOCALHOST}")).unwrap();
        std::fs::write(host.join("notes.txt"), "not read").unwrap();
        std::fs::write(host.join("client.cert"), LOCALHOST).unwrap();
        let error = read().unwrap_err();
        assert!(error.contains("client.key"), "the key is missing: {error}");
        std::fs::write(host.join("client.key"), KEY).unwrap();
        // Only the first client certificate is used.
        std::fs::write(host.join("second.cert"), "not read").unwrap();
        let (certificates, identity) = read().unwrap();
        assert_eq!(certificates.len(), 3);
        let identity = identity.expect("the client certificate");
        assert_eq!(identity.certificates, LOCALHOST.as_bytes());
        assert_eq!(identity.key.expose().trim(), KEY.trim());
        assert!(
            certs_directory(std::slice::from_ref(&root), "reg.example").unwrap().0.is_empty(),
            "of another port"
        );
        std::fs::write(host.join("client.key"), [0xff, 0xfe]).unwrap();
        let error = read().unwrap_err();
        assert!(error.ends_with("client.cert` is not an unencrypted PEM private key"), "{error}");
        std::fs::write(host.join("client.key"), KEY).unwrap();
        std::fs::write(host.join("ca.crt"), "hello").unwrap();
        let error = read().unwrap_err();
        assert!(error.contains("ca.crt` holds no PEM certificate"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }
}
