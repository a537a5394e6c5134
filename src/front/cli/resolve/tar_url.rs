//! A tar at a URL: `--tar https://…`. Its query may be a secret, so the URL is treated as one.

use std::path::Path;

use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::Secret;

/// The URL of a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarUrl(Secret);

impl TarUrl {
    /// Reads a value that may be a path; `None` if it is no URL.
    pub(super) fn of(value: &Path) -> Option<Self> {
        let text = value.to_str()?;
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        is_url.then(|| Self(Secret::new(text)))
    }

    /// Returns the URL with its secrets, for the requests.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

fn wrong(flag: Flag, problem: &str) -> Failure {
    Failure::misuse(message!(flag, format!(": {problem}")))
}

/// Tells whether a value is the URL of a store.
fn is_store(value: &Path) -> bool {
    value.to_str().is_some_and(|text| text.starts_with("s3://") || text.starts_with("file://"))
}

/// Refuses the URL of a store for a flag that reads tars.
pub(super) fn expect_no_store(flag: Flag, value: &Path) -> Result<(), Failure> {
    match is_store(value) {
        true => Err(wrong(flag, &format!("`{}` is the URL of a store", value.display()))
            .hint(message!("an image in a store is read with ", Flag::STORE.with("URL:TAG")))),
        false => Ok(()),
    }
}

/// Refuses URLs for a flag that reads files.
pub(super) fn expect_file(flag: Flag, value: &Path) -> Result<(), Failure> {
    if TarUrl::of(value).is_some() {
        return Err(wrong(flag, "a URL was given, expected a file").hint("download the tar first"));
    }
    match is_store(value) {
        true => Err(wrong(flag, &format!("`{}` is the URL of a store, expected a file", value.display()))
            .hint(message!(
                "make a tar of it with `copy`, ",
                Flag::STORE.with("URL:TAG"),
                " and ",
                Flag::TO_OCI_TAR.with("FILE")
            ))),
        false => Ok(()),
    }
}

/// Refuses URLs for a tar that is changed.
pub(super) fn expect_own_file(flag: Flag, value: &Path) -> Result<(), Failure> {
    match (is_store(value), TarUrl::of(value)) {
        (false, None) => Ok(()),
        (true, _) => Err(wrong(flag, "an image in a store cannot be changed, expected a tar or folder")
            .hint(message!(
                "change the tar, and copy it with ",
                Flag::TO_STORE.with("URL:TAG"),
                "; what belongs to it goes along"
            ))),
        (_, Some(_)) => {
            Err(wrong(flag, "a tar at a URL cannot be changed, expected a file").hint("download it first"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_from_a_path_and_does_not_print() {
        let url = TarUrl::of(Path::new("https://h/a.tar?X-Amz-Signature=hunter2")).unwrap();
        assert!(url.expose().ends_with("hunter2") && !format!("{url:?}").contains("hunter2"));
        for path in ["a.tar", "./https://h", "s3://b/a.tar", "https:", ""] {
            assert_eq!(TarUrl::of(Path::new(path)), None, "{path}");
        }
    }
}
