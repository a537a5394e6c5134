//! Which cloud logins are active, and the credentials that the environment has for them.
//!
//! Names and variables are imgpkg's and the providers' own; no provider gets a request before one of its registries does.

use std::path::Path;
use std::sync::Arc;

use super::given::{CredentialFlags, CredentialSetting, CredentialsError, read_text};
use crate::front::env::{self, Env};
use crate::front::flag::Flag;
use crate::front::system;
use crate::registry::{
    AppService, AwsEndpoints, AwsKeys, AwsLogin, AzureLogin, CloudLogin, CloudLogins, ContainerCredentials,
    CredentialSource, GitHubLogin, GoogleFederation, GoogleLogin, Secret, WebIdentity,
};

/// The logins in imgpkg's order, each with its accepted names.
const LOGINS: [(&str, &[&str]); 4] = [
    ("gke", &["gke", "gcr", "gar", "google"]),
    ("ecr", &["ecr", "aws"]),
    ("aks", &["aks", "acr", "azure"]),
    ("github", &["github", "ghcr"]),
];
/// The metadata service of AWS's and Azure's machines.
const METADATA: &str = "http://169.254.169.254";
/// The service with the role's keys in a container of ECS.
const ECS: &str = "http://169.254.170.2";

/// Makes the source of cloud logins, if any is active.
///
/// Errors: an unknown name; a key file that cannot be read or is of another kind.
pub(super) fn source(
    variables: &Env,
    flags: &CredentialFlags,
) -> Result<Option<CredentialSource>, CredentialsError> {
    let mut logins = Vec::new();
    for name in active(variables, flags)? {
        match name {
            "gke" => logins.push(CloudLogin::Google(google(variables)?)),
            "ecr" => logins.push(CloudLogin::Aws(Box::new(aws(variables)?))),
            "aks" => logins.push(CloudLogin::Azure(Box::new(azure(variables)))),
            _ => {
                let token = variables.text(env::GITHUB_TOKEN).map(Secret::new);
                let actor = variables.text(env::GITHUB_ACTOR).map(str::to_owned);
                logins.extend(token.map(|token| CloudLogin::GitHub(GitHubLogin { actor, token })));
            }
        }
    }
    Ok((!logins.is_empty()).then(|| cloud(logins)))
}

/// Makes the source of these logins.
pub(in crate::front) fn cloud(logins: Vec<CloudLogin>) -> CredentialSource {
    CredentialSource::Cloud(Arc::new(CloudLogins::new(logins, system::clock())))
}

/// Returns the logins to use, each once, in the order they were named.
fn active(variables: &Env, flags: &CredentialFlags) -> Result<Vec<&'static str>, CredentialsError> {
    let all = || LOGINS.iter().map(|(name, _)| *name).collect();
    let on = |value: &str| matches!(value, "true" | "1" | "t" | "TRUE" | "True");
    let (names, setting): (Vec<&str>, _) = if !flags.keychains.is_empty() {
        (
            flags.keychains.iter().map(String::as_str).collect(),
            CredentialSetting::Flag(Flag::ACTIVATE_KEYCHAIN),
        )
    } else if variables.text(env::IMGPKG_ENABLE_IAAS_AUTH).is_some_and(on) {
        return Ok(all());
    } else {
        let list = variables.text(env::IMGPKG_ACTIVE_KEYCHAINS).unwrap_or_default();
        let variable = env::IMGPKG_ACTIVE_KEYCHAINS.to_owned();
        (list.split(',').collect(), CredentialSetting::Variable(variable))
    };
    let mut found = Vec::new();
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if name == "all" {
            return Ok(all());
        }
        let known = LOGINS.iter().find(|(_, names)| names.contains(&name.to_ascii_lowercase().as_str()));
        let (known, _) = known.ok_or_else(|| CredentialsError::UnknownKeychain {
            name: name.to_owned(),
            setting: setting.clone(),
            known: available(),
        })?;
        if !found.contains(known) {
            found.push(*known);
        }
    }
    Ok(found)
}

