//! Inflating several gzip members at a time, in order.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::gzip_member::{self, HEADER_BYTES};

/// Members in one lane: one is inflated while the next waits, so that a lane need not wait for its input.
const DEPTH: usize = 2;

/// One member in a lane; it comes back with its uncompressed bytes.
#[derive(Debug, Default)]
struct Job {
    packed: Vec<u8>,
    plain: Vec<u8>,
    /// `packed` was exactly one correct member; only then `plain` is valid.
    whole: bool,
}

/// A thread that inflates one member after the other.
#[derive(Debug)]
struct Lane {
    jobs: SyncSender<Job>,
    done: Receiver<Job>,
}

impl Lane {
    /// Errors: the system has no thread left.
    fn spawn() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(DEPTH);
        let (finished, done) = sync_channel(DEPTH);
        // The thread owns only its buffers, and ends when the other ends of its channels are dropped.
        thread::Builder::new().name("inflate".to_owned()).spawn(move || {
            let mut decompress = flate2::Decompress::new(false);
            for mut job in queue {
                job.whole = gzip_member::inflate(&job.packed, &mut decompress, &mut job.plain);
                if finished.send(job).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, done })
    }
}

/// The uncompressed bytes of members that state their length.
///
/// From the first bytes that are not such a member, or the first member that is not as it states, the ordinary decoder
/// reads on. So every stream gives the same bytes and errors as with that decoder alone.
/// Cost: `threads` lanes, each with two members of at most 1 MiB and what they hold: 4 MiB per lane.
pub(super) struct GzipMembers<'a> {
    source: Box<dyn Read + Send + 'a>,
    /// Header of the next member; empty at the end of the stream.
    header: Vec<u8>,
    /// Member number `n` goes to lane `n % threads`, and comes from there.
    lanes: Vec<Lane>,
    threads: usize,
    sent: usize,
    taken: usize,
    /// The block being read.
    current: Job,
    position: usize,
    /// Blocks to be used again.
    spare: Vec<Job>,
}

/// The result of a read.
pub(super) enum MembersRead<'a> {
    /// The number of bytes; 0 at the end.
    Read(usize),
    /// The rest of the stream is for an ordinary decoder.
    Ordinary(Box<dyn Read + Send + 'a>),
}

impl<'a> GzipMembers<'a> {
    /// `header` are the first bytes of the stream, taken from `source` already.
    pub(super) fn new(header: Vec<u8>, source: Box<dyn Read + Send + 'a>, threads: usize) -> Self {
        Self {
            source,
            header,
            lanes: Vec::new(),
            threads,
            sent: 0,
            taken: 0,
            current: Job::default(),
            position: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<MembersRead<'a>> {
        loop {
            let mut ready = &self.current.plain[self.position..];
            if !ready.is_empty() || buffer.is_empty() {
                let count = ready.read(buffer)?;
                self.position += count;
                return Ok(MembersRead::Read(count));
            }
            self.send_more()?;
            if self.sent == self.taken {
                return Ok(match self.header.is_empty() {
                    true => MembersRead::Read(0),
                    false => MembersRead::Ordinary(self.rest(Vec::new())),
                });
            }
            let job = self.take();
            if !job.whole {
                return Ok(MembersRead::Ordinary(self.rest(job.packed)));
            }
            self.spare.push(std::mem::replace(&mut self.current, job));
            self.position = 0;
        }
    }

    /// Sends members until the lanes are full or the next bytes are not a member.
    fn send_more(&mut self) -> io::Result<()> {
        while self.sent - self.taken < DEPTH * self.threads {
            let Some(length) = gzip_member::length(&self.header) else { return Ok(()) };
            let number = self.sent % self.threads;
            if number == self.lanes.len() {
                match Lane::spawn() {
                    Ok(lane) => self.lanes.push(lane),
                    // Without any lane, the ordinary decoder reads the stream.
                    Err(_) if self.lanes.is_empty() => return Ok(()),
                    Err(_) => {
                        self.threads = self.lanes.len();
                        continue;
                    }
                }
            }
            let mut job = self.spare.pop().unwrap_or_default();
            job.packed.clear();
            if job.packed.try_reserve_exact(length).is_err() {
                // Jobs that come back free memory; without any, reading fails.
                return if self.sent > self.taken { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) };
            }
            job.packed.append(&mut self.header);
            let rest = (length - HEADER_BYTES) as u64;
            self.source.by_ref().take(rest).read_to_end(&mut job.packed)?;
            // If the stream is cut short, the lane finds the member incomplete and the ordinary decoder reports it.
            read_header(&mut self.source, &mut self.header)?;
            self.lanes[number].jobs.send(job).expect(LANE_LIVES);
            self.sent += 1;
        }
        Ok(())
    }

    fn take(&mut self) -> Job {
        let job = self.lanes[self.taken % self.threads].done.recv().expect(LANE_LIVES);
        self.taken += 1;
        job
    }

    /// Chains the bytes that were taken from the source and not returned, and the source.
    ///
    /// The pieces are not joined: a lack of memory may be the reason for this call.
    fn rest(&mut self, begun: Vec<u8>) -> Box<dyn Read + Send + 'a> {
        let mut pieces = vec![begun];
        while self.taken < self.sent {
            let job = self.take();
            pieces.push(job.packed);
        }
        pieces.push(std::mem::take(&mut self.header));
        self.lanes.clear();
        self.spare.clear();
        self.current = Job::default();
        let source = std::mem::replace(&mut self.source, Box::new(io::empty()));
        pieces.into_iter().rev().fold(source, |rest, piece| Box::new(Cursor::new(piece).chain(rest)))
    }
}

/// Reads as much of a header as there is.
pub(super) fn read_header(source: &mut dyn Read, header: &mut Vec<u8>) -> io::Result<()> {
    header.clear();
    source.take(HEADER_BYTES as u64).read_to_end(header).map(drop)
}

/// A lane ends before the stream only when it panicked.
const LANE_LIVES: &str = "a lane ends only after its channels";

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of gzip members, one for each text.
    fn stream(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut output = Vec::new();
        for text in texts {
            gzip_member::append(text, &mut output, |output| {
                let mut encoder = flate2::write::DeflateEncoder::new(output, flate2::Compression::fast());
                io::Write::write_all(&mut encoder, text).unwrap();
                encoder.finish().unwrap();
            });
        }
        output
    }

    #[test]
    fn members_are_inflated_in_the_lanes_and_never_more_than_two_a_lane() {
        let texts: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; 700 * usize::from(n) + 1]).collect();
        let bytes = stream(&texts);
        for threads in [1, 2, 4] {
            let mut source: Box<dyn Read + Send> = Box::new(Cursor::new(bytes.clone()));
            let mut header = Vec::new();
            read_header(&mut source, &mut header).unwrap();
            let mut members = GzipMembers::new(header, source, threads);
            let (mut found, mut buffer) = (Vec::new(), [0; 100]);
            loop {
                match members.read(&mut buffer).unwrap() {
                    MembersRead::Read(0) => break,
                    MembersRead::Read(count) => found.extend_from_slice(&buffer[..count]),
                    MembersRead::Ordinary(_) => panic!("every member is as it states"),
                }
                // `taken` is counted after more were sent.
                assert!(members.sent - members.taken < 2 * threads, "{threads} threads");
                assert_eq!(members.lanes.len(), threads);
            }
            assert!(found == texts.concat(), "{threads} threads");
            assert_eq!((members.sent, members.taken), (9, 9));
        }
    }
}
