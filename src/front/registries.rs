//! Makes the registry client from flags and environment, and prints its requests as lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::cli::resolve::RegistryOptions;
use super::credentials;
use super::env::{self, Env};
use super::failure::Failure;
use super::system;
use super::text;
use super::ui::Ui;
use crate::model::limits;
use crate::registry::{
    Bucket, BucketOptions, CaCertificates, Client, ClientEvents, ClientOptions, PlainHttp, Proxies,
    RequestRecord, RetryRecord, Secret, SystemTrust, Timeouts, TlsOptions, WebFile, WireOptions,
};
use crate::stream::{FileError, read_file};

/// Folders with certificates for each registry, as in containers-certs.d(5) and docker.
const CERTS_DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Makes a client; sends no request.
///
/// Errors: certificates and credential files that cannot be read or are not valid.
pub fn client(options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<Client, Failure> {
    Ok(Client::new(client_options(options, env, ui)?)?)
}

/// Makes the client of a bucket; sends no request.
pub fn bucket(
    bucket: &str,
    prefix: &str,
    options: &RegistryOptions,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Bucket, Failure> {
    let text = |name: &str| env.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let login = match options.credentials.anonymous {
        true => None,
        false => Some(credentials::cloud::aws(env)?),
    };
    let options = BucketOptions {
        endpoint: text(env::AWS_ENDPOINT_URL_S3).or_else(|| text(env::AWS_ENDPOINT_URL)),
        region: text(env::AWS_REGION).or_else(|| text(env::AWS_DEFAULT_REGION)),
        login,
        ..bucket_options(options, env, ui)?
    };
    Ok(Bucket::new(bucket, prefix, options)?)
}

/// Makes the client of a folder of a web server; sends no request.
pub fn web(url: &str, options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<Bucket, Failure> {
    Ok(Bucket::of_web(url, bucket_options(options, env, ui)?)?)
}

/// Opens a file of a web server that is read in parts; no credentials are sent but those in the URL.
pub fn web_file(url: &str, options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<WebFile, Failure> {
    Ok(WebFile::open(url, bucket_options(options, env, ui)?)?)
}

fn bucket_options(options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<BucketOptions, Failure> {
    Ok(BucketOptions {
        wire: wire(options, env, ui)?,
        allow_http: options.allow_http,
        retries: options.attempts.saturating_sub(1),
        retry_delay: ClientOptions::default().retry_delay,
        endpoint: None,
        region: None,
        login: None,
        encryption: options.encryption.clone(),
        clock: system::clock(),
    })
}

fn client_options(options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<ClientOptions, Failure> {
    let keychain = credentials::keychain(env, &options.credentials)?;
    Ok(ClientOptions {
        wire: wire(options, env, ui)?,
        plain_http: if options.allow_http { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly },
        credentials: Arc::new(keychain),
        mirrors: options.mirrors.clone(),
        retries: options.attempts.saturating_sub(1),
        ..ClientOptions::default()
    })
}

/// Returns how connections are made.
fn wire(options: &RegistryOptions, env: &Env, ui: &Arc<Ui>) -> Result<WireOptions, Failure> {
    let defaults = Timeouts::default();
    let timeouts = Timeouts {
        connect: options.connect_timeout,
        idle: options.idle_timeout,
        response: options.response_header_timeout,
        // Registries hash and move the whole blob before they answer the last request of an upload.
        closing_response: defaults.closing_response.max(options.response_header_timeout),
    };
    let surroundings = surroundings(env, ui);
    Ok(WireOptions {
        tls: TlsOptions {
            ca_certificates: certificates(&options.ca_files)?,
            verify: options.verify_certificates,
            ..surroundings.tls
        },
        timeouts,
        concurrency: options.concurrency,
        ..surroundings
    })
}

/// Returns the options that the machine decides, for every door: trust, proxies, and the observer of requests.
pub(super) fn surroundings(env: &Env, ui: &Arc<Ui>) -> WireOptions {
    WireOptions {
        tls: TlsOptions {
            system_trust: system_trust(env),
            certs_directories: certs_directories(env),
            ..TlsOptions::default()
        },
        proxies: proxies(env),
        events: Arc::new(RequestLog { ui: Arc::clone(ui) }),
        ..WireOptions::default()
    }
}

/// Reads files of certificates, and those in folders.
fn certificates(paths: &[PathBuf]) -> Result<Vec<CaCertificates>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in certificate_files(path)? {
                found.push(read_pem(&file)?);
            }
        } else {
            found.push(read_pem(path)?);
        }
    }
    Ok(found)
}

/// Lists the certificates of a folder by the endings they usually have.
///
/// A mounted Kubernetes ConfigMap or Secret has links `ca.crt -> ..data/ca.crt` beside the folders `..data` and
/// `..2026_…`; names that begin with a dot are ignored.
fn certificate_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::of_input(FileError::io("list", folder, error));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !is_hidden && matches!(ending, "crt" | "pem" | "cer") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let shown = folder.display();
        return Err(Failure::misuse(format!(
            "`{shown}` holds no certificates, expected `*.crt`, `*.pem` or `*.cer`"
        )));
    }
    Ok(files)
}

fn read_pem(path: &Path) -> Result<CaCertificates, Failure> {
    let pem = read_file(path, limits::CERTIFICATES_BYTES).map_err(Failure::of_input)?;
    Ok(CaCertificates { name: format!("`{}`", path.display()), pem })
}

fn system_trust(env: &Env) -> SystemTrust {
    let directories = env.os(env::SSL_CERT_DIR).map(std::env::split_paths).into_iter().flatten();
    let directories = directories.filter(|path| !path.as_os_str().is_empty()).collect();
    SystemTrust { file: env.path(env::SSL_CERT_FILE), directories }
}

fn certs_directories(env: &Env) -> Vec<PathBuf> {
    let home = env.path(env::HOME).map(|home| home.join(".config/containers/certs.d"));
    home.into_iter().chain(CERTS_DIRECTORIES.map(PathBuf::from)).collect()
}

fn proxies(env: &Env) -> Proxies {
    // As in curl, the lower-case form has precedence.
    let either = |name: &str| env.text(&name.to_ascii_lowercase()).or_else(|| env.text(name));
    Proxies {
        http: either(env::HTTP_PROXY).map(Secret::new),
        https: either(env::HTTPS_PROXY).map(Secret::new),
        no_proxy: either(env::NO_PROXY).unwrap_or_default().to_owned(),
    }
}

/// Prints the events of the HTTP client.
struct RequestLog {
    ui: Arc<Ui>,
}

impl ClientEvents for RequestLog {
    fn request(&self, record: &RequestRecord<'_>) {
        self.ui.debug(&request_line(record));
    }

    fn retry(&self, record: &RetryRecord<'_>) {
        self.ui.count_retry();
        let RetryRecord { task, cause, delay, attempt, .. } = record;
        // A connection that was closed while it was idle is opened again without a message.
        let when = match text::duration(*delay) {
            _ if *delay < Duration::from_millis(50) => "now".to_owned(),
            delay => format!("in {delay}"),
        };
        self.ui.note(&format!("cannot {task}: {cause}; trying again {when} (attempt {})", attempt + 1));
    }

    fn waiting(&self, host: &str, phase: &str, elapsed: Duration) {
        self.ui.note(&format!("waiting for `{host}` {phase} for {}", text::duration(elapsed)));
    }

    fn warning(&self, host: &str, text: &str) {
        self.ui.warning(&format!("registry `{host}` says: {text}"));
    }
}

fn request_line(record: &RequestRecord<'_>) -> String {
    let result = match (record.status, record.problem) {
        (Some(status), _) => status.to_string(),
        (None, Some(problem)) => format!("failed: {problem}"),
        (None, None) => "no response".to_owned(),
    };
    let mut line = format!("{} {} -> {result}", record.method, record.url);
    let mut add = |part: String| write!(line, ", {part}").expect("writing to a String cannot fail");
    if record.sent > 0 {
        add(format!("sent {}", text::bytes(record.sent)));
    }
    if let Some(announced) = record.announced {
        add(format!("receiving {}", text::bytes(announced)));
    }
    add(format!("{} ms", record.elapsed.as_millis()));
    if record.attempt > 1 {
        add(format!("attempt {}", record.attempt));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::cli::resolve;
    use crate::front::ui::Settings;
    use crate::front::ui::tests::captured;

    fn options(words: &[&str], pairs: &[(&str, &str)]) -> Result<ClientOptions, Failure> {
        let options = resolve::registry(&resolve::tests::args(words)).unwrap();
        let (ui, _, _) = captured(&Settings::default());
        client_options(&options, &Env::from_pairs(pairs.iter().copied()), &Arc::new(ui))
    }

    #[test]
    fn a_folder_of_certificates_may_be_a_mounted_config_map() {
        let folder = std::env::temp_dir().join(format!("imgrelay-config-map-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("..2026_01_01")).unwrap();
        let given = |words: &[&str]| {
            options(words, &[]).map(|options| {
                let found = options.wire.tls.ca_certificates.into_iter();
                found.map(|ca| ca.pem).collect::<Vec<_>>()
            })
        };
        let flag = format!("--registry-ca-cert-path={}", folder.display());
        let failure = given(&[&flag]).unwrap_err();
        assert!(failure.message.to_string().contains("holds no certificates"), "{}", failure.message);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
        for (name, text) in [("ca.crt", "one"), ("b.pem", "two"), ("notes.txt", "no"), (".x.crt", "no")] {
            std::fs::write(folder.join("..2026_01_01").join(name), text).unwrap();
            link(&format!("..data/{name}"), name);
        }
        link("..2026_01_01", "..data");
        assert_eq!(given(&[&flag]).unwrap(), [b"two".to_vec(), b"one".to_vec()]);
        assert_eq!(given(&["--registry-ca-cert-path="]).unwrap(), Vec::<Vec<u8>>::new());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn flags_reach_the_client() {
        let words = [
            "--registry-retry-count=3",
            "--registry-insecure",
            "--tls-verify=false",
            "--registry-response-header-timeout=400s",
            "--concurrency=9",
        ];
        let found = options(&words, &[]).unwrap();
        assert_eq!((found.retries, found.wire.concurrency, found.wire.tls.verify), (2, 9, false));
        assert_eq!(found.plain_http, PlainHttp::Anywhere);
        assert_eq!(found.wire.timeouts.response, Duration::from_secs(400));
        assert_eq!(found.wire.timeouts.closing_response, Duration::from_secs(400));
        let found = options(&[], &[]).unwrap();
        assert_eq!((found.retries, found.wire.concurrency, found.wire.tls.verify), (4, 16, true));
        let seconds = Duration::from_secs;
        let Timeouts { connect, idle, response, closing_response } = found.wire.timeouts;
        assert_eq!((connect, idle), (seconds(10), seconds(30)));
        assert_eq!((response, closing_response), (seconds(30), seconds(60)));
        let found = options(&["--registry-connect-timeout=2s", "--registry-idle-timeout=7s"], &[]).unwrap();
        assert_eq!((found.wire.timeouts.connect, found.wire.timeouts.idle), (seconds(2), seconds(7)));
    }

    #[test]
    fn the_environment_gives_proxies_and_trust() {
        let env = [
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:1"),
            ("HTTP_PROXY", "http://plain:1"),
            ("NO_PROXY", "a,b"),
            ("SSL_CERT_FILE", "/x/ca.pem"),
            ("SSL_CERT_DIR", "/x:/y:"),
            ("HOME", "/no/home"),
        ];
        let found = options(&[], &env).unwrap();
        assert_eq!(found.wire.proxies.https.as_ref().map(Secret::expose), Some("http://lower:1"));
        assert_eq!(found.wire.proxies.http.as_ref().map(Secret::expose), Some("http://plain:1"));
        assert_eq!(found.wire.proxies.no_proxy, "a,b");
        assert_eq!(found.wire.tls.system_trust.file, Some("/x/ca.pem".into()));
        assert_eq!(found.wire.tls.system_trust.directories, [PathBuf::from("/x"), PathBuf::from("/y")]);
        let first = found.wire.tls.certs_directories.first().cloned();
        assert_eq!(first, Some("/no/home/.config/containers/certs.d".into()));
    }

    #[test]
    fn a_missing_authfile_or_certificate_is_named() {
        let failure = options(&["--registry-ca-cert-path=/no/ca.pem"], &[]).unwrap_err();
        assert!(failure.message.to_string().starts_with("cannot read `/no/ca.pem`"), "{failure:?}");
        let failure = options(&["--authfile=/no/auth.json"], &[]).unwrap_err();
        assert!(failure.message.to_string().contains("`/no/auth.json`"), "{failure:?}");
    }

    #[test]
    fn warnings_of_a_registry_cannot_forge_a_line() {
        let (ui, _, stderr) = captured(&Settings::default());
        let log = RequestLog { ui: Arc::new(ui) };
        log.warning("reg.example", "old\nclient");
        assert_eq!(stderr.text(), "imgrelay: warning: registry `reg.example` says: old\\nclient\n");
    }
}
