//! Tars that name their images, and tars without names.

use serde_json::{Value, json};
use testkit::fault::{Access, FaultRegistry};
use testkit::tarball::Tarball;

use crate::lab::lab;

fn docker_tar(names: &Value) -> Vec<u8> {
    let table = json!([{"Config": "c.json", "RepoTags": names, "Layers": []}]);
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    Tarball::new().file("manifest.json", table.to_string()).file("c.json", config).finish()
}

#[test]
fn a_docker_tar_without_a_usable_name_is_pushed_with_a_warning() {
    let (lab, registry) = (lab(), FaultRegistry::start(Access::Open, vec![]));
    let said = "has no name with a tag, and is pushed without one";
    for names in [json!(null), json!([]), json!(["A B"])] {
        lab.write("image.tar", docker_tar(&names));
        let to = format!("{}/app", registry.host());
        let words = ["copy", "--tar", "image.tar", "--to-repo"];
        let output = lab.run(&[&words[..], &[&to]].concat()).succeeds().says(said);
        let _ = output.says("`--to-repo REPOSITORY:TAG` or `--tag` gives it one");
        let _ = lab.run(&[&words[..], &[&format!("{to}:v1")]].concat()).succeeds().never_says(said);
        let _ = lab.run(&[&words[..], &[&to, "--tag", "v2"]].concat()).succeeds().never_says(said);
    }
    lab.write("image.tar", docker_tar(&json!(["reg.example/app:v3"])));
    let to = format!("{}/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "image.tar", "--to-repo", &to]).succeeds().never_says(said);
    assert!(registry.tag("app", "v3").is_some());
}
