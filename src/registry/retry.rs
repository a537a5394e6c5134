//! What is worth trying again, after how long, and how the workers of one host wait together.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::model::time::Timestamp;
use crate::stream::{cancel, lock};

/// Longest delay between two attempts that we choose ourselves.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Longest delay that a registry may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Slowest pace a registry can push us to: one request in this time.
const SLOWEST_PACE: Duration = Duration::from_secs(1);

/// Tells whether a status means that the same request may succeed later.
///
/// 499 and 52x come from proxies that lost the registry; 425 from TLS early data.
pub(super) fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=529)
}

/// Returns the delay after the `attempt`-th failure (from 1): doubling, between half and all of it at random.
pub(super) fn delay(base: Duration, attempt: u32) -> Duration {
    let full = base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY);
    let mut bytes = [0; 2];
    // Without random numbers all clients wait the same time, which is only less kind.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    full / 2 + full.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX)) / 2
}

/// Reads `Retry-After`: seconds, or a date, which is compared with the answer's own `Date`.
///
/// The local clock is not asked: what matters is how long the registry wants us to wait.
pub(super) fn retry_after(value: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let (until, now) = (Timestamp::parse_http_date(value)?, Timestamp::parse_http_date(date?)?);
            u64::try_from(until.unix_seconds() - now.unix_seconds()).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Waits, looking at the stop signal every 50 ms.
///
/// Errors: `Err` when stopping was asked for.
pub(super) fn sleep(duration: Duration) -> Result<(), super::RegistryError> {
    let until = Instant::now() + duration;
    loop {
        if cancel::is_cancelled() {
            return Err(super::RegistryError::Cancelled);
        }
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(Duration::from_millis(50))),
            _ => return Ok(()),
        }
    }
}

/// What all workers of one host wait at before each request.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    /// Nobody starts a request before this time.
    closed_until: Option<Instant>,
    /// Time between the starts of two requests; zero until the registry complains.
    pace: Duration,
    /// When the next request may start at this pace.
    next: Option<Instant>,
}

impl Gate {
    /// Waits until a request may start.
    pub(super) fn enter(&self) -> Result<(), super::RegistryError> {
        loop {
            let wait = {
                let mut state = lock(&self.0);
                let now = Instant::now();
                let closed = state.closed_until.and_then(|until| until.checked_duration_since(now));
                let paced = state.next.and_then(|next| next.checked_duration_since(now));
                match closed.max(paced).filter(|wait| !wait.is_zero()) {
                    Some(wait) => wait,
                    None => {
                        state.next = (!state.pace.is_zero()).then(|| now + state.pace);
                        return Ok(());
                    }
                }
            };
            sleep(wait)?;
        }
    }

    /// The registry asked everybody to slow down: nobody starts for `pause`, and then not as fast as before.
    pub(super) fn slow_down(&self, pause: Duration, too_many: bool) {
        let mut state = lock(&self.0);
        let until = Instant::now() + pause;
        // Workers whose requests were refused in the same moment are one complaint, not many.
        let first = state.closed_until.is_none_or(|closed| closed <= Instant::now());
        state.closed_until = Some(state.closed_until.map_or(until, |closed| closed.max(until)));
        if too_many && first {
            state.pace = (state.pace * 2).clamp(Duration::from_millis(10), SLOWEST_PACE);
        }
    }

    /// A request succeeded; the pace recovers slowly.
    pub(super) fn succeeded(&self) {
        let mut state = lock(&self.0);
        if !state.pace.is_zero() {
            let faster = state.pace.mul_f64(0.95);
            state.pace = if faster < Duration::from_millis(2) { Duration::ZERO } else { faster };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(gate: &Gate) -> Duration {
        gate.0.lock().unwrap().pace
    }

    #[test]
    fn a_closed_gate_holds_everybody_and_no_pace_remains() {
        let (gate, pause) = (Gate::default(), Duration::from_millis(100));
        let started = Instant::now();
        gate.slow_down(pause, false);
        gate.slow_down(Duration::ZERO, false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    gate.enter().unwrap();
                    assert!(started.elapsed() >= pause, "a shorter wait does not end a longer one");
                });
            }
        });
        assert_eq!(pace(&gate), Duration::ZERO, "503 says nothing about how many requests are too many");
    }

    #[test]
    fn complaints_slow_the_pace_down_and_answers_restore_it() {
        let gate = Gate::default();
        for expected in [10, 20, 40] {
            gate.slow_down(Duration::ZERO, true);
            assert_eq!(pace(&gate), Duration::from_millis(expected));
        }
        let started = Instant::now();
        for _ in 0..3 {
            gate.enter().unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(80), "three starts, 40 ms apart");
        // Workers that are refused in the same moment complain once.
        gate.slow_down(Duration::from_secs(60), true);
        gate.slow_down(Duration::from_secs(60), true);
        assert_eq!(pace(&gate), Duration::from_millis(80));
        for _ in 0..20 {
            gate.0.lock().unwrap().closed_until = None;
            gate.slow_down(Duration::ZERO, true);
        }
        assert_eq!(pace(&gate), SLOWEST_PACE);
        gate.succeeded();
        assert!(pace(&gate) < SLOWEST_PACE);
        for _ in 0..200 {
            gate.succeeded();
        }
        assert_eq!(pace(&gate), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            (Some("2"), None, Some(2)),
            (Some(" 0 "), None, Some(0)),
            (Some("100000"), None, Some(120)),
            (Some("Sun, 06 Nov 1994 08:49:40 GMT"), date, Some(3)),
            (Some("Sun, 06 Nov 1994 08:49:30 GMT"), date, Some(0)),
            (Some("Mon, 07 Nov 1994 00:00:00 GMT"), date, Some(120)),
            (Some("Sun, 06 Nov 1994 08:49:40 GMT"), None, None),
            (Some("-1"), date, None),
            (Some("soon"), date, None),
            (Some("Sun, 99 Nov 1994 08:49:40 GMT"), date, None),
            (None, date, None),
        ];
        for (value, date, expected) in cases {
            assert_eq!(retry_after(value, date), expected.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn delays_double_and_stay_within_their_bounds() {
        for (attempt, full) in [(1, 300), (2, 600), (3, 1_200), (12, 30_000), (u32::MAX, 30_000)] {
            let delay = delay(Duration::from_millis(300), attempt);
            let bounds = Duration::from_millis(full / 2)..=Duration::from_millis(full);
            assert!(bounds.contains(&delay), "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn only_temporary_statuses_are_retried() {
        for status in [408, 425, 429, 499, 500, 502, 503, 504, 520, 524] {
            assert!(is_retryable(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 413, 416, 501, 505, 507, 530] {
            assert!(!is_retryable(status), "{status}");
        }
    }
}
