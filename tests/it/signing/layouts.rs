//! `sign` and `verify --key` on tars and folders, without any registry.

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::oracle::validate_layout;
use testkit::readers::skopeo_digest;
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

use super::keys::{self, Tar, prints, refused};
use crate::lab::{Lab, lab};
use crate::layouts::{CONTAINERD_NAME, INDEX, Layout, REF_NAME, named};

const NAME: &str = "reg.example/team/app:v1";

/// Packs one file as an image with a name, and returns its digest.
fn packed(lab: &Lab) -> String {
    lab.write("app/file", "content\n");
    let line = lab.run(&["push", "-i", NAME, "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    line.one_line().strip_prefix("app.tar@").unwrap().to_owned()
}

#[test]
fn sign_adds_a_signature_that_openssl_verifies_and_keeps_the_digest() {
    let lab = lab();
    keys::put(&lab);
    let digest = packed(&lab);
    for (key, number) in [("p256", 0), ("ed25519", 1)] {
        let words = ["sign", "--tar", "app.tar", "--key", &format!("{key}.key"), "-a", "commit=12ab"];
        let output = lab.run(&words).succeeds();
        assert_eq!(output.one_line(), format!("app.tar@{digest}: signed"));
        validate_layout(lab.path("app.tar"));
        let path = lab.path("app.tar");
        let signatures = Tar(&path).signatures(&digest);
        assert_eq!(signatures.len(), number + 1, "each key has a signature of its own");
        let (layer, payload) = &signatures[number];
        let expected = format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{NAME}\"}},\"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\
             \"type\":\"cosign container image signature\"}},\"optional\":{{\"commit\":\"12ab\"}}}}"
        );
        assert_eq!(String::from_utf8_lossy(payload), expected);
        let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
        let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
        keys::openssl_verifies(&lab, &format!("{key}.pub"), payload, &signature);
    }
    // Readers by name find the same image, and docker's table is still there.
    let path = lab.path("app.tar");
    assert_eq!(Tar(&path).json("manifest.json")[0]["RepoTags"], json!([NAME]));
    assert_eq!(skopeo_digest(&format!("oci-archive:{}:v1", path.display()), &[]), digest);
    // The same key over the same digest changes nothing.
    let before = lab.read("app.tar");
    let words = ["sign", "--tar", "app.tar", "--key", "p256.key", "-a", "commit=12ab"];
    assert_eq!(lab.run(&words).succeeds().one_line(), format!("app.tar@{digest}: signed already"));
    assert_eq!(lab.read("app.tar"), before);
    // With an annotation it is another signature.
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "p256.key"]).succeeds();
    assert_eq!(Tar(&path).signatures(&digest).len(), 3);
}

#[test]
fn sign_takes_the_password_of_an_encrypted_key_from_the_environment_and_says_it_nowhere() {
    let lab = lab();
    keys::put(&lab);
    let _ = packed(&lab);
    let before = lab.list();
    let sign = |key: &str, password: Option<&str>| {
        let run = lab.command(&["sign", "--tar", "app.tar", "--key", key, "--debug"]);
        match password {
            Some(password) => run.env("COSIGN_PASSWORD", password).run(),
            None => run.run(),
        }
    };
    let output = sign("cosign.key", None).fails(2, &["`cosign.key` is encrypted, and no password was given"]);
    let _ = output.says("the variable `COSIGN_PASSWORD` holds the password");
    let wrong = "`cosign.key` cannot be decrypted: the password is wrong, or the file was changed";
    let _ = sign("cosign.key", Some("falsch-geraten")).fails(2, &[wrong]).never_says("falsch-geraten");
    assert_eq!(lab.list(), before);
    let _ = sign("cosign.key", Some(keys::PASSWORD)).succeeds().never_says(keys::PASSWORD);
    let _ = lab.run(&["verify", "--tar", "app.tar", "--key", "cosign.pub"]).succeeds();
    let _ = sign("cosign-empty.key", None).succeeds();
}

