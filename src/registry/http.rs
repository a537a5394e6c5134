//! One request on the wire: headers, body, time-outs, the log. Never retries, redirects or authenticates.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Request as HttpRequest};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, SendBody};

use crate::stream::{cancel, fitting};

use super::events::RequestRecord;
use super::pace::{Pace, Paced};
use super::proxy::ProxyRules;
use super::reach::{HOST_SOURCES, HostSource, Places};
use super::redaction::Redactor;
use super::resolver::SystemResolver;
use super::sanitize::sanitize;
use super::tls::{TlsConnector, TlsTrust};
use super::transport::{self, TcpConnector};
use super::url::{Origin, Url};
use super::wire_error::{Phases, WireError, WireErrorKind};
use super::wire_options::WireOptions;
use crate::model::{Method, Secret};

/// Bodies of at least this size are sent with `Expect: 100-continue`, so that a refused one is not sent.
const EXPECT_CONTINUE_FROM: u64 = 1024 * 1024;

/// Size of a connection's buffer in each direction.
const BUFFER_BYTES: usize = 32 * 1024;

/// Longest time for a body that is read only to use the connection again.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Bytes per second at which a proxy passes on a stored body, or a registry moves it into its storage.
const PASSED_ON_PER_SECOND: u64 = 8 * 1024 * 1024;

/// Headers whose values are secrets, besides `Authorization` of a registry.
const SECRET_HEADERS: [&str; 4] =
    ["authorization", "x-aws-ec2-metadata-token", "x-amz-security-token", "x-identity-header"];
/// Fields of a form whose values are secrets.
const SECRET_FIELDS: [&str; 8] = [
    "refresh_token",
    "access_token",
    "password",
    "client_secret",
    "client_assertion",
    "assertion",
    "subject_token",
    "WebIdentityToken",
];

/// What is sent after the headers; it can be sent again.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// So many bytes of a source that is opened for each request; `progress` is called after each block.
    Stream { source: &'a dyn PayloadSource, length: u64, progress: &'a dyn Fn(u64) },
}

/// Where the bytes of a request come from.
pub(super) trait PayloadSource {
    /// Opens the bytes from the start.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    /// Who named the URL's host; decides which addresses it may have.
    pub(super) named_by: HostSource,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) authorization: Option<Secret>,
    pub(super) payload: Payload<'a>,
    /// The size of the blob whose upload this request ends; storing it may take long.
    pub(super) closing: Option<u64>,
    pub(super) attempt: u32,
}

/// One response; its body is still to be read.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    body: ureq::Body,
    pub(super) redactor: Arc<Redactor>,
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns a text of the peer without our secrets and control characters, shortened.
    pub(super) fn redacted(&self, text: &str) -> String {
        sanitize(&self.redactor.redact(text))
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.trim().parse().ok())
    }

    /// Returns the body's reader; errors of the wire are found in it with [`WireError::of_read`].
    pub(super) fn into_reader(self) -> impl Read + Send {
        self.into_paced(Pace::of_body())
    }

    /// Returns the reader of a body that has to come within a time in all.
    pub(super) fn into_reader_within(self, time: Duration) -> impl Read + Send {
        self.into_paced(Pace::all_within(time))
    }

    fn into_paced(self, pace: Pace) -> Paced<impl Read + Send> {
        Paced { inner: self.body.into_with_config().limit(u64::MAX).reader(), pace }
    }

    /// Tells whether the body is a web page: a login page or a proxy's message, where a registry should answer.
    pub(super) fn is_web_page(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
            && self.content_length() != Some(0)
    }

    /// Closes the connection without reading the body.
    pub(super) fn abandon(self) {
        drop(self.body);
    }

    /// Reads a short body to its end so that the connection can be used again; a longer one is cut off.
    pub(super) fn drain(self) {
        let _ = io::copy(&mut self.into_reader_within(DRAIN_TIME).take(64 * 1024), &mut io::sink());
    }
}

