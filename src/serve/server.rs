//! The listener: a bounded number of connections, each on a thread of its own, until the server is told to stop.
//!
//! If the limit is reached and another client connects, the server ends the connection that has been idle for the
//! longest time, else the slowest of the slow ones. So clients that send nothing cannot block others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::limits;
use crate::stream::{lock, threads};

use super::connection::{self, Access};
use super::error::ServeError;
use super::service::Service;
use super::timing::{FREE_LOOK, SLOW_BELOW, SLOW_FOR, WAKE};
use super::tls::Tls;
use super::traffic::{State, Traffic};

/// A listening server; it sends no response before [`Server::run`].
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
    /// Listens on an address; for port 0 the operating system chooses a free port.
    ///
    /// Errors: [`ServeError::Listen`].
    pub fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, stopped: AtomicBool::new(false), open: Mutex::default() })
    }

    /// Returns the address with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for clients on this machine.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }

    /// Ends every connection and makes [`Server::run`] return.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for connection in lock(&self.open).connections.values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        // The listener waits in `accept`, so this connects to it. If that fails, other clients are connecting and wake
        // it.
        let _ = TcpStream::connect_timeout(&self.local_address(), WAKE);
    }

    /// Serves clients until [`Server::stop`]; several threads call `done` with each request when it is over.
    pub fn run(&self, service: &Service, done: &(dyn Fn(&Access) + Sync)) {
        std::thread::scope(|scope| {
            while let Some(stream) = self.accept() {
                let Some((number, connection)) = self.enter(Arc::new(stream)) else { return };
                let work = move || {
                    let Connection { stream, traffic } = &connection;
                    connection::run(stream, self.tls.as_ref(), traffic, service, &|access| done(access));
                    self.leave(number);
                };
                // If no thread can be started, the connection ends; a later client may get one.
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
                Err(_) => std::thread::sleep(FREE_LOOK),
            }
        }
    }

    /// Waits until another connection is allowed; `None` when the server is to stop.
    fn enter(&self, stream: Arc<TcpStream>) -> Option<(u64, Connection)> {
        loop {
            let mut open = lock(&self.open);
            // Checked under the lock, so that `stop` ends every connection in the list.
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
            if let Some(connection) = connection_to_end(&open) {
                let _ = connection.stream.shutdown(Shutdown::Both);
            }
            drop(open);
            std::thread::sleep(FREE_LOOK);
        }
    }

    fn leave(&self, number: u64) {
        let left = lock(&self.open).connections.remove(&number);
        if let Some(connection) = left {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Chooses the connection to end for another client: the longest idle, else the slowest of the slow ones.
fn connection_to_end(open: &Open) -> Option<&Connection> {
    let idle = open.connections.values().filter_map(|connection| match connection.traffic.state() {
        State::Idle(since) => Some((since, connection)),
        State::Busy(_) => None,
    });
    if let Some((_, connection)) = idle.min_by_key(|(since, _)| *since) {
        return Some(connection);
    }
    let slow = open.connections.values().filter_map(|connection| {
        let speed = connection.traffic.speed(SLOW_FOR).filter(|speed| *speed < SLOW_BELOW)?;
        Some((speed, connection))
    });
    slow.min_by_key(|(speed, _)| *speed).map(|(_, connection)| connection)
}