#[test]
fn verify_says_what_is_wrong_with_a_signature() {
    let lab = lab();
    keys::put(&lab);
    let digest = packed(&lab);
    let verify = |more: &[&str]| lab.run(&[&["verify", "--tar", "app.tar"], more].concat());
    refused(verify(&["--key", "p256.pub"]), 3, &[&format!("`app.tar`: image `{digest}` has no signature\n")]);
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "p256.key"]).succeeds();
    let good = lab.read("app.tar");
    let output = verify(&["--key", "ed25519.pub", "--key", "p256.pub"]).succeeds();
    let line = format!("app.tar@{digest}: signature for `{NAME}`: accepted, key `p256.pub`\n");
    assert!(output.stdout.ends_with(&line), "{output}");
    let found = lab.run(&["verify", "--tar", "app.tar", "--key", "p256.pub", "--json"]).succeeds().json();
    assert_eq!(found["signatures"][0]["statements"][0]["verdict"], "accepted");
    let _ = verify(&["--key", "p256.pub", "--identity", "reg.example/team/app"]).succeeds();
    refused(
        verify(&["--key", "p256.pub", "--identity", "reg.example/team/b"]),
        3,
        &["it is for `reg.example/team/app:v1`, expected `reg.example/team/b`"],
    );
    refused(
        verify(&["--key", "ed25519.pub"]),
        3,
        &["has no signature that is accepted: signature 1 of `sha256:", "it was made with another key"],
    );
    // A folder of keys.
    lab.write("keys/a.pub", keys::FILES[3].1);
    lab.write("keys/b.pem", keys::FILES[1].1);
    lab.write("keys/README", "no key");
    prints(verify(&["--key", "keys"]), "accepted, key `keys/b.pem`");
    lab.write("none/README", "no key");
    refused(verify(&["--key", "none"]), 2, &["`none` has no key file, expected `*.pub` or `*.pem`"]);
    let run = lab.command(&["verify", "--tar", "app.tar", "--key", "env://PUB"]);
    prints(run.env("PUB", keys::FILES[1].1).run(), "key variable `PUB`");
    for (key, expected) in [
        ("rsa.pub", "has no signature that is accepted"),
        ("missing.pub", "cannot read `missing.pub`"),
        ("p256.key", "`p256.key` holds a private key, expected a public key"),
        ("env://NONE", "the environment has no variable `NONE` with a key"),
        ("awskms:///alias/x", "`awskms://` is not known, expected a file or `env://VARIABLE`"),
    ] {
        let code = match key {
            "rsa.pub" => 3,
            _ => 2,
        };
        refused(verify(&["--key", key]), code, &[expected]);
    }
    assert_eq!(lab.read("app.tar"), good);
}

/// A layout with an image and a signature manifest whose layers are made by hand.
fn with_signature(image: &Layout, tag: Option<&str>, layers: &[Value], payloads: &[&str]) -> Layout {
    let mut layout = image.clone();
    let digest = layout.entries[0]["digest"].as_str().unwrap().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for payload in payloads.iter().filter(|payload| seen.insert(**payload)) {
        let _ = layout.blob("x", payload.as_bytes());
    }
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = layout.blob(crate::layouts::CONFIG, config.to_string());
    let manifest = json!({"schemaVersion": 2, "mediaType": crate::layouts::MANIFEST, "config": config, "layers": layers});
    let manifest = layout.blob(crate::layouts::MANIFEST, manifest.to_string());
    let own = format!("{}.sig", digest.replace(':', "-"));
    layout.entries.push(named(manifest, &[(REF_NAME, tag.unwrap_or(&own))]));
    layout
}

