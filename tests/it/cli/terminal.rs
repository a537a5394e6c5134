//! Progress on terminals of 110, 80 and 60 columns and in a log: no line is wrapped, every bar has the moved bytes, and
//! no bar is left when the program ends, also by Ctrl-C.

use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::screen::Screen;
use testkit::tools::{run, tool};

use crate::lab::lab;

/// The widths of the tests.
const WIDTHS: [usize; 3] = [110, 80, 60];

/// Runs the executable on a terminal with so many columns; `before` comes before its name.
fn on_terminal(lab: &Lab, columns: usize, before: &str, words: &[&str]) -> (Option<i32>, Screen) {
    let line = format!(
        "stty cols {columns} rows 40; exec {before} {} {}",
        env!("CARGO_BIN_EXE_imgrelay"),
        words.join(" ")
    );
    let mut script = tool("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let ran = run(script.current_dir(lab.work()).env("TERM", "xterm-256color").env("NO_COLOR", "1"));
    (ran.code, Screen::of(columns, &ran.stdout))
}

/// A lab with a folder that takes a moment to pack.
fn room() -> Lab {
    lab().tree(&["f app/one random:24000000:1", "f app/two random:9000000:2", "f app/text 'hello\\n'"])
}

/// Reads `12.34 MiB/56.78 MiB` from a bar, in MiB.
fn of_total(line: &str) -> Option<(f64, f64)> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let at = parts
        .iter()
        .position(|part| part.split_once('/').is_some_and(|(unit, total)| is_unit(unit) && total != "s"))?;
    let (unit, total) = parts[at].split_once('/')?;
    let mebibytes = |number: &str, unit: &str| {
        let scale = match unit {
            "B" => 1.0 / 1024.0 / 1024.0,
            "KiB" => 1.0 / 1024.0,
            "MiB" => 1.0,
            other => panic!("unit `{other}` in `{line}`"),
        };
        number.replace(',', "").parse::<f64>().expect("a number") * scale
    };
    Some((mebibytes(parts[at - 1], unit), mebibytes(total, parts[at + 1])))
}

/// Tells whether a line is a whole bar: a terminal continues a wrapped line in the next one.
fn is_whole(line: &str) -> bool {
    let is_blob = line.starts_with("  sha256:") && line.ends_with('B');
    let is_sum = line.starts_with(|first: char| first == ' ' || ('\u{2800}'..='\u{28ff}').contains(&first))
        && line.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).starts_with(['a', 'c', 'e', 'p', 'w'])
        && line.ends_with(|last: char| last.is_ascii_alphabetic());
    is_blob || is_sum
}

fn is_unit(text: &str) -> bool {
    ["B", "KiB", "MiB"].contains(&text)
}

#[test]
fn bars_fit_the_terminal_and_say_what_was_moved() {
    let lab = room();
    let registry = Registry::start();
    let reference = format!("{}/team/app:v1", registry.host());
    for columns in WIDTHS {
        let tar = format!("{columns}.tar");
        let folder = format!("out{columns}");
        let commands: [&[&str]; 5] = [
            &["push", "-i", "reg.example/team/app:v1", "-f", "app", "--to-oci-tar", &tar],
            &["verify", "--tar", &tar],
            &["copy", "--tar", &tar, "--to-repo", &reference],
            &["pull", "-i", &reference, "-o", &folder],
            &["describe", "-i", &reference],
        ];
        for words in commands {
            let (code, screen) = on_terminal(&lab, columns, "", words);
            assert_eq!(code, Some(0), "{words:?}: {}", screen.text());
            for line in screen.seen() {
                assert!(
                    is_whole(line),
                    "{columns} {words:?}: a line is broken: {line:?}\n{:#?}",
                    screen.seen()
                );
                let Some((moved, total)) = of_total(line) else { continue };
                assert!(moved <= total, "{columns} {words:?}: {line}");
                // 33 MB that do not compress, or nothing if the registry has all.
                assert!(total == 0.0 || (8.0..=32.0).contains(&total), "{columns} {words:?}: {line}");
            }
            for line in screen.text().lines() {
                assert!(!line.contains('['), "a bar is left: {line}\n{}", screen.text());
            }
        }
    }
}

