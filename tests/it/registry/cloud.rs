//! Logins at cloud providers, with fake services that check every request and compute every signature.
//!
//! The registries have their providers' names; a proxy maps them to this machine.

use std::path::Path;

use serde_json::{Value, json};
use testkit::cloud::{AwsKey, FakeService, Tunnel, check_signature, form};
use testkit::fault::{Access, FaultRegistry, Thing};
use testkit::http::Received;
use testkit::lab::Run;

use crate::lab::{Lab, lab};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const REGION: &str = "eu-west-1";
const STATIC: AwsKey = AwsKey { id: "AKIASTATIC", secret: "static/hunter2", session: None };
const ROLE: AwsKey = AwsKey { id: "ASIAROLE", secret: "role/hunter2", session: Some("role//session==") };
/// ECR's token: `AWS:ecr-password`, base64.
const TOKEN: &str = "QVdTOmVjci1wYXNzd29yZA==";
/// Keys of a role as containers and machines get them.
const ROLE_KEYS: &str = r#"{"Code":"Success","AccessKeyId":"ASIAROLE","SecretAccessKey":"role/hunter2","Token":"role//session==","Expiration":"2999-01-01T00:00:00Z"}"#;

/// A registry with one user, under a provider's name.
struct Place {
    registry: FaultRegistry,
    tunnel: Tunnel,
    name: String,
}

impl Place {
    fn new(name: &str, user: &'static str, password: &'static str) -> Self {
        let registry = FaultRegistry::start(Access::Basic(user, password), vec![]);
        let tunnel = Tunnel::start(name, &registry.host());
        Self { registry, tunnel, name: name.to_owned() }
    }

    /// Copies the lab's tar there.
    fn copy<'lab>(&self, lab: &'lab Lab, keychain: &str) -> Run<'lab> {
        let to = format!("{}/team/app:v1", self.name);
        let words = ["copy", "--tar", "app.tar", "--to-repo", &to, "--registry-insecure", "--debug"];
        let flags = ["--activate-keychain", keychain, "--registry-connect-timeout=3s"];
        lab.command(&[&words[..], &flags].concat())
            .env("HTTP_PROXY", self.tunnel.url())
            .env("HTTPS_PROXY", self.tunnel.url())
            .env("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// Runs the copy and checks the image that arrived.
    fn succeeds(&self, run: Run<'_>) {
        let output = run.run().succeeds().never_says("hunter2").never_says("password");
        assert_eq!(self.registry.check_image("team/app", "v1"), Ok(()), "{output}");
        assert_eq!(self.registry.count("GET", Thing::Token), 0);
    }
}

/// Runs Concourse's check for the tag `v1` of a source.
fn check<'lab>(lab: &'lab Lab, source: &Value) -> Run<'lab> {
    let mut source = source.clone();
    source["tag"] = json!("v1");
    let request = json!({"source": source, "version": null}).to_string();
    lab.command::<&str>(&[]).named("check").env_remove("HOME").stdin(request)
}

