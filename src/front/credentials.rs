//! Collects credentials from flags, `IMGPKG_*` variables, and docker's and podman's files, in the documented order.
//!
//! This module finds and reads the files; the keychain parses a file and chooses its entry.

pub(in crate::front) mod cloud;
mod given;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::registry::{
    Credential, CredentialSource, DockerConfig, HostCredential, Keychain, ProcessHelpers, Secret,
};
use crate::stream::FileError;

use super::env::{self, Env, is_service_link};
use super::flag::Flag;
pub use given::{CredentialFlags, CredentialSetting, CredentialsError};
use given::{PER_HOST, PER_HOST_FIELDS, read_if_present};

/// imgpkg's own exception.
const PER_HOST_IGNORED: &str = "IMGPKG_REGISTRY_AZURE_CR_CONFIG";

/// Collects all credentials; earlier sources have precedence.
///
/// Order: flags, `IMGPKG_REGISTRY_*`, cloud logins that are switched on, `IMGPKG_USERNAME` and its kin, the authfile, `DOCKER_AUTH_CONFIG`,
/// `DOCKER_CONFIG`, the home folder, podman's runtime folder, Tekton's folder.
/// Errors: files that are unreadable or invalid; a flag's file that does not exist.
pub fn keychain(variables: &Env, flags: &CredentialFlags) -> Result<Keychain, CredentialsError> {
    let get = |name: &str| variables.text(name);
    let mut sources = Vec::new();
    let flag_names = [Flag::REGISTRY_USERNAME, Flag::REGISTRY_PASSWORD].map(CredentialSetting::Flag);
    let password = flags.password.as_ref().map(Secret::expose);
    let token = flags.token.as_ref().map(Secret::expose);
    let given = explicit(flags.username.as_deref(), password, token, flags.anonymous, flag_names)?;
    sources.extend(given.map(|credential| for_named(credential, flags)));
    let hosts = per_host(variables)?;
    if !hosts.is_empty() {
        sources.push(CredentialSource::Hosts(hosts));
    }
    sources.extend(cloud::source(variables, flags)?);
    let anonymous =
        get(env::IMGPKG_ANON).is_some_and(|value| matches!(value, "true" | "1" | "t" | "TRUE" | "True"));
    let names = [env::IMGPKG_USERNAME, env::IMGPKG_PASSWORD];
    let token = get(env::IMGPKG_TOKEN);
    let settings = names.map(|name| CredentialSetting::Variable(name.to_owned()));
    let given = explicit(get(names[0]), get(names[1]), token, anonymous, settings)?;
    sources.extend(given.map(|credential| for_named(credential, flags)));
    match (&flags.authfile, get(env::REGISTRY_AUTH_FILE)) {
        (Some(path), _) => {
            let missing = || FileError::io("read", path, rustix::io::Errno::NOENT);
            sources.push(CredentialSource::File(read_config(path)?.ok_or_else(missing)?));
        }
        // The file does not exist before the first `podman login`.
        (None, Some(path)) => sources.extend(read_config(Path::new(path))?.map(CredentialSource::File)),
        (None, None) => {}
    }
    if let Some(text) = get(env::DOCKER_AUTH_CONFIG) {
        let config = DockerConfig::parse(text.as_bytes(), env::DOCKER_AUTH_CONFIG)?;
        sources.push(CredentialSource::File(config));
    }
    for path in files(&get) {
        sources.extend(read_config(&path)?.map(CredentialSource::File));
    }
    let helpers = ProcessHelpers::withholding(variables.own());
    Ok(Keychain::with_helpers(sources, Arc::new(helpers)))
}

/// Lists the possible files, in order.
fn files<'a>(get: &dyn Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
    let names = ["config.json", ".dockerconfigjson", ".dockercfg"];
    let in_folder = |folder: PathBuf| names.into_iter().map(move |name| folder.join(name));
    let mut paths = Vec::new();
    paths.extend(get(env::DOCKER_CONFIG).map(PathBuf::from).into_iter().flat_map(in_folder));
    if let Some(home) = get(env::HOME) {
        paths.extend(in_folder(Path::new(home).join(".docker")));
        paths.push(Path::new(home).join(".dockercfg"));
    }
    paths.extend(get(env::XDG_RUNTIME_DIR).map(|folder| Path::new(folder).join("containers/auth.json")));
    paths.extend(get(env::HOME).map(|home| Path::new(home).join(".config/containers/auth.json")));
    paths.extend(in_folder(PathBuf::from("/tekton/creds/.docker")));
    paths
}

/// Reads one file; `None` if it does not exist or is empty.
fn read_config(path: &Path) -> Result<Option<DockerConfig>, CredentialsError> {
    let Some(text) = read_if_present(path)? else { return Ok(None) };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    Ok(Some(DockerConfig::parse(&text, &path.display().to_string())?))
}

