//! TCP for ureq: every wait can be cancelled, and a response that arrives before the body is sent is read.
//!
//! ureq reports a failed write as the request's failure. But a registry that refuses a body (401, 413) answers
//! first and then closes the connection, so after a failed write the connection is read.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

use crate::stream::cancel;

use super::events::ClientEvents;
use super::reach::{HostSource, Places};

/// How long a wait may last before the stop signal is checked.
const SLICE: Duration = Duration::from_millis(100);

/// Room for one TLS record with its frame.
const TLS_RECORD_BYTES: usize = 17 * 1024;

thread_local! {
    /// Set when the peer no longer takes the body of the request that this thread is sending.
    static BODY_UNWANTED: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether the peer stopped taking the body that this thread is sending.
pub(super) fn body_unwanted() -> bool {
    BODY_UNWANTED.get()
}

/// To be called before a request is sent on this thread.
pub(super) fn expect_body_wanted() {
    BODY_UNWANTED.set(false);
}

/// How long a peer is silent before it is reported, and between two reports.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Opens TCP connections.
pub(super) struct TcpConnector {
    pub(super) events: Arc<dyn ClientEvents>,
    /// Who named the hosts that are connected to.
    pub(super) named_by: HostSource,
    /// Receives where each host is.
    pub(super) places: Arc<Places>,
}

impl std::fmt::Debug for TcpConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpConnector").finish_non_exhaustive()
    }
}

/// Tells that a host is silent, every ten seconds.
struct Silence<'a> {
    events: &'a dyn ClientEvents,
    host: &'a str,
    phase: &'static str,
    since: Instant,
    told: u32,
}

impl<'a> Silence<'a> {
    fn begin(events: &'a dyn ClientEvents, host: &'a str, phase: &'static str) -> Self {
        Self { events, host, phase, since: Instant::now(), told: 0 }
    }

    fn goes_on(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= TOLD_AFTER * (self.told + 1) {
            self.told += 1;
            self.events.waiting(self.host, self.phase, elapsed);
        }
    }
}

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        // A tunnel through a proxy is open already.
        if let Some(transport) = chained {
            return Ok(Some(Box::new(transport)));
        }
        let opening = Deadline::new(details.timeout);
        let host: Arc<str> = details.uri.authority().map_or("", |authority| authority.as_str()).into();
        let addresses =
            self.named_by.filter(&details.addrs).map_err(|refusal| Error::Other(Box::new(refusal)))?;
        let stream = connect_any(&addresses, details.timeout)?;
        self.places.connected(&host, stream.peer_addr()?.ip());
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let (plain, events) = (!details.needs_tls(), Arc::clone(&self.events));
        // TLS has buffers of its own above these, and sends record by record.
        let output = if plain { details.config.output_buffer_size() } else { TLS_RECORD_BYTES };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), output);
        Ok(Some(Box::new(Tcp { stream, buffers, plain, output_closed: false, host, events, opening })))
    }
}

/// Tries the addresses one after the other, each for its share of the time left.
fn connect_any(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
    let deadline = Deadline::new(timeout);
    let mut last = Error::Io(ErrorKind::ConnectionRefused.into());
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.left().ok_or(Error::Timeout(Timeout::Connect))?;
        let addresses_left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (left / addresses_left).max(Duration::from_millis(500)).min(left);
        match connect_one(*address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) if cancel::is_cancelled() => return Err(Error::Io(error)),
            Err(error) if error.kind() == ErrorKind::TimedOut => last = Error::Timeout(Timeout::Connect),
            Err(error) => last = Error::Io(error),
        }
    }
    Err(last)
}

fn connect_one(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    // The connection's own time-out is exact; the other one is for systems that ignore it.
    run_detached(timeout.saturating_mul(2), move || TcpStream::connect_timeout(&address, timeout))
}

/// The system has no more threads, or no memory for them; a retry of the request does not help.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a thread: {0}")]
pub(super) struct NoThread(io::Error);

