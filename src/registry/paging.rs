//! Lists that come in pages: `Link` followed exactly, on the same origin, with a bound and a guard against loops.

use std::collections::HashSet;

use crate::model::{Method, Repository, limits};
use crate::stream::{TooLarge, read_bounded};

use super::token::Scopes;

use super::classify;
use super::error::{RegistryError, Task};
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
    let mut bytes = 0;
    loop {
        let call = Call {
            repository,
            method: Method::Get,
            url: url.clone(),
            headers: vec![("accept", accept.to_owned())],
            scopes: Scopes::new(repository, "pull"),
            task,
            follow: Follow::All,
            closing: None,
            blob_bytes: None,
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
        let links = response.headers.get_all("link").iter().filter_map(|value| value.to_str().ok());
        let next = next_link(links).map_err(|value| {
            protocol(format!("the link to the next page cannot be read: `{}`", response.redacted(value)))
        })?;
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
        bytes += body.len() as u64;
        if bytes > limits::LIST_BYTES {
            return Err(RegistryError::TooLarge { task: Box::new(task.clone()), limit: limits::LIST_BYTES });
        }
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

/// Finds the target of `<…>; rel="next"`, or of a sole `…; rel="next"` as some registries write it.
///
/// Errors: a header that announces a next page without its URL; the list would be incomplete.
/// Source: RFC 8288; distribution-spec, "Listing Tags".
pub(super) fn next_link<'a>(values: impl Iterator<Item = &'a str>) -> Result<Option<String>, &'a str> {
    for value in values {
        let mut rest = value;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, parameters) = after.split_once('>').ok_or(value)?;
            let end = parameters.find(",<").or_else(|| parameters.find(", <")).unwrap_or(parameters.len());
            let (own, following) = parameters.split_at(end);
            if own.split(';').any(is_next) {
                return Ok(Some(target.to_owned()));
            }
            rest = following;
        }
        if !value.contains('<') && value.split([';', ',']).any(is_next) {
            let (target, _) = value.split_once(';').ok_or(value)?;
            let target = target.trim().trim_matches('"');
            let is_target = !target.is_empty() && !target.contains(',') && !is_next(target);
            return if is_target { Ok(Some(target.to_owned())) } else { Err(value) };
        }
    }
    Ok(None)
}

/// Tells whether a parameter of a link is `rel="next"`.
fn is_next(parameter: &str) -> bool {
    parameter.trim().split_once('=').is_some_and(|(key, value)| {
        key.trim().eq_ignore_ascii_case("rel")
            && value.trim().trim_matches('"').split(' ').any(|word| word.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Ok(Some("/v2/a/tags/list?n=2&last=b"))),
            ("<https://reg.example/x>;rel=next", Ok(Some("https://reg.example/x"))),
            (r#"<https://reg.example/x>; title="a"; REL="Next""#, Ok(Some("https://reg.example/x"))),
            (r#"</n>; rel="last next""#, Ok(Some("/n"))),
            (r#"</p>; rel="prev", </n?a=1,2>; rel="next""#, Ok(Some("/n?a=1,2"))),
            (r#"</p>; rel="prev",</n>; rel="next""#, Ok(Some("/n"))),
            // Without the brackets, as some registries write it.
            (r#"/v2/x/tags/list?last=v1; rel="next""#, Ok(Some("/v2/x/tags/list?last=v1"))),
            (r#""/n";rel=next"#, Ok(Some("/n"))),
            (r#"</p>; rel="prev""#, Ok(None)),
            (r#"/p; rel="prev""#, Ok(None)),
            (r#"</p>"#, Ok(None)),
            (r#"</p>; rel="nextish""#, Ok(None)),
            (r#"</p>; rev="next""#, Ok(None)),
            ("garbage", Ok(None)),
            ("", Ok(None)),
            // A list must not be cut without an error.
            ("<unclosed", Err("<unclosed")),
            (r#"rel="next""#, Err(r#"rel="next""#)),
            (r#"; rel="next""#, Err(r#"; rel="next""#)),
            (r#"/a, /b; rel="next""#, Err(r#"/a, /b; rel="next""#)),
        ] {
            let found = next_link(std::iter::once(value));
            assert_eq!(found, expected.map(|target| target.map(str::to_owned)), "{value}");
        }
        let several = [r#"</p>; rel="prev""#, r#"</n>; rel="next""#];
        assert_eq!(next_link(several.into_iter()), Ok(Some("/n".to_owned())));
    }
}
