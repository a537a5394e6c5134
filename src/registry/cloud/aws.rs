//! Amazon: the keys that are found, and for ECR from them to a user name and password.
//!
//! Keys are looked for in the order of AWS's own tools: given ones, a web identity, a profile, the container's
//! role, the machine's role (IMDSv2 only). Source: ECR `GetAuthorizationToken`; STS `AssumeRole`,
//! `AssumeRoleWithWebIdentity`; EC2 "Use IMDSv2"; ECS "Task IAM role".

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::{Method, Registry, time};

use super::super::credential::Credential;
use super::super::url::{Url, encode};
use super::client::{CloudClient, CloudRequest, Reach, element};
use super::clock;
use super::login::{Granted, LoginError, basic, may_be_plain, read_file};
use super::sigv4::{AwsKeys, Scope, sign};
use crate::model::Secret;

/// Domains under which ECR's private registries live.
const DOMAINS: [&str; 6] =
    ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "c2s.ic.gov", "sc2s.sgov.gov", "on.aws"];
/// Where ECR's public registry is logged in to, wherever one is.
const PUBLIC_REGION: &str = "us-east-1";
/// Life of the token that opens the machine's metadata, seconds.
const METADATA_TOKEN_LIFE: &str = "300";

/// How to log in to ECR.
#[derive(Clone, Debug, Default)]
pub struct AwsLogin {
    /// Keys that are given.
    pub keys: Option<AwsKeys>,
    /// A token of an identity provider that STS exchanges.
    pub web_identity: Option<WebIdentity>,
    /// Keys of the profile in the shared credentials file.
    pub profile: Option<AwsKeys>,
    /// Where a container gets the keys of its role.
    pub container: Option<ContainerCredentials>,
    /// Where a machine gets the keys of its role, usually `http://169.254.169.254`; with `None` no request is sent.
    pub instance: Option<String>,
    /// Roles to assume, one after the other.
    pub roles: Vec<String>,
    /// Name under which assumed roles appear in logs.
    pub session_name: Option<String>,
    /// Region of STS; the registry's own otherwise.
    pub region: Option<String>,
    /// Other places of the services.
    pub endpoints: AwsEndpoints,
    /// Whether finding no keys is an error.
    pub required: bool,
}

/// A token that STS exchanges for keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// File with the token; read each time, because it is renewed.
    pub token_file: PathBuf,
    /// The role.
    pub role: String,
}

/// Where a container gets its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerCredentials {
    /// The whole URL; plain http only to this machine and AWS's own link-local addresses.
    pub url: String,
    /// What is sent as `Authorization`.
    pub token: Option<Secret>,
    /// A file with it, read each time.
    pub token_file: Option<PathBuf>,
}

/// Other places of AWS's services: `AWS_ENDPOINT_URL_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsEndpoints {
    /// ECR.
    pub ecr: Option<String>,
    /// ECR's public registry.
    pub ecr_public: Option<String>,
    /// STS.
    pub sts: Option<String>,
}

/// A registry of ECR, read off its host name.
#[derive(Debug, PartialEq, Eq)]
struct EcrEndpoint {
    region: String,
    domain: String,
    public: bool,
    fips: bool,
}

impl EcrEndpoint {
    /// Reads `<account>.dkr.ecr[-fips].<region>.<domain>`, `<account>.dkr-ecr[-fips].<region>.on.aws`,
    /// or `public.ecr.aws`.
    fn of(registry: &Registry) -> Option<Self> {
        let host = registry.as_str();
        if host == "public.ecr.aws" {
            let (region, domain) = (PUBLIC_REGION.to_owned(), "amazonaws.com".to_owned());
            return Some(Self { region, domain, public: true, fips: false });
        }
        let (account, rest) = host.split_once(".dkr.ecr").or_else(|| host.split_once(".dkr-ecr"))?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let (fips, rest) = match rest.strip_prefix("-fips.") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix('.')?),
        };
        let (region, domain) = rest.split_once('.')?;
        let is_region =
            region.contains('-') && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_account && is_region && DOMAINS.contains(&domain)).then(|| Self {
            region: region.to_owned(),
            domain: domain.to_owned(),
            public: false,
            fips,
        })
    }

    fn endpoint(&self) -> String {
        let Self { region, domain, public, fips } = self;
        match (public, *fips, domain.as_str()) {
            (true, ..) => format!("https://api.ecr-public.{region}.amazonaws.com"),
            (_, true, "on.aws") => format!("https://ecr-fips.{region}.api.aws"),
            (_, false, "on.aws") => format!("https://ecr.{region}.api.aws"),
            (_, true, _) => format!("https://ecr-fips.{region}.{domain}"),
            (_, false, _) => format!("https://api.ecr.{region}.{domain}"),
        }
    }
}

