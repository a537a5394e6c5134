//! The checked options of `serve`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::index::tars;
use super::{RegistryOptions, Source, chosen, given_path, parsed, parsed_list, registry};
use crate::depot::StoreReference;
use crate::front::cli::choices;
use crate::front::cli::client_config::ClientProgram;
use crate::front::cli::serve_args::ServeArgs;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::Repository;
use crate::serve::Naming;

/// Everything `serve` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// Tars, folders and image stores.
    pub sources: Vec<Source>,
    /// Under which names.
    pub naming: Naming,
    /// Address and port.
    pub listen: SocketAddr,
    /// The file that gets the address.
    pub ready_file: Option<PathBuf>,
    /// The tar for pushed images.
    pub collection: Option<CollectOptions>,
    /// User name, and the file that has the password.
    pub password: Option<(String, PathBuf)>,
    /// The files that have the certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Print the configuration of this client, and serve nothing.
    pub print_config: Option<ClientProgram>,
    /// The command with its arguments; empty for none.
    pub command: Vec<OsString>,
    /// How buckets are reached.
    pub registry: RegistryOptions,
}

/// Where pushed images are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// The tar.
    pub tar: PathBuf,
    /// The registry in the names, perhaps with the beginning of a repository's name.
    pub registry: String,
}

/// Resolves the flags of `serve`.
pub fn serve(args: &ServeArgs) -> Result<ServeOptions, Failure> {
    let mut sources = Vec::new();
    for path in args.tar.iter().filter(|path| !path.as_os_str().is_empty()) {
        if path == Path::new("-") {
            return Err(Failure::misuse(
                "a source cannot be read from standard input: it is read more than once",
            )
            .hint("write it to a file first"));
        }
        sources.extend(tars(path)?);
    }
    sources.extend(
        parsed_list(Flag::STORE, &args.store, str::parse::<StoreReference>)?.into_iter().map(Source::Store),
    );
    let print_config = chosen(Flag::PRINT_CONFIG, args.print_config.as_deref(), &choices::PRINT_CONFIG)?;
    let collection = collection(args)?;
    if sources.is_empty() && collection.is_none() && print_config.is_none() {
        return Err(Failure::misuse(message!(
            "nothing to serve was given, expected ",
            Flag::TAR,
            ", ",
            Flag::STORE,
            " or ",
            Flag::COLLECT
        )));
    }
    let naming = parsed(Flag::NAME, args.name.as_deref(), repository)?;
    let listen = parsed(Flag::LISTEN, args.listen.as_deref(), address)?;
    let listen = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    if print_config.is_some() && (listen.port() == 0 || !args.command.is_empty()) {
        return Err(Failure::misuse(message!(
            Flag::PRINT_CONFIG,
            " needs the port in ",
            Flag::LISTEN,
            ", and no command"
        )));
    }
    let tls = tls(args)?;
    if print_config.is_some() && tls.is_some() {
        return Err(Failure::misuse(message!(Flag::PRINT_CONFIG, " cannot be used with ", Flag::TLS_CERT))
            .hint("the configuration is for plain http; a client that trusts the certificate needs none"));
    }
    Ok(ServeOptions {
        sources,
        tls,
        naming: match (naming, &collection) {
            (Some(name), _) => Naming::Only(name),
            (None, Some(_)) => Naming::RecordedOnly,
            (None, None) => Naming::Recorded,
        },
        listen,
        ready_file: given_path(args.ready_file.as_ref()).map(Path::to_owned),
        collection,
        password: password(args)?,
        print_config,
        command: args.command.clone(),
        registry: registry(&args.registry)?,
    })
}

fn collection(args: &ServeArgs) -> Result<Option<CollectOptions>, Failure> {
    let registry = parsed(Flag::AS, args.as_registry.as_deref(), name_of_registry)?;
    match (given_path(args.collect.as_ref()), registry) {
        (Some(tar), _) if tar == Path::new("-") => {
            Err(Failure::misuse(message!(Flag::COLLECT, " needs a file: standard output is the command's")))
        }
        (Some(tar), registry) => {
            let registry = registry.unwrap_or_else(|| "localhost".to_owned());
            Ok(Some(CollectOptions { tar: tar.to_owned(), registry }))
        }
        (None, Some(_)) => Err(Failure::misuse(message!(Flag::AS, " works with ", Flag::COLLECT, " only"))),
        (None, None) => Ok(None),
    }
}

fn password(args: &ServeArgs) -> Result<Option<(String, PathBuf)>, Failure> {
    let file = given_path(args.password_file.as_ref()).map(Path::to_owned);
    match (parsed(Flag::USERNAME, args.username.as_deref(), user_name)?, file) {
        (Some(name), Some(file)) => Ok(Some((name, file))),
        (None, None) => Ok(None),
        _ => Err(Failure::misuse(message!(
            Flag::USERNAME,
            " and ",
            Flag::PASSWORD_FILE,
            " must be given together"
        ))),
    }
}

