//! Layers are gzip in many members (RFC 1952 2.2); every kind of consumer reads all members.
//!
//! umoci tests Go's reader too, because it checks the diff_id; `store::interop` tests skopeo and podman.

use std::io::Write as _;
use std::path::Path;

use imgrelay::stream::{BLOCK_BYTES, compress};
use testkit::random::Random;
use testkit::readers::umoci_unpack;
use testkit::scratch::Scratch;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::lab::lab;
use crate::layouts::hex;

/// Data with four kinds of blocks in turn, which give four kinds of member.
fn data() -> Vec<u8> {
    let mut data = Random::new(7).bytes(BLOCK_BYTES + 5);
    data.extend("some text that can be deflated\n".bytes().cycle().take(2 * BLOCK_BYTES));
    data.resize(data.len() + BLOCK_BYTES, 0);
    data.extend(b"the last member is short");
    data
}

/// Writes the compressed data and returns the digest of the plain one.
fn stored(path: &Path, level: &str) -> String {
    let data = data();
    let mut file = std::fs::File::create(path).unwrap();
    compress::<(), std::io::Error>(level.parse().unwrap(), 3, &mut file, |writer| writer.write_all(&data))
        .unwrap();
    hex(&data)
}

#[test]
fn every_gzip_reader_reads_all_members() {
    let scratch = Scratch::new("gzip-consumers");
    let path = scratch.path().join("data.gz");
    let python_file =
        "import gzip,hashlib,sys;print(hashlib.sha256(gzip.open(sys.argv[1]).read()).hexdigest())";
    // A reader that uses zlib directly needs one decompressor after the other.
    let python_zlib = "import hashlib,sys,zlib
h,b=hashlib.sha256(),open(sys.argv[1],'rb').read()
while b:
    d=zlib.decompressobj(31); h.update(d.decompress(b)); assert d.eof; b=d.unused_data
print(h.hexdigest())";
    let perl = "use IO::Uncompress::Gunzip; use Digest::SHA;
my $in = IO::Uncompress::Gunzip->new($ARGV[0], MultiStream => 1) or die; my $sha = Digest::SHA->new(256);
while ((my $n = $in->read(my $block, 65536)) > 0) { $sha->add($block) } die if $in->error; print $sha->hexdigest, qq(\\n)";
    for level in ["gzip", "gzip:1", "gzip:12"] {
        let expected = stored(&path, level);
        for (program, arguments) in [
            ("sh", ["-c", "gzip -dc \"$1\" | sha256sum | cut -c 1-64", "sh"].as_slice()),
            ("sh", &["-c", "gzip -t \"$1\" && zcat \"$1\" | sha256sum | cut -c 1-64", "sh"]),
            ("sh", &["-c", "pigz -dc \"$1\" | sha256sum | cut -c 1-64", "sh"]),
            ("python3", &["-c", python_file]),
            ("python3", &["-c", python_zlib]),
            ("perl", &["-e", perl]),
        ] {
            let ran = run(tool(program).args(arguments).arg(&path)).success();
            assert_eq!(ran.stdout.trim(), expected, "{program} {arguments:?} at {level}");
        }
    }
}

#[test]
fn a_reader_of_one_member_would_be_noticed() {
    let scratch = Scratch::new("gzip-one-member");
    let path = scratch.path().join("data.gz");
    let expected = stored(&path, "gzip");
    let first = "import hashlib,sys,zlib
print(hashlib.sha256(zlib.decompressobj(31).decompress(open(sys.argv[1],'rb').read())).hexdigest())";
    let ran = run(tool("python3").args(["-c", first]).arg(&path)).success();
    assert_ne!(ran.stdout.trim(), expected, "the data is one member, so the test above proves nothing");
}

#[test]
fn an_image_with_a_layer_of_many_members_is_unpacked_by_umoci() {
    let lab = lab().tree(&["d app"]);
    lab.write("app/data", data());
    let _ = lab
        .run(&["push", "-i", "reg.example/team/app:v1", "-f", "app", "--to-oci-tar", "app.tar"])
        .succeeds();
    let scratch = Scratch::new("gzip-umoci");
    tree::make(scratch.path(), &[] as &[&str]);
    let rootfs = umoci_unpack(&lab.path("app.tar"), "v1", scratch.path());
    assert!(std::fs::read(rootfs.join("data")).unwrap() == data(), "umoci unpacked something else");
}
