//! Source images of zips: the zips of real programs are read; inconsistent ones are refused with the entry's name.

use crate::lab::{Lab, lab};
use testkit::kpack;
use testkit::tools::{run, tool};
use testkit::tree;
use testkit::zipfile::{ZipEntry, crc32, zip};

fn push(lab: &Lab, name: &str) -> testkit::lab::Output {
    lab.run(&["push", "-s", "-f", name, "--to-oci-tar", "x.tar"])
}

/// Pushes and returns the image's digest.
fn digest(lab: &Lab, name: &str) -> String {
    push(lab, name).succeeds().one_line().rsplit('@').next().unwrap().to_owned()
}

/// Checks that an archive was refused with these texts, and returns the message.
#[track_caller]
fn refused(output: testkit::lab::Output, texts: &[&str]) -> String {
    let output = output.fails(1, texts);
    output.stderr.lines().find(|line| line.contains("error: ")).unwrap_or_default().to_owned()
}

/// Runs a Python script in the working folder.
fn python(lab: &Lab, script: &str) {
    let _ = run(tool("python3").args(["-c", script]).current_dir(lab.work())).success();
}

#[test]
fn zip_entries_of_every_host_system_are_extracted() {
    let unicode = |name: &str, raw: &[u8]| {
        let mut data = vec![1];
        data.extend(crc32(raw).to_le_bytes());
        data.extend(name.as_bytes());
        let mut field = vec![0x75, 0x70];
        field.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
        field.extend(data);
        field
    };
    let entries = [
        ZipEntry::file("plain", "x"),
        ZipEntry::file("exec", "x").mode(0o100_755),
        ZipEntry::file("open", "x").mode(0o100_666),
        ZipEntry::file("no-mode", "x").mode(0),
        ZipEntry::file("suid", "x").mode(0o104_711),
        ZipEntry::file("mvnw", "x").fat(),
        ZipEntry::file("win\\dir\\file", "x").fat(),
        ZipEntry::file("back\\slash", "x"),
        ZipEntry { flags: 1 << 11, ..ZipEntry::file("utf8-ü", "x").fat() },
        ZipEntry::file("unix-ü", "x"),
        ZipEntry::file(b"cp437-\x81", "x").fat(),
        ZipEntry { extra: unicode("extra-ü", b"extra-_"), ..ZipEntry::file("extra-_", "x").fat() },
        ZipEntry::folder("./"),
        ZipEntry::folder("kept/"),
        ZipEntry::folder("twice/"),
        ZipEntry::folder("twice/"),
        ZipEntry::file("./dot//double", "x"),
        ZipEntry::symlink("link", "win/dir"),
        ZipEntry::symlink("again", "./link/file"),
    ];
    let lab = lab();
    lab.write("a.zip", zip(&entries));
    // With a launcher script in front, as in executable jars.
    lab.write("a.jar", [b"#!/bin/sh\nexit\n".to_vec(), zip(&entries)].concat());
    let from_zip = digest(&lab, "a.zip");
    assert_eq!(digest(&lab, "a.jar"), from_zip);
    kpack::extract(&lab.path("x.tar"), &lab.path("out"));
    let expected = [
        "f plain 644 'x'",
        "f exec 755 'x'",
        "f open 644 'x'",
        "f no-mode 644 'x'",
        "f suid 755 'x'",
        "f mvnw 755 'x'",
        "f win/dir/file 755 'x'",
        "f 'back\\\\slash' 644 'x'",
        "f utf8-ü 755 'x'",
        "f unix-ü 644 'x'",
        "f cp437-ü 755 'x'",
        "f extra-ü 755 'x'",
        "d kept",
        "d twice",
        "f dot/double 644 'x'",
        "f link/file 755 'x'",
        "f again 755 'x'",
    ];
    tree::make(&lab.path("expected"), &expected);
    assert_eq!(tree::list(&lab.path("out")), tree::list(&lab.path("expected")));
}