/// Returns the names that `--activate-keychain` takes, for messages.
fn available() -> String {
    let names: Vec<String> = LOGINS.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// Collects the environment's credentials for AWS.
pub(in crate::front) fn aws(variables: &Env) -> Result<AwsLogin, CredentialsError> {
    let text = |name: &str| variables.text(name).map(str::to_owned);
    let secret = |name: &str| variables.text(name).map(Secret::new);
    let keys = match (text(env::AWS_ACCESS_KEY_ID), secret(env::AWS_SECRET_ACCESS_KEY)) {
        (Some(access_key_id), Some(secret_access_key)) => {
            let session_token = secret(env::AWS_SESSION_TOKEN);
            Some(AwsKeys { access_key_id, secret_access_key, session_token })
        }
        (None, None) => None,
        (given, _) => {
            let names = [env::AWS_ACCESS_KEY_ID, env::AWS_SECRET_ACCESS_KEY];
            let [given, missing] = if given.is_some() { names } else { [names[1], names[0]] };
            let [given, missing] = [given, missing].map(|name| CredentialSetting::Variable(name.to_owned()));
            return Err(CredentialsError::Incomplete { given, missing });
        }
    };
    let web_identity = variables
        .path(env::AWS_WEB_IDENTITY_TOKEN_FILE)
        .zip(text(env::AWS_ROLE_ARN))
        .map(|(token_file, role)| WebIdentity { token_file, role });
    let full = text(env::AWS_CONTAINER_CREDENTIALS_FULL_URI);
    let relative = text(env::AWS_CONTAINER_CREDENTIALS_RELATIVE_URI);
    let container = relative.map(|path| format!("{ECS}{path}")).or(full).map(|url| ContainerCredentials {
        url,
        token: secret(env::AWS_CONTAINER_AUTHORIZATION_TOKEN),
        token_file: variables.path(env::AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE),
    });
    let disabled =
        text(env::AWS_EC2_METADATA_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let instance = text(env::AWS_EC2_METADATA_SERVICE_ENDPOINT).unwrap_or_else(|| METADATA.to_owned());
    let profile = if keys.is_some() { None } else { profile(variables)? };
    Ok(AwsLogin {
        keys,
        web_identity,
        profile,
        container,
        instance: (!disabled).then_some(instance),
        roles: Vec::new(),
        session_name: text(env::AWS_ROLE_SESSION_NAME),
        region: text(env::AWS_REGION).or_else(|| text(env::AWS_DEFAULT_REGION)),
        endpoints: AwsEndpoints {
            ecr: text(env::AWS_ENDPOINT_URL_ECR),
            ecr_public: text(env::AWS_ENDPOINT_URL_ECR_PUBLIC),
            sts: text(env::AWS_ENDPOINT_URL_STS),
        },
        required: false,
    })
}

/// Reads the keys of a profile; `None` if the file or profile does not exist.
fn profile(variables: &Env) -> Result<Option<AwsKeys>, CredentialsError> {
    let usual = || variables.path(env::HOME).map(|home| home.join(".aws/credentials"));
    let Some(path) = variables.path(env::AWS_SHARED_CREDENTIALS_FILE).or_else(usual) else { return Ok(None) };
    let Some(text) = read_text(&path)? else { return Ok(None) };
    Ok(keys_of_profile(&text, variables.text(env::AWS_PROFILE).unwrap_or("default")))
}

/// Finds a profile's keys in the text of a shared credentials file.
fn keys_of_profile(text: &str, profile: &str) -> Option<AwsKeys> {
    let header = |line: &str| Some(line.strip_prefix('[')?.strip_suffix(']')?.trim().to_owned());
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let lines = lines.skip_while(|line| header(line).as_deref() != Some(profile)).skip(1);
    let (mut id, mut secret, mut session_token) = (None, None, None);
    for line in lines.take_while(|line| header(line).is_none()) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key.trim() {
            "aws_access_key_id" => id = Some(value.trim().to_owned()),
            "aws_secret_access_key" => secret = Some(Secret::new(value.trim())),
            "aws_session_token" => session_token = Some(Secret::new(value.trim())),
            _ => {}
        }
    }
    Some(AwsKeys { access_key_id: id?, secret_access_key: secret?, session_token })
}

fn google(variables: &Env) -> Result<GoogleLogin, CredentialsError> {
    let (key, federation) = match variables.path(env::GOOGLE_APPLICATION_CREDENTIALS) {
        Some(path) => google_key(&path)?,
        None => (None, None),
    };
    let host = variables.text(env::GCE_METADATA_HOST).unwrap_or("metadata.google.internal");
    Ok(GoogleLogin {
        key,
        federation: federation.map(Box::new),
        access_token: variables.text(env::CLOUDSDK_AUTH_ACCESS_TOKEN).map(Secret::new),
        metadata: Some(format!("http://{host}")),
    })
}

/// Reads the key of a service account, or the configuration of a foreign identity; refuses other kinds.
fn google_key(path: &Path) -> Result<(Option<Secret>, Option<GoogleFederation>), CredentialsError> {
    #[derive(serde::Deserialize)]
    struct Kind {
        #[serde(rename = "type", default)]
        kind: String,
    }
    let text = read_text(path)?.unwrap_or_default();
    let kind = serde_json::from_str::<Kind>(&text).map(|found| found.kind).unwrap_or_default();
    match kind.as_str() {
        "service_account" => Ok((Some(Secret::new(text)), None)),
        "external_account" => match GoogleFederation::parse(&text) {
            Ok(federation) => Ok((None, Some(federation))),
            Err(problem) => Err(CredentialsError::Federation { path: path.to_owned(), problem }),
        },
        _ => Err(CredentialsError::KeyKind { path: path.to_owned(), found: kind }),
    }
}

/// Collects the environment's credentials for Azure.
pub(in crate::front) fn azure(variables: &Env) -> AzureLogin {
    let text = |name: &str| variables.text(name).map(str::to_owned);
    let endpoint = text(env::IDENTITY_ENDPOINT).zip(variables.text(env::IDENTITY_HEADER));
    let instance = text(env::AZURE_POD_IDENTITY_AUTHORITY_HOST).unwrap_or_else(|| METADATA.to_owned());
    AzureLogin {
        client_id: text(env::AZURE_CLIENT_ID),
        tenant_id: text(env::AZURE_TENANT_ID),
        client_secret: variables.text(env::AZURE_CLIENT_SECRET).map(Secret::new),
        federated_token_file: variables.path(env::AZURE_FEDERATED_TOKEN_FILE),
        authority: text(env::AZURE_AUTHORITY_HOST),
        app_service: endpoint.map(|(endpoint, header)| AppService { endpoint, header: Secret::new(header) }),
        instance: Some(instance),
        ..AzureLogin::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[(&str, &str)], flags: &[&str]) -> Result<String, String> {
        let keychains = flags.iter().map(|name| (*name).to_owned()).collect();
        let flags = CredentialFlags { keychains, ..CredentialFlags::default() };
        let found = active(&Env::from_pairs(pairs.iter().copied()), &flags);
        found.map(|names| names.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn activate_keychain_chooses_logins_as_imgpkg_does() {
        let enable = ("IMGPKG_ENABLE_IAAS_AUTH", "true");
        for (pairs, flags, expected) in [
            (vec![], vec![], ""),
            (vec![enable], vec![], "gke ecr aks github"),
            (vec![enable, ("IMGPKG_ACTIVE_KEYCHAINS", "ecr")], vec![], "gke ecr aks github"),
            (vec![("IMGPKG_ENABLE_IAAS_AUTH", "false")], vec![], ""),
            (vec![("IMGPKG_ACTIVE_KEYCHAINS", "github, ecr,github,")], vec![], "github ecr"),
            (vec![("IMGPKG_ACTIVE_KEYCHAINS", "github")], vec!["acr", "GKE"], "aks gke"),
            (vec![], vec!["all"], "gke ecr aks github"),
        ] {
            assert_eq!(names(&pairs, &flags).as_deref(), Ok(expected), "{pairs:?} {flags:?}");
        }
        let message =
            "`IMGPKG_ACTIVE_KEYCHAINS`: there is no login `foo`; there are `gke`, `ecr`, `aks`, `github`";
        assert_eq!(names(&[("IMGPKG_ACTIVE_KEYCHAINS", "ecr,foo")], &[]).unwrap_err(), message);
        assert!(names(&[], &["foo"]).unwrap_err().starts_with("`--activate-keychain`: "));
    }

    #[test]
    fn a_profile_is_found_in_the_shared_file() {
        let text = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n[ci]\nregion = x\n\
                    aws_access_key_id=B\naws_secret_access_key = T=\naws_session_token = U\n";
        let id = |profile| keys_of_profile(text, profile).map(|keys| keys.access_key_id);
        assert_eq!(id("default").as_deref(), Some("A"));
        assert_eq!(id("ci").as_deref(), Some("B"));
        assert_eq!(id("other"), None);
        let keys = keys_of_profile(text, "ci").unwrap();
        assert_eq!(keys.secret_access_key.expose(), "T=");
        assert!(!format!("{keys:?}").contains("T="));
    }

    #[test]
    fn aws_variables_become_a_login() {
        let env = |pairs: &[(&str, &str)]| aws(&Env::from_pairs(pairs.iter().copied()));
        let found = env(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")]).unwrap();
        assert!(found.keys.is_some() && found.profile.is_none());
        assert_eq!(found.instance.as_deref(), Some("http://169.254.169.254"));
        let found = env(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap();
        assert_eq!(found.instance, None);
        let found = env(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")]).unwrap();
        assert_eq!(found.container.unwrap().url, "http://169.254.170.2/v2/x");
        let found = env(&[("AWS_ROLE_ARN", "arn:x"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")]).unwrap();
        assert_eq!(found.web_identity.unwrap().role, "arn:x");
        let error = env(&[("AWS_ACCESS_KEY_ID", "A")]).unwrap_err();
        assert_eq!(error.to_string(), "`AWS_ACCESS_KEY_ID` is set, but `AWS_SECRET_ACCESS_KEY` is not");
    }

    #[test]
    fn google_keys_of_other_kinds_are_refused() {
        let folder = std::env::temp_dir().join(format!("imgrelay-google-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key.json");
        std::fs::write(&path, r#"{"type": "service_account", "private_key": "hunter2"}"#).unwrap();
        assert!(google_key(&path).unwrap().0.unwrap().expose().contains("hunter2"));
        for (kind, expected) in
            [("authorized_user", "`authorized_user`"), ("external_account", "line 1 is not")]
        {
            std::fs::write(&path, format!(r#"{{"type": "{kind}", "private_key": "hunter2"}}"#)).unwrap();
            let error = google_key(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let _ = std::fs::remove_dir_all(&folder);
        assert!(google_key(Path::new("/no/such/key.json")).is_err());
    }
}