/// Binds credentials without a host to the registries that the user named.
///
/// A lock file or a bundle names registries too; its author must not receive the user's password.
fn for_named(credential: Credential, flags: &CredentialFlags) -> CredentialSource {
    match credential {
        Credential::Anonymous => CredentialSource::Everywhere(credential),
        credential => CredentialSource::Named { registries: flags.registries.clone(), credential },
    }
}

/// Makes the credentials without a host.
fn explicit(
    username: Option<&str>,
    password: Option<&str>,
    token: Option<&str>,
    anonymous: bool,
    [name_setting, password_setting]: [CredentialSetting; 2],
) -> Result<Option<Credential>, CredentialsError> {
    let incomplete = |given, missing| CredentialsError::Incomplete { given, missing };
    Ok(match (username, password, token) {
        (Some(username), Some(password), _) => Some(basic(username, password)),
        (Some(_), None, _) => return Err(incomplete(name_setting, password_setting)),
        (None, Some(_), _) => return Err(incomplete(password_setting, name_setting)),
        (None, None, Some(token)) => Some(Credential::RegistryToken(Secret::new(token))),
        (None, None, None) => anonymous.then_some(Credential::Anonymous),
    })
}

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic { username: username.to_owned(), password: Secret::new(password) }
}

/// Reads `IMGPKG_REGISTRY_HOSTNAME`, `…_0`, `…_FOO` and their companions.
fn per_host(variables: &Env) -> Result<Vec<HostCredential>, CredentialsError> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (name, value) in variables.iter() {
        let (Some(rest), Some(value)) = (name.strip_prefix(PER_HOST), value.to_str()) else { continue };
        if name == PER_HOST_IGNORED {
            continue;
        }
        let fits = |field: &str| {
            rest.strip_prefix(field).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('_'))
        };
        let field = PER_HOST_FIELDS.into_iter().find(|field| fits(field));
        let Some(field) = field else {
            // A Service named `imgpkg-registry` is no mistake.
            if is_service_link(name) {
                continue;
            }
            return Err(CredentialsError::UnknownVariable { name: name.to_owned() });
        };
        let suffix = rest.strip_prefix(field).unwrap_or("");
        groups.entry(suffix).or_default().insert(field, value);
    }
    let mut found = Vec::new();
    for (suffix, fields) in groups {
        let get = |field: &str| fields.get(field).copied();
        let variable = |field: &str| format!("{PER_HOST}{field}{suffix}");
        let incomplete = |given: &str, missing: &str| CredentialsError::Incomplete {
            given: CredentialSetting::Variable(variable(given)),
            missing: CredentialSetting::Variable(variable(missing)),
        };
        let credential =
            match (get("USERNAME"), get("PASSWORD"), get("IDENTITY_TOKEN"), get("REGISTRY_TOKEN")) {
                (_, _, _, Some(token)) => Credential::RegistryToken(Secret::new(token)),
                (_, _, Some(token), None) => Credential::IdentityToken(Secret::new(token)),
                (Some(username), Some(password), ..) => basic(username, password),
                (Some(_), None, ..) => return Err(incomplete("USERNAME", "PASSWORD")),
                (None, Some(_), ..) => return Err(incomplete("PASSWORD", "USERNAME")),
                // A host name alone has no effect, as with imgpkg.
                (None, None, None, None) => continue,
            };
        let Some(pattern) = get("HOSTNAME") else {
            let given = fields.keys().next().copied().unwrap_or("USERNAME");
            return Err(incomplete(given, "HOSTNAME"));
        };
        found.push(HostCredential { pattern: pattern.to_owned(), credential });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("imgrelay-credentials-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, user: &str, hosts: &[&str]) -> String {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let entry = |host: &&str| format!(r#""{host}": {{"username": "{user}", "password": "p"}}"#);
            let entries: Vec<String> = hosts.iter().map(entry).collect();
            std::fs::write(&path, format!(r#"{{"auths": {{{}}}}}"#, entries.join(","))).unwrap();
            path.display().to_string()
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn user(keychain: &Keychain, repository: &str) -> Option<String> {
        keychain.lookup(&repository.parse().unwrap()).unwrap().map(|credential| match credential {
            Credential::Basic { username, .. } => username,
            Credential::IdentityToken(_) => "identity".into(),
            Credential::RegistryToken(_) => "token".into(),
            Credential::Anonymous => "no user".into(),
        })
    }

    #[test]
    fn each_place_is_asked_before_the_next() {
        let folder = Folder::new("order");
        let all = ["a.test", "b.test", "c.test", "d.test", "e.test", "f.test", "g.test"];
        let authfile = folder.file("auth.json", "authfile", &all[2..]);
        folder.file("docker/config.json", "docker", &all[4..]);
        folder.file("home/.docker/config.json", "home", &all[5..]);
        folder.file("run/containers/auth.json", "podman", &all[6..]);
        let [docker, home, run] = ["docker", "home", "run"].map(|name| folder.path(name));
        let absent = folder.path("absent");
        let inline = r#"{"auths": {"d.test": {"username": "inline", "password": "p"}}}"#;
        let mut given = BTreeMap::from([
            ("IMGPKG_REGISTRY_HOSTNAME_0", "b.test"),
            ("IMGPKG_REGISTRY_USERNAME_0", "host"),
            ("IMGPKG_REGISTRY_PASSWORD_0", "p"),
            ("IMGPKG_REGISTRY_AZURE_CR_CONFIG", "ignored"),
            ("IMGPKG_REGISTRY_FOO", ""),
            ("IMGPKG_USERNAME", ""),
            ("DOCKER_AUTH_CONFIG", inline),
            ("DOCKER_CONFIG", &docker),
            ("HOME", &home),
            ("XDG_RUNTIME_DIR", &run),
        ]);
        let registries = all[..6].iter().map(|host| host.parse().unwrap()).collect();
        let flags = CredentialFlags { registries, ..CredentialFlags::default() };
        let users = |given: &BTreeMap<&str, &str>, flags: &CredentialFlags| {
            let keychain = keychain(&Env::from_pairs(given.clone()), flags).unwrap();
            let users = all.map(|host| user(&keychain, &format!("{host}/x")).unwrap_or("-".into()));
            users.join(" ")
        };
        assert_eq!(users(&given, &flags), "- host - inline docker docker docker");
        given.remove("DOCKER_CONFIG");
        assert_eq!(users(&given, &flags), "- host - inline - home home");
        given.remove("HOME");
        assert_eq!(users(&given, &flags), "- host - inline - - podman");
        given.insert("REGISTRY_AUTH_FILE", &authfile);
        assert_eq!(users(&given, &flags), "- host authfile authfile authfile authfile authfile");
        given.insert("REGISTRY_AUTH_FILE", &absent);
        assert_eq!(users(&given, &flags), "- host - inline - - podman");
        let with_file = CredentialFlags { authfile: Some(PathBuf::from(&authfile)), ..flags.clone() };
        assert_eq!(users(&given, &with_file), "- host authfile authfile authfile authfile authfile");
        given.insert("IMGPKG_TOKEN", "t");
        assert_eq!(users(&given, &flags), "token host token token token token podman");
        let named = CredentialFlags {
            username: Some("flag".into()),
            password: Some(Secret::new("p")),
            ..flags.clone()
        };
        assert_eq!(users(&given, &named), "flag flag flag flag flag flag podman");
        let anonymous = CredentialFlags { anonymous: true, ..flags };
        assert_eq!(users(&given, &anonymous), "- - - - - - -");
    }

    #[test]
    fn every_file_form_of_a_folder_counts() {
        for name in ["config.json", ".dockerconfigjson", ".dockercfg"] {
            let folder = Folder::new(&format!("form{name}"));
            folder.file(name, "found", &["a.test"]);
            let keychain =
                keychain(&Env::from_pairs([("DOCKER_CONFIG", folder.path(""))]), &CredentialFlags::default());
            assert_eq!(user(&keychain.unwrap(), "a.test/x").as_deref(), Some("found"), "{name}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name_and_without_values() {
        let folder = Folder::new("bad");
        std::fs::write(folder.0.join("config.json"), "{\"auths\": hunter2").unwrap();
        let docker = folder.path("");
        let cases = [
            (vec![("IMGPKG_REGISTRY_FOO", "x")], "unknown variable `IMGPKG_REGISTRY_FOO`"),
            (vec![("IMGPKG_REGISTRY_USERNAMEX", "x")], "unknown variable"),
            (
                vec![("IMGPKG_REGISTRY_USERNAME_0", "x"), ("IMGPKG_REGISTRY_PASSWORD_0", "hunter2")],
                "`IMGPKG_REGISTRY_HOSTNAME_0` is not",
            ),
            (
                vec![("IMGPKG_REGISTRY_HOSTNAME", "h"), ("IMGPKG_REGISTRY_PASSWORD", "hunter2")],
                "`IMGPKG_REGISTRY_PASSWORD` is set, but `IMGPKG_REGISTRY_USERNAME` is not",
            ),
            (vec![("IMGPKG_USERNAME", "x")], "`IMGPKG_USERNAME` is set, but `IMGPKG_PASSWORD` is not"),
            (vec![("DOCKER_CONFIG", docker.as_str())], "config.json` is not a valid registry configuration"),
            (vec![("DOCKER_AUTH_CONFIG", "hunter2")], "`DOCKER_AUTH_CONFIG` is not a valid"),
        ];
        for (pairs, expected) in cases {
            let error = keychain(&Env::from_pairs(pairs.clone()), &CredentialFlags::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{pairs:?}: {error}");
        }
        let flags = CredentialFlags { authfile: Some(folder.0.join("absent")), ..CredentialFlags::default() };
        let error = keychain(&Env::default(), &flags).unwrap_err().to_string();
        assert!(error.contains("cannot read `") && error.contains("absent"), "{error}");
    }
}
