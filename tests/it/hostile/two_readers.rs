//! Documents that this program and readers in Go would read as two images: every command refuses them.

use imgrelay::model::RawDocument;
use serde_json::json;
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tarball::Tarball;

use crate::lab::lab;
use crate::layouts::{CONFIG, INDEX, LAYER_GZIP, Layout, MANIFEST, REF_NAME, gzip, hex, named, tar_of};

/// A document of a layout that is replaced by an attacker's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Document {
    Version,
    Table,
    Index,
    Manifest,
    Config,
}

/// Makes a layout tar with an index of one image, in which `change` rewrites the text of one document.
fn layout(document: Document, change: &dyn Fn(String) -> String) -> Vec<u8> {
    let text = |found: Document, text: String| if found == document { change(text) } else { text };
    let mut layout = Layout::default();
    let tar = Tarball::new().file("good", "good\n").finish();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "1", "A": "2"}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))]}});
    let config = layout.blob(CONFIG, text(Document::Config, config.to_string()));
    let layer = layout.blob(LAYER_GZIP, gzip(&tar));
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": {"k": "1", "K": "2"}});
    let manifest = layout.blob(MANIFEST, text(Document::Manifest, manifest.to_string()));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    let index = layout.blob(INDEX, text(Document::Index, index.to_string()));
    layout.entries.push(named(index, &[(REF_NAME, "v1")]));
    let mut files = layout.files();
    files[0].1 = text(Document::Version, String::from_utf8(files[0].1.clone()).unwrap()).into_bytes();
    files[1].1 = text(Document::Table, String::from_utf8(files[1].1.clone()).unwrap()).into_bytes();
    tar_of(&files)
}

/// Runs every command that reads a tar, and expects each to fail with `text`.
fn every_command_refuses(lab: &Lab, registry: &Registry, text: &str) {
    let name = format!("{}/team/app:v1", registry.host());
    let commands: [&[&str]; 6] = [
        &["describe", "--tar", "in.tar"],
        &["verify", "--tar", "in.tar"],
        &["copy", "--tar", "in.tar", "--to-repo", &name],
        &["copy", "--tar", "in.tar", "--to-oci-tar", "out.tar"],
        &["copy", "--tar", "in.tar", "--to-docker-tar", "docker.tar"],
        &["pull", "--tar", "in.tar", "-o", "out"],
    ];
    for command in commands {
        let output = lab.run(command);
        assert!(matches!(output.code, Some(1 | 3)), "{output}");
        assert!(format!("{}{}", output.stdout, output.stderr).contains(text), "{text}\n{output}");
    }
    for made in ["out.tar", "docker.tar", "out"] {
        assert!(!lab.path(made).exists(), "{made}");
    }
    let tags = lab.run(&["tag", "list", "-i", &name]);
    assert!(tags.code != Some(0) || tags.stdout.is_empty(), "{tags}");
}

