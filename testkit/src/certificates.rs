//! A private certificate authority and its certificates, made by the `openssl` program once per test process.

use crate::scratch::Scratch;
use crate::tools::{run, tool};
use std::sync::OnceLock;

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

/// The certificates that tests present and trust.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate; give it to clients that should trust the servers here.
    pub ca: String,
    /// An authority that signed no certificate.
    pub other_ca: String,
    /// A server called `localhost`, `registry.test` and 127.0.0.1.
    pub server: Identity,
    /// A server called `other.test` only.
    pub wrong_name: Identity,
    /// A server with the names of the first, whose certificate has expired.
    pub expired: Identity,
    /// A client.
    pub client: Identity,
    /// The signer of bearer tokens; self-signed.
    pub token: Identity,
}

/// Returns the certificates of this process.
pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(make)
}

fn make() -> Certificates {
    let scratch = Scratch::new("certificates");
    let maker = Maker { scratch: &scratch };
    let ca = maker.authority("ca", "imgrelay test authority");
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test";
    Certificates {
        other_ca: maker.authority("other", "another test authority").certificate,
        server: maker.signed("server", &[names, "extendedKeyUsage=serverAuth"], Dates::NextMonth),
        wrong_name: maker.signed(
            "wrong",
            &["subjectAltName=DNS:other.test", "extendedKeyUsage=serverAuth"],
            Dates::NextMonth,
        ),
        expired: maker.signed("expired", &[names, "extendedKeyUsage=serverAuth"], Dates::LongAgo),
        client: maker.signed("client", &["extendedKeyUsage=clientAuth"], Dates::NextMonth),
        token: maker.authority("token", "token signer"),
        ca: ca.certificate,
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
enum Dates {
    NextMonth,
    LongAgo,
}

/// The configuration of `openssl ca`.
const AUTHORITY: &str = "[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
rand_serial = yes
certificate = ca.pem
private_key = ca.key
policy = any
[any]
commonName = supplied
";

struct Maker<'a> {
    scratch: &'a Scratch,
}

impl Maker<'_> {
    fn openssl(&self, arguments: &[&str]) {
        let _ = run(tool("openssl").args(arguments).current_dir(self.scratch.path())).success();
    }

    fn read(&self, name: &str) -> Identity {
        let read = |file: String| {
            std::fs::read_to_string(self.scratch.join(&file))
                .unwrap_or_else(|e| panic!("cannot read `{file}`: {e}"))
        };
        Identity { certificate: read(format!("{name}.pem")), key: read(format!("{name}.key")) }
    }

    fn key(&self, name: &str) {
        let file = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &file]);
    }

    fn authority(&self, name: &str, subject: &str) -> Identity {
        self.key(name);
        let (key, certificate, subject) =
            (format!("{name}.key"), format!("{name}.pem"), format!("/CN={subject}"));
        let mut arguments =
            vec!["req", "-x509", "-new", "-key", &key, "-out", &certificate, "-subj", &subject];
        arguments.extend([
            "-days",
            "30",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        ]);
        self.openssl(&arguments);
        self.read(name)
    }

    fn signed(&self, name: &str, extensions: &[&str], dates: Dates) -> Identity {
        self.key(name);
        let [key, certificate, request, file] =
            ["key", "pem", "csr", "ext"].map(|end| format!("{name}.{end}"));
        self.scratch.write(&file, format!("basicConstraints=CA:FALSE\n{}\n", extensions.join("\n")));
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-new", "-key", &key, "-out", &request, "-subj", &subject]);
        let files = ["-in", request.as_str(), "-extfile", &file, "-out", &certificate];
        match dates {
            Dates::NextMonth => {
                let signer =
                    ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
                self.openssl(&[signer.as_slice(), &files].concat());
            }
            // In every version in use, only `openssl ca` accepts dates in the past.
            Dates::LongAgo => {
                self.scratch.write("ca.conf", AUTHORITY);
                self.scratch.write("index.txt", "");
                let signer = ["ca", "-config", "ca.conf", "-batch", "-notext", "-md", "sha256", "-startdate"];
                let dates = ["20200101000000Z", "-enddate", "20200201000000Z"];
                self.openssl(&[signer.as_slice(), &dates, &files].concat());
            }
        }
        self.read(name)
    }
}
