//! Azure Container Registry: a token of the directory is exchanged for the registry's refresh token.
//!
//! The identity is looked for in this order: client secret, federated token, App Service, the machine's managed
//! identity. Source: ACR "AAD-OAuth"; Microsoft identity platform "client credentials"; Azure "IMDS".

use std::path::PathBuf;

use serde::Deserialize;

use crate::model::{Method, Registry};

use super::super::url::{Scheme, Url, encode, origin};
use super::client::{CloudClient, CloudRequest, Reach, read_metadata};
use super::login::{Granted, LoginError, basic, read_file};
use crate::model::Secret;

/// The user name that goes with a refresh token.
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";
/// Life of a registry's refresh token, seconds: three hours; the response does not say it.
const REFRESH_LIFE: u64 = 3 * 3600;
/// The three clouds: end of their registries' names, resource of the tokens, place to log in.
const CLOUDS: [(&str, &str, &str); 3] = [
    (".azurecr.io", "https://management.azure.com/", "https://login.microsoftonline.com"),
    (".azurecr.us", "https://management.usgovcloudapi.net/", "https://login.microsoftonline.us"),
    (".azurecr.cn", "https://management.chinacloudapi.cn/", "https://login.chinacloudapi.cn"),
];

/// How to log in to ACR.
#[derive(Clone, Debug, Default)]
pub struct AzureLogin {
    /// The application's or managed identity's id.
    pub client_id: Option<String>,
    /// The directory.
    pub tenant_id: Option<String>,
    /// The application's secret.
    pub client_secret: Option<Secret>,
    /// File with a token of another identity provider; read each time, because it is renewed.
    pub federated_token_file: Option<PathBuf>,
    /// Where to log in, instead of the cloud's own place.
    pub authority: Option<String>,
    /// App Service and its kin give tokens here.
    pub app_service: Option<AppService>,
    /// Where a machine gets tokens, usually `http://169.254.169.254`; with `None` no request is sent.
    pub instance: Option<String>,
    /// A refresh token of the registry, if there is one already.
    pub refresh_token: Option<Secret>,
    /// Registries of ACR under other names.
    pub registries: Vec<String>,
    /// Whether finding no identity is an error.
    pub required: bool,
}

/// Where App Service, Functions and Container Apps give tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppService {
    /// `IDENTITY_ENDPOINT`.
    pub endpoint: String,
    /// `IDENTITY_HEADER`.
    pub header: Secret,
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: String,
}

#[derive(Deserialize)]
struct RefreshToken {
    refresh_token: String,
}

impl AzureLogin {
    pub(super) fn is_for(&self, registry: &Registry) -> bool {
        let host = registry.as_str();
        CLOUDS.iter().any(|(end, ..)| host.ends_with(end)) || self.registries.iter().any(|own| own == host)
    }

    pub(super) fn ask(
        &self,
        registry: &Registry,
        now: u64,
        client: &dyn CloudClient,
    ) -> Result<Granted, LoginError> {
        let expires = Some(now + REFRESH_LIFE);
        if let Some(token) = &self.refresh_token {
            return Ok(Granted { credential: basic(NULL_USER, token.expose()), expires });
        }
        let (_, resource, authority) =
            CLOUDS.into_iter().find(|(end, ..)| registry.as_str().ends_with(end)).unwrap_or(CLOUDS[0]);
        let token = self.directory_token(resource, authority, client)?;
        // Only the registry gets the token, and never in plain text beyond this machine.
        let scheme = if registry.is_loopback() { Scheme::Http } else { Scheme::Https };
        let origin = origin(scheme, registry.api_host()).ok_or(LoginError::Absent)?;
        let url = Url::new(origin, "/oauth2/exchange");
        let mut body = format!(
            "grant_type=access_token&service={}&access_token={}",
            encode(registry.as_str()),
            encode(token.expose())
        );
        if let Some(tenant) = &self.tenant_id {
            body.push_str(&format!("&tenant={}", encode(tenant)));
        }
        let response = client.send(&form(url.clone(), body))?.success(&url)?;
        let found: RefreshToken = serde_json::from_slice(&response)
            .map_err(|_| LoginError::Refused(format!("`{}` sent no refresh token", url.origin())))?;
        Ok(Granted { credential: basic(NULL_USER, found.refresh_token), expires })
    }

