//! Several tars as one multi-platform image: with a put, with the task, and in the example with two tagged workers.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::oracle::validate_layout;
use testkit::registry::{PASSWORD, Registry, USER};
use testkit::tools::{run, tool};

use crate::concourse::{source, step};
use crate::lab::lab;

/// A lab whose put has `amd64/image.tar` and `arm64/image.tar`, packed from one folder.
fn lab_with_tars() -> Lab {
    let lab = lab().tree(&["f src/a 644 'a'", "d put/amd64", "d put/arm64"]);
    for architecture in ["amd64", "arm64"] {
        let (tar, platform) = (format!("put/{architecture}/image.tar"), format!("linux/{architecture}"));
        let words = ["push", "-i", "-f", "src", "--platform", &platform, "--to-oci-tar", &tar];
        let _ = lab.run(&words).succeeds();
    }
    lab
}

/// The platforms of an index in a registry, and its digest.
fn platforms(registry: &Registry, tag: &str) -> (Vec<String>, String) {
    let index = registry.storage().manifest("team/app", tag).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let platform = |child: &Value| {
        let platform = &child["platform"];
        format!("{}/{}", platform["os"].as_str().unwrap(), platform["architecture"].as_str().unwrap())
    };
    let platforms = index["manifests"].as_array().unwrap().iter().map(platform).collect();
    (platforms, registry.storage().tags("team/app")[tag].clone())
}

#[test]
fn put_with_select_joins_one_image_of_each_tar() {
    let lab = lab_with_tars();
    let registry = Registry::start();
    // Each tar gets a second image, with the same name in both.
    for architecture in ["amd64", "arm64"] {
        let (tar, platform) = (format!("put/{architecture}/image.tar"), format!("linux/{architecture}"));
        let tool = ["push", "-i", "registry.example/tool:v1", "-f", "src", "--labels", "tool=1"];
        let _ =
            lab.run(&[&tool[..], &["--platform", &platform, "--to-oci-tar", "tool.tar"]].concat()).succeeds();
        let _ = lab.run(&["copy", "--tar", "tool.tar", "--to-oci-tar", &tar, "--append"]).succeeds();
    }
    let source = source(&registry, &json!({"tag": "v1"}));
    let put = |params: Value| step(&lab, "out", &json!({"source": source, "params": params}));
    let _ = put(json!({"image": "*/image.tar"})).fails(1, &["linux/amd64"]);
    let _ = put(json!({"image": "*/image.tar", "select": "registry.example/tool:v1"})).succeeds();
    let (found, _) = platforms(&registry, "v1");
    assert_eq!(found, ["linux/amd64", "linux/arm64"]);
    let _ = put(json!({"image": "*/image.tar", "select": "registry.example/none:v1"})).fails(1, &["none:v1"]);
    registry.storage().assert_sound();
}

#[test]
fn put_of_several_tars_makes_one_index() {
    let lab = lab_with_tars();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let put = |params: Value| step(&lab, "out", &json!({"source": source, "params": params}));
    let both = ["linux/amd64".to_owned(), "linux/arm64".to_owned()];
    let required = json!(both);
    let answer = put(json!({"image": "*/image.tar", "platforms_required": required})).succeeds().json();
    let (found, digest) = platforms(&registry, "v1");
    assert_eq!((found.as_slice(), answer["version"]["digest"].as_str()), (&both[..], Some(&*digest)));
    // The order of the list changes nothing, and `expected_digest` accepts the digest.
    let list = ["arm64/image.tar", "amd64/image.tar", "amd64/*.tar"];
    let _ = put(json!({"image": list, "expected_digest": digest})).succeeds();
    registry.storage().assert_sound();
    registry.forget_requests();
    let other = format!("sha256:{}", "0".repeat(64));
    for (params, code, expected) in [
        (json!({"image": "*/image.tar", "expected_digest": other}), 3, "expected `sha256:000"),
        (
            json!({"image": "*/image.tar", "platforms_required": "linux/s390x"}),
            1,
            "no image for `linux/s390x`; there is one for `linux/amd64`, `linux/arm64`",
        ),
        (
            json!({"image": "arm64/image.tar", "platforms_required": ["linux/amd64", "linux/arm64"]}),
            1,
            "no image for `linux/amd64` in `",
        ),
        (json!({"image": ["amd64/image.tar", "s390x/*.tar"]}), 2, "`s390x/*.tar` finds nothing"),
        (
            json!({"image": "*/image.tar", "platforms_required": "linux"}),
            2,
            "`params.platforms_required`: platform `linux` is not of the form",
        ),
        (
            json!({"files": "amd64", "platforms_required": "linux/amd64"}),
            2,
            "`params.platforms_required`: it belongs to `params.image`",
        ),
    ] {
        let output = put(params.clone()).ends_with(code);
        assert!(output.stderr.contains(expected), "{params}: {output}");
    }
    assert_eq!(registry.requests(), [], "what is refused sends nothing");
    let _ = put(json!({"image": "arm64/image.tar", "platforms_required": "linux/arm64/v8"})).succeeds();
}

