//! A private authority and what it signs, made by the `openssl` program once per test process.

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

/// Everything the tests present and trust.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate; give it to clients that should trust the servers here.
    pub ca: String,
    /// An authority nobody signed anything with.
    pub other_ca: String,
    /// A server called `localhost`, `registry.test` and 127.0.0.1.
    pub server: Identity,
    /// A server called `other.test` only.
    pub wrong_name: Identity,
    /// A server called as the first, whose certificate ended long ago.
    pub expired: Identity,
    /// A client.
    pub client: Identity,
    /// The signer of bearer tokens; signs itself.
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
        server: maker.signed("server", &[names, "extendedKeyUsage=serverAuth"], "30"),
        wrong_name: maker.signed(
            "wrong",
            &["subjectAltName=DNS:other.test", "extendedKeyUsage=serverAuth"],
            "30",
        ),
        expired: maker.signed("expired", &[names, "extendedKeyUsage=serverAuth"], "-1"),
        client: maker.signed("client", &["extendedKeyUsage=clientAuth"], "30"),
        token: maker.authority("token", "token signer"),
        ca: ca.certificate,
    }
}

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

    fn signed(&self, name: &str, extensions: &[&str], days: &str) -> Identity {
        self.key(name);
        let (key, certificate, request, file) =
            (format!("{name}.key"), format!("{name}.pem"), format!("{name}.csr"), format!("{name}.ext"));
        self.scratch.write(&file, format!("basicConstraints=CA:FALSE\n{}\n", extensions.join("\n")));
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-new", "-key", &key, "-out", &request, "-subj", &subject]);
        let mut arguments = vec!["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key"];
        arguments.extend(["-CAcreateserial", "-days", days, "-extfile", &file, "-out", &certificate]);
        self.openssl(&arguments);
        self.read(name)
    }
}