/// Remembers every secret in a request, so that it is redacted in what comes back.
fn remember_request(redactor: &Redactor, request: &Request<'_>) {
    let headers = request.headers.iter().filter(|(name, _)| SECRET_HEADERS.contains(name));
    let authorization = request.authorization.iter().map(Secret::expose);
    authorization
        .chain(headers.map(|(_, value)| value.as_str()))
        .for_each(|header| redactor.remember_authorization(header));
    request.url.secret_values().for_each(|value| redactor.remember_url_value(value));
    let is_form =
        |(name, value): &(&str, String)| *name == "content-type" && value.contains("form-urlencoded");
    if let Payload::Bytes(form) = request.payload
        && request.headers.iter().any(is_form)
        && let Ok(form) = std::str::from_utf8(form)
    {
        let fields = form.split('&').filter_map(|field| field.split_once('='));
        fields
            .filter(|(name, _)| SECRET_FIELDS.contains(name))
            .for_each(|(_, value)| redactor.remember_escaped(value));
    }
}

/// The HTTP client: connections kept for reuse, trust, proxies, time-outs.
pub(super) struct Http {
    /// One for each of [`HOST_SOURCES`].
    agents: [Agent; HOST_SOURCES.len()],
    places: Arc<Places>,
    options: WireOptions,
    proxies: ProxyRules,
    /// A server refused `Expect` (417).
    expects_nothing: AtomicBool,
    /// The secrets that were sent, to redact them in responses.
    pub(super) redactor: Arc<Redactor>,
}

impl Http {
    /// Prepares; opens no file and no connection.
    pub(super) fn new(options: &WireOptions) -> Result<Self, String> {
        let trust = Arc::new(TlsTrust::new(options.tls.clone())?);
        let timeouts = options.timeouts;
        let idle_connections = options.concurrency.max(1) + 2;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(options.user_agent.as_str())
            .accept_encoding("identity")
            // Each connection has both; larger ones need memory and are not faster.
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(idle_connections * 4)
            .max_idle_connections_per_host(idle_connections)
            .max_idle_age(Duration::from_secs(60))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .timeout_recv_response(Some(timeouts.response))
            .timeout_await_100(Some(Duration::from_secs(1)))
            .build();
        let (places, resolver) = (Arc::new(Places::default()), SystemResolver::default());
        let agents = HOST_SOURCES.map(|named_by| {
            let events = Arc::clone(&options.events);
            let tcp = TcpConnector { events, named_by, places: Arc::clone(&places) };
            let tls = TlsConnector { trust: Arc::clone(&trust) };
            let connector = ().chain(ConnectProxyConnector::default()).chain(tcp).chain(tls);
            Agent::with_parts(config.clone(), connector, resolver.clone())
        });
        let proxies = ProxyRules::new(&options.proxies)?;
        Ok(Self {
            agents,
            places,
            options: options.clone(),
            proxies,
            expects_nothing: AtomicBool::new(false),
            redactor: Arc::default(),
        })
    }

    /// Sends one request and waits for the head of its response.
    #[expect(clippy::needless_pass_by_value, reason = "a request is sent once")]
    pub(super) fn send(&self, request: Request<'_>) -> Result<Response, WireError> {
        let started = Instant::now();
        let (method, url, attempt) = (request.method, request.url.clone(), request.attempt);
        remember_request(&self.redactor, &request);
        let (result, sent) = self.exchange(&request);
        let result =
            result.map_err(|failure| WireError { text: self.redactor.redact(&failure.text), ..failure });
        // A peer may have put secrets that it was sent into the location of this request.
        let printed = self.redactor.redact(&url.to_string());
        let (status, problem, announced) = match &result {
            Ok(response) => (Some(response.status), None, response.content_length()),
            Err(failure) => (None, Some(failure.text.as_str()), None),
        };
        self.options.events.request(&RequestRecord {
            method: method.name(),
            url: &printed,
            status,
            problem,
            sent,
            announced,
            elapsed: started.elapsed(),
            attempt,
        });
        result
    }