fn room() -> Lab {
    let lab = lab().tree(&["f app/hello.txt 'hello'"]);
    let _ = lab.run(&["push", "-i", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    lab
}

/// ECR, private and public: checks the request and returns the token.
fn ecr(key: AwsKey, service: &'static str, region: &'static str) -> FakeService {
    FakeService::start(move |request| {
        check_signature(request, key, region, service)?;
        let (target, answer) = match service {
            "ecr" => (
                "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
                format!(
                    r#"{{"authorizationData":[{{"authorizationToken":"{TOKEN}","expiresAt":4.1E9,"proxyEndpoint":"https://{ECR}"}}]}}"#
                ),
            ),
            _ => (
                "SpencerFrontendService.GetAuthorizationToken",
                format!(r#"{{"authorizationData":{{"authorizationToken":"{TOKEN}","expiresAt":4.1E9}}}}"#),
            ),
        };
        let sound = request.method == "POST"
            && request.target == "/"
            && request.header("x-amz-target") == Some(target)
            && request.header("content-type") == Some("application/x-amz-json-1.1")
            && request.body == b"{}";
        if sound { Ok((200, answer)) } else { Err(format!("{request:?}")) }
    })
}

/// STS: returns the role's keys for a request that `check` accepts.
fn sts(
    check: impl Fn(&Received, &[(String, String)]) -> Result<(), String> + Send + Sync + 'static,
) -> FakeService {
    FakeService::start(move |request| {
        let fields = form(&request.body);
        check(request, &fields)?;
        let version = ("Version".to_owned(), "2011-06-15".to_owned());
        if request.method != "POST" || !fields.contains(&version) {
            return Err(format!("{fields:?}"));
        }
        let action = fields.iter().find(|(key, _)| key == "Action").map_or("", |(_, value)| value);
        let keys = "<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role/hunter2</SecretAccessKey>\
                    <SessionToken>role//session==</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>";
        let xmlns = "https://sts.amazonaws.com/doc/2011-06-15/";
        Ok((
            200,
            format!(
                "<{action}Response xmlns=\"{xmlns}\"><{action}Result>{keys}</{action}Result></{action}Response>"
            ),
        ))
    })
}

#[test]
fn ecr_takes_keys_from_the_environment() {
    let place = Place::new(ECR, "AWS", "ecr-password");
    let lab = room();
    let service = ecr(STATIC, "ecr", REGION);
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_ACCESS_KEY_ID", STATIC.id)
        .env("AWS_SECRET_ACCESS_KEY", STATIC.secret);
    place.succeeds(run);
    assert_eq!(service.requests(), ["POST /"], "asked once for the whole push");
    // Temporary keys include a session token; imgpkg's variable has the effect of the flag.
    let service = ecr(ROLE, "ecr", REGION);
    let run = place
        .copy(&lab, "")
        .env("IMGPKG_ACTIVE_KEYCHAINS", "ecr,github")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_ACCESS_KEY_ID", ROLE.id)
        .env("AWS_SECRET_ACCESS_KEY", ROLE.secret)
        .env("AWS_SESSION_TOKEN", ROLE.session.unwrap());
    place.succeeds(run);
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn ecr_takes_keys_from_profile_web_identity_container_and_machine() {
    let lab = room();
    let place = Place::new(ECR, "AWS", "ecr-password");
    // The profile.
    let service = ecr(STATIC, "ecr", REGION);
    let text =
        format!("[ci]\naws_access_key_id = {}\naws_secret_access_key = {}\n", STATIC.id, STATIC.secret);
    let file = lab.write("aws", text);
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_SHARED_CREDENTIALS_FILE", file)
        .env("AWS_PROFILE", "ci");
    place.succeeds(run);
    // A web identity, whose request is not signed.
    let service = ecr(ROLE, "ecr", REGION);
    let sts = sts(|request, fields| {
        let expected = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", "arn:aws:iam::123456789012:role/ci"),
            ("WebIdentityToken", "web.identity+hunter2"),
            ("RoleSessionName", "build-7"),
        ];
        let sound = expected.iter().all(|(key, value)| fields.iter().any(|(k, v)| k == key && v == value));
        let signed = request.header("authorization").is_some();
        if sound && !signed { Ok(()) } else { Err(format!("{fields:?}")) }
    });
    let file = lab.write("token", "web.identity+hunter2\n");
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_ENDPOINT_URL_STS", sts.url())
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ci")
        .env("AWS_ROLE_SESSION_NAME", "build-7");
    place.succeeds(run);
    assert_eq!(sts.requests(), ["POST /"]);
    // A container's role.
    let container = FakeService::start(|request| {
        let sound =
            request.target == "/v1/credentials" && request.header("authorization") == Some("pod-hunter2");
        if sound { Ok((200, ROLE_KEYS.into())) } else { Err(format!("{request:?}")) }
    });
    let file = lab.write("pod-token", "pod-hunter2");
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", container.url()))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
    place.succeeds(run);
    // The machine's role, with a token first (IMDSv2).
    let machine = FakeService::start(|request| {
        let token = request.header("x-aws-ec2-metadata-token");
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        match (request.method.as_str(), request.target.as_str(), token) {
            ("PUT", "/latest/api/token", None) => {
                let life = request.header("x-aws-ec2-metadata-token-ttl-seconds").ok_or("no life")?;
                life.parse::<u32>().map_err(|error| error.to_string())?;
                Ok((200, "metadata-hunter2".into()))
            }
            ("GET", ROLES, Some("metadata-hunter2")) => Ok((200, "builder\n".into())),
            ("GET", path, Some("metadata-hunter2")) if path == format!("{ROLES}builder") => {
                Ok((200, ROLE_KEYS.into()))
            }
            _ => Err(format!("{request:?}")),
        }
    });
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url());
    place.succeeds(run);
    assert_eq!(machine.requests().len(), 3);
}

#[test]
fn public_ecr_is_logged_in_to_in_its_one_region() {
    let place = Place::new("public.ecr.aws", "AWS", "ecr-password");
    let service = ecr(STATIC, "ecr-public", "us-east-1");
    let lab = room();
    let run = place
        .copy(&lab, "ecr")
        .env("AWS_ENDPOINT_URL_ECR_PUBLIC", service.url())
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", STATIC.id)
        .env("AWS_SECRET_ACCESS_KEY", STATIC.secret);
    place.succeeds(run);
}

#[test]
fn roles_are_assumed_one_after_the_other() {
    let place = Place::new(ECR, "AWS", "ecr-password");
    let service = ecr(ROLE, "ecr", REGION);
    let sts = sts(|request, fields| {
        let role = fields.iter().find(|(key, _)| key == "RoleArn").map_or("", |(_, value)| value);
        // The static keys assume the first role, and its keys the second.
        let key = if role.ends_with("/first") { STATIC } else { ROLE };
        check_signature(request, key, REGION, "sts")
    });
    let roles = ["first", "second"].map(|role| format!("arn:aws:iam::1:role/{role}"));
    let source = json!({
        "repository": "team/app", "insecure": true, "aws_region": REGION, "aws_account_id": 123_456_789_012_u64,
        "aws_access_key_id": STATIC.id, "aws_secret_access_key": STATIC.secret, "aws_role_arns": roles,
    });
    let lab = lab();
    let run = check(&lab, &source)
        .env("HTTP_PROXY", place.tunnel.url())
        .env("HTTPS_PROXY", place.tunnel.url())
        .env("AWS_ENDPOINT_URL_ECR", service.url())
        .env("AWS_ENDPOINT_URL_STS", sts.url());
    let output = run.run().succeeds().never_says("hunter2").never_says("password");
    assert_eq!(output.json(), json!([]), "the registry was asked, and has no such tag");
    assert_eq!(place.registry.count("HEAD", Thing::Manifest), 2, "refused first, then with the password");
    assert_eq!((sts.requests().len(), service.requests().len()), (2, 1));
}

#[test]
fn the_error_of_a_cloud_provider_is_quoted() {
    let lab = room();
    let place = Place::new(ECR, "AWS", "ecr-password");
    let with = |service: &FakeService| {
        place
            .copy(&lab, "ecr")
            .env("AWS_ENDPOINT_URL_ECR", service.url())
            .env("AWS_ACCESS_KEY_ID", STATIC.id)
            .env("AWS_SECRET_ACCESS_KEY", STATIC.secret)
            .run()
    };
    let service = FakeService::start(|_| {
        Ok((
            400,
            r#"{"__type":"UnrecognizedClientException","message":"The security token is invalid."}"#.into(),
        ))
    });
    let _ = with(&service).fails(
        2,
        &[
            &format!("cannot log in to `{ECR}` (ecr): `{}` answered 400", service.host()),
            "(UnrecognizedClientException): The security token is invalid.",
        ],
    );
    assert_eq!(service.requests().len(), 1, "a refusal is final");
    let service = FakeService::start(|_| Ok((503, String::new())));
    let _ = with(&service).fails(
        4,
        &[
            &format!("cannot get credentials (ecr) for `{ECR}/team/app` after 4 attempts in "),
            "the response was 503",
        ],
    );
    assert_eq!(service.requests().len(), 4);
    let service = FakeService::start(|_| Ok((200, " ".repeat(300 * 1024))));
    let _ = with(&service).fails(2, &["answered with more than 262144 bytes"]);
    // Without credentials the request to the registry is anonymous.
    let _ = place.copy(&lab, "ecr").run().fails(1, &["no credentials for"]);
    let _ = place
        .copy(&lab, "foo")
        .run()
        .fails(2, &["there is no login `foo`; there are `gke`, `ecr`, `aks`, `github`"]);
}

#[test]
fn google_takes_a_key_a_token_or_the_machines_account() {
    let lab = room();
    let host = "europe-docker.pkg.dev";
    let key = r#"{"type":"service_account","private_key":"hunter2"}"#;
    let place = Place::new(host, "_json_key", key);
    let file = lab.write("key.json", key);
    place.succeeds(place.copy(&lab, "gke").env("GOOGLE_APPLICATION_CREDENTIALS", file));
    let place = Place::new(host, "oauth2accesstoken", "ya29.hunter2");
    place.succeeds(place.copy(&lab, "gar").env("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.hunter2"));
    let machine = FakeService::start(|request| {
        let sound = request.target == "/computeMetadata/v1/instance/service-accounts/default/token"
            && request.header("metadata-flavor") == Some("Google");
        let answer = r#"{"access_token":"ya29.hunter2","expires_in":3599,"token_type":"Bearer"}"#;
        if sound { Ok((200, answer.into())) } else { Err(format!("{request:?}")) }
    });
    place.succeeds(place.copy(&lab, "all").env("GCE_METADATA_HOST", machine.host()));
    assert_eq!(machine.requests().len(), 1);
}

/// STS and the service accounts of Google: each step accepts only the token of the step before.
fn google_federation() -> FakeService {
    FakeService::start(|request| {
        let has = |name: &str, value: &str| request.header(name) == Some(value);
        let fields = form(&request.body);
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        match (request.method.as_str(), request.target.as_str()) {
            ("GET", "/ci?audience=x") if has("authorization", "bearer ci-hunter2") => {
                Ok((200, r#"{"value":"subject.hunter2","count":1}"#.into()))
            }
            ("POST", "/v1/token")
                if field("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange"
                    && field("audience") == "//iam.googleapis.com/projects/1/pool"
                    && field("scope") == "https://www.googleapis.com/auth/cloud-platform"
                    && field("requested_token_type") == "urn:ietf:params:oauth:token-type:access_token"
                    && field("subject_token") == "subject.hunter2"
                    && field("subject_token_type") == "urn:ietf:params:oauth:token-type:jwt" =>
            {
                Ok((200, r#"{"access_token":"sts-hunter2","expires_in":3600,"token_type":"Bearer"}"#.into()))
            }
            ("POST", "/v1/account:generateAccessToken")
                if has("authorization", "Bearer sts-hunter2")
                    && request.body
                        == br#"{"scope":["https://www.googleapis.com/auth/cloud-platform"],"lifetime":"900s"}"# =>
            {
                Ok((200, r#"{"accessToken":"ya29.hunter2","expireTime":"2999-01-01T00:00:00Z"}"#.into()))
            }
            _ => Err(format!("{request:?} {fields:?}")),
        }
    })
}

#[test]
fn google_takes_a_foreign_identity_from_a_file_or_url() {
    let lab = room();
    let service = google_federation();
    let subject = lab.write("subject", "subject.hunter2\n");
    let document = |source: Value, account: bool| {
        let mut document = json!({
            "type": "external_account", "audience": "//iam.googleapis.com/projects/1/pool",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/v1/token", service.url()), "credential_source": source,
        });
        if account {
            let url = format!("{}/v1/account:generateAccessToken", service.url());
            document["service_account_impersonation_url"] = url.into();
            document["service_account_impersonation"] = json!({"token_lifetime_seconds": 900});
        }
        lab.write("federation.json", document.to_string())
    };
    let copy = |password: &'static str, file: &Path| {
        let place = Place::new("europe-docker.pkg.dev", "oauth2accesstoken", password);
        place.succeeds(place.copy(&lab, "gke").env("GOOGLE_APPLICATION_CREDENTIALS", file));
    };
    copy("sts-hunter2", &document(json!({"file": subject}), false));
    let url = json!({
        "url": format!("{}/ci?audience=x", service.url()), "headers": {"Authorization": "bearer ci-hunter2"},
        "format": {"type": "json", "subject_token_field_name": "value"},
    });
    copy("ya29.hunter2", &document(url, true));
    let asked =
        ["POST /v1/token", "GET /ci?audience=x", "POST /v1/token", "POST /v1/account:generateAccessToken"];
    assert_eq!(service.requests(), asked);
    let place = Place::new("europe-docker.pkg.dev", "oauth2accesstoken", "x");
    let run = place
        .copy(&lab, "gke")
        .env("GOOGLE_APPLICATION_CREDENTIALS", document(json!({"executable": {}}), false));
    let _ = run
        .run()
        .fails(2, &["federation.json` (`GOOGLE_APPLICATION_CREDENTIALS`)", "neither `file` nor `url`"]);
}

#[test]
fn github_takes_the_token_of_the_workflow() {
    let place = Place::new("ghcr.io", "octocat", "ghs_hunter2");
    let lab = room();
    let run = place.copy(&lab, "github").env("GITHUB_TOKEN", "ghs_hunter2").env("GITHUB_ACTOR", "octocat");
    place.succeeds(run);
}

/// Sends a request to a registry with this machine's name, which is configured as ACR, with the given environment.
fn acr(pairs: &[(&str, String)]) -> Result<Value, String> {
    const USER: &str = "00000000-0000-0000-0000-000000000000";
    let registry =
        FaultRegistry::start(Access::Basic(USER, "acr-refresh"), vec![]).with_exchange("aad-hunter2");
    let source = json!({"repository": format!("{}/team/app", registry.host()), "azure_acr": true});
    let lab = lab();
    let run = pairs.iter().fold(check(&lab, &source), |run, (name, value)| run.env(name, value));
    let output = run.run();
    if output.code == Some(0) { Ok(output.json()) } else { Err(output.stderr) }
}

#[test]
fn acr_exchanges_a_token_of_the_directory() {
    let lab = lab();
    let directory = |proof: &'static str| {
        FakeService::start(move |request| {
            let fields = form(&request.body);
            let has = |key: &str, value: &str| fields.iter().any(|(k, v)| k == key && v == value);
            let proven = match proof {
                "secret" => has("client_secret", "app&hunter2"),
                _ => {
                    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                    has("client_assertion_type", kind) && has("client_assertion", "federated.hunter2")
                }
            };
            let sound = request.target == "/tenant-1/oauth2/v2.0/token"
                && has("grant_type", "client_credentials")
                && has("client_id", "client-1")
                && has("scope", "https://management.azure.com/.default");
            let answer = r#"{"token_type":"Bearer","access_token":"aad-hunter2"}"#;
            if sound && proven { Ok((200, answer.into())) } else { Err(format!("{fields:?}")) }
        })
    };
    let app = |service: &FakeService| {
        vec![
            ("AZURE_AUTHORITY_HOST", format!("{}/", service.url())),
            ("AZURE_TENANT_ID", "tenant-1".to_owned()),
            ("AZURE_CLIENT_ID", "client-1".to_owned()),
        ]
    };
    let service = directory("secret");
    let mut pairs = app(&service);
    pairs.push(("AZURE_CLIENT_SECRET", "app&hunter2".to_owned()));
    assert_eq!(acr(&pairs), Ok(json!([])));
    let service = directory("federated");
    let file = lab.write("federated", "federated.hunter2\n");
    let mut pairs = app(&service);
    pairs.push(("AZURE_FEDERATED_TOKEN_FILE", path(&file)));
    assert_eq!(acr(&pairs), Ok(json!([])));
}

#[test]
fn acr_takes_the_identity_of_the_machine_or_the_app_service() {
    let answer = |token: &str| format!(r#"{{"access_token":"{token}","expires_in":"86399"}}"#);
    let resource = "resource=https%3A%2F%2Fmanagement.azure.com%2F";
    let plain = "resource=https://management.azure.com/";
    let machine = |token: &'static str| {
        FakeService::start(move |request| {
            let start = "/metadata/identity/oauth2/token?api-version=2018-02-01&";
            let query = request.target.strip_prefix(start).ok_or(format!("{request:?}"))?;
            let sound = query.starts_with(resource) || query.starts_with(plain);
            let sound =
                sound && query.ends_with("client_id=client-1") && request.header("metadata") == Some("true");
            if sound { Ok((200, answer(token))) } else { Err(format!("{request:?}")) }
        })
    };
    let client = ("AZURE_CLIENT_ID", "client-1".to_owned());
    let service = machine("aad-hunter2");
    assert_eq!(acr(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url()), client.clone()]), Ok(json!([])));
    let service = machine("stale-hunter2");
    let error = acr(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url()), client]).unwrap_err();
    assert!(error.contains("(aks): `127.0.0.1:") && error.contains("answered 401"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let service = FakeService::start(move |request| {
        let sound = request.target.starts_with("/msi/token?api-version=2019-08-01&resource=")
            && request.header("x-identity-header") == Some("app-hunter2");
        if sound { Ok((200, answer("aad-hunter2"))) } else { Err(format!("{request:?}")) }
    });
    let endpoint = ("IDENTITY_ENDPOINT", format!("{}/msi/token", service.url()));
    assert_eq!(acr(&[endpoint, ("IDENTITY_HEADER", "app-hunter2".to_owned())]), Ok(json!([])));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
