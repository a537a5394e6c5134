//! Converts errors of the lower floors into failures: the kind and the hints of each.

use std::io;

use super::hint::trust_hint;
use super::{Failure, Hint, Kind, MessagePart, message};
use crate::front::credentials::{CredentialSetting, CredentialsError};
use crate::front::flag::Flag;
use crate::model::{DigestError, DocumentError, PlatformError, ReferenceError};
use crate::pack::{AppError, BundleError, IndexError, PackError};
use crate::registry::{BucketError, Credentials, RegistryError, Task, Verb};
use crate::serve::ServeError;
use crate::stream::{CompressionLevelError, FileError, cancel};
use crate::tar::ExtractError;
use crate::transfer::TransferError;
use crate::tree::TreeError;
use crate::zip::{EntryProblem, ZipError};

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let error = match error {
            // A file of a web server.
            FileError::Io { action, path, source } => match source.downcast::<BucketError>() {
                Ok(error) => return error.into(),
                Err(source) => FileError::Io { action, path, source },
            },
            other => other,
        };
        let failure = Self::of(Kind::Refused, &error);
        match &error {
            FileError::Io { source, action, .. } if is_missing(source) && is_output(action) => {
                failure.hint("check the path; the folders above an output have to exist")
            }
            FileError::Io { source, .. } => failure.with_io_hint(source),
            FileError::NotEmpty { .. } => {
                failure.hint(message!("choose a new folder, or replace this one with ", Flag::FORCE))
            }
            FileError::TooLarge { .. } | FileError::NotText { .. } => failure,
            FileError::MountInside { .. } => failure.hint("unmount it, or choose another folder"),
            FileError::Exchanged { .. } => {
                failure.hint("choose a folder whose parent other users cannot write to")
            }
            FileError::NotOwn { .. } => failure
                .hint("remove it if it is not needed, or choose a folder that other users cannot write to"),
            FileError::NotAFile { .. } => {
                failure.hint("name a regular file, which is replaced, or a path that does not exist")
            }
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && !cancel::is_cancelled()
}

/// Tells whether a file was written, by the verb of the error.
fn is_output(action: &str) -> bool {
    ["create", "write", "move", "open directory"].iter().any(|verb| action.starts_with(verb))
}

impl Failure {
    /// Makes the failure for a file that is a setting (certificates, keys, locks, lists): misuse.
    pub fn of_input(error: FileError) -> Self {
        Self { kind: Kind::Misuse, ..Self::from(error) }
    }

    /// Adds the usual hint for an error of the operating system.
    pub fn with_io_hint(self, error: &io::Error) -> Self {
        if cancel::is_cancelled() {
            return self;
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.hint("free some space, or choose a path on another file system")
            }
            io::ErrorKind::ReadOnlyFilesystem => self.hint("choose a path on a writable file system"),
            io::ErrorKind::PermissionDenied => {
                self.hint("check the owner and mode of the file and of the folders above it")
            }
            io::ErrorKind::NotFound => self.hint("check the path"),
            io::ErrorKind::ResourceBusy => self.hint(
                "the path is a mount point, which cannot be replaced: mount the folder around it, or choose another path",
            ),
            io::ErrorKind::NotADirectory => self.hint("check the path; a file is not a folder"),
            _ => self,
        }
    }
}