    /// Gets a token of the directory.
    fn directory_token(
        &self,
        resource: &str,
        authority: &str,
        client: &dyn CloudClient,
    ) -> Result<Secret, LoginError> {
        let invalid = |problem| LoginError::Refused(format!("the place to log in {problem}"));
        if let (Some(id), Some(tenant)) = (&self.client_id, &self.tenant_id)
            && (self.client_secret.is_some() || self.federated_token_file.is_some())
        {
            let authority = self.authority.as_deref().unwrap_or(authority).trim_end_matches('/');
            let url = format!("{authority}/{}/oauth2/v2.0/token", encode(tenant));
            let url = Url::parse(&url).map_err(invalid)?;
            let proof = match (&self.client_secret, &self.federated_token_file) {
                (Some(secret), _) => format!("client_secret={}", encode(secret.expose())),
                (None, Some(path)) => format!(
                    "client_assertion_type={}&client_assertion={}",
                    encode("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    encode(read_file(path)?.expose())
                ),
                (None, None) => return Err(LoginError::Absent),
            };
            let scope = encode(&format!("{resource}.default"));
            let id = encode(id);
            let body = format!("grant_type=client_credentials&client_id={id}&scope={scope}&{proof}");
            let response = client.send(&form(url.clone(), body))?.success(&url)?;
            return access_token(&response, &url);
        }
        let (base, headers) = match (&self.app_service, &self.instance) {
            (Some(service), _) => (
                format!("{}?api-version=2019-08-01", service.endpoint),
                vec![("x-identity-header", service.header.expose().to_owned())],
            ),
            (None, Some(instance)) => (
                format!(
                    "{}/metadata/identity/oauth2/token?api-version=2018-02-01",
                    instance.trim_end_matches('/')
                ),
                vec![("metadata", "true".to_owned())],
            ),
            (None, None) => return Err(LoginError::Absent),
        };
        let mut url = Url::parse(&base).map_err(invalid)?.with_query("resource", resource);
        if let Some(id) = &self.client_id {
            url = url.with_query("client_id", id);
        }
        let response = read_metadata(client, &url, headers)?;
        access_token(&response, &url)
    }
}

fn form(url: Url, body: String) -> CloudRequest {
    let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
    CloudRequest { method: Method::Post, url, headers, body, reach: Reach::Far }
}

fn access_token(bytes: &[u8], url: &Url) -> Result<Secret, LoginError> {
    let found: AccessToken = serde_json::from_slice(bytes)
        .map_err(|_| LoginError::Refused(format!("`{}` sent no access token", url.origin())))?;
    Ok(found.access_token.into())
}

/// Reads a response in every form that is known here, and returns what was made of it, as it shows in a log.
pub(super) fn read_every_response(body: &[u8]) -> Vec<String> {
    let url = Url::parse("https://login.example/").expect("it is a URL");
    let form = serde_json::from_slice::<RefreshToken>(body).map(|found| Secret::from(found.refresh_token));
    let form = form.map_or_else(|_| "none".to_owned(), |secret| format!("{secret:?}"));
    vec![
        form,
        access_token(body, &url)
            .map_or_else(|problem| format!("{problem:?}"), |secret| format!("{secret:?}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_registries_are_known_by_their_names() {
        let login = AzureLogin { registries: vec!["images.corp.example".into()], ..AzureLogin::default() };
        for (host, expected) in [
            ("team.azurecr.io", true),
            ("team.azurecr.us", true),
            ("images.corp.example", true),
            ("azurecr.io.evil.example", false),
            ("evilazurecr.io", false),
        ] {
            assert_eq!(login.is_for(&host.parse().unwrap()), expected, "{host}");
        }
    }
}
