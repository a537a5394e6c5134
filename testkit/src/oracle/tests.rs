//! Tests of the checks: each check gets an input that it must refuse.

use super::*;
use crate::digest;
use crate::scratch::Scratch;
use crate::tools::tool;
use crate::tree;
use serde_json::{Value, json};
use std::fs;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The parts of a small valid layout, which a test can change before they are written.
pub(crate) struct Parts {
    layer: Vec<u8>,
    layer_type: &'static str,
    config: Value,
    manifest: Value,
    index: Value,
    marker: Value,
    docker: Value,
}

impl Parts {
    pub(crate) fn new(scratch: &Scratch) -> Self {
        tree::make(&scratch.join("app"), &["d bin", "f bin/run 755 'hi'"]);
        let tar = scratch.join("layer.tar");
        let layer = imgpkg_layer(&[scratch.join("app")], &LayerOptions::default(), Some(&tar));
        Self {
            layer: gzip(&tar),
            layer_type: GZIP_LAYER,
            config: json!({
                "architecture": "amd64", "os": "linux", "config": {}, "created": "1970-01-01T00:00:00Z",
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}, "history": [{"created_by": "test"}],
            }),
            manifest: json!({"schemaVersion": 2, "mediaType": MANIFEST}),
            index: json!({"schemaVersion": 2}),
            marker: json!({"imageLayoutVersion": "1.0.0"}),
            docker: json!([{"RepoTags": ["registry.test/app:v1"]}]),
        }
    }

    /// Writes the layout; digests and sizes that a test has set stay.
    pub(crate) fn write(mut self, folder: &Path) -> Written {
        tree::make(folder, &["d blobs/sha256"]);
        let layer = self.layer.clone();
        let layer = put(folder, self.layer_type, &layer);
        let config = put(folder, CONFIG, self.config.to_string().as_bytes());
        set(&mut self.manifest, "config", &config);
        set(&mut self.manifest, "layers", &json!([layer]));
        let mut manifest = put(folder, MANIFEST, self.manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
        set(&mut self.index, "manifests", &json!([manifest]));
        set(&mut self.docker[0], "Config", &json!(blob(&config)));
        set(&mut self.docker[0], "Layers", &json!([blob(&layer)]));
        fs::write(folder.join("index.json"), self.index.to_string()).unwrap();
        fs::write(folder.join("oci-layout"), self.marker.to_string()).unwrap();
        fs::write(folder.join("manifest.json"), self.docker.to_string()).unwrap();
        Written { layer: blob(&layer), manifest: blob(&manifest) }
    }
}

/// Where the blobs of a written layout are, relative to it.
pub(crate) struct Written {
    layer: String,
    pub(crate) manifest: String,
}

fn set(document: &mut Value, key: &str, value: &Value) {
    if document.get(key).is_none() {
        document[key] = value.clone();
    }
}

fn put(folder: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest::of(bytes);
    let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    fs::write(folder.join(blob(&descriptor)), bytes).unwrap();
    descriptor
}

fn blob(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    format!("blobs/sha256/{}", digest::hex(digest).unwrap())
}

fn gzip(path: &Path) -> Vec<u8> {
    tool("gzip").arg("-nc").arg(path).output().unwrap().stdout
}

/// Changes a valid layout, writes it, and returns the findings about the folder.
fn problems_of(change: impl FnOnce(&mut Parts, &Scratch)) -> String {
    let scratch = Scratch::new("oracle");
    let mut parts = Parts::new(&scratch);
    change(&mut parts, &scratch);
    let _ = parts.write(&scratch.join("layout"));
    layout_problems(scratch.join("layout")).join("\n")
}

/// Changes a valid layout on disk, and returns the findings about the folder and about its tar.
fn problems_of_later(change: impl FnOnce(&Path, &Written)) -> [String; 2] {
    let scratch = Scratch::new("oracle");
    let folder = scratch.join("layout");
    let written = Parts::new(&scratch).write(&folder);
    change(&folder, &written);
    let tar = scratch.join("layout.tar");
    let _ = run(tool("tar").arg("-cf").arg(&tar).arg("-C").arg(&folder).arg(".")).success();
    [&folder, &tar].map(|path| layout_problems(path).join("\n"))
}

