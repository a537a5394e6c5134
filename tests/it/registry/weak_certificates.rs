//! Registries whose certificates webpki does not support: old versions, short RSA keys, other curves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::leash::Leashed;
use testkit::scratch::Scratch;
use testkit::tools::{run, tool};

use crate::lab::{Lab, lab};

/// Serves a list of tags over TLS, with any key that OpenSSL can read; prints its port.
const SERVER: &str = r#"
import http.server, ssl, sys
class Tags(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"name":"team/app","tags":["v1"]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tags)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers("DEFAULT:@SECLEVEL=0")
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Server {
    host: String,
    _process: Leashed,
}

impl Server {
    fn start(folder: &Path, name: &str) -> Self {
        let logs = ["out", "err"].map(|end| folder.join(format!("{name}.{end}")));
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let mut command = tool("python3");
        command.args(["-c", SERVER]).args([file("pem"), file("key")]);
        let process = Leashed::start(&command, &logs);
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let port = std::fs::read_to_string(&logs[0]).unwrap_or_default();
            if port.ends_with('\n') {
                return Self { host: format!("127.0.0.1:{}", port.trim()), _process: process };
            }
            let errors = || std::fs::read_to_string(&logs[1]).unwrap_or_default();
            assert!(Instant::now() < until, "the server of `{name}` does not start: {}", errors());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Makes certificates with the `openssl` program; each is `NAME.pem` with `NAME.key`.
struct Maker(Scratch);

impl Maker {
    fn openssl(&self, line: &str) {
        let words = line.split(' ').map(|word| word.replace('+', " "));
        let _ = run(tool("openssl").args(words).current_dir(self.0.path())).success();
    }

    fn key(&self, name: &str, kind: &str) {
        self.openssl(&format!("genpkey {kind} -out {name}.key"));
    }

    /// A certificate that signs itself.
    fn own(&self, name: &str, kind: &str) {
        self.key(name, kind);
        let names = "-addext subjectAltName=IP:127.0.0.1";
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -out {name}.pem -subj /CN={name} -days 9 {names}"
        ));
    }

    /// A certificate that another one signs; of version 1 without extensions.
    fn signed(&self, name: &str, kind: &str, by: &str, names: bool) {
        self.key(name, kind);
        self.openssl(&format!("req -new -key {name}.key -out {name}.csr -subj /CN={name}"));
        let names = match names {
            true => {
                self.0.write("names", "subjectAltName=IP:127.0.0.1\n");
                " -extfile names"
            }
            false => "",
        };
        let by = format!("-CA {by}.pem -CAkey {by}.key -CAcreateserial");
        self.openssl(&format!("x509 -req -in {name}.csr {by} -out {name}.pem -days 9{names}"));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
const RSA_1024: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
const RSA_2048: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

#[test]
fn certificates_that_are_not_supported_say_why_and_connect_without_verification() {
    let (lab, maker) = (lab(), Maker(Scratch::new("weak")));
    maker.own("authority", P256);
    maker.own("short-authority", RSA_1024);
    maker.signed("v1", P256, "authority", false);
    maker.signed("rsa-1024", RSA_1024, "authority", true);
    maker.signed("by-short", RSA_2048, "short-authority", true);
    maker.signed("p-521", P521, "authority", true);
    let list = |lab: &Lab, server: &Server, more: &[&str]| {
        let image = format!("{}/team/app", server.host);
        lab.run(&[&["tag", "list", "-i", &image, "--registry-retry-count", "1"], more].concat())
    };
    let short = "has an RSA key below 2048 bits, which is not supported";
    for (name, authority, code, text) in [
        ("v1", "authority", 1, "is not of X.509 version 3"),
        ("rsa-1024", "authority", 1, short),
        ("by-short", "short-authority", 1, short),
        ("p-521", "authority", 4, "a host whose key is P-521 ends the connection so"),
    ] {
        let server = Server::start(maker.0.path(), name);
        let ca = maker.path(&format!("{authority}.pem"));
        let refused = list(&lab, &server, &["--registry-ca-cert-path", ca.to_str().unwrap()]);
        let refused = refused.ends_with(code).says(text);
        if code == 1 {
            let _ =
                refused.says("hint: use a certificate of version 3 at the registry with RSA of 2048 bits");
        }
        let taken = list(&lab, &server, &["--registry-verify-certs=false"]).succeeds();
        assert_eq!(taken.one_line(), "v1", "{name}");
    }
}