#[test]
fn the_task_joins_tars() {
    let lab = lab_with_tars().tree(&["d image"]);
    let task = |params: &[(&str, &str)]| {
        let command = lab.command(&["task"]);
        params.iter().fold(command, |run, (name, value)| run.env(name, value)).run()
    };
    let tars = ("TARS", "put/*/image.tar");
    // `task.yml` sets FILES.
    let of_file = ("FILES", "src");
    let params = [
        of_file,
        tars,
        ("PLATFORMS_REQUIRED", r#"["linux/amd64", "linux/arm64"]"#),
        ("REFERENCE", "registry.example.com/team/app:v1"),
        ("ANNOTATIONS", "org.opencontainers.image.description=both"),
    ];
    let _ = task(&params).succeeds();
    validate_layout(lab.path("image/image.tar"));
    let digest = String::from_utf8(lab.read("image/digest")).unwrap();
    let described = lab.run(&["describe", "--tar", "image/image.tar", "--json"]).succeeds().json();
    let image = &described["images"][0];
    assert_eq!((image["kind"].as_str(), image["digest"].as_str()), (Some("index"), Some(&*digest)));
    assert_eq!(image["annotations"]["org.opencontainers.image.description"], "both");
    assert_eq!(image["names"][0], "registry.example.com/team/app:v1");
    for (params, expected) in [
        (&[tars, ("FILES", "put/amd64")][..], "`TARS` and `FILES` exclude each other"),
        (&[tars, ("LABELS", "a=b")], "`LABELS`: it belongs to `FILES`"),
        (&[tars, ("UNPACK_ROOTFS", "true")], "`UNPACK_ROOTFS`: it belongs to `FILES`"),
        (&[("TARS", "none/*.tar")], "`TARS`: `none/*.tar` finds nothing"),
        (&[of_file, ("PLATFORMS_REQUIRED", "linux/amd64")], "`PLATFORMS_REQUIRED`: it belongs to `TARS`"),
    ] {
        let output = task(params).ends_with(2);
        assert!(output.stderr.contains(expected), "{params:?}: {output}");
    }
    let output = task(&[tars, ("PLATFORMS_REQUIRED", "linux/s390x")]).ends_with(1);
    assert!(output.stderr.contains("no image for `linux/s390x`"), "{output}");
    // Each of the tars has to be signed.
    let key = ("VERIFY_KEY", include_str!("../../keys/p256.pub"));
    let before = lab.read("image/image.tar");
    lab.write("p256.key", include_str!("../../keys/p256.key"));
    for (tar, code, expected) in [
        ("put/amd64/image.tar", 3, "has no signature"),
        ("put/arm64/image.tar", 3, "has no signature"),
        ("", 0, ""),
    ] {
        assert!(task(&[tars, key]).ends_with(code).stderr.contains(expected), "{tar}");
        assert_eq!(lab.read("image/image.tar") == before, code != 0, "{tar}");
        if code != 0 {
            let words = ["sign", "--tar", tar, "--key", "p256.key", "--identity", "reg.example/app"];
            let _ = lab.run(&words).succeeds();
        }
    }
    let words = [of_file, ("VERIFY_KEY", "x")];
    assert!(task(&words).ends_with(2).stderr.contains("`VERIFY_KEY`: it belongs to `TARS`"));
    let words = [tars, ("VERIFY_KEY", "x")];
    assert!(task(&words).ends_with(2).stderr.contains("`VERIFY_KEY` holds no PEM block"));
}

/// Runs the steps of a plan as Concourse does, with artifacts in the folder `put`.
struct Plan<'a> {
    lab: &'a Lab,
    registry: &'a Registry,
    pipeline: &'a Value,
}

