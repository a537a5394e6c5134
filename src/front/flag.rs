//! The flags by name, so that a message mentions a flag as a value and each door can say it in its own words.
//!
//! This is only the list of names. `cli::args` has the help texts and the forms of values; a test compares both.

use super::env;

/// A flag of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flag {
    long: &'static str,
    short: Option<char>,
}

impl Flag {
    /// Returns the name without dashes: `to-oci-tar`.
    #[must_use]
    pub const fn long(self) -> &'static str {
        self.long
    }

    /// Returns the one-letter name, if the flag has one.
    #[must_use]
    pub const fn short(self) -> Option<char> {
        self.short
    }

    /// Returns the name of the environment variable: `IMGRELAY_TO_OCI_TAR`.
    #[must_use]
    pub fn variable(self) -> String {
        variable(self.long)
    }

    /// Finds the flag with this name.
    #[must_use]
    pub fn find(long: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flag| flag.long == long)
    }
}

/// Returns the environment variable that a flag's name stands for.
#[must_use]
pub fn variable(long: &str) -> String {
    format!("{}{}", env::PREFIX, long.replace('-', "_").to_ascii_uppercase())
}

macro_rules! flags {
    ($($name:ident = $long:literal $($short:literal)?),+ $(,)?) => {
        #[expect(missing_docs, reason = "each is named as the flag is")]
        impl Flag {
            $(pub const $name: Self = Self { long: $long, short: flags!(@short $($short)?) };)+
            /// Every flag.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
    (@short $short:literal) => { Some($short) };
    (@short) => { None };
}

flags! {
    ACTIVATE_KEYCHAIN = "activate-keychain",
    AGAINST = "against",
    ANNOTATION = "annotation",
    APPEND = "append",
    AS = "as",
    AUTHFILE = "authfile",
    BASE = "base",
    BASE_TAR = "base-tar",
    BUNDLE = "bundle" 'b',
    CMD = "cmd",
    COLLECT = "collect",
    COLOR = "color",
    COLUMN = "column",
    COMPRESSION = "compression",
    CONCURRENCY = "concurrency",
    COSIGN_ARTIFACTS = "cosign-artifacts",
    COSIGN_SIGNATURES = "cosign-signatures",
    CREATED = "created",
    DEBUG = "debug",
    DIGESTS = "digests",
    DRY_RUN = "dry-run",
    ENTRYPOINT = "entrypoint",
    ENV = "env",
    EXPECTED_DIGEST = "expected-digest",
    FILE = "file" 'f',
    FILE_EXCLUSION = "file-exclusion",
    FORCE = "force",
    FORMAT = "format",
    FROM = "from",
    GRACE = "grace",
    IDENTITY = "identity",
    IMAGE = "image" 'i',
    IMAGE_IS_BUNDLE_CHECK = "image-is-bundle-check",
    IMGPKG_INTERNAL_TAGS = "imgpkg-internal-tags",
    IMGPKG_TAGS = "imgpkg-tags",
    INCLUDE = "include",
    INCLUDE_NON_DISTRIBUTABLE_LAYERS = "include-non-distributable-layers",
    INFLATE = "inflate",
    JSON = "json",
    KEEP = "keep",
    KEEP_FOR = "keep-for",
    KEEP_NAMES = "keep-names",
    KEY = "key",
    LABELS = "labels" 'l',
    LARGEST = "largest",
    LAYER = "layer",
    LAYERS = "layers",
    LISTEN = "listen",
    LOCK = "lock",
    LOCK_OUTPUT = "lock-output",
    MAX_GROWTH = "max-growth",
    MEDIA_TYPES = "media-types",
    MODE = "mode",
    NAME = "name",
    OCI_TAR = "oci-tar",
    OLD_BASE = "old-base",
    OUTPUT = "output" 'o',
    OUTPUT_TYPE = "output-type",
    OWNER = "owner",
    PACKAGE_CHECKS = "package-checks",
    PASSWORD_FILE = "password-file",
    PLATFORM = "platform",
    PORT = "port",
    PRESERVE_PERMISSIONS = "preserve-permissions",
    PRINT_CONFIG = "print-config",
    PROGRESS = "progress",
    QUIET = "quiet" 'q',
    READ_BASE = "read-base",
    READ_SHARED_LAYERS = "read-shared-layers",
    READY_FILE = "ready-file",
    REBASE = "rebase",
    RECURSIVE = "recursive" 'r',
    REFERRERS = "referrers",
    REGISTRY_ANON = "registry-anon",
    REGISTRY_CA_CERT_PATH = "registry-ca-cert-path",
    REGISTRY_CONNECT_TIMEOUT = "registry-connect-timeout",
    REGISTRY_CREDENTIALS_FOR = "registry-credentials-for",
    REGISTRY_IDLE_TIMEOUT = "registry-idle-timeout",
    REGISTRY_INSECURE = "registry-insecure",
    REGISTRY_MIRROR = "registry-mirror",
    REGISTRY_PASSWORD = "registry-password",
    REGISTRY_RESPONSE_HEADER_TIMEOUT = "registry-response-header-timeout",
    REGISTRY_RETRY_COUNT = "registry-retry-count",
    REGISTRY_TOKEN = "registry-token",
    REGISTRY_USERNAME = "registry-username",
    REGISTRY_VERIFY_CERTS = "registry-verify-certs",
    REPO_BASED_TAGS = "repo-based-tags",
    REQUIRE = "require",
    REQUIRE_PLATFORM = "require-platform",
    RESOURCES = "resources",
    RESULT = "result",
    RESUME = "resume",
    SELECT = "select",
    SERVER_SIDE_ENCRYPTION = "server-side-encryption",
    SIGNATURE_FORMAT = "signature-format",
    SIZE_LIMIT = "size-limit",
    SOURCE = "source" 's',
    SSE_KMS_KEY_ID = "sse-kms-key-id",
    STOP_SIGNAL = "stop-signal",
    STORE = "store",
    SYMLINKS = "symlinks",
    TAG = "tag",
    TAR = "tar",
    THIN = "thin",
    TLS_CERT = "tls-cert",
    TLS_KEY = "tls-key",
    TO_DOCKER_TAR = "to-docker-tar",
    TO_OCI_TAR = "to-oci-tar",
    TO_REPO = "to-repo",
    TO_STORE = "to-store",
    TO_TAR = "to-tar",
    TTY = "tty",
    TYPE = "type",
    USER = "user",
    USERNAME = "username",
    VERIFY_KEY = "verify-key",
    VERIFY_UPLOAD = "verify-upload",
    VOLUME = "volume",
    WITHOUT = "without",
    WORKDIR = "workdir",
    YES = "yes" 'y',
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn collect(command: &clap::Command, found: &mut BTreeSet<(String, Option<char>)>) {
        for arg in command.get_arguments() {
            if let Some(long) = arg.get_long() {
                found.insert((long.to_owned(), arg.get_short()));
            }
        }
        for command in command.get_subcommands() {
            collect(command, found);
        }
    }

    #[test]
    fn the_list_of_flags_is_that_of_the_command_line() {
        let mut found = BTreeSet::new();
        collect(&crate::front::program::command(), &mut found);
        let typed: BTreeSet<&str> = found.iter().map(|(long, _)| long.as_str()).collect();
        let listed: BTreeSet<&str> = Flag::ALL.iter().map(|flag| flag.long).collect();
        assert_eq!(listed, typed);
        for flag in Flag::ALL.iter().filter(|flag| flag.short.is_some()) {
            assert!(found.contains(&(flag.long.to_owned(), flag.short)), "{flag:?}");
        }
    }

    #[test]
    fn a_flag_is_found_by_its_name_and_gives_its_variable() {
        assert_eq!(Flag::find("to-oci-tar"), Some(Flag::TO_OCI_TAR));
        assert_eq!(Flag::find("to-oci"), None);
        assert_eq!(Flag::TO_OCI_TAR.variable(), "IMGRELAY_TO_OCI_TAR");
    }
}
