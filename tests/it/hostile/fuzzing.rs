//! The bodies of the fuzz targets over their seeds and over mutations of them; libFuzzer goes on from there.
//!
//! `UPDATE_SEEDS=1 cargo test --test it seeds_are_current` writes `fuzz/seeds`. Inputs that once found a bug are in
//! `fuzz/regressions/TARGET` and are run unchanged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::random::Random;
use testkit::tarball::{Header, Tarball};
use testkit::zipfile::{ZipEntry, crc32, zip};

use crate::layouts::{CONFIG, INDEX, LAYER_GZIP, Layout, MANIFEST, descriptor, gzip, hex};
use crate::targets::TARGETS;

/// Mutations of each target in the ordinary suite; libFuzzer makes millions.
const MUTATIONS: usize = 250;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Texts of certificates: a complete one, and wrong inputs.
const PEMS: [&str; 7] = [
    "-----BEGIN CERTIFICATE-----\nMIIBbzCCARWgAwIBAgIUSNKIzFH39Lpl1R5J1ppsA033SmkwCgYIKoZIzj0EAwIw\nDDEKMAgGA1UEAwwBYTAgFw0yNjExMjkyMzQ5MTJaGA8yMTA5MDExODIzNDkxMlow\nDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBZOqIeMixpx\nKMoIr+itpB2pYpIeDg3JDl+uAHTfodxUM+fJn3Wq5gn4EiObRQapmgUm8MtAHYNs\nWXP/wBiUUrKjUzBRMB0GA1UdDgQWBBR9sdW3sPhldc5MmGMzNRgjbYKpZTAfBgNV\nHSMEGDAWgBR9sdW3sPhldc5MmGMzNRgjbYKpZTAPBgNVHRMBAf8EBTADAQH/MAoG\nCCqGSM49BAMCA0gAMEUCIQDbZAGSwHzNbTrlVqOU9dooQs6YLiEVg1Mfgp8yR++G\nJwIgHBrEPxA7iwuDDID2E0JUnjeSJmaZXRfhBJjdPL/gdCw=\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE----- aGVsbG8= -----END CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\\naGVsbG8=\\n-----END CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n",
    "0\u{2}",
    "-----BEGIN CERTIFICATE-----\n",
];

/// Puts a byte in front that selects what the body does with the rest.
fn with_mode(mode: u8, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    inputs.iter().map(|input| [&[mode][..], input].concat()).collect()
}

fn documents() -> Vec<Vec<u8>> {
    let image = descriptor(MANIFEST, b"m");
    let layer = descriptor(LAYER_GZIP, b"l");
    let config = descriptor(CONFIG, b"c");
    [
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": {"a": "b"}}),
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image], "subject": image}),
        json!({"schemaVersion": 2, "manifests": [image], "config": config, "layers": []}),
        json!({"schemaVersion": 1, "fsLayers": []}),
    ]
    .iter()
    .map(|value| value.to_string().into_bytes())
    .collect()
}

