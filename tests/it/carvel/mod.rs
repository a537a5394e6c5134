//! Makes bundles for tests: small ones, nested ones, with images in other registries.

pub(crate) mod copy;
pub(crate) mod describe;
pub(crate) mod kinds;
pub(crate) mod packages;
pub(crate) mod pull;
pub(crate) mod scenarios;
pub(crate) mod tars;

use std::collections::BTreeMap;

use testkit::registry::{Registry, Request};

use crate::lab::Lab;

pub(crate) const HEADER: &str = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\n";

/// Pushes a plain image of one file, and returns its reference by digest.
pub(crate) fn image(lab: &Lab, repository: &str, content: &str) -> String {
    let folder = format!("image-{content}");
    lab.write(&format!("{folder}/content"), content);
    let output = lab.run(&["push", "-i", &format!("{repository}:latest"), "-f", &folder]).succeeds();
    output.one_line().to_owned()
}

/// Writes the folder of a bundle that names images.
pub(crate) fn bundle_folder(lab: &Lab, folder: &str, images: &[&str]) {
    lab.write(&format!("{folder}/.imgpkg/images.yml"), images_lock(images));
    lab.write(&format!("{folder}/config.yml"), format!("name: {folder}\n"));
}

/// An ImagesLock as users write it.
pub(crate) fn images_lock(images: &[&str]) -> String {
    let mut lock = format!("{HEADER}images:");
    if images.is_empty() {
        lock.push_str(" []");
    }
    lock.push('\n');
    for (number, image) in images.iter().enumerate() {
        lock.push_str(&format!("- image: {image}\n  annotations:\n    number: \"{number}\"\n"));
    }
    lock
}

/// Pushes a bundle that names images, and returns its reference by digest.
pub(crate) fn bundle(lab: &Lab, reference: &str, folder: &str, images: &[&str]) -> String {
    bundle_folder(lab, folder, images);
    lab.run(&["push", "-b", reference, "-f", folder]).succeeds().one_line().to_owned()
}

/// The digest of a reference by digest.
pub(crate) fn digest(reference: &str) -> &str {
    reference.split_once('@').expect("a digest").1
}

/// `sha256-<hex>` of a reference by digest.
pub(crate) fn dashed(reference: &str) -> String {
    digest(reference).replace(':', "-")
}

/// Counts requests by method and status.
pub(crate) fn counts(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(format!("{} {}", request.method, request.status)).or_default() += 1;
    }
    counts
}

/// The one file of the one layer of an image in a registry.
pub(crate) fn file_of_image(registry: &Registry, repository: &str, tag: &str) -> (String, Vec<u8>) {
    let storage = registry.storage();
    let manifest = storage.manifest(repository, tag).unwrap_or_else(|| panic!("no {repository}:{tag}"));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{manifest}");
    assert_eq!(layers[0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let layer = storage.blob(layers[0]["digest"].as_str().unwrap()).unwrap();
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&layer[..]), &mut tar).unwrap();
    let name = String::from_utf8(tar[512..612].to_vec()).unwrap().trim_end_matches('\0').to_owned();
    let size = usize::from_str_radix(std::str::from_utf8(&tar[512 + 124..512 + 135]).unwrap(), 8).unwrap();
    (name, tar[1024..1024 + size].to_vec())
}
