//! What tells whether an object is still the same when a part of it is asked for again.

use super::super::http::Response;

/// Facts of a response that stay while the object does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes of the whole; `None` if the server does not say.
    pub(super) size: Option<u64>,
    /// The validator, if it is a strong one.
    etag: Option<String>,
    /// Without a strong validator: the time of the last change, as the server writes it.
    modified: Option<String>,
}

impl Facts {
    /// Reads a response with an object, or a part of it; `size` is that of the whole.
    pub(super) fn of(response: &Response, size: Option<u64>) -> Self {
        let etag = response.header("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
        let modified = response.header("last-modified").filter(|_| etag.is_none()).map(str::to_owned);
        Self { size, etag, modified }
    }

    /// Returns the header of a request for the rest of the same object.
    pub(super) fn condition(&self) -> Option<(&'static str, String)> {
        self.etag.clone().map(|etag| ("if-match", etag))
    }

    /// Tells whether a later response is about another object; a size that one of them does not say is not compared.
    pub(super) fn differ(&self, later: &Self) -> bool {
        let sizes = self.size.zip(later.size);
        sizes.is_some_and(|(first, later)| first != later)
            || (&self.etag, &self.modified) != (&later.etag, &later.modified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_validator_or_time_is_another_object() {
        let text = |text: &str| Some(text.to_owned());
        let tagged = |size, etag| Facts { size, etag: text(etag), modified: None };
        let dated = |size, time| Facts { size, etag: None, modified: text(time) };
        for (first, later, expected) in [
            (tagged(Some(5), "\"a\""), tagged(Some(5), "\"a\""), false),
            (tagged(Some(5), "\"a\""), tagged(Some(6), "\"a\""), true),
            (tagged(Some(5), "\"a\""), tagged(None, "\"a\""), false),
            (tagged(None, "\"a\""), tagged(Some(5), "\"a\""), false),
            (tagged(Some(5), "\"a\""), tagged(Some(5), "\"b\""), true),
            (tagged(Some(5), "\"a\""), Facts { size: Some(5), ..Facts::default() }, true),
            (dated(Some(5), "Mon"), dated(Some(5), "Mon"), false),
            (dated(Some(5), "Mon"), dated(Some(5), "Tue"), true),
            (Facts::default(), Facts::default(), false),
        ] {
            assert_eq!(first.differ(&later), expected, "{first:?} {later:?}");
        }
        assert_eq!(tagged(None, "\"a\"").condition(), Some(("if-match", "\"a\"".to_owned())));
        assert_eq!(dated(None, "Mon").condition(), None);
    }
}