#[test]
fn verify_refuses_hostile_signatures_each_with_its_own_message() {
    let lab = lab();
    keys::put(&lab);
    let image = Layout::simple();
    let digest = image.entries[0]["digest"].as_str().unwrap().to_owned();
    lab.write("app.tar", image.tar());
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "p256.key"]).succeeds();
    let path = lab.path("app.tar");
    let (layer, payload) = Tar(&path).signatures(&digest).remove(0);
    let payload = String::from_utf8(payload).unwrap();
    let layer_of = |payload: &str| {
        let mut layer = crate::layouts::descriptor(
            "application/vnd.dev.cosign.simplesigning.v1+json",
            payload.as_bytes(),
        );
        layer["annotations"] = Tar(&path).signatures(&digest)[0].0["annotations"].clone();
        layer
    };
    let twice = payload.replacen("\"image\":", "\"image\":{},\"image\":", 1);
    let other = payload.replacen(&digest, &format!("sha256:{}", "0".repeat(64)), 1);
    let large = payload.replacen("null", &format!("{{\"a\":\"{}\"}}", "x".repeat(2_000_000)), 1);
    let mut unsigned = layer_of(&payload);
    unsigned["annotations"] = json!({});
    let mut spaced = layer_of(&payload);
    let signature = &layer["annotations"]["dev.cosignproject.cosign/signature"];
    spaced["annotations"]["dev.cosignproject.cosign/signature"] =
        json!(format!("{}\n", signature.as_str().unwrap()));
    let changed = payload.replacen(":v1", ":v2", 1);
    for (layers, payloads, expected) in [
        (
            vec![layer.clone(); 10_000],
            vec![payload.as_str()],
            "10000 signatures are in one manifest or envelope, at most 100 are read",
        ),
        (vec![layer_of(&large)], vec![large.as_str()], "the payload has 2000"),
        (
            vec![layer_of(&twice)],
            vec![twice.as_str()],
            "the payload cannot be read: member `image` is there twice",
        ),
        (vec![layer_of(&other)], vec![other.as_str()], "it is about `sha256:000000"),
        (vec![unsigned], vec![payload.as_str()], "a layer of a signature manifest has no signature"),
        (vec![spaced], vec![payload.as_str()], "the signature is not base64 in its usual form"),
        (
            vec![layer_of(&changed)],
            vec![changed.as_str()],
            "it does not verify with key `p256.pub`: another key made it, or it was changed",
        ),
        (Vec::new(), vec![], "the manifest has no signature"),
    ] {
        let layout = with_signature(&image, None, &layers, &payloads);
        lab.write("bad.tar", layout.tar());
        let output = lab.run(&["verify", "--tar", "bad.tar", "--key", "p256.pub"]);
        refused(output, 3, &[&format!("image `{digest}` has no signature that is accepted"), expected]);
        // A good signature beside it does not hide it.
        if layers.len() == 1 && payloads[0].len() < 1000 {
            let both = with_signature(
                &image,
                None,
                &[vec![layer.clone()], layers].concat(),
                &[&[payload.as_str()][..], &payloads].concat(),
            );
            lab.write("both.tar", both.tar());
            let output = lab.run(&["verify", "--tar", "both.tar", "--key", "p256.pub"]);
            refused(output, 3, &["`both.tar` has signatures that are wrong: signature 2 of", expected]);
        }
    }
    // The signature of one image under another image's tag.
    let mut two = Layout::simple();
    let child = two.image(&[Tarball::new().file("other", "x").finish()]);
    let hex = child["digest"].as_str().unwrap().replace(':', "-");
    two.entries = vec![named(child, &[(REF_NAME, "v1"), (CONTAINERD_NAME, NAME)])];
    let moved = with_signature(&two, Some(&format!("{hex}.sig")), std::slice::from_ref(&layer), &[&payload]);
    lab.write("moved.tar", moved.tar());
    let output = lab.run(&["verify", "--tar", "moved.tar", "--key", "p256.pub"]);
    refused(output, 3, &[&format!("it is about `{digest}`, not about this image")]);
    // Every image of the tar needs a signature, not only one of them.
    let mut hidden = with_signature(&image, None, &[layer], &[&payload]);
    let second = hidden.image(&[Tarball::new().file("second", "x").finish()]);
    hidden.entries.push(named(second.clone(), &[(REF_NAME, "v2")]));
    lab.write("hidden.tar", hidden.tar());
    let output = lab.run(&["verify", "--tar", "hidden.tar", "--key", "p256.pub"]);
    refused(output, 3, &[&format!("image `{}` has no signature", second["digest"].as_str().unwrap())]);
}

#[test]
fn sign_recursive_signs_the_children_of_an_index_and_verify_tells_them_apart() {
    let lab = lab();
    keys::put(&lab);
    let mut layout = Layout::default();
    let one = layout.image(&[Tarball::new().file("one", "1").finish()]);
    let two = layout.image_for("arm64", &[Tarball::new().file("two", "2").finish()]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one, two]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(named(index.clone(), &[(REF_NAME, "v1"), (CONTAINERD_NAME, NAME)]));
    lab.write("all.tar", layout.tar());
    let output = lab.run(&["sign", "--tar", "all.tar", "--key", "ed25519.key"]).succeeds();
    assert_eq!(output.stdout.lines().count(), 1);
    let path = lab.path("all.tar");
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    let (index, one, two) = (text(&index), text(&one), text(&two));
    assert_eq!((Tar(&path).signatures(&index).len(), Tar(&path).signatures(&one).len()), (1, 0));
    let output = lab.run(&["sign", "--tar", "all.tar", "--key", "ed25519.key", "--recursive"]).succeeds();
    let expected = format!("all.tar@{index}: signed already\nall.tar@{one}: signed\nall.tar@{two}: signed\n");
    assert_eq!(output.stdout, expected);
    validate_layout(&path);
    let _ = lab.run(&["verify", "--tar", "all.tar", "--key", "ed25519.pub"]).succeeds();
    let described = lab.run(&["describe", "--tar", "all.tar", "--json"]).succeeds().json();
    let signature = &described["images"][0]["signatures"][0];
    assert_eq!((&signature["kind"], &signature["identity"]), (&json!("signature"), &json!(NAME)));
    assert!(signature["keyHint"].as_str().is_some_and(|hint| hint.len() == 44), "{signature}");
    prints(lab.run(&["describe", "--tar", "all.tar"]), &format!("\n    for {NAME}\n    key "));
    // The index is replaced by one of its children, which has a signature of its own, but the index's signature is
    // missing.
    let mut swapped = Layout { entries: vec![], ..layout };
    swapped.entries.push(named(
        crate::layouts::descriptor(crate::layouts::MANIFEST, &Tar(&path).blob(&json!({"digest": one}))),
        &[(REF_NAME, "v1")],
    ));
    let (layer, payload) = Tar(&path).signatures(&index).remove(0);
    let payload = String::from_utf8(payload).unwrap();
    let swapped = with_signature(&swapped, None, &[layer], &[&payload]);
    lab.write("swapped.tar", swapped.tar());
    let output = lab.run(&["verify", "--tar", "swapped.tar", "--key", "ed25519.pub"]);
    refused(
        output,
        3,
        &[&format!("image `{one}` has no signature that is accepted"), &format!("it is about `{index}`")],
    );
}

