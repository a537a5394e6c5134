//! DNS lookups: the system's resolver on a thread that can be abandoned, with a cache of ten seconds.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::stream::lock;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::transport::{Deadline, run_detached};

/// Most addresses of a host that are tried; ureq has room for no more.
const MOST_ADDRESSES: usize = 16;
/// How long a response is good. ureq asks before every request, also where a connection is open; in a container that
/// is several DNS queries each time.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Asks the system for addresses; unlike ureq's own it can be cancelled, and does not panic without threads.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemResolver {
    /// Until when what is known.
    known: Arc<Mutex<Known>>,
}

type Known = HashMap<String, (Instant, Vec<SocketAddr>)>;

impl SystemResolver {
    /// Returns the addresses of `host:port`.
    fn addresses(&self, name: &str, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let known = || lock(&self.known);
        if let Some((until, addresses)) = known().get(name)
            && Instant::now() < *until
        {
            return Ok(addresses.clone());
        }
        let left = Deadline::new(timeout).left().ok_or(Error::Timeout(timeout.reason))?;
        let asked = name.to_owned();
        let found =
            run_detached(left, move || asked.to_socket_addrs()).map_err(|error| match error.kind() {
                ErrorKind::TimedOut => Error::Timeout(timeout.reason),
                _ => Error::Io(error),
            })?;
        let found: Vec<_> = found.take(MOST_ADDRESSES).collect();
        let now = Instant::now();
        let mut known = known();
        // Names come from redirects too, and there may be very many of them.
        known.retain(|_, (until, _)| now < *until);
        if !found.is_empty() {
            known.insert(name.to_owned(), (now + KNOWN_FOR, found.clone()));
        }
        Ok(found)
    }
}

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::BadUri(uri.to_string()));
        };
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let mut found = self.empty();
        self.addresses(&name, timeout)?.into_iter().for_each(|address| found.push(address));
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_the_port_of_their_address_or_scheme() {
        let resolve = |uri: &str| {
            let timeout = NextTimeout {
                after: ureq::unversioned::transport::time::Duration::from_secs(10),
                reason: ureq::Timeout::Resolve,
                ..NextTimeout::default()
            };
            let found = SystemResolver::default().resolve(&uri.parse().unwrap(), &Config::default(), timeout);
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(resolve("http://127.0.0.1:5000/v2/").unwrap(), ["127.0.0.1:5000"]);
        assert_eq!(resolve("https://[::1]/v2/").unwrap(), ["[::1]:443"]);
        assert!(resolve("http://localhost/v2/").unwrap().contains(&"127.0.0.1:80".to_owned()));
        assert!(resolve("http://name.invalid/").is_err());
        assert!(resolve("/v2/").is_err());
    }

    #[test]
    fn a_response_is_known_for_a_while() {
        let (names, timeout) = (SystemResolver::default(), NextTimeout::default());
        let found = names.addresses("localhost:80", timeout).unwrap();
        assert!(!found.is_empty());
        let elsewhere = vec![SocketAddr::from(([192, 0, 2, 1], 80))];
        names
            .known
            .lock()
            .unwrap()
            .insert("localhost:80".to_owned(), (Instant::now() + KNOWN_FOR, elsewhere.clone()));
        assert_eq!(names.addresses("localhost:80", timeout).unwrap(), elsewhere, "no lookup was made");
        names.known.lock().unwrap().insert("localhost:80".to_owned(), (Instant::now(), elsewhere));
        assert_eq!(names.addresses("localhost:80", timeout).unwrap(), found, "asked again");
    }
}
