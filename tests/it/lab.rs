//! Labs for the real executable (`testkit::lab`).

pub(crate) use testkit::lab::Lab;

/// Returns a new lab for the executable under test.
pub(crate) fn lab() -> Lab {
    Lab::new(env!("CARGO_BIN_EXE_imgrelay"))
}

#[test]
fn the_lab_has_the_executable_of_this_build() {
    let output = lab().run::<&str>(&[]);
    assert!(output.code.is_some() && output.line.ends_with("imgrelay"), "{output}");
}