impl Plan<'_> {
    fn run(&self, plan: &Value) {
        let steps = plan.as_array().unwrap();
        for step in steps {
            let step_of = |kind: &str| step[kind].as_str();
            if let Some(inner) = ["in_parallel", "do"].iter().find_map(|kind| step.get(kind)) {
                self.run(inner);
            } else if step_of("get") == Some("src") {
                let _ = self.lab.write("put/src/build.sh", "#!/bin/sh\nset -e\necho made >\"$1/made\"\n");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(self.lab.path("put/src/build.sh"), mode).unwrap();
            } else if step_of("get").is_some() {
            } else if step_of("task").is_some() {
                self.task(step);
            } else if let Some(name) = step_of("put") {
                self.put(name, &step["params"]);
            } else {
                panic!("this test cannot run {step}");
            }
        }
    }

    fn task(&self, step: &Value) {
        let name = step["task"].as_str().unwrap();
        let config = match step["file"].as_str() {
            Some("imgrelay-tasks/task.yml") => parsed("task.yml"),
            Some(other) => panic!("no file `{other}`"),
            None => step["config"].clone(),
        };
        let mapped =
            |kind: &str, name: &str| self.lab.path("put").join(step[kind][name].as_str().unwrap_or(name));
        let names = |kind: &str| -> Vec<String> {
            let items = config[kind].as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        let folder = self.lab.path(name);
        std::fs::create_dir(&folder).unwrap();
        for input in names("inputs") {
            let from = mapped("input_mapping", &input);
            if from.exists() {
                std::os::unix::fs::symlink(from, folder.join(input)).unwrap();
            }
        }
        names("outputs").iter().for_each(|output| std::fs::create_dir(folder.join(output)).unwrap());
        let mut params: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in
            [&config["params"], &step["params"]].into_iter().filter_map(Value::as_object).flatten()
        {
            params.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        let words: Vec<&str> =
            config["run"]["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        match config["run"]["path"].as_str().unwrap() {
            "imgrelay" => {
                let command = self.lab.command(&words).in_folder(&folder);
                let _ =
                    params.iter().fold(command, |run, (name, value)| run.env(name, value)).run().succeeds();
            }
            script => {
                let mut command = tool("sh");
                let _ = run(command.arg(script).args(words).current_dir(&folder)).success();
            }
        }
        for output in names("outputs") {
            std::fs::rename(folder.join(&output), mapped("output_mapping", &output)).unwrap();
        }
    }

    fn put(&self, name: &str, params: &Value) {
        let resources = self.pipeline["resources"].as_array().unwrap();
        let mut source =
            resources.iter().find(|resource| resource["name"] == name).unwrap()["source"].clone();
        source["repository"] = format!("{}/team/app", self.registry.host()).into();
        (source["username"], source["password"]) = (USER.into(), PASSWORD.into());
        let _ = step(self.lab, "out", &json!({"source": source, "params": params})).succeeds();
    }
}

fn parsed(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_example_with_two_tagged_workers_pushes_one_index() {
    let pipeline = parsed("examples/concourse/multi-platform.yml");
    let lab = lab().tree(&["d put"]);
    let registry = Registry::with().htpasswd().start();
    Plan { lab: &lab, registry: &registry, pipeline: &pipeline }.run(&pipeline["jobs"][0]["plan"]);
    let (found, digest) = platforms(&registry, "1.4.0");
    assert_eq!(found, ["linux/amd64", "linux/arm64"]);
    let tags = registry.storage().tags("team/app");
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["1", "1.4", "1.4.0", "latest"]);
    assert!(tags.values().all(|tagged| *tagged == digest), "{tags:?}");
    registry.storage().assert_sound();
}