fn tls(args: &ServeArgs) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (given_path(args.tls_cert.as_ref()), given_path(args.tls_key.as_ref())) {
        (Some(certificate), Some(key)) => Ok(Some((certificate.to_owned(), key.to_owned()))),
        (None, None) => Ok(None),
        _ => {
            Err(Failure::misuse(message!(Flag::TLS_CERT, " and ", Flag::TLS_KEY, " must be given together")))
        }
    }
}

/// Parses a user name; a colon would end it (RFC 7617).
fn user_name(text: &str) -> Result<String, String> {
    match text.contains(':') || text.chars().any(char::is_control) {
        true => Err("a user name must not have a colon or a control character".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Parses `ghcr.io` or `ghcr.io/team`.
fn name_of_registry(text: &str) -> Result<String, String> {
    let host = text.split('/').next().unwrap_or_default();
    let is_host = host.contains(['.', ':']) || host == "localhost";
    match is_host && format!("{text}/x").parse::<Repository>().is_ok() {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("`{text}` is not a registry, expected `registry.example` or `registry.example/team`"))
        }
    }
}

/// Parses the name of a repository, without a registry.
fn repository(text: &str) -> Result<String, String> {
    let parsed = format!("localhost/{text}").parse::<Repository>();
    parsed.map(|_| text.to_owned()).map_err(|_| {
        format!("`{text}` is not the name of a repository, expected `team/app` without registry and tag")
    })
}

/// Parses `127.0.0.1:5000`, `[::1]:5000` or `localhost:5000`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        format!("`{text}` is not an address with a port, expected `127.0.0.1:5000` or `[::1]:5000`")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<ServeOptions, Failure> {
        serve(&args(words))
    }

    #[test]
    fn serve_listens_on_this_machine_unless_told_otherwise() {
        let store = "file:///shared/app:v1";
        let options = resolve(&["--store", store, "--tar=a.tar", "--tar=b", "--", "trivy", "--tar"]).unwrap();
        let expected =
            [Source::Tar("a.tar".into()), Source::Tar("b".into()), Source::Store(store.parse().unwrap())];
        assert_eq!(options.sources, expected);
        assert_eq!(options.listen.to_string(), "127.0.0.1:0");
        assert_eq!(options.command, ["trivy", "--tar"]);
        assert_eq!(options.naming, Naming::Recorded);
        let listen =
            |text: &str| resolve(&["--tar=a", "--listen", text]).map(|options| options.listen.to_string());
        assert_eq!(listen("localhost:5000").unwrap(), "127.0.0.1:5000");
        assert_eq!(listen("[::1]:0").unwrap(), "[::1]:0");
        assert_eq!(listen("").unwrap(), "127.0.0.1:0");
        for wrong in ["5000", ":5000", "127.0.0.1", "localhost:x", "example.org:80"] {
            assert!(listen(wrong).unwrap_err().message.to_string().contains("is not an address"), "{wrong}");
        }
    }

    #[test]
    fn serve_refuses_what_cannot_be_served_before_any_work() {
        for (words, expected) in [
            (&[] as &[&str], "nothing to serve was given, expected `--tar`, `--store` or `--collect`"),
            (&["--tar=-"], "cannot be read from standard input"),
            (&["--store=app"], "`--store`: `app` does not begin with `s3://`, `file://` or `https://`"),
            (&["--tar=a", "--name=Team"], "`--name`: `Team` is not the name of a repository"),
            (&["--tar=a", "--as=reg.example"], "`--as` works with `--collect` only"),
            (&["--collect=a", "--as=team"], "`--as`: `team` is not a registry"),
            (&["--collect=-"], "`--collect` needs a file"),
            (&["--tar=a", "--username=ci"], "`--username` and `--password-file` must be given together"),
            (&["--tar=a", "--password-file=p"], "`--username` and `--password-file` must be given together"),
            (&["--tar=a", "--username=a:b", "--password-file=p"], "must not have a colon"),
            (&["--print-config=docker"], "`--print-config` needs the port in `--listen`"),
            (&["--print-config=docker", "--listen=127.0.0.1:5", "--", "x"], "and no command"),
            (&["--tar=a", "--name=a:v1"], "`--name`: `a:v1` is not the name of a repository"),
        ] {
            let message = resolve(words).unwrap_err().render(false);
            assert!(message.contains(expected), "{words:?}: {message}");
        }
        assert_eq!(resolve(&["--tar=a", "--name=t/a"]).unwrap().naming, Naming::Only("t/a".into()));
        assert_eq!(resolve(&["--tar=a", "--collect=b"]).unwrap().naming, Naming::RecordedOnly);
    }
}