/// Keys that expire.
pub(in super::super) struct TemporaryKeys {
    pub(in super::super) keys: AwsKeys,
    pub(in super::super) expires: Option<u64>,
}

impl AwsLogin {
    pub(super) fn is_for(&self, registry: &Registry) -> bool {
        EcrEndpoint::of(registry).is_some()
    }

    pub(super) fn ask(
        &self,
        registry: &Registry,
        now: u64,
        client: &dyn CloudClient,
    ) -> Result<Granted, LoginError> {
        let place = EcrEndpoint::of(registry).ok_or(LoginError::Absent)?;
        let found = self.temporary_keys(&place.region, now, client)?;
        let (endpoint, service, target) = if place.public {
            (&self.endpoints.ecr_public, "ecr-public", "SpencerFrontendService.GetAuthorizationToken")
        } else {
            let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
            (&self.endpoints.ecr, "ecr", target)
        };
        let url = endpoint_url(&endpoint.clone().unwrap_or_else(|| place.endpoint()))?;
        let body = "{}".to_owned();
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", target.to_owned()),
        ];
        let scope = Scope { region: &place.region, service, time: time::format_basic(now) };
        let signature = sign("POST", &url, &headers, body.as_bytes(), &found.keys, &scope);
        headers.extend(signature);
        let ask = CloudRequest { method: Method::Post, url: url.clone(), headers, body, reach: Reach::Far };
        let response = client.send(&ask)?.success(&url)?;
        let (credential, expires) = read_token(&response)
            .ok_or_else(|| LoginError::Refused(format!("`{}` sent no authorization token", url.origin())))?;
        let expires = match (expires, found.expires) {
            (Some(token), Some(keys)) => Some(token.min(keys.max(now + 900))),
            (token, _) => token,
        };
        Ok(Granted { credential, expires })
    }

    /// Finds keys and assumes the roles, with the STS of a region.
    ///
    /// Errors: [`LoginError::Absent`] if there is nothing to log in with.
    pub(in super::super) fn temporary_keys(
        &self,
        region: &str,
        now: u64,
        client: &dyn CloudClient,
    ) -> Result<TemporaryKeys, LoginError> {
        let mut found = self.find(region, client)?;
        for role in &self.roles {
            found = self.assume(role, &found.keys, region, now, client)?;
        }
        Ok(found)
    }

    /// Finds keys.
    fn find(&self, region: &str, client: &dyn CloudClient) -> Result<TemporaryKeys, LoginError> {
        let lasting = |keys: &AwsKeys| TemporaryKeys { keys: keys.clone(), expires: None };
        if let Some(keys) = &self.keys {
            return Ok(lasting(keys));
        }
        if let Some(identity) = &self.web_identity {
            return self.exchange(identity, region, client);
        }
        if let Some(keys) = &self.profile {
            return Ok(lasting(keys));
        }
        if let Some(container) = &self.container {
            return container.ask(client);
        }
        let Some(instance) = &self.instance else { return Err(LoginError::Absent) };
        instance_keys(instance, client)
    }

    fn sts(&self, region: &str) -> Result<(Url, String), LoginError> {
        let region = self.region.clone().unwrap_or_else(|| region.to_owned());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = self.endpoints.sts.clone().unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
        Ok((endpoint_url(&url)?, region))
    }

    fn session_name(&self) -> String {
        encode(self.session_name.as_deref().unwrap_or("imgrelay"))
    }

    /// Assumes a role with the keys of another one.
    fn assume(
        &self,
        role: &str,
        keys: &AwsKeys,
        region: &str,
        now: u64,
        client: &dyn CloudClient,
    ) -> Result<TemporaryKeys, LoginError> {
        let (url, region) = self.sts(region)?;
        let body = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName={}",
            encode(role),
            self.session_name()
        );
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let scope = Scope { region: &region, service: "sts", time: time::format_basic(now) };
        headers.extend(sign("POST", &url, &headers, body.as_bytes(), keys, &scope));
        let ask = CloudRequest { method: Method::Post, url: url.clone(), headers, body, reach: Reach::Far };
        let response = client.send(&ask)?.success(&url)?;
        read_sts(&response, &url)
    }

    /// Exchanges the token of an identity provider; such a request is not signed.
    fn exchange(
        &self,
        identity: &WebIdentity,
        region: &str,
        client: &dyn CloudClient,
    ) -> Result<TemporaryKeys, LoginError> {
        let token = read_file(&identity.token_file)?;
        let (url, _) = self.sts(region)?;
        let body = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
            encode(&identity.role),
            self.session_name(),
            encode(token.expose())
        );
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let ask = CloudRequest { method: Method::Post, url: url.clone(), headers, body, reach: Reach::Far };
        let response = client.send(&ask)?.success(&url)?;
        read_sts(&response, &url)
    }
}

