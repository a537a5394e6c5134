//! Signatures and keys that are made to deceive: each is refused with its own message, and nothing is written.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};
use testkit::tarball::Tarball;

use super::keys::{self, Tar, refused};
use crate::lab::{Lab, lab};
use crate::layouts::{CONFIG, CONTAINERD_NAME, INDEX, Layout, MANIFEST, REF_NAME, descriptor, named};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const NAME: [(&str, &str); 2] = [(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/team/app:v1")];

fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

fn cosign_tag(descriptor: &Value, ending: &str) -> String {
    format!("{}.{ending}", digest(descriptor).replace(':', "-"))
}

/// Signs the image of a layout and returns the layer of the signature, and its payload.
fn signature_of(lab: &Lab, layout: &Layout) -> (Value, Vec<u8>) {
    keys::put(lab);
    lab.write("good.tar", layout.tar());
    let _ = lab.run(&["sign", "--tar", "good.tar", "--key", "p256.key"]).succeeds();
    let path = lab.path("good.tar");
    Tar(&path).signatures(&digest(&layout.entries[0])).remove(0)
}

/// Adds a manifest with these layers and returns its descriptor.
fn holder(layout: &mut Layout, layers: &[Value], members: &Value) -> Value {
    let config =
        json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let config = config.to_string();
    if !layout.blobs.contains(&config.clone().into_bytes()) {
        layout.blobs.push(config.clone().into_bytes());
    }
    let config = descriptor(CONFIG, config.as_bytes());
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    for (name, value) in members.as_object().into_iter().flatten() {
        manifest[name] = value.clone();
    }
    layout.blob(MANIFEST, manifest.to_string())
}

/// Adds a signature under a tag of cosign's.
fn add_signature(layout: &mut Layout, (layer, payload): &(Value, Vec<u8>), tag: &str) {
    if !layout.blobs.contains(payload) {
        layout.blobs.push(payload.clone());
    }
    let manifest = holder(layout, std::slice::from_ref(layer), &json!({}));
    layout.entries.push(named(manifest, &[(REF_NAME, tag)]));
}

/// Checks that every way in refuses a tar and writes nothing.
#[track_caller]
fn refused_everywhere(lab: &Lab, layout: &Layout, texts: &[&str]) {
    lab.write("bad.tar", layout.tar());
    let store = format!("file://{}:v1", lab.path("out").display());
    for words in [
        ["copy", "--tar", "bad.tar", "--to-oci-tar", "out"],
        ["copy", "--tar", "bad.tar", "--to-store", &store],
        ["index", "--tar", "bad.tar", "--to-oci-tar", "out"],
    ] {
        refused(lab.run(&[&words[..], &["--verify-key", "p256.pub"]].concat()), 3, texts);
        assert!(!lab.path("out").exists(), "{words:?}");
    }
}

#[test]
fn verify_refuses_an_index_in_place_of_its_signed_image_and_the_reverse() {
    let lab = lab();
    let mut base = Layout::default();
    let child = base.image(&[Tarball::new().file("one", "1").finish()]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    let index = base.blob(INDEX, index.to_string());
    let with = |root: &Value| Layout { entries: vec![named(root.clone(), &NAME)], ..base.clone() };
    let of_child = signature_of(&lab, &with(&child));
    let of_index = signature_of(&lab, &with(&index));
    // Who is named by the tar, whose signature is there, and under whose tag.
    for (root, signature, tag, expected) in [
        (&index, &of_child, &index, format!("it is about `{}`, not about this image", digest(&child))),
        (&index, &of_child, &child, format!("image `{}` has no signature\n", digest(&index))),
        (&child, &of_index, &child, format!("it is about `{}`, not about this image", digest(&index))),
        (&child, &of_index, &index, format!("image `{}` has no signature\n", digest(&child))),
    ] {
        let mut layout = with(root);
        add_signature(&mut layout, signature, &cosign_tag(tag, "sig"));
        let texts = [&*format!("image `{}` has no signature", digest(root)), &expected];
        refused_everywhere(&lab, &layout, &texts);
        refused(lab.run(&["verify", "--tar", "bad.tar", "--key", "p256.pub"]), 3, &texts);
    }
}

#[test]
fn verify_refuses_an_entry_that_hides_the_signed_image_under_the_same_name() {
    let lab = lab();
    let base = Layout::simple();
    let signature = signature_of(&lab, &base);
    let good = base.entries[0].clone();
    let mut both = base.clone();
    let evil = both.image(&[Tarball::new().file("evil", "x").finish()]);
    add_signature(&mut both, &signature, &cosign_tag(&good, "sig"));
    let entry = both.entries.pop().unwrap();
    let hidden = format!("image `{}` has no signature\n", digest(&evil));
    let (same, tagged) = (named(evil.clone(), &NAME), named(evil, &NAME[..1]));
    let verify = || lab.run(&["verify", "--tar", "bad.tar", "--key", "p256.pub"]);
    for (entries, is_same) in [
        (vec![good.clone(), entry.clone(), same.clone()], true),
        (vec![same, entry.clone(), good.clone()], true),
        (vec![good.clone(), entry.clone(), tagged.clone()], false),
        (vec![tagged, good.clone(), entry], false),
    ] {
        let same_name = "the name `reg.example/team/app:v1` is that of two images";
        let expected = if is_same { same_name } else { &hidden };
        refused_everywhere(&lab, &Layout { entries, ..both.clone() }, &[expected]);
        let output = verify().ends_with(3);
        assert!(output.stderr.contains(expected) || is_same && output.stdout.contains(expected), "{output}");
    }
    // A second manifest under the same tag: readers take one or the other.
    let mut wrong = signature.clone();
    wrong.1 = String::from_utf8(wrong.1).unwrap().replacen(":v1", ":v2", 1).into_bytes();
    let annotations = wrong.0["annotations"].clone();
    wrong.0 = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &wrong.1);
    wrong.0["annotations"] = annotations;
    let tag = cosign_tag(&good, "sig");
    for order in [[&wrong, &signature], [&signature, &wrong]] {
        let mut layout = base.clone();
        order.iter().for_each(|one| add_signature(&mut layout, one, &tag));
        lab.write("bad.tar", layout.tar());
        let output = verify().ends_with(3);
        assert!(output.stdout.contains(&format!("the name `{tag}` is that of two images")), "{output}");
    }
}

#[test]
fn verify_refuses_a_signature_in_another_encoding() {
    let lab = lab();
    let base = Layout::simple();
    let (layer, payload) = signature_of(&lab, &base);
    let text = layer["annotations"][SIGNATURE].as_str().unwrap().to_owned();
    let bytes = STANDARD.decode(&text).unwrap();
    let longer = STANDARD.encode([&bytes[..], &[0]].concat());
    let base64 = "the signature is not base64 in its usual form";
    let wrong = "it does not verify with key `p256.pub`: another key made it, or it was changed";
    let mut rows = vec![
        (format!(" {text}"), base64),
        (format!("{text}\n"), base64),
        (text.replacen(&text[8..9], &format!("\r\n{}", &text[8..9]), 1), base64),
        (format!("{text}===="), base64),
        (longer, wrong),
        (STANDARD.encode(&bytes[1..]), wrong),
        (STANDARD.encode([0x30, 6, 2, 1, 0, 2, 1, 0]), wrong),
        (STANDARD.encode([0; 64]), wrong),
    ];
    // Not every signature has padding, or a letter that the other alphabet writes in another way.
    for other in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE.encode(&bytes)] {
        if other != text {
            rows.push((other, base64));
        }
    }
    for (signature, expected) in rows {
        let mut layer = layer.clone();
        layer["annotations"][SIGNATURE] = json!(signature);
        let mut layout = base.clone();
        let tag = cosign_tag(&base.entries[0], "sig");
        add_signature(&mut layout, &(layer, payload.clone()), &tag);
        lab.write("bad.tar", layout.tar());
        refused(lab.run(&["verify", "--tar", "bad.tar", "--key", "p256.pub"]), 3, &[expected]);
    }
}

/// Verifies an attestation: an envelope under cosign's tag, or a bundle that refers to the image.
fn attestation(lab: &Lab, base: &Layout, layers: &[Vec<u8>], as_bundle: bool) -> testkit::lab::Output {
    let (mut layout, image) = (base.clone(), base.entries[0].clone());
    let kind = if as_bundle { BUNDLE } else { ENVELOPE };
    // Where there are several, they are the same.
    let first = layers.first().map(|bytes| descriptor(kind, bytes)).unwrap_or_default();
    let layers = vec![first; layers.len()];
    if as_bundle {
        let subject = json!({"mediaType": MANIFEST, "digest": image["digest"], "size": image["size"]});
        let members = json!({"artifactType": BUNDLE, "subject": subject});
        let manifest = holder(&mut layout, &layers, &members);
        layout.entries.push(manifest);
    } else {
        let manifest = holder(&mut layout, &layers, &json!({}));
        layout.entries.push(named(manifest, &[(REF_NAME, &cosign_tag(&image, "att"))]));
    }
    lab.write("bad.tar", layout.tar());
    let required = ["--require", "attestation:cyclonedx"];
    lab.run(&[&["verify", "--tar", "bad.tar", "--key", "p256.pub"], &required[..]].concat())
}

#[test]
fn verify_refuses_hostile_attestations_each_with_its_own_message() {
    let lab = lab();
    let mut base = Layout::simple();
    let _ = signature_of(&lab, &base);
    lab.write("good.tar", base.tar());
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    let words = ["attach", "sbom.json", "--tar", "good.tar", "--type", "cyclonedx", "--key", "p256.key"];
    let _ = lab.run(&[&words[..], &["--signature-format", "both"]].concat()).succeeds();
    let path = lab.path("good.tar");
    let entries = Tar(&path).json("index.json")["manifests"].as_array().unwrap().clone();
    let content = |entry: &Value| {
        let manifest: Value = serde_json::from_slice(&Tar(&path).blob(entry)).unwrap();
        Tar(&path).blob(&manifest["layers"][0])
    };
    let (envelope, bundle) = (content(&entries[1]), content(&entries[2]));
    let changed = |bytes: &[u8], change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        value.to_string().into_bytes()
    };
    let replaced = |bytes: &[u8], old: &str, new: &str| {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.contains(old), "{text}");
        text.replacen(old, new, 1).into_bytes()
    };
    let restated = |change: &dyn Fn(&str) -> String| {
        changed(&envelope, &|value: &mut Value| {
            let payload = STANDARD.decode(value["payload"].as_str().unwrap()).unwrap();
            value["payload"] = json!(STANDARD.encode(change(std::str::from_utf8(&payload).unwrap())));
        })
    };
    let hex = digest(&base.entries[0])[7..].to_owned();
    let many = |value: &mut Value| value["signatures"] = json!(vec![value["signatures"][0].clone(); 101]);
    let twice: &dyn Fn(&str) -> String =
        &|text| text.replacen("\"subject\":", "\"subject\":[],\"subject\":", 1);
    let other: &dyn Fn(&str) -> String = &|text| text.replacen(&hex, &"0".repeat(64), 1);
    let rows: Vec<(Vec<Vec<u8>>, bool, &str)> = vec![
        (
            vec![envelope.clone(); 10_000],
            false,
            "10000 signatures are in one manifest or envelope, at most 100",
        ),
        (vec![changed(&envelope, &many)], false, "101 signatures are in one manifest or envelope"),
        (vec![restated(other)], false, "it is about `sha256:000000"),
        (vec![restated(twice)], false, "the statement cannot be read: member `subject` is there twice"),
        (
            vec![restated(&|text| text.replacen("CycloneDX", "CycloneDY", 1))],
            false,
            "it was made with another key, or was changed",
        ),
        (
            vec![replaced(&envelope, "\"payload\":", "\"payload\":\"\",\"payload\":")],
            false,
            "the envelope cannot be read: member `payload` is there twice",
        ),
        (
            vec![replaced(&envelope, "in-toto+json", "in-toto+yaml")],
            false,
            "the payload of the envelope has type `application/vnd.in-toto+yaml`",
        ),
        (
            vec![replaced(&bundle, "\"publicKey\":", "\"publicKey\":{},\"publicKey\":")],
            true,
            "the bundle cannot be read: member `publicKey` is there twice",
        ),
        (vec![replaced(&bundle, "dsseEnvelope", "messageSignature")], true, "it has no `dsseEnvelope`"),
        (
            vec![bundle.clone(), bundle.clone()],
            true,
            "2 signatures are in one manifest or envelope, at most 1",
        ),
        (vec![replaced(&bundle, "bundle.v0.3", "bundle.v9.9")], true, "the bundle has type"),
        (Vec::new(), true, "the manifest has no signature"),
    ];
    for (layers, as_bundle, expected) in rows {
        let mut layout = base.clone();
        layout.blobs.extend(layers.first().cloned());
        let output = attestation(&lab, &layout, &layers, as_bundle);
        refused(output, 3, &["has no attestation of type `https://cyclonedx.org/bom`", expected]);
    }
    base.blobs.push(envelope.clone());
    let _ = attestation(&lab, &base, &[envelope], false).succeeds();
}

