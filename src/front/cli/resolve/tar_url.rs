//! A tar at a URL: `--tar https://…`. Its query may be a secret, so that the URL is kept like one.

use std::path::Path;

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
