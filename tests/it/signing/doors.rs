//! `verify_key` of Concourse: a get writes, and a put pushes, only signed images.

use serde_json::json;
use testkit::registry::Registry;

use super::keys;
use crate::concourse::{room, source, step};

#[test]
fn concourse_get_and_put_with_verify_key_move_signed_images_only() {
    let ((lab, digest), registry) = (room(), Registry::start());
    keys::put(&lab);
    let key = keys::FILES[1].1;
    let put = |source: &serde_json::Value, key: &str| {
        let params = json!({"image": "image/image.tar", "verify_key": key});
        step(&lab, "out", &json!({"source": source, "params": params}))
    };
    let plain = source(&registry, &json!({"tag": "v1"}));
    let nothing = format!("image `{digest}` has no signature");
    let _ = put(&plain, key).fails(3, &[&nothing]);
    assert!(registry.storage().repositories().is_empty(), "nothing was pushed");
    let _ = put(&plain, "no key").fails(2, &["`params.verify_key` holds no PEM block"]);
    // An unsigned image, which the get refuses.
    let unsigned = json!({"source": plain, "params": {"image": "image/image.tar"}});
    let _ = step(&lab, "out", &unsigned).succeeds();
    let keyed = source(&registry, &json!({"tag": "v1", "verify_key": key}));
    let get = |format: &str| {
        let version = json!({"tag": "v1", "digest": digest});
        step(&lab, "in", &json!({"source": keyed, "version": version, "params": {"format": format}}))
    };
    let _ = get("rootfs").fails(3, &[&nothing]);
    let image = format!("{}/team/app@{digest}", registry.host());
    let _ = lab.run(&["sign", "-i", &image, "--key", "p256.key"]).succeeds();
    let _ = get("rootfs").succeeds().says("is signed by a given key");
    let _ = get("oci-tar").succeeds().says("with 1 referrer");
}

#[test]
fn a_put_pushes_what_was_signed_with_its_signature() {
    let ((lab, digest), registry) = (room(), Registry::start());
    keys::put(&lab);
    let words = ["sign", "--tar", "put/image/image.tar", "--key", "p256.key", "--identity"];
    let _ = lab.run(&[&words[..], &[&format!("{}/team/app", registry.host())]].concat()).succeeds();
    let request = json!({
        "source": source(&registry, &json!({"tag": "v1"})), "params": {"image": "image/image.tar"},
    });
    let _ = step(&lab, "out", &request).succeeds();
    let image = format!("{}/team/app@{digest}", registry.host());
    let _ = lab.run(&["verify", "-i", &image, "--key", "p256.pub"]).succeeds();
}

#[test]
fn a_store_gives_and_takes_signed_images_only_and_a_put_says_what_it_leaves_out() {
    let (lab, digest) = room();
    keys::put(&lab);
    let store = format!("file://{}", lab.path("store").display());
    let plain = json!({"store": store, "tag": "v1"});
    let keyed = json!({"store": store, "tag": "v1", "verify_key": keys::FILES[1].1});
    let put = |source: &serde_json::Value, params: serde_json::Value| {
        step(&lab, "out", &json!({"source": source, "params": params}))
    };
    let nothing = format!("image `{digest}` has no signature");
    let image = json!({"image": "image/image.tar"});
    let _ = put(&keyed, image.clone()).fails(3, &[&nothing]);
    assert!(!lab.path("store").exists(), "nothing was pushed");
    let unsigned = put(&plain, image.clone()).succeeds().json()["version"].clone();
    let get = |version: &serde_json::Value, format: &str| {
        step(&lab, "in", &json!({"source": keyed, "version": version, "params": {"format": format}}))
    };
    let _ = get(&unsigned, "rootfs").fails(3, &[&nothing]);
    let words = ["sign", "--tar", "put/image/image.tar", "--key", "p256.key", "--identity", "reg.example/a"];
    let _ = lab.run(&words).succeeds();
    // The signature is left out, so that the image is the one that is there.
    let left_out = put(&plain, json!({"image": "image/image.tar", "referrers": false})).succeeds();
    let left_out = left_out.says("`image/image.tar` also holds 1 referrer (signatures, attestations, SBOMs)");
    assert_eq!(left_out.json()["version"], unsigned);
    let keyed_and_other = json!({"store": store, "tag": "v2", "verify_key": keys::FILES[1].1});
    let signed = put(&keyed_and_other, image).succeeds().json()["version"].clone();
    let found = step(&lab, "check", &json!({"source": keyed_and_other})).succeeds().json();
    assert_eq!(found, json!([signed]), "check reads versions, and get verifies them");
    let _ = get(&signed, "rootfs").succeeds().says("is signed by a given key");
    let _ = lab.run(&["verify", "--store", &format!("{store}:v2"), "--key", "p256.pub"]).succeeds();
}
