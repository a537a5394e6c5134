//! The registry client with Debian's `docker-registry`, in every mode and behind nginx.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imgrelay::model::{Descriptor, Repository, media_type};
use imgrelay::registry::{
    CaCertificates, Client, ClientIdentity, ClientOptions, Credential, CredentialSource, Credentials,
    Keychain, Proxies, PushStart, RegistryError, Secret, Timeouts, TlsOptions, TrustProblem, WireOptions,
};
use testkit::certificates::certificates;
use testkit::nginx::{Nginx, Options};
use testkit::registry::{Builder, PASSWORD, Registry, TokenField, TokenOptions, USER};
use testkit::scratch::Scratch;

use crate::registry::faults::{Image, bytes, options};

fn patient() -> ClientOptions {
    let timeouts = Timeouts { idle: Duration::from_secs(20), ..Timeouts::default() };
    ClientOptions { wire: WireOptions { timeouts, ..options().wire }, ..options() }
}

fn trusting(ca: &str) -> TlsOptions {
    let ca = CaCertificates { name: "the CA certificate".into(), pem: ca.as_bytes().to_vec() };
    TlsOptions { ca_certificates: vec![ca], ..TlsOptions::default() }
}

fn identity() -> Option<ClientIdentity> {
    let client = &certificates().client;
    Some(ClientIdentity {
        certificates: client.certificate.clone().into(),
        key: Secret::new(client.key.clone()),
    })
}

fn with_tls(tls: TlsOptions) -> ClientOptions {
    ClientOptions { wire: WireOptions { tls, ..patient().wire }, ..patient() }
}

fn with_password(user: &str, password: &str) -> ClientOptions {
    let credential = Credential::Basic { username: user.into(), password: Secret::new(password) };
    let credentials = Arc::new(Keychain::new(vec![CredentialSource::Everywhere(credential)]));
    ClientOptions { credentials, ..with_tls(trusting(&certificates().ca)) }
}

fn try_push(host: &str, options: ClientOptions) -> Result<(), RegistryError> {
    let repository: Repository = format!("{host}/team/app").parse().unwrap();
    Image::new().push(&Client::new(options)?, &repository)
}

/// Pushes and pulls, and checks the registry's storage without the registry.
fn passes(registry: &Registry, host: &str, options: ClientOptions) {
    let client = Client::new(options).unwrap();
    let repository: Repository = format!("{host}/team/app").parse().unwrap();
    let image = Image::with_layers(&[bytes(1, 3_000_000), bytes(2, 300_000), Vec::new()]);
    image.push(&client, &repository).unwrap_or_else(|error| panic!("{error}\n{}", registry.log()));
    image.pull(&client, &repository).unwrap();
    let storage = registry.storage();
    storage.assert_sound();
    assert_eq!(storage.tags("team/app").get("v1"), Some(&image.manifest.digest().to_string()));
    assert_eq!(client.list_tags(&repository).unwrap(), ["v1"]);
    assert_eq!(client.referrers(&repository, image.manifest.digest()).unwrap(), []);
}

#[test]
fn images_are_pushed_and_pulled_in_every_mode() {
    let tokens = |change: fn(&mut TokenOptions)| {
        let mut options = TokenOptions::default();
        change(&mut options);
        Registry::with().tokens(options)
    };
    let modes: Vec<(&str, Builder)> = vec![
        ("anonymous", Registry::with()),
        ("TLS", Registry::with().tls()),
        ("passwords", Registry::with().htpasswd()),
        ("TLS and passwords", Registry::with().tls().htpasswd()),
        ("tokens", tokens(|_| {})),
        ("TLS and tokens", Registry::with().tls().tokens(TokenOptions::default())),
        ("tokens of one second", tokens(|options| options.life_seconds = 1)),
        (
            "tokens of one second that do not say so",
            tokens(|options| {
                options.life_seconds = 1;
                options.tell_life = false;
            }),
        ),
        ("a token that has ended already", tokens(|options| options.stale = 1)),
        ("a token server that is away", tokens(|options| options.unavailable = 2)),
        ("OAuth tokens", tokens(|options| options.field = TokenField::AccessToken)),
    ];
    for (name, mode) in modes {
        println!("real registry: {name}");
        let registry = mode.start();
        passes(&registry, registry.host(), with_password(USER, PASSWORD));
    }
}

#[test]
fn client_certificates_are_sent_when_requested() {
    let registry = Registry::with().mutual_tls().start();
    let tls = TlsOptions { client_identity: identity(), ..trusting(&certificates().ca) };
    passes(&registry, registry.host(), with_tls(tls));
    let error = try_push(registry.host(), with_tls(trusting(&certificates().ca)));
    let error = error.unwrap_err();
    let expected = matches!(&error, RegistryError::Trust { problem: TrustProblem::ClientCertificate, .. });
    assert!(expected, "{error:?}");
}

