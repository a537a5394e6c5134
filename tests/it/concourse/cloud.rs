//! Logins at cloud providers with the keys of a `source`, in put, check and get, against fake services that check every
//! request and compute every signature. The registries have their providers' names; a proxy maps them to this machine.

use serde_json::{Value, json};
use testkit::cloud::{AwsKey, FakeService, Tunnel, check_signature, form};
use testkit::fault::{Access, FaultRegistry, Thing};

use crate::concourse::{prepared, room};

const STATIC: AwsKey =
    AwsKey { id: "AKIASTATIC", secret: "static/hunter2", session: Some("static//session==") };
const ROLE: AwsKey = AwsKey { id: "ASIAROLE", secret: "role/hunter2", session: Some("role//session==") };
const REGION: &str = "eu-west-1";
/// `AWS:ecr-password`, base64.
const TOKEN: &str = "QVdTOmVjci1wYXNzd29yZA==";
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";

/// Puts, checks and gets with one source and the worker's environment; no secret is printed.
fn round(registry: &FaultRegistry, host: &str, source: &Value, environment: &[(&str, String)]) {
    let (lab, digest) = room();
    let tunnel = Tunnel::start(host, &registry.host());
    let mut source = source.clone();
    source["tag"] = json!("v1");
    // Behind the proxy there is no TLS.
    source["insecure"] = json!(true);
    let step = |name: &str, mut request: Value| {
        request["source"] = source.clone();
        let run = prepared(&lab, name, &request).env("AWS_EC2_METADATA_DISABLED", "true");
        let run = run.env("http_proxy", tunnel.url()).env("https_proxy", tunnel.url());
        let run = run.env("no_proxy", "127.0.0.1");
        let run = environment.iter().fold(run, |run, (name, value)| run.env(name, value));
        run.run().succeeds().never_says("hunter2").never_says("ecr-password").never_says("acr-refresh").json()
    };
    assert_eq!(step("check", json!({})), json!([]));
    let put = step("out", json!({"params": {"image": "image/image.tar"}}));
    let version = json!({"tag": "v1", "digest": digest});
    assert_eq!(put["version"], version);
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    assert_eq!(step("check", json!({})), json!([version]));
    assert_eq!(step("in", json!({"version": version}))["version"], version);
    assert_eq!(lab.read("get/rootfs/etc/app.conf"), b"a=1");
    assert_eq!(lab.read("get/repository"), source["repository"].as_str().unwrap().as_bytes());
}

fn ecr(key: AwsKey) -> FakeService {
    FakeService::start(move |request| {
        check_signature(request, key, REGION, "ecr")?;
        let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
        if request.header("x-amz-target") != Some(target) || request.body != b"{}" {
            return Err(format!("{request:?}"));
        }
        let token =
            json!({"authorizationToken": TOKEN, "expiresAt": 4.1e9, "proxyEndpoint": "https://ecr.example"});
        Ok((200, json!({"authorizationData": [token]}).to_string()))
    })
}

#[test]
fn ecr_by_temporary_keys_with_a_bare_repository() {
    let registry = FaultRegistry::start(Access::Basic("AWS", "ecr-password"), vec![]);
    let service = ecr(STATIC);
    let source = json!({
        "repository": "team/app", "aws_region": REGION, "aws_account_id": 123_456_789_012_u64,
        "aws_access_key_id": STATIC.id, "aws_secret_access_key": STATIC.secret, "aws_session_token": STATIC.session,
    });
    let environment = [("AWS_ENDPOINT_URL_ECR", service.url())];
    round(&registry, "123456789012.dkr.ecr.eu-west-1.amazonaws.com", &source, &environment);
    assert_eq!(service.requests(), ["POST /"; 4], "one login for each of the four steps");
}

#[test]
fn keys_of_put_params_replace_those_of_the_source() {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let registry = FaultRegistry::start(Access::Basic("AWS", "ecr-password"), vec![]);
    let service = ecr(STATIC);
    let (lab, digest) = room();
    let tunnel = Tunnel::start(host, &registry.host());
    let source = json!({
        "repository": format!("{host}/team/app"), "tag": "v1", "insecure": true, "aws_region": REGION,
        "aws_access_key_id": "AKIAOLD", "aws_secret_access_key": "old/hunter2",
    });
    let params = json!({
        "image": "image/image.tar", "aws_access_key_id": STATIC.id, "aws_secret_access_key": STATIC.secret,
        "aws_session_token": STATIC.session, "aws_role_arn": "", "aws_role_arns": [],
    });
    let run = prepared(&lab, "out", &json!({"source": source, "params": params}));
    let run = run.env("http_proxy", tunnel.url()).env("https_proxy", tunnel.url());
    let run = run.env("no_proxy", "127.0.0.1").env("AWS_ENDPOINT_URL_ECR", service.url());
    let put = run.run().succeeds().never_says("hunter2").never_says("ecr-password").json();
    assert_eq!(put["version"]["digest"], digest.as_str());
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    // The fake service computes the signature and refuses any other key.
    assert_eq!(service.requests(), ["POST /"]);
}