#[test]
fn a_sound_layout_is_accepted_in_every_wrapping() {
    assert_eq!(problems_of(|_, _| {}), "");
    assert_eq!(problems_of_later(|_, _| {}), ["", ""]);
    let scratch = Scratch::new("oracle");
    let _ = Parts::new(&scratch).write(&scratch.join("layout"));
    let tar = scratch.join("layout.tar.gz");
    let _ = run(tool("tar").arg("-czf").arg(&tar).arg("-C").arg(scratch.join("layout")).arg(".")).success();
    validate_layout(&tar);
    let plain = problems_of(|parts, scratch| {
        parts.layer = fs::read(scratch.join("layer.tar")).unwrap();
        parts.layer_type = "application/vnd.oci.image.layer.v1.tar";
    });
    assert_eq!(plain, "");
    let zstd = problems_of(|parts, scratch| {
        parts.layer = tool("zstd").arg("-qc").arg(scratch.join("layer.tar")).output().unwrap().stdout;
        parts.layer_type = "application/vnd.oci.image.layer.v1.tar+zstd";
    });
    assert_eq!(zstd, "");
}

#[test]
fn documents_that_break_a_rule_are_refused() {
    type Change = fn(&mut Parts);
    let cases: [(&str, Change); 18] = [
        ("/: 'imageLayoutVersion' is a required property", |parts| parts.marker = json!({})),
        ("/imageLayoutVersion: '2.0.0'", |parts| parts.marker["imageLayoutVersion"] = json!("2.0.0")),
        ("/schemaVersion: 1 is less than", |parts| parts.index["schemaVersion"] = json!(1)),
        ("/: 'architecture' is a required", |parts| {
            drop(parts.config.as_object_mut().unwrap().remove("architecture"))
        }),
        ("/created: 'yesterday'", |parts| parts.config["created"] = json!("yesterday")),
        ("1 layers, but 0 diff_ids", |parts| parts.config["rootfs"]["diff_ids"] = json!([])),
        ("1 layers, but 2 history", |parts| parts.config["history"] = json!([{}, {}])),
        ("but the tar has sha256:", |parts| {
            parts.config["rootfs"]["diff_ids"] = json!([digest::of(b"another")]);
        }),
        ("does not repeat its media type", |parts| {
            parts.manifest.as_object_mut().unwrap().remove("mediaType");
        }),
        ("the descriptor says", |parts| parts.manifest["mediaType"] = json!(CONFIG)),
        ("is missing", |parts| {
            let nowhere = json!({"mediaType": GZIP_LAYER, "digest": digest::of(b"nowhere"), "size": 7});
            parts.manifest["layers"] = json!([nowhere]);
        }),
        ("`sha256:12` is not a digest", |parts| {
            parts.manifest["config"] = json!({"mediaType": CONFIG, "digest": "sha256:12", "size": 7});
        }),
        ("but the bytes are gzip", |parts| parts.layer_type = "application/vnd.oci.image.layer.v1.tar"),
        ("cannot be decompressed", |parts| parts.layer.truncate(40)),
        ("but the bytes are tar", |parts| parts.layer = b"no tar at all".repeat(99)),
        ("is no image in the index", |parts| parts.docker[0]["Layers"] = json!([])),
        ("is not a name with a tag", |parts| parts.docker[0]["RepoTags"] = json!(["latest"])),
        ("the structure cannot be followed", |parts| parts.manifest["layers"] = json!("none")),
    ];
    for (complaint, change) in cases {
        let complaint = complaint.replace("is no image in the index", "are those of no image in the index");
        let said = problems_of(|parts, _| change(parts));
        assert!(said.contains(&complaint), "expected `{complaint}`, got:\n{said}");
    }
}

