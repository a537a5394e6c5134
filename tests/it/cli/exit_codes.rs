//! Exit codes: the page and the program agree, and errors of one kind have one code.

use std::collections::BTreeSet;

use crate::samples::packed;

/// A registry that does not exist.
const NOWHERE: &str = "127.0.0.1:1/a";

/// Arguments with their exit code, in a lab with a bundle in `app.tar` and files of a wrong type.
const ROWS: &[(&[&str], i32, &str)] = &[
    (&["version"], 0, ""),
    (&["pull", "--tar", "app.tar", "-o", "full"], 1, "`full` is not empty"),
    // Settings: a missing file is a mistake in the command line.
    (&["tag", "list", "-i", NOWHERE, "--registry-ca-cert-path", "no.pem"], 2, "cannot read `no.pem`"),
    (&["tag", "list", "-i", NOWHERE, "--authfile", "no.json"], 2, "cannot read `no.json`: No such file"),
    (&["copy", "--lock", "no.yml", "--to-oci-tar", "b.tar"], 2, "cannot read `no.yml`"),
    (&["verify", "--tar", "app.tar", "--key", "no.pub"], 2, "cannot read `no.pub`"),
    (&["sign", "--tar", "app.tar", "--key", "no.key"], 2, "cannot read `no.key`"),
    (
        &["serve", "--tar", "app.tar", "--username", "u", "--password-file", "no.txt"],
        2,
        "cannot read `no.txt`",
    ),
    // Settings: so is a file of another type.
    (&["tag", "list", "-i", NOWHERE, "--registry-ca-cert-path", "text"], 2, "`text`"),
    (
        &["tag", "list", "-i", NOWHERE, "--authfile", "text"],
        2,
        "`text` is not a valid registry configuration",
    ),
    (&["copy", "--lock", "text", "--to-oci-tar", "b.tar"], 2, "`text` is not a valid BundleLock"),
    (&["verify", "--tar", "app.tar", "--key", "text"], 2, "`text`"),
    // Content: the operation is not possible with it.
    (&["copy", "--tar", "no.tar", "--to-oci-tar", "b.tar"], 1, "`no.tar`"),
    (&["copy", "--tar", "text", "--to-oci-tar", "b.tar"], 1, "`text` is not an image archive"),
    (&["push", "-i", "r.io/a", "-f", "no", "--to-oci-tar", "b.tar"], 1, "`no`"),
    (&["copy", "--tar", "app.tar", "--to-oci-tar", "no/b.tar"], 1, "`no"),
    (&["verify", "--tar", "app.tar", "--expected-digest", ZERO], 3, "expected `sha256:0000"),
    (&["tag", "list", "-i", NOWHERE, "--registry-retry-count", "1"], 4, "cannot"),
];

const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn the_page_of_exit_codes_and_the_program_agree() {
    let (lab, _) = packed();
    let lab = lab.tree(&["f text 'hello\\n'", "f full/a 'a\\n'"]);
    let page = include_str!("../../../docs/errors.md");
    let table =
        page.split("## Exit codes").nth(1).expect("the section").split("\n\n").nth(1).expect("a table");
    let documented: BTreeSet<i32> =
        table.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse().ok()).collect();
    for (words, code, message) in ROWS {
        let output = lab.run(words);
        assert_eq!(output.code, Some(*code), "{words:?}: {output}");
        assert!(output.stderr.contains(message), "{words:?}: {output}");
        assert!(documented.contains(code), "{code} has no row in docs/errors.md");
    }
    let tried: BTreeSet<i32> = ROWS.iter().map(|(_, code, _)| *code).collect();
    // No command line causes an internal error; the tests of signals have the last two.
    let elsewhere = BTreeSet::from([70, 130, 143]);
    assert_eq!(tried.union(&elsewhere).copied().collect::<BTreeSet<_>>(), documented);
}

#[test]
fn a_missing_input_is_told_apart_from_a_missing_folder_of_an_output() {
    let (lab, _) = packed();
    let input = lab.run(&["copy", "--tar", "no.tar", "--to-oci-tar", "b.tar"]);
    assert!(input.stderr.ends_with("  hint: check the path\n"), "{input}");
    let output = lab.run(&["copy", "--tar", "app.tar", "--to-oci-tar", "no/b.tar"]);
    assert!(
        output.stderr.contains("hint: check the path; the folders above an output have to exist"),
        "{output}"
    );
}

#[test]
fn words_of_a_parser_never_show() {
    let (lab, _) = packed();
    let lab = lab.tree(&["f nope 'nope'", "f half '{'"]);
    for file in ["nope", "half"] {
        for words in [
            &["tag", "list", "-i", NOWHERE, "--authfile", file][..],
            &["attach", file, "--tar", "app.tar", "--type", "spdx"],
            &["copy", "--lock", file, "--to-oci-tar", "b.tar"],
            &["verify", "--tar", "app.tar", "--key", file],
        ] {
            let output = lab.run(words);
            assert_ne!(output.code, Some(0), "{output}");
            for word in ["ident", "EOF", "Error", "struct", "Syntax"] {
                assert!(!output.stderr.contains(word), "`{word}`: {output}");
            }
        }
    }
}
