//! Names in archives that other tools make: one name twice, and `\` in place of `/`.

use testkit::zipfile::{ZipEntry, zip};

use crate::lab::{Lab, lab};

fn push(lab: &Lab, entries: &[ZipEntry]) -> testkit::lab::Output {
    lab.write("app.jar", zip(entries));
    lab.run(&["push", "-s", "-f", "app.jar", "--to-oci-tar", "x.tar"])
}

#[test]
fn identical_copies_in_a_jar_are_one_file_and_different_ones_are_refused_with_a_hint() {
    let lab = lab();
    let license = |text: &str| ZipEntry::file("META-INF/LICENSE", text);
    let main = || ZipEntry::file("Main.class", "x");
    let once = push(&lab, &[main(), license("MIT")]).succeeds().one_line().to_owned();
    let twice = push(&lab, &[main(), license("MIT"), license("MIT")]).succeeds().never_says("warning");
    assert_eq!(twice.one_line(), once);
    let _ = push(&lab, &[main(), license("MIT"), license("Apache-2.0")]).fails(
        1,
        &[
            "`META-INF/LICENSE`",
            "hint: build tools that merge archives make such entries",
            "duplicatesStrategy",
        ],
    );
}

#[test]
fn backslashes_in_the_names_of_a_zip_are_folders_or_a_warning() {
    let lab = lab();
    let windows = [ZipEntry::file("WEB-INF\\web.xml", "x"), ZipEntry::file("index.html", "x")];
    let _ = push(&lab, &windows).succeeds().says(
        "warning: the zip has `\\` in place of `/` in its names, `WEB-INF\\web.xml` first; they were read as folders",
    );
    let _ = push(&lab, &[windows.as_slice(), &[ZipEntry::file("css/a.css", "x")]].concat())
        .succeeds()
        .says(
            "warning: the zip has `\\` in the name `WEB-INF\\web.xml`; it was packed as a file with this name, in no folder",
        )
        .says("make the zip with a tool that writes `/`");
}
