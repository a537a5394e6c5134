//! `tag add`, `tag resolve`, `tag delete` and `delete`.

use testkit::registry::Registry;

use crate::carvel::{digest, image};
use crate::lab::lab;

#[test]
fn tag_add_tag_delete_and_delete_change_the_registry() {
    let (lab, registry) = (lab(), Registry::start());
    let repository = format!("{}/app", registry.host());
    let one = image(&lab, &repository, "one");
    let output = lab.run(&["tag", "add", "-i", &one, "--tag", "v1", "--tag", "v2"]).succeeds();
    assert_eq!(output.stdout, format!("{repository}:v1@{0}\n{repository}:v2@{0}\n", digest(&one)));
    let tags = registry.storage().tags("app");
    assert_eq!((&tags["v1"], &tags["v2"]), (&tags["latest"], &tags["latest"]));
    let resolved = lab.run(&["tag", "resolve", "-i", &format!("{repository}:v2")]).succeeds();
    assert_eq!(resolved.one_line(), one);
    let _ = lab.run(&["tag", "add", "-i", &one]).fails(2, &["no tag was given"]);
    let _ = lab.run(&["tag", "delete", "-i", &repository]).fails(2, &["is not a repository with a tag"]);
    let _ = lab.run(&["delete", "-i", &format!("{repository}:v1")]).fails(2, &["has no digest"]);
    // This registry deletes by digest only.
    let output = lab.run(&["tag", "delete", "-i", &format!("{repository}:v1")]);
    if output.code == Some(0) {
        assert!(!registry.storage().tags("app").contains_key("v1"));
    } else {
        let _ = output.fails(1, &["this registry does not delete tags"]);
    }
    let output = lab.run(&["delete", "-i", &one]).succeeds();
    assert_eq!(output.one_line(), one);
    let _ = lab.run(&["tag", "resolve", "-i", &one]).fails(1, &["has no manifest"]);
}