/// Converts errors that are always about a value that the user typed or configured.
macro_rules! misuse_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(Kind::Misuse, &error)
            }
        })+
    };
}
misuse_from!(ReferenceError, DigestError, PlatformError, CompressionLevelError);

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Store(error) => error.into(),
            ServeError::TwoImages { .. } => Self::of(Kind::Refused, &error)
                .hint("serve them one at a time, or give one of them another name"),
            ServeError::Listen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse => Self::of(
                Kind::Refused,
                &error,
            )
            .hint(message!("choose another port, or a free one with ", Flag::LISTEN.with("127.0.0.1:0"))),
            _ => Self::of(Kind::Refused, &error),
        }
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match &error {
            TreeError::Io { source, .. } => failure.with_io_hint(source),
            TreeError::Changed { .. } => {
                failure.hint("wait until nothing writes to that folder, then try again")
            }
            TreeError::Kind { .. } => failure.hint("remove it; it cannot be part of an image"),
            TreeError::TooDeep { .. } => {
                failure.hint("pack an archive of the folder instead, or leave it out")
            }
            TreeError::Links { policy, .. } => failure.hint(Hint::links(*policy)),
        }
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Tree(error) => error.into(),
            PackError::File(error) => error.into(),
            PackError::App(error) => (*error).into(),
            PackError::Sink(ref source) => Self::of(Kind::Refused, &error).with_io_hint(source),
            PackError::Duplicate { .. } => Self::of(Kind::Refused, &error)
                .hint("folders that share paths cannot become one image; rename one, or leave it out"),
            PackError::Whiteout { .. } => Self::of(Kind::Refused, &error)
                .hint(message!("rename the file, or leave it out with ", Flag::FILE_EXCLUSION)),
            PackError::Conflict { .. } => Self::of(Kind::Refused, &error).hint(message!(
                "choose another path in ",
                Flag::FILE.with("SRC:DEST").short(),
                "; with `/` at the end of DEST a file goes into the folder"
            )),
            PackError::LinksInBase { .. } => Self::of(Kind::Refused, &error),
            PackError::PerhapsLink { .. } => Self::of(Kind::Refused, &error).hint(message!(
                "give the path that the link leads to, such as `/usr/bin`, or read the base, without ",
                Flag::READ_BASE.with("false")
            )),
            PackError::SecondBundle { .. } => Self::of(Kind::Refused, &error)
                .hint("a bundle refers to another bundle by naming it in `.imgpkg/images.yml`"),
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match error {
            AppError::Zip { source: ZipError::NotAZip, .. } | AppError::NotAnApp { .. } => failure
                .hint(message!("name a folder, or a zip, jar or war, with ", Flag::FILE.mention().short())),
            AppError::Zip { source: ZipError::Io(ref source), .. } => failure.with_io_hint(source),
            AppError::Zip { source: ZipError::Entry { ref problem, .. }, .. }
                if matches!(**problem, EntryProblem::Duplicate) =>
            {
                failure.hint(
                    "build tools that merge archives make such entries; keep one of them (Gradle: `duplicatesStrategy`, Maven Shade: a resource transformer)",
                )
            }
            AppError::TooLarge { .. } => failure
                .hint(message!("leave files out with `.cfignore`, or allow more with ", Flag::SIZE_LIMIT)),
            AppError::Links { policy, .. } => failure.hint(Hint::links(policy)),
            AppError::Empty { .. } => failure.hint("check the patterns in `.cfignore`"),
            _ => failure,
        }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match error {
            BundleError::File(error) => error.into(),
            BundleError::Missing { .. } => failure.hint(Hint::KindImage),
            BundleError::IsBundle { .. } => failure.hint(Hint::KindBundle),
            BundleError::NoLockFile { .. } => failure
                .hint("list in it the images that the bundle needs; the list may be empty: `images: []`"),
            BundleError::NotAChild { .. } => failure.hint("name the folder that holds `.imgpkg`"),
            BundleError::Several { .. } => failure.hint("make one bundle of each"),
            BundleError::Lock { .. } => failure.hint(
                "an ImagesLock lists images by digest: `images: [{image: registry/repository@sha256:…}]`",
            ),
            BundleError::NotAFile { .. } => failure,
        }
    }
}

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match error.io_error() {
            Some(error) => failure.with_io_hint(error),
            None => failure,
        }
    }
}

