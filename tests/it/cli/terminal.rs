//! Progress on terminals of 110, 80 and 60 columns and in a log: no line is wrapped, every bar has the moved bytes, and
//! no bar is left when the program ends, also by Ctrl-C.

use std::path::Path;

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

/// Times and rates differ from run to run, digests are long: puts one text in the place of each.
fn masked(text: &str) -> String {
    let word = |word: &str| match word.split_once("sha256:") {
        Some((before, hex)) => {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            format!("{before}sha256:<{end}>{}", &hex[end..])
        }
        None => word.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<String> = line.split(' ').map(word).collect();
        let line = words.join(" ");
        let Some((start, rest)) = line.split_once("done in ") else { return line };
        let after = rest.split_once(" s").map_or("", |(_, after)| after);
        let mut after = after.to_owned();
        // A rate is only there if the time was long enough to measure it.
        while let Some(end) = after.find("/s)") {
            let start = after[..end].rfind(", ").expect("bytes stand before a rate");
            after.replace_range(start..end + "/s".len(), "");
        }
        format!("{start}done in N s{after}")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The commands whose pictures are stored; `HOST` is a registry.
const PICTURES: &[&str] = &[
    "push -i reg.example/team/app:v1 -f app:/srv/ --entrypoint /srv/run --user 65532 --port 8080 --to-oci-tar a.tar",
    "push -i reg.example/team/app:v1 -f app/text:/srv/ --platform linux/arm64 --to-oci-tar b.tar",
    "index --tar a.tar --tar b.tar --to-oci-tar ab.tar --name reg.example/team/app:v1",
    "verify --tar ab.tar",
    "describe --tar ab.tar",
    "copy --tar ab.tar --to-repo HOST/app",
    "copy --tar ab.tar --to-repo HOST/app",
    "pull -i HOST/app:v1 -o out",
    "ls --tar a.tar",
    "diff a.tar b.tar --max-growth 1000%",
    "sign --tar a.tar --key key.pem",
    "verify --tar a.tar --key key.pub",
    "describe --tar a.tar",
    "push -b HOST/bundle:v1 -f bundle",
    "copy -b HOST/bundle:v1 --to-oci-tar bundle.tar",
    "describe --tar bundle.tar",
];

/// Joins what the terminal broke, so that it can be masked; a mark at the end says that it was broken.
fn unbroken(text: &str, columns: usize) -> Vec<(String, bool)> {
    let mut lines: Vec<(String, bool)> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        match lines.last_mut().filter(|_| goes_on) {
            Some((before, broken)) => {
                before.push_str(line);
                *broken = true;
            }
            None => lines.push((line.to_owned(), false)),
        }
        goes_on = line.chars().count() == columns;
    }
    lines
}

/// Puts neighbours that begin with the same word in order: blobs are moved at the same time.
fn in_order(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let word = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let is_blob = |line: &str| ["fetched", "uploaded", "written"].contains(&&*word(line));
    for run in lines.chunk_by_mut(|one, next| is_blob(one) && word(one) == word(next)) {
        run.sort_unstable();
    }
    lines.join("\n")
}

/// A room for the pictures: what is in it takes no time.
fn small_room() -> Lab {
    let lock = "apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages: []\\n";
    let lab = lab().tree(&[
        "f app/run 755 random:600000:1",
        "f app/text 'hello\\n'",
        &format!("f bundle/.imgpkg/images.yml '{lock}'"),
    ]);
    for (name, key) in [("key.pem", "ed25519.key"), ("key.pub", "ed25519.pub")] {
        let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(key);
        lab.write(name, std::fs::read(key).unwrap());
    }
    lab
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
fn what_is_left_on_a_terminal_of_80_columns_and_in_a_log_is_as_stored() {
    let registry = Registry::start();
    let (terminal, log) = (small_room(), small_room());
    let mut pictures = String::new();
    for line in PICTURES {
        let host = |place: &str| format!("{}/{place}", registry.host());
        let typed = |place: &str| line.replace("HOST", &host(place));
        let shown = |text: &str, place: &str| masked(&text.replace(&host(place), "HOST"));
        let words = typed("t");
        let (code, screen) = on_terminal(&terminal, 80, "", &words.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{line}: {}", screen.text());
        let drawn = unbroken(&screen.text(), 80)
            .into_iter()
            .map(|(line, is_broken)| format!("{}{}\n", shown(&line, "t"), if is_broken { " ⏎" } else { "" }));
        let drawn: String = drawn.collect();
        let ran = log.run(&typed("l").split(' ').collect::<Vec<_>>()).succeeds();
        let logged = in_order(&shown(&(ran.stderr + &ran.stdout), "l"));
        pictures.push_str(&format!("$ imgrelay {line}\n-- terminal\n{drawn}-- log\n{logged}\n\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/pictures.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &pictures).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    for (stored, found) in stored.split("$ imgrelay ").zip(pictures.split("$ imgrelay ")) {
        assert_eq!(found, stored, "written with UPDATE_DOCS=1 cargo test --test it terminal");
    }
    assert_eq!(stored.len(), pictures.len());
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
        "tagged HOST/team/app:v1 as sha256:…\npacked 3 entries (589.0 KiB, as stored 586.5 KiB)\ndone in …\n\
         HOST/team/app@sha256:64 digits"
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