#[test]
fn bytes_that_changed_after_writing_are_found_in_folder_and_tar() {
    type Change = fn(&Path, &Written);
    let cases: [(&str, Change); 8] = [
        ("holds bytes with digest", |folder, written| {
            let mut bytes = fs::read(folder.join(&written.layer)).unwrap();
            bytes[30] ^= 1;
            fs::write(folder.join(&written.layer), bytes).unwrap();
        }),
        ("bytes", |folder, written| {
            let bytes = fs::read(folder.join(&written.layer)).unwrap();
            fs::write(folder.join(&written.layer), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("is missing", |folder, written| fs::remove_file(folder.join(&written.layer)).unwrap()),
        ("is not JSON", |folder, written| fs::write(folder.join(&written.manifest), "{").unwrap()),
        ("has a JSON member twice", |folder, _| {
            let text = fs::read_to_string(folder.join("index.json")).unwrap();
            fs::write(folder.join("index.json"), text.replacen('{', "{\"schemaVersion\":2,", 1)).unwrap();
        }),
        ("`index.json` is missing", |folder, _| fs::remove_file(folder.join("index.json")).unwrap()),
        ("nothing refers to", |folder, _| drop(put(folder, GZIP_LAYER, b"stray"))),
        ("does not belong", |folder, _| fs::write(folder.join("notes.txt"), "x").unwrap()),
    ];
    for (complaint, change) in cases {
        for said in problems_of_later(change) {
            assert!(said.contains(complaint), "expected `{complaint}`, got:\n{said}");
        }
    }
}

#[test]
fn faults_of_the_tar_itself_are_found() {
    let scratch = Scratch::new("oracle");
    let folder = scratch.join("layout");
    let _ = Parts::new(&scratch).write(&folder);
    std::os::unix::fs::symlink("index.json", scratch.join("link")).unwrap();
    fs::write(scratch.join("outside"), "x").unwrap();
    let pack = |name: &str, extra: &[&str]| {
        let tar = scratch.join(name);
        let _ = run(tool("tar")
            .args(["-P", "--hard-dereference", "-cf"])
            .arg(&tar)
            .args(["-C", "layout", "."])
            .args(extra)
            .current_dir(scratch.path()))
        .success();
        tar
    };
    assert_eq!(layout_problems(pack("good.tar", &[])), [] as [&str; 0]);
    let cut = pack("cut.tar", &[]);
    let bytes = fs::read(&cut).unwrap();
    let content = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    fs::write(&cut, &bytes[..content.next_multiple_of(512)]).unwrap();
    for (tar, complaint) in [
        (pack("twice.tar", &["index.json"]), "occurs twice"),
        (pack("link.tar", &["-C", "..", "link"]), "neither file nor folder"),
        (pack("unsafe.tar", &["../outside"]), "has an unsafe name"),
        (cut, "does not end with two blocks of zeros"),
    ] {
        let said = layout_problems(&tar).join("\n");
        assert!(said.contains(complaint), "expected `{complaint}`, got:\n{said}");
    }
    let half = scratch.write("half.tar", &bytes[..700]);
    assert!(layout_problems(half).join("\n").contains("error: "));
    assert!(layout_problems(scratch.write("none.tar", "no tar")).join("\n").contains("cannot be read"));
}

#[test]
fn faults_inside_a_layer_are_found() {
    for (options, complaint) in [
        (&["-cf", "layer.tar", "-C", "app", "bin/run", "bin/run"][..], "occurs twice"),
        (&["-P", "-cf", "layer.tar", "-C", "app/bin", "../../app/bin/run"], "has an unsafe name"),
        (&["-P", "--transform", "s,^,/,", "-cf", "layer.tar", "-C", "app", "bin/run"], "has an unsafe name"),
        (
            &["--transform", "flags=r;s,a,b,", "-cf", "layer.tar", "-C", "links", "a", "z"],
            "comes later or never",
        ),
    ] {
        let said = problems_of(|parts, scratch| {
            tree::make(&scratch.join("links"), &["f a 'x'", "h z = a"]);
            let _ = run(tool("tar").args(options).current_dir(scratch.path())).success();
            parts.layer = gzip(&scratch.join("layer.tar"));
        });
        assert!(said.contains(complaint), "expected `{complaint}`, got:\n{said}");
    }
}

/// Names at every length limit of the header formats, and every kind of entry of a layer.
fn borders() -> Vec<String> {
    let name = |length: usize| "n".repeat(length);
    let deep = |folder: usize, file: usize| format!("{}/{}", "d".repeat(folder), name(file));
    let mut lines = vec!["d empty".to_owned(), "f run 755 'hi'".into(), "h again = run".into()];
    lines.extend(
        ["f b.txt 'x'", "d b 700", "f b/c 'x'", "f 'new\\nline\\\\x' 600 'y'", "f .git/config 'z'"]
            .map(String::from),
    );
    for path in [name(99), name(100), name(101), deep(100, 54), deep(154, 99), deep(154, 100), deep(155, 101)]
    {
        lines.push(format!("f {path} random:{}", path.len()));
    }
    lines.push("f ünïcödé/名前 random:513".to_owned());
    lines.push(format!("f ünïcödé/{} random:512", "é".repeat(70)));
    lines
}

/// The layer of [`borders`], computed by a second implementation that was compared with imgpkg byte for byte.
const BORDERS: &str = "sha256:c3c8d92ae8ba2691a82ae9a856b3c339afa4c4841be6401528590d166ca43d4b";

#[test]
fn the_layer_recipe_gives_the_digests_imgpkg_gives() {
    let scratch = Scratch::new("oracle");
    tree::make(&scratch.join("app"), &borders());
    let default = LayerOptions::default();
    let none: [&str; 0] = [];
    // `imgpkg push` without any file: two blocks of zeros.
    let empty = imgpkg_layer(&none, &default, None);
    assert_eq!(empty.diff_id, "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    assert_eq!(empty.size, 1024);
    let tar = scratch.join("layer.tar");
    let layer = imgpkg_layer(&[scratch.join("app")], &default, Some(&tar));
    assert_eq!(layer, Layer { diff_id: BORDERS.into(), size: 26_624 });
    assert_eq!(digest::of_file(&tar), (layer.diff_id, layer.size));
    // Another reader finds the same tree, without the excluded files.
    let out = scratch.join("out");
    tree::make(&out, &[] as &[&str]);
    let _ = run(tool("tar").arg("-xf").arg(&tar).arg("-C").arg(&out)).success();
    fs::remove_dir_all(scratch.join("app/.git")).unwrap();
    assert_eq!(tree::list_contents(&out), tree::list_contents(&scratch.join("app")));
}

#[test]
fn the_layer_recipe_notices_what_matters_and_nothing_else() {
    let scratch = Scratch::new("oracle");
    let id = |lines: &[&str], options: &LayerOptions| {
        let folder = scratch.join("app");
        let _ = fs::remove_dir_all(&folder);
        tree::make(&folder, lines);
        imgpkg_diff_id(&[folder], options)
    };
    let default = LayerOptions::default();
    let keep = LayerOptions { preserve_permissions: true, ..LayerOptions::default() };
    let exclude = LayerOptions { exclude: vec!["b".into()], ..LayerOptions::default() };
    let first = id(&["f a 'x'"], &default);
    for same in [&["f a 644 'x'"][..], &["f a 666 'x'"], &["d .", "f a 'x'"], &["f .git/x", "f a 'x'"]] {
        assert_eq!(id(same, &default), first, "{same:?}");
    }
    for other in [&["f a 'y'"][..], &["f b 'x'"], &["f a 755 'x'"], &["f a 'x'", "d b"], &["d a"]] {
        assert_ne!(id(other, &default), first, "{other:?}");
    }
    assert_eq!(id(&["f a 'x'", "d b", "f b/c"], &exclude), first);
    assert_ne!(id(&["f a 644 'x'"], &keep), id(&["f a 664 'x'"], &keep));
    tree::make(&scratch.join("link"), &["l a -> b"]);
    let ran = run(script("imgpkg_layer.py").arg(scratch.join("link")));
    assert!(ran.code == Some(1) && ran.stderr.contains("neither a file nor a folder"), "{ran:?}");
}
