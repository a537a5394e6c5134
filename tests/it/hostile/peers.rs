//! Proxies and metadata services with wrong responses, and peers with very slow ones.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::cloud::Tunnel;
use testkit::fault::{Access, FaultRegistry};
use testkit::lab::Output;

use crate::lab::{Lab, lab};

/// Responses of a fake server to the head of a request; the connection is closed afterwards.
type Reply = dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server that sends given bytes; its threads end with their connections.
struct Peer {
    port: u16,
    first_lines: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn start(reply: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (first_lines, reply): (Arc<Mutex<Vec<String>>>, Arc<Reply>) = (Arc::default(), Arc::new(reply));
        let lines = Arc::clone(&first_lines);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), lines, reply) = (stream, Arc::clone(&lines), Arc::clone(&reply)) else {
                    continue;
                };
                std::thread::spawn(move || {
                    let (mut head, mut block) = (Vec::new(), [0; 4096]);
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut block) {
                            Ok(count @ 1..) => head.extend_from_slice(&block[..count]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    lines.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                    // A client closes the connection when it has read enough.
                    let _ = reply(&head, &mut stream);
                });
            }
        });
        Self { port, first_lines }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn first_lines(&self) -> Vec<String> {
        self.first_lines.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Lists tags of a registry behind this proxy, with short time-outs.
fn through(lab: &Lab, proxy: &Peer) -> Output {
    let words = ["tag", "list", "-i", "registry.test/team/app", "--registry-retry-count=1"];
    let patience = ["--registry-connect-timeout=2s", "--registry-response-header-timeout=3s"];
    lab.command(&[&words[..], &patience[..]].concat())
        .env("HTTPS_PROXY", format!("http://ci:hunter2@127.0.0.1:{}", proxy.port))
        .env("NO_PROXY", "")
        .measured()
        .run()
}

#[test]
fn a_proxy_that_answers_connect_with_something_else_is_an_error_that_says_so() {
    let lab = lab();
    let page = answer("403 Forbidden", "content-type: text/html\r\n", "<html>\u{1b}[31mhunter2</html>");
    let asks = answer("407 Proxy Authentication Required", "proxy-authenticate: Basic realm=\"x\"\r\n", "");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (text, expected) in [
        ("\0\u{1}\u{2}garbage\r\n\r\n".to_owned(), "the response is not valid HTTP"),
        (page, "the proxy refused: proxy server responded 403"),
        (asks, "the proxy refused: proxy server responded 407"),
        (answer("302 Found", "location: http://127.0.0.1:1/\r\n", ""), "the proxy refused"),
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), "the proxy refused: proxy server responded 100"),
        (many, "the response is not valid HTTP"),
        (String::new(), "the proxy refused: proxy server did not respond"),
        // The proxy accepts CONNECT, and then answers in place of the registry.
        (
            format!("HTTP/1.1 200 OK\r\n\r\n{}", answer("200 OK", "", "{}")),
            "the host answered in plain text where TLS was expected",
        ),
    ] {
        let proxy = Peer::start(move |_, stream| stream.write_all(text.as_bytes()));
        let output = through(&lab, &proxy).fails(4, &[expected]).never_says("hunter2").never_says("\u{1b}");
        assert_eq!(proxy.first_lines(), ["CONNECT registry.test:443 HTTP/1.1"], "{output}");
    }
}

#[test]
fn an_endless_or_very_slow_head_of_a_proxy_costs_little() {
    let lab = lab();
    let endless = Peer::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        for _ in 0..100_000 {
            stream.write_all(&[b'y'; 4096])?;
        }
        Ok(())
    });
    let output = through(&lab, &endless).fails(4, &["the proxy refused: proxy server did not respond"]);
    assert!(output.peak_kib.unwrap() < 64 << 10, "{output}");
    // Single bytes keep the read time-out from expiring; the connection has two seconds in total.
    let slow = Peer::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        loop {
            stream.write_all(b"y")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let started = Instant::now();
    let _ = through(&lab, &slow).fails(4, &["timed out after 2 s while connecting"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// A web page, as captive portals and old metadata services send it.
const PAGE: &str = "<!DOCTYPE html>\n<html><body>404 - Not Found \u{1b}[31m</body></html>\n";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[test]
fn what_a_metadata_service_answers_in_place_of_keys_is_not_used() {
    let lab = lab();
    let registry = FaultRegistry::start(Access::Basic("AWS", "x"), vec![]);
    let tunnel = Tunnel::start(ECR, &registry.host());
    let elsewhere = Peer::start(|_, stream| stream.write_all(answer("200 OK", "", "evil").as_bytes()));
    let moved = answer("302 Found", &format!("location: {}/evil\r\n", elsewhere.url()), "");
    let page = || answer("200 OK", "content-type: text/html\r\n", PAGE);
    let missing = || answer("404 Not Found", "content-type: text/html\r\n", PAGE);
    let large = || answer("200 OK", "", &"y".repeat(3 << 20));
    let keys = |id: &str| {
        let keys =
            serde_json::json!({"Code": "Success", "AccessKeyId": id, "SecretAccessKey": "s", "Token": id});
        answer("200 OK", "", &keys.to_string())
    };
    let failed = r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role builder."}"#;
    let mut wrong = Vec::new();
    let none = "no credentials for";
    for (asked, text, expected) in [
        ("token", missing(), none),
        ("token", page(), none),
        ("token", moved.clone(), none),
        ("token", answer("200 OK", "", ""), none),
        ("token", large(), "answered with more than"),
        ("role", missing(), none),
        ("role", page(), none),
        ("role", moved.clone(), "answered 302"),
        ("role", large(), "answered with more than"),
        ("role", answer("200 OK", "", "../../../x?y#z"), "answered 404"),
        ("keys", missing(), "answered 404"),
        ("keys", page(), "sent no access keys"),
        ("keys", answer("200 OK", "", failed), "sent no access keys"),
        ("keys", moved, "answered 302"),
        ("keys", keys("A\r\nX-Evil: 1"), ""),
    ] {
        let service = Peer::start(move |head, stream| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (what, proper) = match path {
                "/latest/api/token" => ("token", answer("200 OK", "", "metadata-token")),
                ROLES => ("role", answer("200 OK", "", "builder")),
                path if path == format!("{ROLES}builder") => ("keys", missing()),
                _ => ("", missing()),
            };
            stream.write_all(if what == asked { &text } else { &proper }.as_bytes())
        });
        let cloud = Peer::start(|_, stream| stream.write_all(answer("500 Oops", "", "").as_bytes()));
        let image = format!("{ECR}/team/app");
        let words = ["tag", "list", "-i", &image, "--activate-keychain=ecr", "--registry-insecure"];
        let output = lab
            .command(&[&words[..], &["--registry-retry-count=1"]].concat())
            .env("HTTP_PROXY", tunnel.url())
            .env("HTTPS_PROXY", tunnel.url())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url())
            .env("AWS_ENDPOINT_URL_ECR", cloud.url())
            .run();
        if !output.stderr.contains(expected) {
            wrong.push(format!("{asked}, not `{expected}`: {}", output.stderr));
        }
        assert!(!output.stderr.contains('\u{1b}') && !output.stderr.contains("hunter2"), "{output}");
        assert_eq!(elsewhere.first_lines(), [""; 0], "{asked}: a redirect was followed");
        assert_eq!(cloud.first_lines(), [""; 0], "{asked}: {output}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
