//! Tests of the registry helper: each mode, beside a request that it must refuse.

use super::*;
use serde_json::json;

/// Uploads a tiny image and returns its manifest's bytes.
fn seed(registry: &Registry, repository: &str, tag: &str) -> Vec<u8> {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = registry.put_blob(repository, config);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
    });
    let bytes = manifest.to_string().into_bytes();
    registry.put_manifest(repository, tag, media_type, &bytes);
    bytes
}

fn skopeo(arguments: &[&str], registry: &Registry, tag: &str) -> crate::tools::Ran {
    let image = format!("docker://{}/team/app:{tag}", registry.host());
    run(tool("skopeo").arg("inspect").args(arguments).arg("--raw").arg(image))
}

#[test]
fn an_anonymous_registry_stores_what_it_is_sent_and_logs_who_asked() {
    let registry = Registry::start();
    let manifest = seed(&registry, "team/app", "v1");
    assert_eq!(registry.requests(), [], "our own requests are not logged");
    let read = skopeo(&["--tls-verify=false"], &registry, "v1").success();
    assert_eq!(read.stdout.trim_end().as_bytes(), manifest);
    let requests = registry.requests();
    let last = requests.last().expect("skopeo asked");
    assert_eq!((last.method.as_str(), last.status), ("GET", 200), "{requests:?}");
    assert_eq!(last.path, "/v2/team/app/manifests/v1");
    registry.forget_requests();
    assert_eq!(registry.requests(), []);
    let storage = registry.storage();
    storage.assert_sound();
    assert_eq!(storage.repositories().into_iter().collect::<Vec<_>>(), ["team/app"]);
    assert_eq!(storage.manifest("team/app", "v1"), Some(manifest.clone()));
    assert_eq!(storage.tags("team/app")["v1"], crate::digest::of(&manifest));
    assert_eq!(storage.blobs().len(), 2);
    assert_eq!(storage.open_uploads("team/app"), 0);
}

#[test]
fn the_storage_audit_objects() {
    let registry = Registry::start();
    let manifest = seed(&registry, "team/app", "v1");
    let storage = registry.storage();
    storage.assert_sound();
    let digest = crate::digest::of(&manifest);
    let hex = crate::digest::hex(&digest).unwrap();
    let data =
        registry.scratch.join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let longer = String::from_utf8(manifest.clone()).unwrap().replace("\"size\":", "\"size\":1");
    std::fs::write(&data, longer).unwrap();
    let problems = storage.problems().join("\n");
    assert!(problems.contains(&format!("{digest} holds bytes with digest")), "{problems}");
    assert!(problems.contains("bytes, stored are Some(78)"), "{problems}");
    std::fs::write(&data, &manifest).unwrap();
    let layers = registry.scratch.join("data/docker/registry/v2/repositories/team/app/_layers/sha256");
    std::fs::remove_dir_all(layers).unwrap();
    assert!(storage.problems().join("\n").contains("which is not in team/app"));
}

#[test]
fn a_registry_survives_a_stop_with_port_and_content() {
    let mut registry = Registry::start();
    let host = registry.host().to_owned();
    let manifest = seed(&registry, "team/app", "v1");
    registry.stop();
    assert!(std::net::TcpStream::connect(&host).is_err(), "the port is closed");
    registry.set_read_only(true);
    assert_eq!(registry.host(), host);
    assert_eq!(registry.ask("GET", "/v2/team/app/manifests/v1", &[OCI], &[]).body, manifest);
    assert_eq!(registry.ask("POST", "/v2/team/app/blobs/uploads/", &[], &[]).status, 405);
    registry.set_read_only(false);
    assert_eq!(registry.ask("POST", "/v2/team/app/blobs/uploads/", &[], &[]).status, 202);
    assert_eq!(registry.storage().open_uploads("team/app"), 1);
}

const OCI: (&str, &str) = ("Accept", "application/vnd.oci.image.manifest.v1+json");

