//! The build task: variables in, an output folder out.

use testkit::lab::{Lab, Run};
use testkit::oracle;

use crate::lab::lab;

fn room() -> Lab {
    lab().tree(&["f src/bin/run 750 'run'", "f src/etc/a.conf 'a'", "f src/.git/x 'x'", "d image"])
}

fn task<'lab>(lab: &'lab Lab, params: &[(&str, &str)]) -> Run<'lab> {
    params.iter().fold(lab.command(&["task"]), |run, (name, value)| run.env(name, value))
}

#[test]
fn inputs_become_a_tar_with_its_digest_and_names() {
    let lab = room();
    let params = [
        ("FILES", "src"),
        ("KIND", "image"),
        ("REFERENCE", "registry.example.com/team/app:v1"),
        ("TAGS", r#"["v2", "v1"]"#),
        ("LABELS", r#"{"org.example.team": "blue, green"}"#),
        ("ANNOTATIONS", "org.example.note=a\n"),
        ("COMPRESSION", ""),
        ("EXPECTED_DIGEST", ""),
    ];
    let output = task(&lab, &params).run().succeeds();
    let digest = String::from_utf8(lab.read("image/digest")).unwrap();
    assert_eq!(output.one_line(), format!("image/image.tar@{digest}"));
    assert_eq!(lab.read("image/reference"), format!("registry.example.com/team/app@{digest}").as_bytes());
    assert_eq!(lab.read("image/tags"), b"v1 v2");
    oracle::validate_layout(lab.path("image/image.tar"));
    let described = lab.run(&["describe", "--tar", "image/image.tar", "-o", "json"]).succeeds();
    for text in [digest.as_str(), "blue, green", "org.example.note", "team/app:v2"] {
        assert!(described.stdout.contains(text), "{text}: {described}");
    }
    // The same bytes again, with the expected digest.
    let again = [params.as_slice(), &[("EXPECTED_DIGEST", &digest)]].concat();
    let _ = task(&lab, &again).run().succeeds();
    // And the same as with the command line.
    let by_hand = ["push", "-i", "-f", "src", "-l", "org.example.team=blue", "--to-oci-tar", "hand.tar"];
    let _ = lab.run(&by_hand).succeeds();
}

#[test]
fn unpack_rootfs_writes_a_root_file_system_for_the_next_task() {
    let lab = room();
    let params = [("FILES", "src/*"), ("UNPACK_ROOTFS", "true"), ("PRESERVE_PERMISSIONS", "true")];
    let _ = task(&lab, &params).run().succeeds();
    assert_eq!(
        lab.read("image/metadata.json"),
        b"{\"cmd\":null,\"entrypoint\":null,\"env\":null,\"user\":\"\"}\n"
    );
    assert!(lab.list().contains("image/rootfs"), "{}", lab.list());
    let _ = task(&lab, &params).run().succeeds();
}

#[test]
fn files_are_put_on_a_base_that_is_an_input() {
    let lab = room();
    let _ = crate::run::base(&lab);
    let params = [
        ("FILES", "src/bin/*:/bin/"),
        ("BASE", "base.tar"),
        ("ENTRYPOINT", r#"["/bin/run"]"#),
        ("ENV", r#"{"PORT": "8080"}"#),
        ("RUN_USER", "web"),
        ("PORTS", "8080"),
        // As Concourse sets it.
        ("USER", "root"),
    ];
    let _ = task(&lab, &params).run().succeeds();
    let made = crate::run::Made::read(&lab, "image/image.tar");
    assert_eq!(made.layer(1), ["-rwxr-xr-x 0/0 usr/bin/run"]);
    let config = &made.config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/run"]));
    assert_eq!(config["Env"], serde_json::json!(["PATH=/usr/bin", "LANG=C", "PORT=8080"]));
    assert_eq!(config["User"], "33:34");
    let kind = [("KIND", "bundle"), ("FILES", "src"), ("ENTRYPOINT", "/x")];
    let _ = task(&lab, &kind).run().fails(2, &["`ENTRYPOINT` works with `KIND: image` only"]);
}

#[test]
fn rebase_puts_an_input_on_a_newer_base() {
    let lab = room();
    let _ = crate::run::base(&lab);
    let newer = ["push", "-i", "r.example/base:v2", "--base-tar", "base.tar", "--env", "B=2"];
    let _ = lab.run(&[&newer[..], &["--to-oci-tar", "newer.tar"]].concat()).succeeds();
    let app = ["push", "-i", "r.example/app:v1", "--base-tar", "base.tar", "-f", "src/bin/run:/usr/bin/run"];
    let _ = lab.run(&[&app[..], &["--to-oci-tar", "app.tar"]].concat()).succeeds();
    // As `task.yml` sets it, the task's files are an input; nothing is packed here.
    let params = [
        ("FILES", "src/etc:/etc/app"),
        ("BASE", "newer.tar"),
        ("REBASE", "a*.tar"),
        ("OLD_BASE", "base.tar"),
    ];
    let _ = task(&lab, &params).run().succeeds();
    let made = crate::run::Made::read(&lab, "image/image.tar");
    assert_eq!(made.layers(), 3, "the base's, the app's and the new one");
    assert_eq!(made.layer(1), ["-rwxr-xr-x 0/0 usr/bin/run"]);
    assert_eq!(made.manifest["annotations"]["org.opencontainers.image.base.name"], "r.example/base:v2");
    let alone = [("FILES", "src"), ("BASE", "newer.tar"), ("REBASE", "app.tar")];
    let _ = task(&lab, &alone).run().fails(2, &["`REBASE` needs `OLD_BASE`, and the new base with"]);
}

#[test]
fn missing_task_params_are_named() {
    let lab = room();
    for (params, expected) in [
        (&[][..], "`FILES`: it is missing"),
        (&[("FILES", "none")], "`FILES`: `none` finds nothing"),
        (&[("FILES", "src"), ("OUTPUT", "out")], "there is no output folder `out`"),
        (
            &[("FILES", "src"), ("KIND", "chart")],
            "`KIND`: `chart` is no kind, expected one of `bundle`, `image`, `source`",
        ),
        (&[("FILES", "src"), ("TAGS", "v1")], "tag `v1` has no repository"),
        (&[("FILES", "src"), ("COMPRESSION", "lzma")], "`COMPRESSION`: "),
        (&[("FILES", "src"), ("PLATFORM", "linux")], "`PLATFORM`: "),
        (&[("FILES", "src"), ("SYMLINKS", "follow")], "`SYMLINKS` cannot be `follow`"),
        (&[("FILES", "src"), ("UNPACK_ROOTFS", "yes")], "`UNPACK_ROOTFS`: expected `true` or `false`"),
        (&[("FILES", "src"), ("LABELS", "a")], "`LABELS`: `a` is not `key=value`"),
        (&[("FILES", "src"), ("LABELS", "dev.carvel.imgpkg.bundle=1")], "`LABELS`: label"),
    ] {
        let output = task(&lab, params).run().ends_with(2);
        assert!(output.stderr.contains(expected), "{params:?}: {output}");
        assert!(!lab.path("image/image.tar").exists());
    }
    let output = task(&lab, &[("FILES", "src"), ("KIND", "bundle")]).run().ends_with(1);
    assert!(output.stderr.contains(".imgpkg"), "{output}");
}