#[test]
fn zip_entries_that_contradict_themselves_or_escape_are_refused() {
    let good = || ZipEntry::file("good", "data");
    let named = |name: &str| vec![good(), ZipEntry::file(name, "x")];
    let link =
        |name: &str, target: &str| vec![good(), ZipEntry::folder("d/"), ZipEntry::symlink(name, target)];
    let cases: Vec<(Vec<ZipEntry>, &str)> = vec![
        (named("../evil"), "entry `../evil` leads out of the archive with `..`"),
        (named("a/../../evil"), "entry `a/../../evil` leads out of the archive"),
        (named("d/.wh.good"), "`d/.wh.good` would act as a whiteout"),
        (named(".wh..wh..opq"), "`.wh..wh..opq` would act as a whiteout"),
        (named("/etc/passwd"), "entry `/etc/passwd` has an absolute path"),
        (vec![ZipEntry::file("C:\\evil", "x").fat()], "entry `C:\\evil` has an absolute path"),
        (vec![ZipEntry::file("..\\evil", "x").fat()], "entry `..\\evil` leads out of the archive"),
        (vec![ZipEntry::file("a\0b", "x")], "has a name that no file can have: it has a NUL byte"),
        (named("good"), "entry `good` is there twice"),
        (vec![good(), ZipEntry::symlink("good", "x")], "entry `good` is there twice"),
        (vec![good(), ZipEntry::folder("good/")], "entry `good` is there twice"),
        (named("good/below"), "entry `good/below` lies below `good`, which is not a folder"),
        (
            vec![ZipEntry::folder("d/"), ZipEntry::symlink("l", "d"), ZipEntry::file("l/x", "x")],
            "entry `l/x` lies below `l`, which is not a folder",
        ),
        (
            link("l", "/etc/passwd"),
            "symbolic link `l` -> `/etc/passwd` cannot be packed: its target is an abs",
        ),
        (link("l", "../x"), "symbolic link `l` -> `../x` cannot be packed: its target is outside"),
        (link("d/l", "../d"), "symbolic link `d/l` -> `../d` cannot be packed: following it never ends"),
        (link("d/l", ".."), "following it never ends"),
        (link("l", "l"), "symbolic link `l` -> `l` cannot be packed: following it never ends"),
        (link("l", "nothing"), "symbolic link `l` -> `nothing` cannot be packed: its target does not exist"),
        (link("l", "good/x"), "its target does not exist"),
        (
            vec![
                good(),
                ZipEntry::symlink("a", "/x"),
                ZipEntry::symlink("b", "c"),
                ZipEntry::symlink("c", "d"),
            ],
            "3 symbolic links cannot be packed: `a` -> `/x`: its target is an absolute path; `b` -> `c`: its",
        ),
        (vec![ZipEntry { flags: 1, ..good() }], "entry `good` is encrypted"),
        (vec![ZipEntry { method: 14, ..good() }], "entry `good` is compressed with lzma"),
        (vec![ZipEntry { method: 77, ..good() }], "entry `good` is compressed with method 77"),
        (vec![ZipEntry { size: 9, ..good() }], "entry `good` is stored in 4 bytes, but declares 9"),
        (vec![ZipEntry { size: 9, compressed: 9, ..good() }], "entry `good` shares its bytes with"),
        (vec![ZipEntry { crc: 1, ..good() }], "entry `good` has checksum adf3f363, but declares 00000001"),
        (vec![ZipEntry { method: 8, ..good() }], "entry `good` cannot be unpacked"),
        (
            vec![good(), ZipEntry { name: b"twin".to_vec(), shares: Some(0), ..good() }],
            "shares its bytes with another entry",
        ),
        (
            vec![ZipEntry { local_name: b"evil".to_vec(), ..good() }],
            "entry `good` has another name in front of its content: `evil`",
        ),
        (vec![good().mode(0o010_644)], "entry `good` is a named pipe (FIFO)"),
        (vec![good().mode(0o020_644)], "entry `good` is a device"),
        (
            vec![ZipEntry { name: b"good/".to_vec(), ..good() }],
            "entry `good/` is a folder with 4 bytes of content",
        ),
        (vec![], "`x.zip` has nothing that could be packed"),
    ];
    let lab = lab();
    for (entries, expected) in cases {
        lab.write("x.zip", zip(&entries));
        println!("{}", refused(push(&lab, "x.zip"), &[expected]));
        assert!(!lab.path("x.tar").exists(), "{expected}");
    }
    let whole = zip(&[good()]);
    let cut = &whole[..whole.len() - 5];
    let mut moved = whole.clone();
    let at = moved.len() - 6;
    moved[at..at + 4].copy_from_slice(&1000_u32.to_le_bytes());
    for (bytes, expected) in [
        (cut, "has no end-of-central-directory record: it is not a zip archive, or it is not complete"),
        (b"", "has no end-of-central-directory record"),
        (b"PK", "has no end-of-central-directory record"),
        (&moved, "is damaged: its central directory of 50 bytes at 1000 does not end at"),
    ] {
        lab.write("x.zip", bytes);
        println!("{}", refused(push(&lab, "x.zip"), &[expected, "`x.zip`"]));
    }
}