#[test]
fn tls_is_trusted_by_the_authority_and_refused_by_others() {
    let registry = Registry::with().tls().start();
    seed(&registry, "team/app", "v1");
    let folder = registry.scratch.join("trust");
    registry.scratch.write("trust/ca.crt", &certificates().ca);
    let _ = skopeo(&["--cert-dir", text(&folder)], &registry, "v1").success();
    registry.scratch.write("trust/ca.crt", &certificates().other_ca);
    let refused = skopeo(&["--cert-dir", text(&folder)], &registry, "v1");
    assert!(refused.code != Some(0) && refused.stderr.contains("unknown authority"), "{refused:?}");
    for (registry, complaint) in [
        (Registry::with().tls_with_wrong_name().start(), "doesn't contain any IP SANs"),
        (Registry::with().tls_expired().start(), "certificate has expired"),
    ] {
        registry.scratch.write("trust/ca.crt", &certificates().ca);
        let refused = skopeo(&["--cert-dir", text(&registry.scratch.join("trust"))], &registry, "v1");
        assert!(refused.code != Some(0) && refused.stderr.contains(complaint), "{refused:?}");
    }
}

#[test]
fn mutual_tls_takes_only_clients_with_a_certificate() {
    let registry = Registry::with().mutual_tls().start();
    seed(&registry, "team/app", "v1");
    let curl = |extra: &[&str]| {
        let url = format!("{}/v2/", registry.url());
        run(tool("curl").args(["-sS", "--cacert", text(&registry.ca_path())]).args(extra).arg(url))
    };
    let (certificate, key) = (registry.client_certificate_path(), registry.client_key_path());
    assert_eq!(curl(&["--cert", text(&certificate), "--key", text(&key)]).success().stdout, "{}");
    assert_ne!(curl(&[]).code, Some(0));
}

#[test]
fn a_password_file_takes_its_users_only() {
    let registry = Registry::with().htpasswd().tls().start();
    seed(&registry, "team/app", "v1");
    let with = |pair: &str| skopeo(&["--tls-verify=false", "--creds", pair], &registry, "v1");
    let _ = with(&format!("{USER}:{PASSWORD}")).success();
    let _ = with(&format!("{OTHER_USER}:{OTHER_PASSWORD}")).success();
    assert_ne!(with(&format!("{USER}:{OTHER_PASSWORD}")).code, Some(0));
    assert_ne!(skopeo(&["--tls-verify=false", "--no-creds"], &registry, "v1").code, Some(0));
    let config = registry.docker_config(USER, PASSWORD).join("config.json");
    let _ = skopeo(&["--tls-verify=false", "--authfile", text(&config)], &registry, "v1").success();
}

#[test]
fn tokens_carry_the_rights_of_their_user() {
    for tls in [false, true] {
        let builder = Registry::with().tokens(TokenOptions::default());
        let registry = if tls { builder.tls().start() } else { builder.start() };
        for repository in ["team/app", "other/app", "public/app"] {
            seed(&registry, repository, "v1");
        }
        let read = |repository: &str, user: &[&str]| {
            let image = format!("docker://{}/{repository}:v1", registry.host());
            let mut command = tool("skopeo");
            command.args(["inspect", "--raw", "--tls-verify=false"]).args(user).arg(image);
            run(&mut command).code == Some(0)
        };
        let ci = ["--creds", &format!("{USER}:{PASSWORD}")];
        let other = ["--creds", &format!("{OTHER_USER}:{OTHER_PASSWORD}")];
        let wrong = ["--creds", &format!("{USER}:wrong")];
        for (repository, user, expected) in [
            ("team/app", &ci[..], true),
            ("team/app", &other[..], false),
            ("team/app", &wrong[..], false),
            ("team/app", &["--no-creds"][..], false),
            ("other/app", &other[..], true),
            ("public/app", &["--no-creds"][..], true),
        ] {
            assert_eq!(read(repository, user), expected, "{repository} {user:?} tls {tls}");
        }
        let asked = registry.tokens().expect("there is a token server").requests();
        assert!(asked.iter().any(|request| request.grant == "basic" && request.status == 200), "{asked:?}");
        assert!(asked.iter().any(|request| request.status == 401), "{asked:?}");
    }
}

