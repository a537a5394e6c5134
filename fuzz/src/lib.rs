//! What is tried with arbitrary bytes, and what must hold: the bodies of the fuzz targets.
//!
//! The targets in `fuzz_targets/` hand these to libFuzzer; `tests/it/hostile/fuzzing.rs` runs the same bodies over the
//! seeds and over mutations of them in the ordinary suite. A body panics when something does not hold.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code, reason = "a finding is a panic")]

mod archives;
mod extraction;
pub mod recipe;
mod requests;
mod signatures;
mod values;
mod zips;

/// A body; it panics when something does not hold.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also the name of its file in `fuzz_targets/` and of its folder of seeds.
pub const TARGETS: [(&str, Body); 36] = [
    ("reference", values::reference),
    ("digest", values::digest),
    ("challenge", values::challenge),
    ("link", values::link),
    ("pem", values::pem),
    ("host", values::host),
    ("retry_after", values::retry_after),
    ("document", values::document),
    ("config", values::config),
    ("program", values::program),
    ("ignore_file", values::ignore_file),
    ("images_lock", values::images_lock),
    ("bundle_lock", values::bundle_lock),
    ("package", values::package),
    ("docker_config", values::docker_config),
    ("resources", values::resources),
    ("decompress", archives::decompress),
    ("tar_read", archives::tar_read),
    ("layout_read", archives::layout_read),
    ("docker_save_read", archives::docker_save_read),
    ("imgpkg_tar_read", archives::imgpkg_tar_read),
    ("layout_roundtrip", archives::layout_roundtrip),
    ("extract", extraction::extract),
    ("file_tree", extraction::file_tree),
    ("zip_read", zips::zip_read),
    ("concourse_request", requests::concourse_request),
    ("task_params", requests::task_params),
    ("request", requests::request),
    ("responses", requests::responses),
    ("store_entry", requests::store_entry),
    ("outputs", requests::outputs),
    ("signature_payload", signatures::payload),
    ("signature_envelope", signatures::envelope),
    ("signature_bundle", signatures::bundle),
    ("key_file", signatures::key_file),
    ("encrypted_key", signatures::encrypted_key),
];

/// Runs the body of a target.
pub fn run(target: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("the target is in the list");
    body(data);
}
