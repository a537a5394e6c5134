//! Lists that come in pages: `Link` followed exactly, on the same origin, with a bound and a guard against loops.

use std::collections::HashSet;

use crate::model::{Repository, limits};
use crate::stream::{TooLarge, read_bounded};

use super::auth::Scopes;

use super::classify;
use super::error::{RegistryError, Task};
use super::http::Method;
use super::requests::{Call, Follow, Requester, unexpected};
use super::retry::RetryBudget;
use super::url::Url;

/// Calls `take` with the body of each page, first to last; `None` when the first one is not there (404).
///
/// Errors: [`RegistryError::Protocol`] for a link to elsewhere, to a page that was read already, or beyond
/// [`limits::PAGES`].
pub(super) fn each_page(
    requester: &Requester,
    repository: &Repository,
    first: Url,
    accept: &str,
    task: &Task,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RegistryError>,
) -> Result<Option<()>, RegistryError> {
    let protocol = |problem: String| RegistryError::Protocol { task: Box::new(task.clone()), problem };
    let mut seen = HashSet::new();
    let mut tries = RetryBudget::new();
    let mut url = first;
    loop {
        let call = Call {
            repository,
            method: Method::Get,
            url: url.clone(),
            headers: vec![("accept", accept.to_owned())],
            scopes: Scopes::new(repository, "pull"),
            task,
            follow: Follow::Yes,
            closing: None,
        };
        let response = requester.run(&call, None)?;
        match response.status {
            200 => {}
            404 if seen.is_empty() => {
                response.drain();
                return Ok(None);
            }
            _ => return Err(unexpected(requester, repository, task, response)),
        }
        let next = next_link(response.headers.get_all("link").iter().filter_map(|value| value.to_str().ok()));
        let from = response.url.clone();
        let body = match read_bounded(response.into_reader(), limits::PAGE_BYTES) {
            Ok(body) => body,
            Err(TooLarge::Limit { limit }) => {
                return Err(RegistryError::TooLarge { task: Box::new(task.clone()), limit });
            }
            Err(TooLarge::Io(error)) => {
                let later = classify::broken_body(&requester.http, error, &task.host)?;
                tries.failed(&requester.policy, None, task, later)?;
                continue;
            }
        };
        take(&body)?;
        let Some(next) = next else { return Ok(Some(())) };
        seen.insert(url.expose());
        let to =
            from.join(&next).map_err(|problem| protocol(format!("link to a next page that {problem}")))?;
        if to.origin() != from.origin() {
            return Err(protocol(format!("link to a next page elsewhere, `{to}`, which is not followed")));
        }
        if seen.len() >= limits::PAGES || seen.contains(&to.expose()) {
            return Err(protocol(format!("the pages do not end: `{to}` comes after {} others", seen.len())));
        }
        url = to;
    }
}

/// Finds the target of `<…>; rel="next"`.
///
/// Source: RFC 8288; distribution-spec, "Listing Tags".
pub(super) fn next_link<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    for value in values {
        let mut rest = value;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, parameters) = after.split_once('>')?;
            let end = parameters.find(",<").or_else(|| parameters.find(", <")).unwrap_or(parameters.len());
            let (own, following) = parameters.split_at(end);
            let is_next = own.split(';').any(|parameter| {
                parameter.trim().split_once('=').is_some_and(|(key, value)| {
                    key.trim().eq_ignore_ascii_case("rel")
                        && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
                })
            });
            if is_next {
                return Some(target.to_owned());
            }
            rest = following;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<https://reg.example/x>;rel=next", Some("https://reg.example/x")),
            (r#"</p>; rel="prev", </n?a=1,2>; rel="next""#, Some("/n?a=1,2")),
            (r#"</p>; rel="prev""#, None),
            (r#"</p>"#, None),
            ("garbage", None),
            ("<unclosed", None),
        ] {
            assert_eq!(next_link(std::iter::once(value)).as_deref(), expected, "{value}");
        }
    }
}