/// Requests a token from the token server and uses it at the registry.
fn token_works(registry: &Registry, body: &str) -> (Value, u16) {
    let tokens = registry.tokens().expect("there is a token server");
    let host = tokens.realm().replace("http://localhost", "127.0.0.1").replace("/token", "");
    let answer = ask(&host, Transport::Plain, "POST", "/token", &[], body.as_bytes()).unwrap();
    let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else { panic!("{}", answer.text()) };
    let token = json["access_token"].as_str().or(json["token"].as_str());
    let Some(token) = token else { return (json, answer.status) };
    let bearer = format!("Bearer {token}");
    let target = "/v2/team/app/tags/list";
    let answer =
        ask(registry.host(), Transport::Plain, "GET", target, &[("Authorization", &bearer)], &[]).unwrap();
    (json, answer.status)
}
use serde_json::Value;

#[test]
fn the_token_server_refreshes_stales_and_fails_on_demand() {
    let options =
        TokenOptions { field: TokenField::AccessToken, tell_life: false, ..TokenOptions::default() };
    let registry = Registry::with().tokens(TokenOptions { stale: 1, unavailable: 1, ..options }).start();
    seed(&registry, "team/app", "v1");
    let tokens = registry.tokens().expect("there is a token server");
    let password = format!(
        "grant_type=password&username={USER}&password={PASSWORD}&service=testkit-registry\
         &client_id=x&access_type=offline&scope=repository%3Ateam%2Fapp%3Apull"
    );
    assert_eq!(token_works(&registry, &password).1, 503);
    assert_eq!(token_works(&registry, &password).1, 401, "the stale token is refused");
    let (json, status) = token_works(&registry, &password);
    assert_eq!(status, 200, "{json}");
    assert!(json.get("token").is_none() && json.get("expires_in").is_none(), "{json}");
    let refresh = json["refresh_token"].as_str().expect("one was asked for");
    let scope = "scope=repository:team/app:pull&service=testkit-registry&grant_type=refresh_token";
    assert_eq!(token_works(&registry, &format!("{scope}&refresh_token={refresh}")).1, 200);
    assert_eq!(token_works(&registry, &format!("{scope}&refresh_token={}", tokens.identity_token())).1, 200);
    assert_eq!(token_works(&registry, &format!("{scope}&refresh_token=made-up")).1, 401);
    let grants: Vec<_> =
        tokens.requests().into_iter().map(|request| (request.grant, request.status)).collect();
    let expected = [503, 200, 200].map(|status| ("password".to_owned(), status));
    assert_eq!(grants[..3], expected);
    assert_eq!(grants[3..].iter().map(|(_, status)| *status).collect::<Vec<_>>(), [200, 200, 401]);
}

#[test]
fn a_token_of_one_second_is_refused_afterwards() {
    let registry =
        Registry::with().tokens(TokenOptions { life_seconds: 1, ..TokenOptions::default() }).start();
    seed(&registry, "team/app", "v1");
    let tokens = registry.tokens().expect("there is a token server");
    let host = tokens.realm().replace("http://localhost", "127.0.0.1").replace("/token", "");
    let basic =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let target = "/token?service=testkit-registry&scope=repository:team/app:pull";
    let answer = ask(&host, Transport::Plain, "GET", target, &[("Authorization", &basic)], &[]).unwrap();
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["expires_in"], 1);
    let bearer = format!("Bearer {}", json["token"].as_str().unwrap());
    let list = || {
        let header = [("Authorization", bearer.as_str())];
        ask(registry.host(), Transport::Plain, "GET", "/v2/team/app/tags/list", &header, &[]).unwrap().status
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while list() != 401 {
        assert!(Instant::now() < deadline, "the token of one second is still good");
        std::thread::sleep(Duration::from_millis(50));
    }
}
