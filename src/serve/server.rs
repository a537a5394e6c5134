//! The listener: a bounded number of connections, each on a thread of its own, until the server is told to stop.
//!
//! Where all places are taken and another client comes, the connection that has been idle for the longest time ends,
//! else one that is slower than any working client. So clients that send nothing stop no other client.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::limits;
use crate::stream::{lock, threads};

use super::connection::{self, Access};
use super::error::ServeError;
use super::service::Service;
use super::tls::Tls;
use super::traffic::{State, Traffic};

/// How long a connection of this process to itself may take; it wakes the listener.
const WAKE: Duration = Duration::from_millis(500);
/// How often it looks for a free place, while there is none.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request may be slow before its connection is given to another client.
const GRACE: Duration = Duration::from_secs(5);
/// Slower than this, bytes for each second, a client is slow.
const SLOW: u64 = 64 * 1024;

/// A server that listens; it answers nothing before [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    stopped: AtomicBool,
    open: Mutex<Open>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Connection>,
}

#[derive(Clone, Debug)]
struct Connection {
    stream: Arc<TcpStream>,
    traffic: Arc<Traffic>,
}

impl Server {
    /// Listens; port 0 is replaced by one that is free.
    ///
    /// Errors: [`ServeError::Listen`].
    pub fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, stopped: AtomicBool::new(false), open: Mutex::default() })
    }

    /// Returns the address, with the port that was chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address at which a client on this machine finds the server.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }

    /// Ends every connection and has [`Server::run`] return.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for connection in lock(&self.open).connections.values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        // The listener waits for a client, so it gets one. Where that fails it has others, and sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.local_address(), WAKE);
    }

    /// Answers clients until [`Server::stop`]; `done` gets each request when it is over, from several threads.
    pub fn run(&self, service: &Service, done: &(dyn Fn(&Access) + Sync)) {
        std::thread::scope(|scope| {
            while let Some(stream) = self.accept() {
                let Some((number, connection)) = self.enter(Arc::new(stream)) else { return };
                let work = move || {
                    let Connection { stream, traffic } = &connection;
                    connection::run(stream, self.tls.as_ref(), traffic, service, &|access| done(access));
                    self.leave(number);
                };
                // Without a thread the client sees its connection end; the next one may be luckier.
                if threads::spawn(scope, work).is_err() {
                    self.leave(number);
                }
            }
        });
    }

    /// Waits for a client; `None` when the server is to stop.
    fn accept(&self) -> Option<TcpStream> {
        loop {
            let accepted = self.listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return None;
            }
            match accepted {
                Ok((stream, _)) => return Some(stream),
                // A client that went away at once, or no file handle left for the moment.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Waits for a place; `None` when the server is to stop.
    fn enter(&self, stream: Arc<TcpStream>) -> Option<(u64, Connection)> {
        loop {
            let mut open = lock(&self.open);
            // Looked at under the lock, so that `stop` ends each connection that is in the list.
            if self.stopped.load(Ordering::SeqCst) {
                return None;
            }
            if open.connections.len() < limits::CONNECTIONS {
                let (number, traffic) = (open.next, Arc::new(Traffic::new()));
                open.next += 1;
                let connection = Connection { stream, traffic };
                let _ = open.connections.insert(number, connection.clone());
                return Some((number, connection));
            }
            if let Some(connection) = dispensable(&open) {
                let _ = connection.stream.shutdown(Shutdown::Both);
            }
            drop(open);
            std::thread::sleep(PAUSE);
        }
    }

    fn leave(&self, number: u64) {
        let left = lock(&self.open).connections.remove(&number);
        if let Some(connection) = left {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Chooses the connection that can best be done without: the longest idle, else the slowest of the slow ones.
fn dispensable(open: &Open) -> Option<&Connection> {
    let idle = open.connections.values().filter_map(|connection| match connection.traffic.state() {
        State::Idle(since) => Some((since, connection)),
        State::Busy(_) => None,
    });
    if let Some((_, connection)) = idle.min_by_key(|(since, _)| *since) {
        return Some(connection);
    }
    let slow = open.connections.values().filter_map(|connection| {
        let speed = connection.traffic.speed(GRACE).filter(|speed| *speed < SLOW)?;
        Some((speed, connection))
    });
    slow.min_by_key(|(speed, _)| *speed).map(|(_, connection)| connection)
}