#[test]
fn certs_d_folders_have_ca_and_client_certificates_per_host() {
    let registry = Registry::with().mutual_tls().start();
    let scratch = Scratch::new("certs.d");
    let host = registry.host();
    scratch.write(format!("{host}/ca.crt"), &certificates().ca);
    scratch.write(format!("{host}/client.cert"), &certificates().client.certificate);
    scratch.write(format!("{host}/client.key"), &certificates().client.key);
    let tls = TlsOptions {
        certs_directories: vec![PathBuf::from("/does/not/exist"), scratch.path().to_owned()],
        ..TlsOptions::default()
    };
    passes(&registry, host, with_tls(tls.clone()));
    scratch.write(format!("{host}/client.key"), "garbage");
    let error = try_push(host, with_tls(tls)).unwrap_err();
    assert!(matches!(error, RegistryError::Configuration { .. }), "{error:?}");
    assert!(error.to_string().contains("client.cert"), "{error}");
}

#[test]
fn registry_ca_cert_path_and_verify_certs_decide_which_certificates_are_trusted() {
    let ca = &certificates().ca;
    let cases: [(&str, Builder, TlsOptions, Option<TrustProblem>); 6] = [
        (
            "unknown authority",
            Registry::with().tls(),
            trusting(&certificates().other_ca),
            Some(TrustProblem::UnknownAuthority),
        ),
        (
            "wrong name",
            Registry::with().tls_with_wrong_name(),
            trusting(ca),
            Some(TrustProblem::WrongName { names: vec!["other.test".into()] }),
        ),
        ("expired", Registry::with().tls_expired(), trusting(ca), Some(TrustProblem::Expired)),
        (
            "the server's own certificate",
            Registry::with().tls(),
            trusting(&certificates().server.certificate),
            None,
        ),
        (
            "another server's own certificate",
            Registry::with().tls_with_wrong_name(),
            trusting(&certificates().wrong_name.certificate),
            Some(TrustProblem::WrongName { names: vec!["other.test".into()] }),
        ),
        (
            "not checked",
            Registry::with().tls_expired(),
            TlsOptions { verify: false, ..TlsOptions::default() },
            None,
        ),
    ];
    for (name, mode, tls, expected) in cases {
        let registry = mode.start();
        match (try_push(registry.host(), with_tls(tls)), expected) {
            (Ok(()), None) => {}
            (Err(RegistryError::Trust { host, problem }), Some(expected)) => {
                assert_eq!(problem, expected, "{name}");
                assert_eq!(host, registry.host());
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_at_once() {
    let with = |tls: TlsOptions| match Client::new(with_tls(tls)) {
        Err(RegistryError::Configuration { problem }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(with(trusting("garbage")).contains("holds no PEM certificate"));
    let key_only = ClientIdentity { certificates: Vec::new(), key: Secret::new("hunter2") };
    let problem = with(TlsOptions { client_identity: Some(key_only), ..TlsOptions::default() });
    assert!(problem.contains("the client certificate is empty, expected PEM certificates"), "{problem}");
    let certificate = certificates().client.certificate.clone().into_bytes();
    let bad_key = ClientIdentity { certificates: certificate.clone(), key: Secret::new("hunter2") };
    let problem = with(TlsOptions { client_identity: Some(bad_key), ..TlsOptions::default() });
    assert!(
        problem.contains("not an unencrypted PEM private key") && !problem.contains("hunter2"),
        "{problem}"
    );
    // A key of another certificate is found at the first connection.
    let other_key =
        ClientIdentity { certificates: certificate, key: Secret::new(certificates().server.key.clone()) };
    let tls = TlsOptions { client_identity: Some(other_key), ..trusting(&certificates().ca) };
    let registry = Registry::with().mutual_tls().start();
    let error = try_push(registry.host(), with_tls(tls)).unwrap_err();
    assert!(matches!(error, RegistryError::Configuration { .. }), "{error:?}");
}

#[test]
fn refusals_tell_whether_credentials_were_sent() {
    for mode in [Registry::with().htpasswd(), Registry::with().tokens(TokenOptions::default())] {
        let registry = mode.start();
        let error = try_push(registry.host(), with_password(USER, "wrong")).unwrap_err();
        assert!(matches!(error, RegistryError::Refused { credentials: Credentials::Given, .. }), "{error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
        let anonymous = ClientOptions { credentials: Arc::default(), ..patient() };
        let error = try_push(registry.host(), anonymous).unwrap_err();
        assert!(
            matches!(error, RegistryError::Refused { credentials: Credentials::None, status: 401, .. }),
            "{error:?}"
        );
    }
    let registry = Registry::with().read_only().start();
    let error = try_push(registry.host(), patient()).unwrap_err();
    assert!(matches!(error, RegistryError::Rejected { status: 405, .. }), "{error:?}");
}

#[test]
fn nginx_front_ends_that_limit_or_buffer_bodies_work() {
    let cases = [
        ("TLS in front of plain http", Options { tls: true, ..Options::default() }),
        ("bodies of at most 1 MiB", Options { body_limit: "1m", ..Options::default() }),
        (
            "TLS, passed on as it comes, 2 MiB",
            Options { body_limit: "2m", buffer_requests: false, tls: true, ..Options::default() },
        ),
        (
            "TLS, of which the registry does not know",
            Options { tls: true, tells_scheme: false, ..Options::default() },
        ),
    ];
    for (name, front) in cases {
        println!("nginx: {name}");
        let registry = Registry::start();
        let nginx = Nginx::before(&registry, &front);
        passes(&registry, nginx.host(), with_password(USER, PASSWORD));
    }
}

#[test]
fn tls_sessions_are_resumed_by_later_connections() {
    let registry = Registry::start();
    let closing = Options { tls: true, requests_per_connection: 2, ..Options::default() };
    let nginx = Nginx::before(&registry, &closing);
    passes(&registry, nginx.host(), with_tls(trusting(&certificates().ca)));
    // The log has a line shortly after its response; the first connection cannot resume, the others can.
    let (connections, resumed) = nginx.tls_connections();
    assert!(connections > 5, "{connections} connections of two requests each");
    assert!(resumed + 2 >= connections, "{resumed} of {connections} connections resumed a session");
}

#[test]
fn a_new_blob_costs_four_requests_a_small_one_three_and_a_known_one_one() {
    let registry = Registry::start();
    let client = Client::new(patient()).unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    let image = Image::new();
    let (descriptor, content) = &image.blobs[0];
    let methods =
        || registry.requests().into_iter().map(|request| request.method).collect::<Vec<_>>().join(" ");
    client.push_blob(&repository, descriptor, content, PushStart::Ask(&[]), &|_| {}).unwrap();
    assert_eq!(methods(), "HEAD POST PATCH PUT");
    registry.forget_requests();
    let (small, bytes) = &image.blobs[2];
    client.push_blob(&repository, small, bytes, PushStart::Ask(&[]), &|_| {}).unwrap();
    assert_eq!(methods(), "HEAD POST PUT");
    registry.forget_requests();
    let absent = Descriptor::of_bytes(media_type::OCI_LAYER, b"absent");
    client.push_blob(&repository, &absent, &b"absent".to_vec(), PushStart::Send, &|_| {}).unwrap();
    assert_eq!(methods(), "POST PUT");
    registry.forget_requests();
    client.push_blob(&repository, descriptor, content, PushStart::Ask(&[]), &|_| {}).unwrap();
    assert_eq!(methods(), "HEAD");
    registry.forget_requests();
    let other: Repository = format!("{}/team/other", registry.host()).parse().unwrap();
    client.push_blob(&other, descriptor, content, PushStart::Ask(&[repository]), &|_| {}).unwrap();
    assert_eq!(methods(), "HEAD POST", "mounted");
}

/// A proxy to one host that requires a password.
fn start_proxy(target: String) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, seen) = (target.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!((&client).read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                seen.lock().unwrap().push(head.lines().next().unwrap_or("").to_owned());
                if !head.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy") {
                    let _ = (&client).write_all(b"HTTP/1.1 407 Authenticate\r\ncontent-length: 0\r\n\r\n");
                    return;
                }
                let server = TcpStream::connect(&target).unwrap();
                (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let _ = std::io::copy(&mut &client, &mut &server);
                        let _ = server.shutdown(std::net::Shutdown::Write);
                    });
                    let _ = std::io::copy(&mut &server, &mut &client);
                    let _ = client.shutdown(std::net::Shutdown::Write);
                });
            });
        }
    });
    (host, log)
}