    fn exchange(&self, request: &Request<'_>) -> (Result<Response, WireError>, u64) {
        let mut builder = HttpRequest::builder().method(request.method.name()).uri(request.url.expose());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header("authorization", authorization.expose());
        }
        let (reader, length, progress): (Box<dyn Read + '_>, u64, &dyn Fn(u64)) = match request.payload {
            Payload::None => (Box::new(io::empty()), 0, &|_| {}),
            Payload::Bytes(content) => (Box::new(content), content.len() as u64, &|_| {}),
            Payload::Stream { source, length, progress } => match source.open() {
                Ok(reader) => (reader, length, progress),
                Err(error) => return (Err(WireError::of_source(&error)), 0),
            },
        };
        if length >= EXPECT_CONTINUE_FROM && !self.expects_nothing.load(Ordering::Relaxed) {
            builder = builder.header("expect", "100-continue");
        }
        let failed = |error| {
            let text = format!("the request cannot be written: {error}");
            WireError { kind: WireErrorKind::Protocol, text, silent: false }
        };
        if !matches!(request.method, Method::Post | Method::Put | Method::Patch) {
            let message = builder.body(SendBody::none()).map_err(failed);
            return (message.and_then(|message| self.run(message, request, 0)), 0);
        }
        // Some proxies answer 411 to an upload request without a length, even an empty one.
        builder = builder.header("content-length", length);
        let (pace, returned) = (Pace::of_body(), None);
        let mut body = Sending { reader, left: length, sent: 0, progress, pace, returned };
        let message = builder.body(SendBody::from_reader(&mut body)).map_err(failed);
        let result = message.and_then(|message| self.run(message, request, length));
        (result, body.sent)
    }

    fn run(
        &self,
        message: HttpRequest<SendBody<'_>>,
        request: &Request<'_>,
        length: u64,
    ) -> Result<Response, WireError> {
        let (url, closing) = (request.url.clone(), request.closing);
        let timeouts = self.options.timeouts;
        let response = if closing.is_some() { timeouts.closing_response } else { timeouts.response };
        // A proxy may store a body until it is complete and only then pass it on.
        let moved = length.max(closing.unwrap_or(0));
        let response = response + Duration::from_secs(moved / PASSED_ON_PER_SECOND);
        let proxy = self.proxies.for_url(&url);
        let agent = self.agent(request.named_by, proxy.is_some());
        let setup = agent.configure_request(message).proxy(proxy);
        let message = setup.timeout_recv_response(Some(response)).build();
        transport::expect_body_wanted();
        match agent.run(message) {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Ok(Response {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    url,
                    body,
                    redactor: Arc::clone(&self.redactor),
                })
            }
            Err(error) => {
                let doing = if length > 0 { "sending the body" } else { "waiting for a response" };
                let phases = Phases { connect: timeouts.connect, idle: timeouts.idle, response };
                Err(WireError::new(error, doing, phases))
            }
        }
    }

    /// Returns the agent whose connector checks where requests may go; a proxy, which the user chose, connects itself.
    fn agent(&self, named_by: HostSource, through_proxy: bool) -> &Agent {
        let wanted = if through_proxy { HostSource::User } else { named_by };
        let found = HOST_SOURCES.iter().zip(&self.agents).find(|(source, _)| **source == wanted);
        found.map(|(_, agent)| agent).expect("there is an agent for each source")
    }

    /// Returns the source of hosts that a response of this host names.
    pub(super) fn led_by(&self, host: &Origin) -> HostSource {
        self.places.led_by(&host.to_string())
    }

    /// Returns the source of hosts that a redirect of a host of a layer's `urls` names.
    pub(super) fn led_by_url(&self, host: &Origin) -> HostSource {
        self.places.led_by_url(&host.to_string())
    }

    /// Sends later bodies without `Expect`.
    pub(super) fn stop_expecting(&self) {
        self.expects_nothing.store(true, Ordering::Relaxed);
    }

    /// Returns the longest time that a peer may send nothing.
    pub(super) fn idle(&self) -> Duration {
        self.options.timeouts.idle
    }
}