fn tars() -> Vec<Vec<u8>> {
    let long = "d/".repeat(70) + "file";
    let pax: [(&str, &[u8]); 5] = [
        ("path", b"renamed"),
        ("size", b"3"),
        ("mtime", b"-1.5"),
        ("GNU.sparse.major", b"1"),
        ("SCHILY.xattr.user.a", b"b"),
    ];
    vec![
        Tarball::new().file("a", "hello").dir("d").symlink("l", "a").hardlink("h", "a").finish(),
        Tarball::new()
            .gnu_long(b'L', &long)
            .file("cut", "gnu")
            .gnu_long(b'K', &long)
            .symlink("k", "x")
            .finish(),
        Tarball::new().pax(&pax[..3]).file("x", "abc").pax(&pax[4..]).file("y", "").finish(),
        Tarball::new().pax(&pax).file("sparse", "abc").finish(),
        Tarball::new().entry(&Header::new("g", b'g', 9), b"9 path=a\n").file("b", "x").finish(),
        Tarball::new().entry(&Header::new("S", b'S', 3), b"abc").unfinished(),
    ]
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let simple = Layout::simple();
    let sum = "a".repeat(64);
    match target {
        "reference" => texts(&[
            "alpine",
            "reg.example:5000/team/app:v1",
            &format!("[::1]:5000/a/b@sha256:{sum}"),
            &format!("docker.io/library/a:b@sha256:{sum}"),
            "localhost/a__b.c-d",
        ]),
        "signature_payload" | "signature_envelope" | "signature_bundle" | "key_file" | "encrypted_key" => {
            crate::signing::seeds::of(target)
        }
        "digest" => texts(&[&format!("sha256:{sum}"), &format!("sha512:{sum}{sum}"), "sha256:../../etc/passwd"]),
        "challenge" => texts(&[
            "Basic realm=x, Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"repository:a:pull,push\"",
            "Negotiate YWJj==\nBearer realm=\"https://a/t\\\"x\", error=\"insufficient_scope\"",
        ]),
        "pem" => texts(&PEMS),
        "host" => texts(&["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.01", "[::ffff:127.0.0.1]", "localhost."]),
        "link" => texts(&[
            "</v2/a/tags/list?n=2&last=b>; rel=\"next\"",
            "</p>; rel=\"prev\", <https://reg.example/n?sig=secret-value>; rel=next",
            "//other.example/x?sig=0123456789",
            "http://user@evil/",
            "../../x",
        ]),
        "retry_after" => texts(&["5", "Sun, 06 Nov 1994 08:49:37 GMT\nSun, 06 Nov 1994 08:49:07 GMT", "99999999999"]),
        "document" => documents(),
        "config" => vec![
            simple.blobs[1].clone(),
            br#"{"architecture":"arm64","os":"linux","variant":"v8","config":{"Env":["A=b"],"Labels":{"a":"b"},"User":"1"},"history":[{"created":"2024-01-01T00:00:00Z","empty_layer":true}],"rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
        ],
        "program" => {
            let mut head = [0; 120];
            head[..6].copy_from_slice(b"\x7fELF\x02\x01");
            for (at, byte) in [(18, 62), (32, 64), (54, 56), (56, 1), (64, 3), (72, 120), (96, 28)] {
                head[at] = byte;
            }
            vec![[&head[..], b"/lib64/ld-linux-x86-64.so.2\0"].concat()]
        }
        "ignore_file" => {
            let units = "secrets/\r\n*.k\u{e4}y\r\n".encode_utf16().flat_map(u16::to_le_bytes);
            let plain = b"\xef\xbb\xbfsecrets/\n*.log\n!keep.log\n/tmp\n# note\n[a-c]?\\ \n".to_vec();
            vec![plain, [0xFF, 0xFE].into_iter().chain(units).collect()]
        }
        "images_lock" => texts(&[&format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n- image: reg.example/a@sha256:{sum}\n  annotations:\n    kbld.carvel.dev/id: 'a: b'\n"
        )]),
        "bundle_lock" => texts(&[&format!(
            "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: BundleLock\nbundle:\n  image: reg.example/a@sha256:{sum}\n  tag: v1\n"
        )]),
        "package" => texts(&[&format!(
            "# a\n---\napiVersion: data.packaging.carvel.dev/v1alpha1\nkind: Package\nmetadata: {{name: a.b.c.1.0.0}}\nspec:\n  refName: a.b.c\n  version: 1.0.0\n  template:\n    spec:\n      fetch:\n      - imgpkgBundle: {{image: reg.example/a@sha256:{sum}}}\n      template: [{{ytt: {{}}}}]\n      deploy: [{{kapp: {{}}}}]\n---\napiVersion: v1\nkind: Secret\n"
        )]),
        "docker_config" => texts(&[
            r#"{"auths":{"reg.example":{"auth":"dXNlcjpjMlZqY21WMExYTmxZM0psZEE="},"127.0.0.1:5000":{"username":"u","password":"c2VjcmV0LXNlY3JldA"}},"credsStore":"desktop","credHelpers":{"docker.io":"hub"}}"#,
            r#"{"https://index.docker.io/v1/":{"auth":"dTpw"}}"#,
            r#"{"auths":{"reg.example":{"identitytoken":"c2VjcmV0LXNlY3JldA"},"a":{"registrytoken":"c2VjcmV0LXNlY3JldA"}}}"#,
        ]),
        "resources" => {
            let sum = "002d760bea1be268e27077412e11a320d0f164d3";
            let v3 = format!(
                r#"{{"checksum":{{"value":"{sum}"}},"size_in_bytes":36,"path":"path/to/file","mode":"645"}}"#
            );
            let v2 = format!(r#"{{"fn":"b","sha1":"{sum}","size":36,"mode":"40000755"}}"#);
            texts(&[&format!(r#"{{"resources":[{v3},{v3}]}}"#), &format!("[{v2},{v3}]"), r#"{"resources":[]}"#])
        }
        "decompress" => vec![
            gzip(b"hello"),
            [gzip(b"hel"), gzip(b"lo")].concat(),
            gzip(&gzip(&[0; 5000])),
            zstd::encode_all(&b"hello"[..], 3).unwrap(),
            zstd::encode_all(&[0; 3000][..], 19).unwrap(),
        ],
        "tar_read" => [with_mode(0, &tars()), with_mode(1, &tars())].concat(),
        "layout_read" => [
            with_mode(1, &[simple.tar()]),
            with_mode(2, &[simple.index().into_bytes()]),
            with_mode(2, &texts(&[&of_a_delta(&simple, &sum)])),
            with_mode(3, &documents()[..1]),
            with_mode(7, &documents()[1..2]),
        ]
        .concat(),
        "docker_save_read" => with_mode(
            1,
            &texts(&[
                r#"[{"Config":"config.json","RepoTags":["reg.example/a:b"],"Layers":["l/layer.tar"]}]"#,
                r#"[{"Config":"config.json","RepoTags":null,"Layers":["m/layer.tar"]}]"#,
            ]),
        ),
        "imgpkg_tar_read" => {
            let layer = Tarball::new().file("f", "x").finish();
            let digest = format!("sha256:{}", hex(&layer));
            let table = json!([{"Image": {"Refs": [format!("reg.example/a@{digest}")],
                "Config": {"Digest": digest, "Raw": "{}"}, "Tag": "v1", "Labels": {}, "OrigRef": "reg.example/a:v1",
                "Layers": [{"MediaType": LAYER_GZIP, "Digest": digest, "DiffID": digest, "Size": layer.len()}],
                "Manifest": {"MediaType": MANIFEST, "Digest": digest, "Raw": "{}"}, "Digest": digest}}]);
            with_mode(1, &[table.to_string().into_bytes()])
        }
        "layout_roundtrip" => vec![b"\x04\x01hello hello hello".to_vec(), vec![5; 400]],
        "extract" | "file_tree" => {
            let mut random = Random::new(9);
            let recipes = (0..12).map(|how| [vec![how % 3], random.bytes(60)].concat());
            recipes.chain(with_mode(0x80, &tars())).collect()
        }
        other => more_seeds(other),
    }
}

/// The `index.json` of a tar that was written without a blob.
fn of_a_delta(layout: &Layout, sum: &str) -> String {
    let mut index: serde_json::Value = serde_json::from_str(&layout.index()).unwrap();
    let list = json!([{"digest": format!("sha256:{sum}"), "size": 20608, "from": "reg.example/a:v1"}]);
    index["annotations"] = json!({"dev.imgrelay.without": list.to_string()});
    index.to_string()
}

fn zips() -> Vec<Vec<u8>> {
    let entries = [
        ZipEntry::folder("d/"),
        ZipEntry::file("d/a", "hello"),
        ZipEntry::file("run", "x").mode(0o100_755),
        ZipEntry::symlink("l", "d/a"),
        ZipEntry::symlink("m", "d"),
        ZipEntry::file("win\\x", "x").fat(),
        ZipEntry::file(".cfignore", "run\n"),
    ];
    // A final block of stored bytes, as in deflate.
    let data = b"\x01\x02\x00\xfd\xffhi".to_vec();
    let deflated = ZipEntry {
        method: 8,
        compressed: 7,
        size: 2,
        crc: crc32(b"hi"),
        data,
        ..ZipEntry::file("deflated", "")
    };
    vec![zip(&entries), zip(&[deflated]), zip(&[]), [b"#!/bin/sh\n".to_vec(), zip(&entries[1..2])].concat()]
}

/// Seeds of inputs from CI systems, servers and helper programs.
fn more_seeds(target: &str) -> Vec<Vec<u8>> {
    let sum = "a".repeat(64);
    match target {
        "zip_read" => zips(),
        "concourse_request" => {
            let version = format!(r#"{{"tag":"v1","digest":"sha256:{sum}"}}"#);
            let login = r#""username":"u","password":"c2VjcmV0LXNlY3JldA""#;
            [
                (0, format!(r#"{{"source":{{"repository":"reg.example/a","semver_constraint":">=1.2, <2 || ~3","pre_releases":true,"variant":"alpine",{login}}},"version":{version}}}"#)),
                (0, format!(r#"{{"source":{{"repository":"a","tag_regex":"^v(\\d+)$","created_at_sort":true,"registry_mirror":{{"host":"m.example",{login}}},"ca_certs":["x"],"platform":{{"os":"linux","architecture":"arm64"}},"debug":"true"}}}}"#)),
                (1, format!(r#"{{"source":{{"repository":"reg.example/a","tag":1.10,{login}}},"version":{version},"params":{{"format":"oci-tar","skip_download":"false","platform":{{"os":"linux","architecture":"amd64"}}}}}}"#)),
                (2, format!(r#"{{"source":{{"repository":"123456789012.dkr.ecr.eu-west-1.amazonaws.com/a","aws_region":"eu-west-1","aws_role_arns":["r"]}},"params":{{"image":"image/*.tar","version":"1.2.3-rc.1","bump_aliases":true,"expected_digest":"sha256:{sum}",{login}}}}}"#)),
                (2, r#"{"source":{"repository":"reg.example/a"},"params":{"files":["a"],"kind":"image","labels":{"a":"b","n":1}}}"#.into()),
            ]
            .iter()
            .map(|(mode, text)| [&[*mode][..], text.as_bytes()].concat())
            .collect()
        }
        "task_params" => texts(&[
            "FILES=[\"a\",\"b*\"]\0REFERENCE=reg.example/a:v1\0TAGS=v2,v3\0LABELS={\"a\":\"b\"}\0UNPACK_ROOTFS=true",
            "INPUT_COMMAND=push\0INPUT_FILES=a\nb\0INPUT_IMAGE=reg.example/a\0INPUT_TAGS=v1\nv2\0INPUT_LABELS=a=b\0INPUT_PASSWORD=x",
            "[a-c]?*\\d\nbxyzd",
            "***\nname",
        ]),
        "responses" => texts(&[
            r#"{"errors":[{"code":"DENIED","message":"no \u001b[31m","detail":"why"}]}"#,
            r#"{"token":"c2VjcmV0LXNlY3JldA","expires_in":300,"refresh_token":"r"}"#,
            r#"{"ServerURL":"reg.example","Username":"<token>","Secret":"c2VjcmV0LXNlY3JldA"}"#,
            r#"{"AccessKeyId":"A","SecretAccessKey":"c2VjcmV0LXNlY3JldA","Token":"t","Expiration":"2026-01-01T00:00:00Z"}"#,
            r#"{"authorizationData":[{"authorizationToken":"QVdTOnA6dw==","expiresAt":1.7e9}]}"#,
            r#"{"access_token":"c2VjcmV0LXNlY3JldA","expires_in":3599}"#,
            "<R><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-01-01T00:00:00Z</Expiration></R>",
            r#"{"__type":"com.amazonaws.ecr#AccessDeniedException","message":"no"}"#,
            "credentials not found in native keychain",
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a&amp;&#x62;</Key></Contents><NextContinuationToken>n</NextContinuationToken></ListBucketResult>",
            "<Error><Code>SlowDown</Code><Message>no</Message><Region>eu-west-1</Region></Error>",
        ]),
        "store_entry" => {
            let mut image = descriptor(MANIFEST, b"m");
            let hex = image["digest"].as_str().unwrap().replace(':', "-");
            let key = format!("v1.2/8203954672417-{hex}.json");
            let name = |tag: &str| json!({"org.opencontainers.image.ref.name": tag});
            image["annotations"] = name("v1.2");
            let entry = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image], "annotations": name("x")});
            texts(&[
                &format!("{key}\n{entry}"),
                &format!("{key}\n{}", json!({"schemaVersion": 2, "manifests": []})),
                &format!("{key}\n{{\"schemaVersion\":2,\"manifests\":[{{\"digest\":\"\u{1b}[31m\"}}]}}"),
                &format!(
                    "8203954672417-00ff.list\n8203954672417-00ff.keep-{hex}\n8203954672417-00ff.started-8203954672410-11"
                ),
            ])
        }
        "request" => {
            let digest = format!("sha256:{sum}");
            texts(&[
                &format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: h\r\nRange: bytes=3-9\r\n\r\n"),
                "PATCH /v2/a/blobs/uploads/0f HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Range: 0-4\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n",
                "PUT http://h/v2/a%2Fb/manifests/v1?a=b HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n{}",
                "POST /v2/../blobs/uploads/?mount=x&from=y HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                "HEAD /v2/a/referrers/sha256:1?artifactType=x%2Fy HTTP/1.1\r\nIf-Range: \"x\"\r\nRange: bytes=-1\r\n\r\n",
            ])
        }
        "outputs" => {
            let mut outputs = texts(&[
                "a.tar",
                "x\n::set-output name=a::b",
                "##[error]x",
                "a=b\nIMGRELAY_X=y",
                "\u{202e}x",
            ]);
            outputs.push(b" \xff::\xff:error::x\r\n#\xff#[add-mask]".to_vec());
            outputs
        }
        other => panic!("no seeds for {other}"),
    }
}

fn below(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).unwrap()
}

/// Changes an input a little: flips, cuts, repeats, joins it with another, or inserts a keyword.
fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"..",
        b"/",
        b"\0",
        b"\xff\xff\xff\xff",
        b"99999999999999999999",
        b"-1",
        b"{",
        b"]",
        b"sha256:",
        b"null",
        b"\x1b[2J",
        b"\n",
    ];
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = below(random, out.len() + 1);
        match random.below(7) {
            0 | 1 if at < out.len() => out[at] ^= 1 << random.below(8),
            2 if at < out.len() => out[at] = random.bytes(1)[0],
            3 => out.truncate(at),
            4 => {
                let word = random.pick(&WORDS);
                out.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = (at + 40).min(out.len());
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let from = below(random, other.len() + 1);
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
        }
    }
    out.truncate(64 * 1024);
    out
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
fn seeds_are_current() {
    for (target, _) in TARGETS {
        let folder = fuzz().join("seeds").join(target);
        let wanted: BTreeSet<Vec<u8>> = seeds(target).into_iter().collect();
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (at, seed) in wanted.iter().enumerate() {
                std::fs::write(folder.join(format!("{at:02}")), seed).unwrap();
            }
        }
        let found: BTreeSet<Vec<u8>> =
            files(&folder).iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(found == wanted, "fuzz/seeds/{target} is old: UPDATE_SEEDS=1 cargo test --test it seeds");
    }
}

#[test]
fn every_target_is_known_to_the_fuzzer() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let names: Vec<String> = files(&fuzz().join("fuzz_targets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut listed: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
    for name in names {
        let target = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("run(\"{name}\", data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn nothing_breaks_over_seeds_old_findings_and_mutations() {
    for (number, (target, body)) in TARGETS.into_iter().enumerate() {
        let try_it = |input: &[u8], what: &str| {
            let tried = std::panic::catch_unwind(|| body(input));
            assert!(tried.is_ok(), "{target}: {what}: {:?}", String::from_utf8_lossy(input));
        };
        let seeds = seeds(target);
        for seed in &seeds {
            try_it(seed, "seed");
            let step = (seed.len() / 60).max(1);
            for cut in (0..seed.len()).step_by(step) {
                try_it(&seed[..cut], "cut seed");
            }
        }
        for path in files(&fuzz().join("regressions").join(target)) {
            try_it(&std::fs::read(&path).unwrap(), &path.display().to_string());
        }
        let mut random = Random::new(number as u64);
        for count in 0..MUTATIONS {
            let pick = |random: &mut Random| &seeds[below(random, seeds.len())];
            let (one, other) = (pick(&mut random), pick(&mut random));
            try_it(&mutate(&mut random, one, other), &format!("mutation {count}"));
        }
    }
}