#[test]
fn zip_bombs_are_refused_by_declared_and_by_real_size() {
    let lab = lab();
    // 3 MiB of zeros in 3 KiB; then the same with another size in the directory.
    python(
        &lab,
        "import zipfile
z = zipfile.ZipFile('honest.zip', 'w', zipfile.ZIP_DEFLATED)
z.writestr('small', b'x'); z.writestr('zeros', bytes(3 << 20)); z.close()
data = open('honest.zip', 'rb').read()
declared = (3 << 20).to_bytes(4, 'little')
open('short.zip', 'wb').write(data.replace(declared, (1000).to_bytes(4, 'little')))
open('long.zip', 'wb').write(data.replace(declared, (4 << 20).to_bytes(4, 'little')))",
    );
    let push =
        |name, limit| lab.run(&["push", "-s", "--to-oci-tar", "x.tar", "-f", name, "--size-limit", limit]);
    let over = "`honest.zip` has more than 3145728 bytes: 3145729 with `zeros`";
    println!("{}", refused(push("honest.zip", "3MiB"), &[over]));
    let short = "entry `zeros` unpacks to more than the 1000 bytes it declares";
    println!("{}", refused(push("short.zip", "3MiB"), &[short]));
    let long = "entry `zeros` unpacks to 3145728 bytes, but declares 4194304";
    println!("{}", refused(push("long.zip", "5MiB"), &[long]));
    let _ = push("honest.zip", "3145729").succeeds();
}

#[test]
fn without_a_flag_an_app_may_have_a_gibibyte_as_in_cloud_controller() {
    let gib = 1_u32 << 30;
    let big = |name: &str, size| ZipEntry { size, method: 8, ..ZipEntry::file(name, "not read at all") };
    let lab = lab();
    lab.write("x.zip", zip(&[big("a", gib / 2), big("b", gib / 2), ZipEntry::file("c", "x")]));
    let over = "`x.zip` has more than 1073741824 bytes: 1073741825 with `c`";
    println!("{}", refused(push(&lab, "x.zip"), &[over, "allow more with `--size-limit`"]));
    // Exactly the limit is accepted: here the content is wrong.
    lab.write("x.zip", zip(&[big("a", gib / 2), big("b", gib / 2)]));
    println!("{}", refused(push(&lab, "x.zip"), &["entry `a` cannot be unpacked"]));
    lab.write("app/small", "x");
    std::fs::File::create(lab.path("app/big")).unwrap().set_len(u64::from(gib)).unwrap();
    println!(
        "{}",
        refused(push(&lab, "app"), &["`app` has more than 1073741824 bytes: 1073741825 with `small`"])
    );
}