/// The body of a request: exactly the announced bytes, counted.
struct Sending<'a> {
    reader: Box<dyn Read + 'a>,
    left: u64,
    sent: u64,
    progress: &'a dyn Fn(u64),
    pace: Pace,
    /// When the last block was handed to the connection.
    returned: Option<(Instant, u64)>,
}

impl Read for Sending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let wanted = fitting(self.left, buffer.len());
        if transport::body_unwanted() {
            // The peer has answered already. ureq wants the announced number of bytes before it looks; they
            // are thrown away by the transport, so any will do.
            self.left -= wanted as u64;
            return Ok(wanted);
        }
        cancel::check()?;
        if let Some((at, bytes)) = self.returned.take() {
            self.pace.moved(bytes, at.elapsed()).map_err(io::Error::other)?;
        }
        let n = self.reader.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if n == 0 {
            // ureq would read without end. Streams report a short source themselves (`upload_session::Guarded`).
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        self.sent += n as u64;
        (self.progress)(n as u64);
        self.returned = Some((Instant::now(), n as u64));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpListener;

    use super::*;
    use crate::registry::reach::NetworkPlace;

    fn body<'a>(content: &'a [u8], left: u64, progress: &'a dyn Fn(u64)) -> Sending<'a> {
        Sending { reader: Box::new(content), left, sent: 0, progress, pace: Pace::of_body(), returned: None }
    }

    #[test]
    fn a_body_has_exactly_the_announced_bytes_and_they_are_counted() {
        let moved = Cell::new(0);
        let progress = |bytes| moved.set(moved.get() + bytes);
        let mut sending = body(b"0123456789", 7, &progress);
        let mut text = String::new();
        sending.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), sending.sent, sending.left), ("0123456", 7, 0));
        assert_eq!(moved.get(), 7);
        let error = body(b"0123", 5, &|_| {}).read_to_string(&mut String::new()).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::UnexpectedEof,
            "a source that ends early is no end of the body"
        );
    }

    #[test]
    fn every_secret_of_a_request_is_redacted_in_what_comes_back() {
        let redactor = Redactor::default();
        let url = Url::parse("https://reg.example/v2/x?X-Amz-Signature=s1gnature&n=1").unwrap();
        remember_request(
            &redactor,
            &Request {
                method: Method::Post,
                url: &url,
                named_by: HostSource::User,
                headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
                authorization: Some(Secret::new("Bearer t0kenvalue")),
                payload: Payload::Bytes(b"grant_type=refresh_token&refresh_token=r%2Bfresh&service=reg"),
                closing: None,
                attempt: 1,
            },
        );
        for secret in ["t0kenvalue", "r%2Bfresh", "r+fresh", "s1gnature"] {
            let printed = redactor.redact(&format!("no access with {secret}"));
            assert!(printed.starts_with("no access with ") && !printed.contains(secret), "{printed}");
        }
        assert_eq!(redactor.redact("refresh_token of reg"), "refresh_token of reg");
    }

    #[test]
    fn a_name_that_leads_here_is_not_connected_to_for_a_registry_elsewhere() {
        let http = Http::new(&WireOptions::default()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]"]
        {
            let url = Url::parse(&format!("http://{host}:{port}/")).unwrap();
            for from in [NetworkPlace::Elsewhere, NetworkPlace::Link] {
                let failure = http
                    .send(Request {
                        method: Method::Get,
                        url: &url,
                        named_by: HostSource::ResponseFrom(from),
                        headers: Vec::new(),
                        authorization: None,
                        payload: Payload::None,
                        closing: None,
                        attempt: 1,
                    })
                    .map(|response| response.status)
                    .unwrap_err();
                assert!(matches!(failure.kind, WireErrorKind::Forbidden), "{host}: {failure:?}");
                assert!(failure.text.starts_with("leads to this machine, `"), "{host}: {}", failure.text);
            }
        }
        let nothing_came = listener.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(nothing_came, "no connection was made");
    }
}
