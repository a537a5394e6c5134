//! `tag add`, `tag resolve`, `tag delete` and `delete`.

use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::registry::Registry;

use crate::carvel::{digest, image};
use crate::lab::lab;
use crate::layouts::Layout;

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

#[test]
fn a_tag_that_is_shown_late_is_no_error_and_one_that_is_not_shown_a_warning() {
    let lab = lab();
    lab.write("image.tar", Layout::simple().tar());
    let absent = || on("HEAD", Thing::Manifest, Fault::Response(404, vec![], String::new()));
    let starts = |rules| FaultRegistry::start(Access::Open, rules);
    let (late, never) = (starts(vec![absent().times(3)]), starts(vec![absent().always()]));
    let copy = |registry: &FaultRegistry| {
        let to = format!("{}/app:v1", registry.host());
        lab.command(&["copy", "--tar", "image.tar", "--to-repo", &to])
    };
    let output = copy(&late).run().succeeds().never_says("warning: the registry accepted");
    assert!(late.tag("app", "v1").is_some(), "{output}");
    // Both wait about ten seconds for the tag.
    let copied = copy(&never).spawn();
    late.rule(absent().always());
    let image = format!("{}/app:v1", late.host());
    let added = lab.command(&["tag", "add", "-i", &image, "--tag", "v2"]).run().succeeds();
    for (output, tag) in [(copied.wait().succeeds(), "app:v1"), (added, "app:v2")] {
        let output = output.says("does not show the tag yet").says("warning: the registry accepted `");
        assert!(output.stderr.contains(tag), "{output}");
    }
}

#[test]
fn a_connection_that_was_closed_while_it_was_idle_is_opened_again_now() {
    let lab = lab();
    lab.write("image.tar", Layout::simple().tar());
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let image = format!("{}/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "image.tar", "--to-repo", &image]).succeeds();
    registry.rule(on("HEAD", Thing::Manifest, Fault::LoseResponse));
    let _ = lab
        .run(&["tag", "add", "-i", &image, "--tag", "v2"])
        .succeeds()
        .says("; trying again now (attempt 2)");
}