/// Parses an endpoint; ours end without a path.
fn endpoint_url(text: &str) -> Result<Url, LoginError> {
    let text = text.trim_end_matches('/');
    Url::parse(&format!("{text}/"))
        .map_err(|problem| LoginError::Refused(format!("endpoint `{text}` {problem}")))
}

/// Keys as containers and machines get them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleKeys {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

fn read_role_keys(bytes: &[u8], url: &Url) -> Result<TemporaryKeys, LoginError> {
    let found: RoleKeys = serde_json::from_slice(bytes)
        .map_err(|_| LoginError::Refused(format!("`{}` sent no access keys", url.origin())))?;
    let keys = AwsKeys {
        access_key_id: found.access_key_id,
        secret_access_key: found.secret_access_key.into(),
        session_token: found.token.filter(|token| !token.is_empty()).map(Secret::from),
    };
    Ok(TemporaryKeys { keys, expires: found.expiration.as_deref().and_then(clock::parse_expiry) })
}

impl ContainerCredentials {
    fn ask(&self, client: &dyn CloudClient) -> Result<TemporaryKeys, LoginError> {
        let url = Url::parse(&self.url)
            .map_err(|problem| LoginError::Refused(format!("the container's credentials URL {problem}")))?;
        if !url.is_https() && !may_be_plain(&url) {
            let host = url.origin();
            return Err(LoginError::Refused(format!(
                "the container's credentials are at `{host}` in plain http, which is for this machine only"
            )));
        }
        let token = match &self.token_file {
            Some(path) => Some(read_file(path)?),
            None => self.token.clone(),
        };
        let headers = token.map(|token| ("authorization", token.expose().to_owned())).into_iter().collect();
        let ask = CloudRequest {
            method: Method::Get,
            url: url.clone(),
            headers,
            body: String::new(),
            reach: Reach::Near,
        };
        let response = client.send(&ask).map_err(|problem| match problem {
            // The user named it, so its absence is an error.
            LoginError::Absent => LoginError::Refused(format!("no server answers at `{}`", url.origin())),
            other => other,
        })?;
        read_role_keys(&response.success(&url)?, &url)
    }
}

/// Asks the machine for the keys of its role.
fn instance_keys(instance: &str, client: &dyn CloudClient) -> Result<TemporaryKeys, LoginError> {
    let base = endpoint_url(instance)?;
    let send = |method, path: &str, headers| {
        let url = Url::new(base.origin().clone(), path);
        client.send(&CloudRequest { method, url, headers, body: String::new(), reach: Reach::Near })
    };
    let life = vec![("x-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_LIFE.to_owned())];
    let response = send(Method::Put, "/latest/api/token", life)?;
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap_or_default().trim().to_owned();
        // It goes into a header, and the role's name into a path.
        (!text.is_empty() && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))).then_some(text)
    };
    let token = match response.status {
        200 => text(response.body).ok_or(LoginError::Absent)?,
        _ => return Err(LoginError::Absent),
    };
    let with_token = || vec![("x-aws-ec2-metadata-token", token.clone())];
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let response = send(Method::Get, ROLES, with_token())?;
    let role = match response.status {
        // A machine without a role.
        404 => return Err(LoginError::Absent),
        _ => text(response.success(&base)?).ok_or(LoginError::Absent)?,
    };
    let response = send(Method::Get, &format!("{ROLES}{}", encode(&role)), with_token())?;
    read_role_keys(&response.success(&base)?, &base)
}