/// A SubjectPublicKeyInfo of P-256 with this point.
fn p256(point: &[u8]) -> Vec<u8> {
    let start = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
        0x3d, 0x03, 0x01, 0x07, 0x03,
    ];
    let bits = u8::try_from(point.len() + 1).unwrap();
    let length = u8::try_from(start.len() + 2 + point.len()).unwrap();
    [&[0x30, length][..], &start, &[bits, 0], point].concat()
}

fn ed25519(point: &[u8; 32]) -> Vec<u8> {
    [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], point].concat()
}

#[test]
fn verify_refuses_malformed_and_low_order_keys_each_with_its_own_message() {
    let lab = lab();
    keys::put(&lab);
    lab.write("app.tar", Layout::simple().tar());
    let body: String = keys::FILES[1].1.lines().filter(|line| !line.starts_with('-')).collect();
    let good = STANDARD.decode(body).unwrap();
    let point = good[good.len() - 65..].to_vec();
    assert_eq!(p256(&point), good);
    let changed = |at: usize, byte: u8| {
        let mut point = point.clone();
        point[at] = byte;
        p256(&point)
    };
    let field = [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1][..], &[0; 12], &[0xff; 12]].concat();
    let one = |first: u8| {
        let mut bytes = [0; 32];
        bytes[0] = first;
        bytes
    };
    let body: String = keys::FILES[5].1.lines().filter(|line| !line.starts_with('-')).collect();
    let mut even = STANDARD.decode(body).unwrap();
    *even.last_mut().unwrap() = 0;
    let damaged = "is damaged: its contents are not a point of P-256";
    let off = "holds a P-256 key that is not a point of the curve";
    let low = "holds an Ed25519 key of low order, for which signatures can be forged";
    let structure = "is damaged: its contents are not a SubjectPublicKeyInfo";
    for (name, der, expected) in [
        ("point at infinity", p256(&[0]), damaged),
        ("infinity, padded", changed(0, 0), damaged),
        ("hybrid form", changed(0, 6), damaged),
        ("compressed", p256(&[&[2], &point[1..33]].concat()), "holds a P-256 key in compressed form"),
        ("half a point", p256(&point[..33]), damaged),
        ("not on the curve", changed(64, point[64] ^ 1), off),
        ("zero", p256(&[&[4][..], &[0; 64]].concat()), off),
        ("x is the prime", p256(&[&[4], &field[..], &point[33..]].concat()), off),
        ("order 1", ed25519(&one(1)), low),
        ("order 4", ed25519(&[0; 32]), low),
        (
            "31 bytes",
            [&[0x30, 0x29, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x20, 0x00][..], &[7; 31]]
                .concat(),
            "is damaged: its contents are not an Ed25519 key of 32 bytes",
        ),
        (
            "even exponent",
            even,
            "holds an RSA key whose exponent is 1 or even, expected an odd number from 3",
        ),
        ("a byte more", [&good[..], &[0]].concat(), structure),
        ("cut", good[..good.len() - 1].to_vec(), structure),
        ("empty", Vec::new(), structure),
    ] {
        let text =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        lab.write("bad.pub", text);
        let output = lab.run(&["verify", "--tar", "app.tar", "--key", "bad.pub"]);
        assert!(output.stderr.contains(expected), "{name}: expected `{expected}`\n{output}");
        refused(output, 2, &[&format!("`bad.pub` {expected}")]);
    }
}