/// Runs blocking work that cannot be interrupted in a thread of its own, and does not wait for it after a cancellation.
pub(super) fn run_detached<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("connect".into());
    thread.spawn(move || drop(sender.send(work()))).map_err(|error| io::Error::other(NoThread(error)))?;
    let started = Instant::now();
    loop {
        cancel::check()?;
        match receiver.recv_timeout(SLICE) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) if started.elapsed() < timeout => {}
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut.into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// A point in time, or never.
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) fn new(timeout: NextTimeout) -> Self {
        Self(if timeout.after.is_not_happening() { None } else { Instant::now().checked_add(*timeout.after) })
    }

    /// Returns the time left, or `None` when there is none.
    pub(super) fn left(&self) -> Option<Duration> {
        match self.0 {
            None => Some(Duration::from_secs(3600)),
            Some(at) => at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        }
    }
}

/// One TCP connection.
struct Tcp {
    stream: TcpStream,
    buffers: LazyBuffers,
    plain: bool,
    output_closed: bool,
    /// Whom this is a connection to, for messages.
    host: Arc<str>,
    events: Arc<dyn ClientEvents>,
    /// When it has to be ready for the first request: with a proxy's answer and the TLS handshake, byte by byte or not.
    opening: Deadline,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("peer", &self.stream.peer_addr().ok()).finish()
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Tcp {
    /// Stops sending: drops what is still to be sent, and waits for the response.
    fn close_output(&mut self) {
        self.output_closed = true;
        BODY_UNWANTED.set(true);
    }

    /// Tells whether bytes can be read; without TLS they are a response.
    fn has_response(&self) -> bool {
        if !self.plain || self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let found = matches!(self.stream.peek(&mut [0]), Ok(n) if n > 0);
        self.stream.set_nonblocking(false).is_ok() && found
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.output_closed {
            BODY_UNWANTED.set(true);
            return Ok(());
        }
        let timeout = timeout.for_write();
        let mut deadline = Deadline::new(timeout);
        let (host, events) = (Arc::clone(&self.host), Arc::clone(&self.events));
        let mut silence = Silence::begin(&*events, &host, "to take more of the body");
        let mut sent = 0;
        while sent < amount {
            cancel::check()?;
            let output = self.buffers.output();
            match (&self.stream).write(&output[sent..amount]) {
                Ok(0) => self.close_output(),
                Ok(n) => {
                    sent += n;
                    // The limit is on a wait without any byte; `pace` has the limit on slow transfers.
                    deadline = Deadline::new(timeout);
                }
                Err(error) if would_block(&error) => {
                    if self.has_response() {
                        self.close_output();
                    } else if deadline.left().is_none() {
                        return Err(Error::Timeout(timeout.reason));
                    } else {
                        silence.goes_on();
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.close_output();
                }
                Err(error) => return Err(error.into()),
            }
            if self.output_closed {
                return Ok(());
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // The wait for a response has a limit of its own, which may be longer than that on silence in a body.
        let timeout = if timeout.reason == Timeout::RecvResponse { timeout } else { timeout.for_read() };
        let deadline = Deadline::new(timeout);
        let phase = match timeout.reason {
            Timeout::RecvResponse => "to respond",
            Timeout::Connect => "to agree on a connection",
            _ => "to send more",
        };
        let (host, events) = (Arc::clone(&self.host), Arc::clone(&self.events));
        let mut silence = Silence::begin(&*events, &host, phase);
        loop {
            cancel::check()?;
            // A peer that sends a byte now and then would never be silent.
            if timeout.reason == Timeout::Connect && self.opening.left().is_none() {
                return Err(Error::Timeout(timeout.reason));
            }
            let input = self.buffers.input_append_buf();
            match (&self.stream).read(input) {
                Ok(n) => {
                    self.buffers.input_appended(n);
                    return Ok(n > 0);
                }
                Err(error) if would_block(&error) => {
                    if deadline.left().is_none() {
                        return Err(Error::Timeout(timeout.reason));
                    }
                    silence.goes_on();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        if self.output_closed || self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        // Bytes without a request show that the last exchange failed.
        let quiet =
            matches!((&self.stream).read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_aside_is_left_when_its_time_is_over() {
        let slow = || {
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        };
        let started = Instant::now();
        let error = run_detached(Duration::from_millis(1), slow).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(run_detached(Duration::from_secs(10), || Ok(7)).unwrap(), 7);
    }
}
