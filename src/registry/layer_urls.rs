//! Layers that the registry does not hold, fetched from the `urls` of their descriptor.
//!
//! Base layers of Windows images were kept from other registries that way. The URLs are text of the image's author:
//! no credentials are sent there, https is expected, and the rules of `reach` hold for every hop. Size and digest are
//! checked by the reader above.
//! Source: image-spec descriptor.md, `urls`; layer.md, "Non-Distributable Layers".

use crate::model::{Method, Registry, Repository, limits};

use super::classify;
use super::error::{RegistryError, Task};
use super::http::{Payload, Request, Response};
use super::reach::{HostSource, NetworkPlace};
use super::requests::Requester;
use super::retry::{RetryBudget, Transient};
use super::sanitize::sanitize;
use super::url::Url;

/// A URL that answered, to go on from there.
pub(super) struct LayerUrl {
    url: Url,
    named_by: HostSource,
}

/// Why a request to one URL ended.
enum Ended {
    Later(Transient),
    Unusable(String),
    Fatal(RegistryError),
}

/// Opens the first of the URLs that works; `repository` is where the descriptor was read, if not in a tar.
///
/// Errors: [`RegistryError::LayerUrls`] that says for each URL why it cannot be used.
pub(super) fn open_first(
    requester: &Requester,
    repository: Option<&Repository>,
    urls: &[String],
    task: &Task,
) -> Result<(LayerUrl, Response), RegistryError> {
    let named_by = match repository {
        Some(repository) => requester.http.led_by(&requester.base(repository.registry())?),
        // The author of a tar may come from anywhere.
        None => HostSource::ResponseFrom(NetworkPlace::Elsewhere),
    };
    let mut problems = Vec::new();
    for text in urls.iter().take(limits::LAYER_URLS) {
        let problem = match Url::parse(text) {
            Err(problem) => problem.to_string(),
            Ok(url) => {
                let place = LayerUrl { url, named_by };
                match place.open(requester, None, task) {
                    Ok(response) => return Ok((place, response)),
                    Err(error @ RegistryError::Cancelled) => return Err(error),
                    Err(RegistryError::Protocol { problem, .. }) => problem,
                    Err(error) => error.to_string(),
                }
            }
        };
        problems.push(format!("`{}`: {problem}", shown_url(text)));
    }
    if let Some(more @ 1..) = urls.len().checked_sub(limits::LAYER_URLS) {
        problems.push(format!("{more} more are not tried"));
    }
    let problems = requester.http.redactor.redact(&problems.join("; "));
    Err(RegistryError::LayerUrls { task: Box::new(task.clone()), problems })
}

/// Makes a URL from outside fit to be shown: without user name, password and values that may be secrets.
#[must_use]
pub fn shown_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => url.to_string(),
        Err(_) => sanitize(text.rsplit_once('@').map_or(text, |(_, rest)| rest)),
    }
}

impl LayerUrl {
    /// Asks for the bytes from `from` on; again when that fails for a while.
    pub(super) fn open(
        &self,
        requester: &Requester,
        from: Option<u64>,
        task: &Task,
    ) -> Result<Response, RegistryError> {
        let mut tries = RetryBudget::new();
        loop {
            match self.once(requester, from, tries.attempt()) {
                Ok(response) => return Ok(response),
                Err(Ended::Later(later)) => tries.failed(&requester.policy, None, task, later)?,
                Err(Ended::Unusable(problem)) => {
                    return Err(RegistryError::Protocol { task: Box::new(task.clone()), problem });
                }
                Err(Ended::Fatal(error)) => return Err(error),
            }
        }
    }