#[test]
fn an_archive_behind_more_than_four_gibibytes_is_read() {
    let lab = lab();
    // Positions that only ZIP64 can hold; a hole in the file comes before the entry.
    python(
        &lab,
        "import zipfile
open('far.zip', 'wb').truncate(5 << 30)
z = zipfile.ZipFile('far.zip', 'a', zipfile.ZIP_DEFLATED)
z.writestr('a/b', 'far away'); z.writestr('c', 'x'); z.close()",
    );
    assert!(std::fs::metadata(lab.path("far.zip")).unwrap().len() > 5 << 30);
    let _ = push(&lab, "far.zip").succeeds();
    kpack::extract(&lab.path("x.tar"), &lab.path("out"));
    assert_eq!(lab.read("out/a/b"), b"far away");
    assert_eq!(lab.read("out/c"), b"x");
}

#[test]
fn a_link_tree_that_doubles_with_each_level_is_refused() {
    let mut entries = vec![ZipEntry::folder("d30/")];
    for level in 0..30 {
        for side in ["a", "b"] {
            entries.push(ZipEntry::symlink(&format!("d{level}/{side}"), &format!("../d{}", level + 1)));
        }
    }
    let lab = lab();
    lab.write("x.zip", zip(&entries));
    println!("{}", refused(push(&lab, "x.zip"), &["`x.zip` has more than 1000000 files and folders"]));
}

#[test]
fn zip64_and_archives_of_other_programs_are_read() {
    let lab = lab().tree(&["f app/a 'x'", "f app/b/c zeros:100000", "d app/e"]);
    python(
        &lab,
        "import zipfile, pathlib
z = zipfile.ZipFile('p.zip', 'w', zipfile.ZIP_DEFLATED)
for path in sorted(pathlib.Path('app').rglob('*')): z.write(path, path.relative_to('app'))
z.close()
z = zipfile.ZipFile('p64.zip', 'w', zipfile.ZIP_DEFLATED)
for path in sorted(pathlib.Path('app').rglob('*')):
    if path.is_dir(): z.write(path, path.relative_to('app')); continue
    with z.open(str(path.relative_to('app')), 'w', force_zip64=True) as file: file.write(path.read_bytes())
z.close()
n = zipfile.ZipFile('many.zip', 'w')
for number in range(66000): n.writestr(zipfile.ZipInfo('f%05d' % number), b'')
n.close()",
    );
    // Written through a pipe: sizes come after the contents.
    let piped = "cd app && zip -qr - . | cat > ../stream.zip";
    let _ = run(tool("sh").args(["-c", piped]).current_dir(lab.work())).success();
    let folder = digest(&lab, "app");
    for name in ["p.zip", "stream.zip"] {
        assert_eq!(digest(&lab, name), folder, "{name}");
    }
    let _ = push(&lab, "p64.zip").succeeds();
    kpack::extract(&lab.path("x.tar"), &lab.path("out"));
    assert_eq!(tree::list_contents(&lab.path("out")), tree::list_contents(&lab.path("app")));
    let output = push(&lab, "many.zip").succeeds();
    let _ = output.says("packed 66000 entries");
}

#[test]
fn packing_an_app_takes_constant_memory() {
    let lab = lab();
    python(
        &lab,
        "import zipfile, random
random.seed(1); noise = random.randbytes(1 << 20)
z = zipfile.ZipFile('big.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=1)
for number in range(200): z.writestr('f%d' % number, noise if number % 2 else bytes(1 << 20))
z.close()",
    );
    let output = lab.command(&["push", "-s", "-f", "big.zip", "--to-oci-tar", "x.tar"]).measured().run();
    let output = output.succeeds();
    let peak = output.peak_kib.expect("it was measured");
    assert!(peak <= 64 * 1024, "{peak} KiB for an app of 200 MiB\n{output}");
}