#[test]
fn ecr_by_a_chain_of_roles() {
    let registry = FaultRegistry::start(Access::Basic("AWS", "ecr-password"), vec![]);
    let service = ecr(ROLE);
    let sts = FakeService::start(|request| {
        let fields = form(&request.body);
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        // The pipeline's keys assume the first role, and its keys the second.
        let key = if field("RoleArn").ends_with("/first") { STATIC } else { ROLE };
        check_signature(request, key, REGION, "sts")?;
        if field("Action") != "AssumeRole" {
            return Err(format!("{fields:?}"));
        }
        let keys = "<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role/hunter2</SecretAccessKey>\
                    <SessionToken>role//session==</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>";
        Ok((
            200,
            format!("<AssumeRoleResponse><AssumeRoleResult>{keys}</AssumeRoleResult></AssumeRoleResponse>"),
        ))
    });
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let source = json!({
        "repository": format!("{host}/team/app"), "aws_region": REGION,
        "aws_access_key_id": STATIC.id, "aws_secret_access_key": STATIC.secret, "aws_session_token": STATIC.session,
        "aws_role_arns": ["arn:aws:iam::1:role/first", "arn:aws:iam::1:role/second"],
    });
    let environment = [("AWS_ENDPOINT_URL_ECR", service.url()), ("AWS_ENDPOINT_URL_STS", sts.url())];
    round(&registry, host, &source, &environment);
    assert_eq!((sts.requests().len(), service.requests().len()), (8, 4));
}

#[test]
fn ecr_by_the_workers_own_role() {
    let registry = FaultRegistry::start(Access::Basic("AWS", "ecr-password"), vec![]);
    let service = ecr(ROLE);
    let container = FakeService::start(|_| {
        let keys = json!({"Code": "Success", "AccessKeyId": ROLE.id, "SecretAccessKey": ROLE.secret,
                          "Token": ROLE.session, "Expiration": "2999-01-01T00:00:00Z"});
        Ok((200, keys.to_string()))
    });
    let source =
        json!({"repository": "team/app", "aws_region": REGION, "aws_ecr_registry_id": "123456789012"});
    let environment = [
        ("AWS_ENDPOINT_URL_ECR", service.url()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", container.url())),
    ];
    round(&registry, "123456789012.dkr.ecr.eu-west-1.amazonaws.com", &source, &environment);
}

#[test]
fn acr_by_a_managed_identity() {
    let registry =
        FaultRegistry::start(Access::Basic(NULL_USER, "acr-refresh"), vec![]).with_exchange("aad-hunter2");
    let machine = FakeService::start(|request| {
        let start = "/metadata/identity/oauth2/token?api-version=2018-02-01&";
        let query = request.target.strip_prefix(start).ok_or(format!("{request:?}"))?;
        let sound = query.ends_with("client_id=client-1") && request.header("metadata") == Some("true");
        let answer = r#"{"access_token":"aad-hunter2","expires_in":"86399"}"#;
        if sound { Ok((200, answer.to_owned())) } else { Err(format!("{request:?}")) }
    });
    // With this machine's name, because a directory's token is never sent without TLS to another host.
    let host = registry.host();
    let source = json!({
        "repository": format!("{host}/team/app"), "azure_acr": true, "azure_client_id": "client-1",
        "azure_tenant_id": "tenant-1", "azure_environment": "AzurePublic",
    });
    round(&registry, &host, &source, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url())]);
    assert_eq!(machine.requests().len(), 4);
}

#[test]
fn google_by_a_key_file_or_a_token() {
    let host = "europe-docker.pkg.dev";
    let key = "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN hunter2\\n\"\n}\n";
    for (username, password) in [("_json_key", key), ("oauth2accesstoken", "ya29.hunter2")] {
        // The line break at the end of a key file is not part of the password.
        let registry = FaultRegistry::start(Access::Basic(username, password.trim_end()), vec![]);
        let source = json!({
            "repository": format!("{host}/team/app"), "username": username, "password": password,
        });
        round(&registry, host, &source, &[]);
        assert_eq!(registry.count("GET", Thing::Token), 0);
    }
}