#[test]
fn a_terminal_shows_the_tag_and_the_whole_digest_once() {
    let lab = lab().tree(&["f app/one random:600000:1", "f app/text 'hello\\n'"]);
    let registry = Registry::start();
    let reference = format!("{}/team/app:v1", registry.host());
    let words = ["push", "-i", &reference, "-f", "app"];
    let masked = |screen: &Screen| {
        let digests = screen.text().replace(registry.host(), "HOST");
        let words = digests.split(' ').map(|word| match word.split_once("sha256:") {
            Some((before, hex)) if hex.contains('…') => {
                format!("{before}sha256:…{}", &hex[hex.find('…').unwrap() + 3..])
            }
            _ => word.to_owned(),
        });
        let text = words.collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text
            .lines()
            .map(|line| match (line.split_once("done in "), line.split_once("@sha256:")) {
                (Some(_), _) => "done in …".to_owned(),
                (_, Some((place, hex))) => format!("{place}@sha256:{} digits", hex.len()),
                _ => line.to_owned(),
            })
            .collect();
        lines.join("\n")
    };
    let (_, first) = on_terminal(&lab, 120, "", &words);
    assert_eq!(
        masked(&first),
        "tagged HOST/team/app:v1 as sha256:…\ndone in …\nHOST/team/app@sha256:64 digits"
    );
    assert!(first.text().matches("packed ").count() == 1, "{}", first.text());
    let (_, again) = on_terminal(&lab, 120, "", &words);
    assert!(
        masked(&again).starts_with("tagged HOST/team/app:v1 as sha256:…, unchanged\n"),
        "{}",
        again.text()
    );
    let plain = lab.run(&words).succeeds();
    assert!(
        plain.stderr.contains("packed 2 entries") || plain.stderr.contains("packed 3 entries"),
        "{plain}"
    );
    assert_eq!(plain.stderr.matches("packed ").count(), 1, "{plain}");
    assert!(plain.stderr.contains(", unchanged\n"), "{plain}");
}

#[test]
fn ctrl_c_leaves_no_broken_bar() {
    let lab = lab().tree(&["f app/one random:60000000:1"]);
    // `timeout` sends the signal as a terminal does.
    let words = ["push", "-f", "app", "--to-oci-tar", "a.tar", "--compression", "zstd:19"];
    let (code, screen) = on_terminal(&lab, 80, "timeout --foreground -s INT 1", &words);
    assert_eq!(code, Some(124), "timeout ended it: {}", screen.text());
    assert_eq!(screen.text(), "imgrelay: error: stopped by SIGINT");
    assert!(screen.seen().iter().any(|line| line.contains("packing")), "{:?}", screen.seen());
}

#[test]
fn thirty_layers_that_are_there_are_one_line_in_a_log() {
    let lab = lab().tree(&["f f 'x\\n'"]);
    let places: Vec<String> = (0..30).map(|number| format!("f:/{number}/")).collect();
    let pack = |tar: &str, label: &str| {
        let mut words = vec!["push", "-i", "reg.example/a:v1", "--to-oci-tar", tar, "-l", label];
        places.iter().for_each(|place| words.extend(["-f", place]));
        let log = lab.run(&words).succeeds().stderr;
        assert_eq!(log.matches("packed ").count(), 1, "{log}");
    };
    pack("a.tar", "a=1");
    pack("b.tar", "a=2");
    let registry = Registry::start();
    let copy = |tar: &str, tag: &str| {
        let place = format!("{}/a:{tag}", registry.host());
        lab.run(&["copy", "--tar", tar, "--to-repo", &place]).succeeds().stderr
    };
    assert!(copy("a.tar", "v1").contains("uploaded "));
    // Another configuration with the same layers.
    let log = copy("b.tar", "v2");
    assert!(log.contains("already there: 30 blobs ("), "{log}");
    assert!(log.lines().count() <= 6, "{log}");
}