#[test]
fn sign_works_on_a_layout_folder_and_writes_index_json_last() {
    let (lab, scratch) = (lab(), Scratch::new("layout"));
    keys::put(&lab);
    let layout = Layout::simple();
    let folder = layout.write_folder(&scratch, "layout");
    let digest = layout.entries[0]["digest"].as_str().unwrap().to_owned();
    let at = folder.to_str().unwrap();
    for state in ["signed", "signed already"] {
        let output = lab.run(&["sign", "--tar", at, "--key", "p256.key"]).succeeds();
        assert_eq!(output.one_line(), format!("{at}@{digest}: {state}"));
    }
    let _ = lab.run(&["sign", "--tar", at, "--key", "ed25519.key"]).succeeds();
    validate_layout(&folder);
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "the second took the first one's place");
    let mut entry = layout.entries[0].clone();
    entry["annotations"]["kind"] = json!("dev.cosignproject.cosign/image");
    assert_eq!(index["manifests"][0], entry, "the image's own entry stays, but for cosign's word");
    let _ = lab.run(&["verify", "--tar", at, "--key", "p256.pub"]).succeeds();
    let _ = lab.run(&["verify", "--tar", at, "--key", "ed25519.pub"]).succeeds();
}

#[test]
fn sign_refuses_what_it_cannot_sign_and_leaves_it_as_it_was() {
    let lab = lab();
    keys::put(&lab);
    let _ = packed(&lab);
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-docker-tar", "docker.tar"]).succeeds();
    lab.write("app.tar.gz", crate::layouts::gzip(&lab.read("app.tar")));
    lab.write("nameless/file", "x");
    let _ = lab.run(&["push", "-i", "-f", "nameless", "--to-oci-tar", "nameless.tar"]).succeeds();
    let before = lab.list();
    let pem = format!("--key={}", keys::FILES[0].1);
    for (words, code, expected) in [
        (&["--tar", "docker.tar", "--key", "p256.key"][..], 1, "is docker-archive, expected an OCI layout"),
        (
            &["--tar", "app.tar.gz", "--key", "p256.key"],
            1,
            "is compressed as a whole, and cannot be changed in place",
        ),
        (
            &["--tar", "nameless.tar", "--key", "p256.key"],
            1,
            "has no recorded name that a signature could be for",
        ),
        (&["--tar", "app.tar", "--key", "rsa.key"], 2, "signatures by RSA are verified, but not made"),
        (
            &["--tar", "app.tar", "--key", "p256.pub"],
            2,
            "`p256.pub` holds a public key, expected a private key",
        ),
        (&["--tar", "app.tar", &pem], 2, "the value is a key itself, expected a file or `env://VARIABLE`"),
        (&["--tar", "app.tar"], 2, "no private key was given"),
    ] {
        let output = lab.run(&[&["sign"], words].concat()).fails(code, &[expected]);
        let _ = output.never_says("ONL9HFVp");
    }
    assert_eq!(lab.list(), before);
    let _ = lab.run(&["sign", "--tar", "nameless.tar", "--key", "p256.key", "--identity", NAME]).succeeds();
    let run = lab.command(&["sign", "--tar", "app.tar", "--key", "env://KEY"]);
    let _ = run.env("KEY", keys::FILES[0].1).run().succeeds();
}