fn read_sts(bytes: &[u8], url: &Url) -> Result<TemporaryKeys, LoginError> {
    let text = String::from_utf8_lossy(bytes);
    let found = |name| element(&text, name).map(str::to_owned);
    match (found("AccessKeyId"), found("SecretAccessKey"), found("SessionToken")) {
        (Some(access_key_id), Some(secret), Some(token)) => {
            let session_token = Some(Secret::from(token));
            let keys = AwsKeys { access_key_id, secret_access_key: secret.into(), session_token };
            Ok(TemporaryKeys { keys, expires: element(&text, "Expiration").and_then(clock::parse_expiry) })
        }
        _ => Err(LoginError::Refused(format!("`{}` sent no access keys", url.origin()))),
    }
}

/// Reads ECR's response: a list with one entry, or for the public registry the entry itself.
fn read_token(bytes: &[u8]) -> Option<(Credential, Option<u64>)> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let data = json.get("authorizationData")?;
    let data = data.get(0).unwrap_or(data);
    let token = STANDARD.decode(data.get("authorizationToken")?.as_str()?).ok()?;
    let token = String::from_utf8(token).ok()?;
    let (username, password) = token.split_once(':')?;
    // Seconds since 1970, with a fraction.
    let expires = data.get("expiresAt").and_then(serde_json::Value::as_f64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and NaN is 0"
    )]
    let expires = expires.map(|seconds| seconds as u64);
    Some((basic(username, password), expires))
}

/// Reads a response in every form that is known here, and returns what was made of it, as it shows in a log.
pub(super) fn read_every_response(body: &[u8]) -> Vec<String> {
    let url = Url::parse("https://keys.example/").expect("it is a URL");
    let keys = [read_role_keys(body, &url), read_sts(body, &url)];
    let mut read: Vec<String> = keys
        .into_iter()
        .map(|keys| match keys {
            Ok(TemporaryKeys { keys, expires }) => format!("{keys:?} {expires:?}"),
            Err(problem) => format!("{problem:?}"),
        })
        .collect();
    read.push(format!("{:?}", read_token(body)));
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_ecr_are_known_by_their_names() {
        for (host, endpoint) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("https://api.ecr.eu-west-1.amazonaws.com")),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some("https://ecr-fips.us-gov-west-1.amazonaws.com"),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some("https://api.ecr.cn-north-1.amazonaws.com.cn"),
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", Some("https://ecr.eu-west-1.api.aws")),
            ("public.ecr.aws", Some("https://api.ecr-public.us-east-1.amazonaws.com")),
            ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
            ("123456789012.dkr.ecr.eu-west-1.evil.example", None),
            ("public.ecr.aws.evil.example", None),
            ("reg.example", None),
        ] {
            let place = EcrEndpoint::of(&host.parse().unwrap());
            assert_eq!(place.as_ref().map(EcrEndpoint::endpoint).as_deref(), endpoint, "{host}");
        }
    }

    #[test]
    fn responses_of_ecr_are_read() {
        let entry = r#"{"authorizationToken":"QVdTOnA6dw==","expiresAt":1.7E9}"#;
        let read = |text: String| read_token(text.as_bytes());
        let expected = Some((basic("AWS", "p:w"), Some(1_700_000_000)));
        assert_eq!(read(format!(r#"{{"authorizationData":[{entry}]}}"#)), expected);
        assert_eq!(read(format!(r#"{{"authorizationData":{entry}}}"#)), expected);
        for wrong in
            ["", "{}", r#"{"authorizationData":[]}"#, r#"{"authorizationData":[{"authorizationToken":"!"}]}"#]
        {
            assert_eq!(read(wrong.to_owned()), None, "{wrong}");
        }
    }
}
