//! Writes an image in the form for Concourse's containers: `rootfs/` and `metadata.json`.

use crate::model::invisible::escape_in_json;
use crate::model::{Config, to_json};
use crate::tar::Ownership;

/// Umask for folders in an output, independent of the process's own.
pub(super) const UMASK: u32 = 0o022;

/// Tells whether files can get their owners, which needs root, at least in a user namespace.
pub(super) fn ownership() -> Ownership {
    if rustix::process::geteuid().is_root() { Ownership::Apply } else { Ownership::Ignore }
}

/// Makes `metadata.json`, which Concourse reads when the image is used for a container.
///
/// Source: concourse `atc/worker/gardenruntime/image.go`; a missing value is `null`, as Go writes it.
pub(super) fn image_metadata(config: Option<&Config>) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct ImageMetadata<'a> {
        cmd: Option<&'a [String]>,
        entrypoint: Option<&'a [String]>,
        env: Option<&'a [String]>,
        user: &'a str,
    }
    let details = config.map(|config| &config.config);
    line(to_json(&ImageMetadata {
        cmd: details.and_then(|details| details.cmd.as_deref()),
        entrypoint: details.and_then(|details| details.entrypoint.as_deref()),
        env: details.map(|details| details.env.as_slice()).filter(|env| !env.is_empty()),
        user: details.and_then(|details| details.user.as_deref()).unwrap_or_default(),
    }))
}

/// Ends a JSON text with a line break, as Go's encoder does; characters that are not visible are escaped.
pub(super) fn line(text: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    let mut line = escape_in_json(&text);
    line.push('\n');
    line.into_bytes()
}
