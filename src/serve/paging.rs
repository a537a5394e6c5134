//! Lists in pages: `n` and `last` of a query, and the `Link` to the next page.
//!
//! Source: distribution-spec, "Listing Tags". Does no I/O.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::response::{Code, Response};
use super::route::query_value;

/// One page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    /// What is on it, in order.
    pub(super) entries: Vec<&'a str>,
    /// The next page's path and query; `None` on the last page.
    pub(super) next: Option<String>,
}

impl<'a> Page<'a> {
    /// Returns the requested page of sorted entries; `path` is the path of the list.
    ///
    /// Errors: the response for an `n` that is not a number.
    pub(super) fn of(
        entries: impl Iterator<Item = &'a str>,
        path: &str,
        query: &str,
    ) -> Result<Self, Response> {
        let most = match query_value(query, "n")? {
            None => usize::MAX,
            Some(text) => text.parse().map_err(|_| {
                Response::error(400, Code::PaginationNumberInvalid, "`n` is not a number of entries")
            })?,
        };
        let last = query_value(query, "last")?;
        let mut rest = entries.filter(|entry| last.as_deref().is_none_or(|last| *entry > last));
        let entries: Vec<&str> = rest.by_ref().take(most).collect();
        let next = match (entries.last(), rest.next()) {
            (Some(last), Some(_)) => {
                let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
                Some(format!("{path}?n={most}&last={last}"))
            }
            _ => None,
        };
        Ok(Self { entries, next })
    }

    /// Adds the link to the next page to a response.
    pub(super) fn link(self, response: Response) -> Response {
        match self.next {
            Some(next) => response.with("Link", format!("<{next}>; rel=\"next\"")),
            None => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let page = |query: &str| {
            Page::of(["a", "b_1", "c"].into_iter(), "/v2/x/tags/list", query)
                .map_err(|response| response.status)
        };
        let of = |entries: &[&'static str], next: Option<&str>| {
            Ok(Page { entries: entries.to_vec(), next: next.map(|rest| format!("/v2/x/tags/list?{rest}")) })
        };
        assert_eq!(page(""), of(&["a", "b_1", "c"], None));
        assert_eq!(page("n=2"), of(&["a", "b_1"], Some("n=2&last=b%5F1")));
        assert_eq!(page("n=2&last=b%5F1"), of(&["c"], None));
        assert_eq!(page("n=3"), of(&["a", "b_1", "c"], None));
        assert_eq!(page("n=0"), of(&[], None));
        assert_eq!(page("last=b"), of(&["b_1", "c"], None), "also after a name that is not there");
        assert_eq!(page("n=1&last=c"), of(&[], None));
        for wrong in ["n=", "n=-1", "n=x", "n=99999999999999999999"] {
            assert_eq!(page(wrong), Err(400), "{wrong}");
        }
    }
}