#[test]
fn proxies_are_used_unless_no_proxy_has_the_host() {
    let registry = Registry::with().tls().htpasswd().start();
    let (proxy, log) = start_proxy(registry.host().to_owned());
    let through = |proxies: Proxies| {
        let options = with_password(USER, PASSWORD);
        ClientOptions { wire: WireOptions { proxies, ..options.wire.clone() }, retries: 0, ..options }
    };
    let with = |user: &str| Proxies {
        https: Some(Secret::new(format!("http://{user}@{proxy}"))),
        ..Proxies::default()
    };
    passes(&registry, "registry.test", through(with("user:hunter2")));
    assert!(log.lock().unwrap().iter().all(|line| line == "CONNECT registry.test:443 HTTP/1.1"), "{log:?}");
    let error = try_push("registry.test", through(with("user:wrong"))).unwrap_err();
    assert!(error.to_string().contains("the proxy refused") && error.to_string().contains("407"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    let before = log.lock().unwrap().len();
    let exempt = Proxies { no_proxy: "other.test,registry.test".into(), ..with("user:hunter2") };
    let error = try_push("registry.test", through(exempt)).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    passes(&registry, registry.host(), through(with("user:hunter2")));
    assert_eq!(log.lock().unwrap().len(), before, "this machine needs no proxy");
}