impl From<&CredentialSetting> for MessagePart {
    fn from(setting: &CredentialSetting) -> Self {
        match setting {
            CredentialSetting::Flag(flag) => (*flag).into(),
            CredentialSetting::Variable(name) => Self::Text(format!("`{name}`")),
        }
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        let failure = Self::of(Kind::Misuse, &error);
        match &error {
            CredentialsError::UnknownKeychain { name, setting, known } => {
                let problem = format!(": there is no login `{name}`; there are {known}");
                Self::misuse(message!(setting, problem))
            }
            CredentialsError::Incomplete { given, missing } => {
                Self::misuse(message!(given, " is set, but ", missing, " is not"))
            }
            CredentialsError::File(file) => match file.io_error() {
                Some(error) => failure.with_io_hint(error),
                None => failure,
            },
            _ => failure,
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let of = |kind| Self::of(kind, &error);
        match &error {
            RegistryError::Refused { task, status, credentials, .. } => {
                of(Kind::Refused).hint(credentials_hint(task, *status, *credentials))
            }
            RegistryError::Unreachable { .. } => {
                of(Kind::Remote).hint("check that the registry can be reached from here, or try again later")
            }
            RegistryError::Trust { problem, .. } => match trust_hint(problem) {
                Some(hint) => of(Kind::Refused).hint(hint),
                None => of(Kind::Refused),
            },
            RegistryError::Configuration { .. } => of(Kind::Misuse),
            RegistryError::CredentialHelper { .. } => of(Kind::Misuse).hint(Hint::CredentialHelper),
            RegistryError::System { .. } => of(Kind::Refused).hint("allow this process more memory or threads (`ulimit -v`, `ulimit -u`)"),
            RegistryError::Mismatch { .. } => of(Kind::Difference).hint(
                "the registry, or a proxy in front of it, sends damaged bytes; try again, or push the image again",
            ),
            RegistryError::Source { error, .. } if is_unreachable(error) => {
                of(Kind::Remote).hint("check that the source can be reached from here, or try again later")
            }
            RegistryError::Source { error, .. } => of(Kind::Refused).with_io_hint(error),
            RegistryError::NotFound { task, .. } if task.verb == Verb::Upload => of(Kind::Refused)
                .hint("check the repository's name; in some registries it has to be created first"),
            RegistryError::NotFound { .. } => of(Kind::Refused)
                .hint("check the name; some registries also answer 404 when the account may not read the repository"),
            RegistryError::Rejected { status, .. } => of(Kind::Refused).hint(rejection_hint(*status)),
            RegistryError::Document { .. } => {
                of(Kind::Refused).hint("the document in the registry is not a valid image; push the image again")
            }
            RegistryError::TooLarge { .. } | RegistryError::Protocol { .. } => of(Kind::Refused).hint(
                "the registry, or a proxy in front of it, violates the protocol; read its log",
            ),
            RegistryError::LayerUrls { .. } => of(Kind::Refused).hint(message!(
                "a non-distributable layer has to be copied into the registry first: with ",
                Flag::INCLUDE_NON_DISTRIBUTABLE_LAYERS,
                ", from where its `urls` can be reached"
            )),
            RegistryError::ForbiddenAddress { .. } => of(Kind::Refused).hint(
                "a remote registry must not lead to this machine or to metadata services; its log may have the reason",
            ),
            RegistryError::WebPage { .. } => of(Kind::Refused).hint(
                "check the host name and the port; a proxy or a login page may be in front of the registry",
            ),
            RegistryError::Cancelled => of(Kind::Refused),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let message = error.to_string();
        let of_kind = |kind, message: &str| Self::new(kind, message);
        let of = |kind| Self::of(kind, &error);
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Registry(error) => error.into(),
            TransferError::Depot(error) => error.into(),
            TransferError::File(error) => error.into(),
            TransferError::Pack(error) => error.into(),
            TransferError::Bundle(error) => error.into(),
            TransferError::Mismatch { .. } | TransferError::DiffId { .. } => of(Kind::Difference)
                .hint("the source is damaged; make or fetch it again")
                .hint(Hint::command("", "imgrelay verify", " lists all damage of a tar")),
            TransferError::UnexpectedDigest { .. } | TransferError::Unsigned { .. } => of(Kind::Difference),
            TransferError::Key(error) => error.into(),
            TransferError::Internal { .. } => Self::bug(message),
            TransferError::Extract { source: ref extract, .. } => match extract.io_error() {
                Some(source) => of(Kind::Refused).with_io_hint(source),
                None => of(Kind::Refused),
            },
            TransferError::NotFound { source, .. } => {
                // The error of the last location decides the exit code: 4 if a retry may succeed.
                let Self { kind, hints, .. } = Self::from(*source);
                Self { hints, ..of_kind(kind, &message) }
            }
            TransferError::NonDistributableUnreachable { source, .. } => {
                let Self { kind, .. } = Self::from(*source);
                of_kind(kind, &message).hint(message!(
                    "the tar needs ",
                    Flag::INCLUDE_NON_DISTRIBUTABLE_LAYERS,
                    " when it is written; without it here the layer is left out",
                ))
            }
            TransferError::NonDistributableLeftOut { .. } => of(Kind::Refused).hint(Hint::WriteAllLayers),
            TransferError::NonDistributableMissing { .. } => of(Kind::Refused).hint(message!(
                "leave out ",
                Flag::INCLUDE_NON_DISTRIBUTABLE_LAYERS,
                ", or give it too when the tar is written",
            )),
            TransferError::Packages { .. } => of(Kind::Refused)
                .hint(message!("correct them, or pack it as it is with ", Flag::PACKAGE_CHECKS.with("warn"))),
            TransferError::BundleInLock { .. } => of(Kind::Refused).hint(message!(
                "make a bundle that names these images, and copy it with ",
                Flag::BUNDLE.kind()
            )),
            TransferError::Sparse { ref there, .. } => match there.first() {
                Some(platform) => of(Kind::Refused).hint(message!(
                    "copy the image that is there with ",
                    Flag::PLATFORM.with(platform.clone()),
                    ", or write the tar again with all platforms"
                )),
                None => of(Kind::Refused),
            },
            TransferError::NoPlatform { .. } => of(Kind::Refused).hint(Hint::ChoosePlatform),
            TransferError::OtherPlatform { ref image, .. } => of(Kind::Difference).hint(format!(
                "programs that choose by the index do not get what they ask for: make the image again, or name it by its digest, `{image}`"
            )),
            TransferError::NoPlatformOfItsOwn { .. } => {
                of(Kind::Refused).hint(message!("give it with ", Flag::PLATFORM.with("OS/ARCHITECTURE")))
            }
            TransferError::BundleInIndex { .. } => {
                of(Kind::Refused).hint("a bundle has no platform; push it under a name of its own")
            }
            TransferError::Index(ref index) => match **index {
                IndexError::PlatformTwice { .. } => of(Kind::Refused).hint(message!(
                    "a platform has one image: leave one of the two out, or choose one of a tar with ",
                    Flag::SELECT.with("IMAGE")
                )),
                _ => of(Kind::Refused),
            },
            _ => of(Kind::Refused),
        }
    }
}

/// Tells whether the data to send comes from a registry that is unreachable.
fn is_unreachable(error: &io::Error) -> bool {
    let inner = error.get_ref();
    if let Some(BucketError::Unreachable { .. }) = inner.and_then(|inner| inner.downcast_ref()) {
        return true;
    }
    let registry = inner.and_then(|inner| inner.downcast_ref::<RegistryError>());
    let transfer = inner.and_then(|inner| inner.downcast_ref::<TransferError>());
    matches!(
        (registry, transfer),
        (Some(RegistryError::Unreachable { .. }), _)
            | (_, Some(TransferError::Registry(RegistryError::Unreachable { .. })))
    )
}

fn credentials_hint(task: &Task, status: u16, credentials: Credentials) -> Hint {
    let (host, repository) = (task.host.clone(), task.repository.clone());
    match (credentials, status) {
        (Credentials::None, _) => Hint::LogIn { host },
        (Credentials::Withheld, _) => Hint::Withheld { host },
        (Credentials::Given, 401) => Hint::CheckLogin { host, repository },
        (Credentials::Given, _) => {
            let what = if task.verb == Verb::Upload { "push to" } else { "pull from" };
            format!("the account may not {what} `{repository}`, or the repository has to be created first")
                .into()
        }
    }
}

/// Returns the hint for a status that is neither about permission nor about a missing object.
fn rejection_hint(status: u16) -> &'static str {
    match status {
        405 => "the registry does not allow this change; it may be read-only, or a mirror",
        413 => {
            "a proxy in front of the registry limits the size of a request; raise that limit \
             (nginx: `client_max_body_size`)"
        }
        400 | 409 | 412 => "the registry may protect the tag against changes; its log has the reason",
        _ => "the registry's log has the reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{ServerMessage, TrustProblem};
    use crate::store::StoreError;
    use crate::tar::TarError;

    fn task(verb: Verb) -> Box<Task> {
        let (host, repository) = ("reg.example".into(), "team/app".into());
        Box::new(Task { host, repository, verb, object: "manifest `v1`".into() })
    }

    #[test]
    fn a_refusal_by_the_registry_says_what_the_user_can_do() {
        let refused = |status, credentials| {
            let (task, message) = (task(Verb::Upload), ServerMessage::default());
            Failure::from(RegistryError::Refused { task, status, credentials, message })
        };
        for (status, credentials, expected) in [
            (401, Credentials::None, "no credentials for `reg.example` were found"),
            (
                401,
                Credentials::Withheld,
                "the given user name, password or token goes only to the registries that",
            ),
            (401, Credentials::Given, "check the user name and password"),
            (403, Credentials::Given, "the account may not push to `team/app`"),
        ] {
            let failure = refused(status, credentials);
            assert_eq!(failure.kind, Kind::Refused);
            assert!(failure.hints[0].to_string().starts_with(expected), "{failure:?}");
        }
    }

    #[test]
    fn a_broken_invariant_is_a_bug_that_says_which_and_never_stopped() {
        let failure = Failure::from(TransferError::Internal { what: "a layer has no bytes" });
        assert_eq!((failure.kind, crate::front::exit::code(failure.kind)), (Kind::Bug, 70));
        assert_eq!(failure.message.to_string(), "internal error: a layer has no bytes");
        assert!(failure.hints[0].to_string().starts_with("this is a bug"), "{failure:?}");
    }

    #[test]
    fn kinds_tell_a_dead_registry_from_a_wrong_setting_and_a_wrong_byte() {
        let unreachable = RegistryError::Unreachable {
            task: task(Verb::Read),
            attempts: 4,
            elapsed: std::time::Duration::from_secs(31),
            cause: "connection refused".into(),
        };
        assert_eq!(Failure::from(unreachable).kind, Kind::Remote);
        let setting = RegistryError::Configuration { problem: "x".into() };
        assert_eq!(Failure::from(setting).kind, Kind::Misuse);
        let system = RegistryError::System { host: "h".into(), problem: "cannot start a thread: x".into() };
        assert_eq!(Failure::from(system).kind, Kind::Refused);
        let expected = crate::model::Digest::sha256_of(b"a");
        let mismatch = crate::stream::Mismatch::Long { expected, expected_size: 1 };
        let store = StoreError::Mismatch { path: "a.tar".into(), mismatch };
        assert_eq!(Failure::from(store).kind, Kind::Difference);
        let problem = TrustProblem::UnknownAuthority;
        let failure = Failure::from(RegistryError::Trust { host: "h".into(), problem });
        assert_eq!(failure.hints, ["name the authority's certificate with `--registry-ca-cert-path FILE`"]);
    }

    #[test]
    fn a_cut_tar_is_reported_as_incomplete() {
        let source = TarError::Truncated { offset: 512, inside: "`index.json`".into() };
        let failure = Failure::from(StoreError::Tar { path: "a.tar".into(), source });
        assert_eq!(
            failure.render(false),
            "imgrelay: error: `a.tar` is damaged: the tar ends at byte 512, inside `index.json`\n  \
             hint: the file is not complete; make or fetch the file again\n"
        );
    }
}