/// `{"config":G,"layers":[G],"Config":E,"Layers":[E]}` is image G for serde and image E for `encoding/json`.
#[test]
fn a_member_in_another_case_is_refused_in_every_document_by_every_command() {
    let registry = Registry::start();
    let add = |member: &'static str| {
        move |text: String| format!("{},{member}}}", text.trim_end().strip_suffix('}').unwrap())
    };
    for (document, member, shown) in [
        (Document::Version, r#""ImageLayoutVersion":"1.0.0""#, "member `ImageLayoutVersion` is read as"),
        (Document::Table, r#""Manifests":[]"#, "member `Manifests` is read as `manifests`"),
        (Document::Index, r#""MANIFESTS":[]"#, "member `MANIFESTS` is read as `manifests`"),
        (Document::Manifest, r#""Layers":[]"#, "member `Layers` is read as `layers`"),
        (Document::Manifest, r#""layer\u017f":[]"#, "is read as `layers`"),
        (Document::Manifest, r#""MediaType":"x""#, "member `MediaType` is read as `mediaType`"),
        (Document::Manifest, r#""layers":[]"#, "member `layers` is there twice"),
        (Document::Manifest, r#""config":["a","b",1]"#, "member `config` is there twice"),
        (Document::Config, r#""Rootfs":{"type":"layers"}"#, "member `Rootfs` is read as `rootfs`"),
        (Document::Config, r#""OS":"windows""#, "member `OS` is read as `os`"),
        (Document::Config, r#""x":{"y":1,"y":2}"#, "member `y` is there twice"),
    ] {
        let lab = lab();
        lab.write("in.tar", layout(document, &add(member)));
        every_command_refuses(&lab, &registry, shown);
    }
}

#[test]
fn annotations_and_labels_may_differ_in_case_only() {
    let lab = lab();
    lab.write("in.tar", layout(Document::Version, &|text| text));
    let _ = lab.run(&["verify", "--tar", "in.tar"]).succeeds();
    let _ = lab.run(&["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"]).succeeds();
    let _ = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]).succeeds();
}

/// Registries serve such documents too, so a copy or pull is refused.
#[test]
fn a_member_in_another_case_is_refused_when_it_comes_from_a_registry() {
    let registry = Registry::start();
    let lab = lab();
    let name = format!("{}/team/app:v1", registry.host());
    let config =
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"Rootfs":{}}"#;
    let (size, config) = (config.len(), registry.put_blob("team/app", config.as_bytes()));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{config}","size":{size}}},"layers":[]}}"#
    );
    registry.put_manifest("team/app", "v1", MANIFEST, manifest.as_bytes());
    for command in [
        &["copy", "-i", &name, "--to-oci-tar", "out.tar"][..],
        &["copy", "-i", &name, "--to-repo", &format!("{}/other/app:v1", registry.host())],
        &["pull", "-i", &name, "-o", "out"],
    ] {
        let _ = lab.run(command).fails(1, &["member `Rootfs` is read as `rootfs`"]);
    }
}

/// How `encoding/json` reads a text, by its source (Go 1.22), and what this program does.
struct Row {
    difference: &'static str,
    /// Takes the place of `@` in a manifest.
    text: &'static str,
    go: &'static str,
    here: &'static str,
}

const PLACES: [&str; 5] = [
    r#"{"schemaVersion":2,"config":CONFIG,"layers":[]@}"#,
    r#"{"schemaVersion":@,"config":CONFIG,"layers":[]}"#,
    r#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"DIGEST","size":@},"layers":[]}"#,
    r#"{"schemaVersion":2,"config":@,"layers":[]}"#,
    r#"@"#,
];

#[rustfmt::skip]
const ROWS: &[(usize, Row)] = &[
    (0, Row { difference: "a known member in another case", text: r#","Layers":[]"#, go: "the last one counts", here: "refused" }),
    (0, Row { difference: "a known member with `ſ` for `s`, or the Kelvin sign for `k`", text: r#","layer\u017f":[]"#, go: "the last one counts", here: "refused" }),
    (0, Row { difference: "a member twice", text: r#","layers":[]"#, go: "the last one counts; lists and maps are merged in part", here: "refused" }),
    (0, Row { difference: "a member twice in a map", text: r#","annotations":{"a":"1","a":"2"}"#, go: "the last one counts", here: "refused" }),
    (0, Row { difference: "keys of a map that differ in case", text: r#","annotations":{"a":"1","A":"2"}"#, go: "two keys", here: "same" }),
    (0, Row { difference: "a member that no reader knows", text: r#","future":{"a":1e3,"b":[2.50,-0,null]}"#, go: "passed over", here: "same" }),
    (0, Row { difference: "`null` for a list or a map", text: r#","annotations":null"#, go: "empty", here: "same" }),
    (0, Row { difference: "`null` for an optional member", text: r#","subject":null"#, go: "absent", here: "same" }),
    (0, Row { difference: "`null` for a text in a map", text: r#","annotations":{"a":null}"#, go: "the empty text", here: "refused" }),
    (0, Row { difference: "a lone surrogate", text: r#","annotations":{"a":"\ud800"}"#, go: "U+FFFD", here: "refused" }),
    (0, Row { difference: "a lone surrogate in a member that is not read", text: r#","x":"\ud800""#, go: "passed over", here: "refused" }),
    (0, Row { difference: "200 lists in one another", text: DEEP, go: "passed over, up to 10,000", here: "refused above 128" }),
    (1, Row { difference: "`1e3`, `2e0` for a whole number", text: "2e0", go: "an error", here: "refused" }),
    (1, Row { difference: "`2.0` for a whole number", text: "2.0", go: "an error", here: "refused" }),
    (1, Row { difference: "`null` for a number", text: "null", go: "0", here: "refused" }),
    (1, Row { difference: "a number as text", text: r#""2""#, go: "an error", here: "refused" }),
    (1, Row { difference: "a number with a leading zero", text: "02", go: "an error", here: "refused" }),
    (2, Row { difference: "`-0` for a size", text: "-0", go: "0", here: "refused" }),
    (2, Row { difference: "a negative size", text: "-1", go: "-1; some readers refuse it", here: "refused" }),
    (2, Row { difference: "a size of 2^63", text: "9223372036854775808", go: "an error", here: "refused" }),
    (2, Row { difference: "a size above 64 TiB", text: "70368744177665", go: "that number", here: "refused" }),
    (3, Row { difference: "a list for an object", text: r#"["a","DIGEST",1]"#, go: "an error", here: "refused" }),
    (3, Row { difference: "`null` for a required object", text: "null", go: "an empty descriptor", here: "refused" }),
    (4, Row { difference: "a list for the document", text: r#"[2,{"mediaType":"a","digest":"DIGEST","size":1}]"#, go: "an error", here: "refused" }),
    (4, Row { difference: "a byte order mark", text: "\u{feff}{\"schemaVersion\":2,\"config\":CONFIG}", go: "an error", here: "refused" }),
    (4, Row { difference: "a second document after the first", text: "{\"schemaVersion\":2,\"config\":CONFIG} {}", go: "an error with `Unmarshal`; the first one counts with `Decoder`", here: "refused" }),
    (4, Row { difference: "zero bytes after the document", text: "{\"schemaVersion\":2,\"config\":CONFIG}\0", go: "an error with `Unmarshal`; passed over by `Decoder`", here: "refused" }),
    (4, Row { difference: "white space around the document", text: "\n {\"schemaVersion\":2,\"config\":CONFIG}\r\n", go: "passed over", here: "same" }),
    (4, Row { difference: "a form feed before the document", text: "\u{c}{\"schemaVersion\":2,\"config\":CONFIG}", go: "an error", here: "refused" }),
    (4, Row { difference: "bytes that are not UTF-8", text: "{\"schemaVersion\":2,\"config\":CONFIG,\"x\":\"BYTE\"}", go: "U+FFFD", here: "refused" }),
];

const DEEP: &str = "DEEP";

#[test]
fn json_documents_are_read_as_go_reads_them_or_refused() {
    let digest = format!("sha256:{}", hex(b"x"));
    let config = json!({"mediaType": CONFIG, "digest": digest, "size": 1}).to_string();
    let mut table = "| in the document | Go's `encoding/json` | here |\n|---|---|---|\n".to_owned();
    for (place, row) in ROWS {
        let deep = format!(r#","x":{}{}"#, "[".repeat(200), "]".repeat(200));
        let text = PLACES[*place].replace('@', if row.text == DEEP { &deep } else { row.text });
        let text = text.replace("CONFIG", &config).replace("DIGEST", &digest);
        let mut bytes = text.into_bytes();
        if let Some(at) = bytes.windows(4).position(|four| four == b"BYTE") {
            bytes.splice(at..at + 4, [0xff]);
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let read = RawDocument::parse(bytes, Some(MANIFEST));
        assert_eq!(read.is_ok(), row.here == "same", "{}: {shown}\n{read:?}", row.difference);
        table += &format!("| {} | {} | {} |\n", row.difference, row.go, row.here);
    }
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/json-documents.md"));
    assert!(page.unwrap().contains(&table), "docs/formats/json-documents.md lacks this table:\n{table}");
}