    fn once(&self, requester: &Requester, from: Option<u64>, attempt: u32) -> Result<Response, Ended> {
        let (mut url, mut named_by) = (self.url.clone(), self.named_by);
        for _ in 0..=limits::REDIRECTS {
            check(requester, &url, named_by).map_err(Ended::Unusable)?;
            let origin = url.origin().to_string();
            let sent = requester.http.send(Request {
                method: Method::Get,
                url: &url,
                named_by,
                headers: from.map(|from| ("range", format!("bytes={from}-"))).into_iter().collect(),
                authorization: None,
                payload: Payload::None,
                closing: None,
                attempt,
            });
            let response = sent.map_err(|error| match classify::wire_error(error, &origin) {
                Ok(later) => Ended::Later(later.about(&format!("`{origin}`"))),
                Err(error) => Ended::Fatal(error),
            })?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                let response = classify::response(&requester.http, response).map_err(Ended::Later)?;
                return match response.status {
                    200 | 206 | 416 => Ok(response),
                    status => {
                        response.drain();
                        Err(Ended::Unusable(format!("the response was {status}")))
                    }
                };
            }
            let next = url.join(response.header("location").unwrap_or(""));
            response.drain();
            let next =
                next.map_err(|problem| Ended::Unusable(format!("redirect to a location that {problem}")))?;
            if url.is_https() && !next.is_https() {
                return Err(Ended::Unusable(format!(
                    "redirect from https to `{next}`, which is not followed"
                )));
            }
            named_by = requester.http.led_by_url(url.origin());
            url = next;
        }
        Err(Ended::Unusable(format!("more than {} redirects", limits::REDIRECTS)))
    }
}

/// Refuses plain http where it is not allowed, and hosts whose text says that they are out of reach.
fn check(requester: &Requester, url: &Url, named_by: HostSource) -> Result<(), String> {
    let host = url.origin().to_string().parse::<Registry>();
    if !url.is_https() && !host.is_ok_and(|host| requester.options.plain_http.allows(&host)) {
        return Err("plain http is not allowed".to_owned());
    }
    if !url.origin().may_be_named_by(named_by) {
        return Err(format!(
            "`{}` is on this machine, its link or a private network, and is not connected to",
            url.origin()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::scripted::{Exchange, Scripted, body, on};
    use crate::model::{Descriptor, Digest};

    fn layer(urls: &[String]) -> Descriptor {
        let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        Descriptor { urls: urls.to_vec(), ..Descriptor::new(kind, Digest::sha256_of(b"layer"), 5) }
    }

    fn absent(layer: &Descriptor) -> Exchange {
        on(&format!("GET /v2/a/blobs/{}", layer.digest), &body("404 Not Found", "", ""))
    }

    #[test]
    fn a_layer_that_the_registry_does_not_hold_comes_from_its_urls() {
        let path = |text: &str| format!("http://{{host}}{text}");
        let moved = body("302 Found", "location: /moved\r\n", "");
        let plain =
            |request: &str, response: &str| Exchange { header: "!authorization", ..on(request, response) };
        let server = Scripted::start(vec![
            absent(&layer(&[])),
            plain("GET /gone", &body("404 Not Found", "", "")),
            plain("GET /layer", &moved),
            plain("GET /moved", &body("200 OK", "", "layer")),
        ]);
        let urls = ["ftp://x/", "/gone", "/layer"].map(|text| match text.strip_prefix('/') {
            Some(_) => path(text).replace("{host}", &server.host),
            None => text.to_owned(),
        });
        let client = server.client();
        let mut found = String::new();
        let mut stream = client.open_blob(&server.repository(), &layer(&urls)).unwrap();
        stream.read_to_string(&mut found).unwrap();
        assert_eq!(found, "layer");
    }

    #[test]
    fn urls_are_refused_with_a_reason_for_each() {
        let urls = ["http://8.8.8.8/x?sig=hunter2", "https://169.254.169.254/latest", "not a url\u{202e}"];
        let layer = layer(&urls.map(str::to_owned));
        let server = Scripted::start(vec![absent(&layer)]);
        let client = server.client();
        let error = client.open_blob(&server.repository(), &layer).map(drop).unwrap_err().to_string();
        for expected in [
            "it is not held there, and its `urls` cannot be used: `http://8.8.8.8/x?sig=***`: plain http is not allowed; ",
            "`https://169.254.169.254/latest`: `169.254.169.254` is on this machine, its link or a private network, and is not connected to; ",
            "`not a url\\u{202e}`: has characters that a URL cannot have",
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn bytes_of_another_digest_are_an_error() {
        let server =
            Scripted::start(vec![absent(&layer(&[])), on("GET /layer", &body("200 OK", "", "other"))]);
        let layer = layer(&[format!("http://{}/layer", server.host)]);
        let client = server.client();
        let mut stream = client.open_blob(&server.repository(), &layer).unwrap();
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(&layer.digest.to_string()), "{error}");
    }
}
