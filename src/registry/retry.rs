//! Retries: which failures are repeated, after how long, and how the workers of one host wait together.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::model::time::Timestamp;
use crate::stream::{cancel, lock};

use super::at_once::{AtOnce, Turn};
use super::error::{RegistryError, Task};
use super::events::{ClientEvents, RetryRecord};

/// Longest delay between two attempts that we choose ourselves.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Longest delay that a registry may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Slowest pace a registry can push us to: one request in this time.
const SLOWEST_PACE: Duration = Duration::from_secs(1);

/// Attempts without any response before a peer counts as unreachable: each costs a whole time-out, and a third one
/// rarely succeeds after two.
const SILENT_ATTEMPTS: u32 = 2;

/// Tells whether a status means that the same request may succeed later.
///
/// 499 and 52x come from proxies that lost the registry; 425 from TLS early data.
pub(super) fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=529)
}

/// Returns the delay after the `attempt`-th failure (from 1): doubling, between half and all of it at random.
pub(super) fn delay_before(base: Duration, attempt: u32) -> Duration {
    let full = base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY);
    let mut bytes = [0; 2];
    // Without random numbers all clients wait the same time; the delay is still within its bounds.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    full / 2 + full.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX)) / 2
}

/// Reads `Retry-After`: seconds, or a date, which is compared with the response's own `Date`.
///
/// The local clock is not used: it may differ from that of the registry.
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

/// Waits, and checks the stop signal every 50 ms.
///
/// Errors: [`RegistryError::Cancelled`] if the work was cancelled.
pub(super) fn sleep(duration: Duration) -> Result<(), RegistryError> {
    let until = Instant::now() + duration;
    loop {
        if cancel::is_cancelled() {
            return Err(RegistryError::Cancelled);
        }
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(Duration::from_millis(50))),
            _ => return Ok(()),
        }
    }
}

/// How often and after which delay failed requests are repeated.
#[derive(Clone)]
pub(super) struct RetryPolicy {
    /// Repetitions of one request; 0 for none.
    pub(super) retries: u32,
    /// First delay; it doubles.
    pub(super) delay: Duration,
    pub(super) events: Arc<dyn ClientEvents>,
}

/// A failure that may go away.
#[derive(Debug)]
pub(super) struct Transient {
    pub(super) cause: String,
    /// The status, when there was a response.
    pub(super) status: Option<u16>,
    /// How long the registry asked to wait.
    pub(super) after: Option<Duration>,
    /// The peer sent nothing within the time-out.
    pub(super) silent: bool,
}

impl Transient {
    pub(super) fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), status: None, after: None, silent: false }
    }

    /// Names the server that failed, if it is not the registry itself.
    pub(super) fn about(mut self, who: &str) -> Self {
        self.cause = format!("{who}: {}", self.cause);
        self
    }
}

/// Counts the attempts at one task against the policy.
pub(super) struct RetryBudget {
    started: Instant,
    failed: u32,
    limited: u32,
    silent: u32,
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), failed: 0, limited: 0, silent: 0 }
    }

    /// Returns the number of the attempt that is being made, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.failed + self.limited + 1
    }

    /// Resets the counters after bytes were transferred.
    pub(super) fn progressed(&mut self) {
        (self.failed, self.limited, self.silent) = (0, 0, 0);
    }

    /// Records a failure and waits; an error if the policy allows no further attempt.
    pub(super) fn failed(
        &mut self,
        policy: &RetryPolicy,
        gate: Option<&Gate>,
        task: &Task,
        failure: Transient,
    ) -> Result<(), RegistryError> {
        self.failed_at(policy, gate, &task.host, &task.to_string(), failure).map_err(
            |given_up| match given_up {
                GivenUp::Cancelled => RegistryError::Cancelled,
                GivenUp::Exhausted { attempts, elapsed, cause } => {
                    RegistryError::Unreachable { task: Box::new(task.clone()), attempts, elapsed, cause }
                }
            },
        )
    }

    /// As [`RetryBudget::failed`], for a task of any server.
    pub(super) fn failed_at(
        &mut self,
        policy: &RetryPolicy,
        gate: Option<&Gate>,
        host: &str,
        task: &str,
        failure: Transient,
    ) -> Result<(), GivenUp> {
        let attempt = self.attempt();
        let limited = failure.status == Some(429);
        if limited {
            self.limited += 1;
        } else {
            self.failed += 1;
        }
        // A 429 is not counted as a failure, but the number of 429s is limited too.
        let retries = policy.retries;
        self.silent += u32::from(failure.silent);
        if self.failed > retries || self.limited > retries.saturating_mul(4) || self.silent >= SILENT_ATTEMPTS
        {
            let (elapsed, cause) = (self.started.elapsed(), failure.cause);
            return Err(GivenUp::Exhausted { attempts: attempt, elapsed, cause });
        }
        let base = policy.delay;
        let delay = match failure.after {
            Some(after) => after,
            // An idle connection that was closed is no sign of a fault of the registry.
            None if failure.status.is_none() && attempt == 1 => base / 10,
            None => delay_before(base, attempt),
        };
        policy.events.retry(&RetryRecord { host, task, cause: &failure.cause, attempt, delay });
        if let Some(gate) = gate
            && failure.status.is_none()
            && attempt > 1
        {
            gate.at_once.complained();
        }
        if let Some(gate) = gate
            && matches!(failure.status, Some(429 | 503))
        {
            // At the gate every worker of this host waits, this one too.
            gate.slow_down(delay, limited);
            return Ok(());
        }
        sleep(delay).map_err(|_| GivenUp::Cancelled)
    }
}

/// Why a task is not tried again.
#[derive(Debug)]
pub(super) enum GivenUp {
    /// The policy allows no further attempt.
    Exhausted {
        attempts: u32,
        elapsed: Duration,
        /// The last failure.
        cause: String,
    },
    /// The stop signal came.
    Cancelled,
}

/// What all workers of one host wait at before each request.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    at_once: AtOnce,
}

#[derive(Debug, Default)]
struct GateState {
    /// No request starts before this time.
    closed_until: Option<Instant>,
    /// Time between the starts of two requests; zero until the registry sends a 429.
    pace: Duration,
    /// When the next request may start at this pace.
    next: Option<Instant>,
}

impl Gate {
    /// Waits until one more request, of at most `most`, may wait for its response.
    pub(super) fn turn(&self, most: usize) -> Result<Turn<'_>, RegistryError> {
        self.at_once.turn(most)
    }

    /// Waits until a request may start.
    pub(super) fn enter(&self) -> Result<(), RegistryError> {
        loop {
            let wait = {
                let mut state = lock(&self.state);
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

    /// The registry asked to slow down: no request starts for `pause`, and then not as fast as before.
    pub(super) fn slow_down(&self, pause: Duration, too_many: bool) {
        let mut state = lock(&self.state);
        let until = Instant::now() + pause;
        // Several workers whose requests were refused at the same time slow the pace down once.
        let first = state.closed_until.is_none_or(|closed| closed <= Instant::now());
        if first {
            self.at_once.complained();
        }
        state.closed_until = Some(state.closed_until.map_or(until, |closed| closed.max(until)));
        if too_many && first {
            state.pace = (state.pace * 2).clamp(Duration::from_millis(10), SLOWEST_PACE);
        }
    }

    /// A request succeeded; the pace recovers slowly.
    pub(super) fn succeeded(&self) {
        self.at_once.answered();
        let mut state = lock(&self.state);
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
        gate.state.lock().unwrap().pace
    }

    #[test]
    fn a_closed_gate_holds_every_request_and_no_pace_remains() {
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
    fn complaints_slow_the_pace_down_and_responses_restore_it() {
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
        // Workers that are refused at the same time slow the pace down once.
        gate.slow_down(Duration::from_secs(60), true);
        gate.slow_down(Duration::from_secs(60), true);
        assert_eq!(pace(&gate), Duration::from_millis(80));
        for _ in 0..20 {
            gate.state.lock().unwrap().closed_until = None;
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
            let delay = delay_before(Duration::from_millis(300), attempt);
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

    /// Keeps the attempts that are going to be repeated, with their delays in milliseconds.
    #[derive(Default)]
    struct Retries(Mutex<Vec<(u32, u128)>>);

    impl ClientEvents for Retries {
        fn retry(&self, record: &RetryRecord<'_>) {
            lock(&self.0).push((record.attempt, record.delay.as_millis()));
        }
    }

    /// Fails until the budget is used up, at most 20 times; returns the last attempt and what was repeated.
    fn exhaust(retries: u32, failure: impl Fn() -> Transient) -> (Option<u32>, Vec<(u32, u128)>) {
        let events = Arc::new(Retries::default());
        let policy =
            RetryPolicy { retries, delay: Duration::from_millis(20), events: Arc::clone(&events) as _ };
        let repository: crate::model::Repository = "reg.example/a".parse().unwrap();
        let task = Task::new(&repository, super::super::error::Verb::Read, "blob".to_owned());
        let mut budget = RetryBudget::new();
        for attempt in 1..=20 {
            assert_eq!(budget.attempt(), attempt);
            if let Err(error) = budget.failed(&policy, None, &task, failure()) {
                let RegistryError::Unreachable { attempts, cause, .. } = &error else { panic!("{error}") };
                assert_eq!(cause, "it broke");
                let seen = lock(&events.0).clone();
                return (Some(*attempts), seen);
            }
        }
        let seen = lock(&events.0).clone();
        (None, seen)
    }

    #[test]
    fn a_request_is_repeated_as_often_as_the_policy_says() {
        let broken = || Transient::new("it broke");
        assert_eq!(exhaust(0, broken), (Some(1), vec![]));
        let (last, seen) = exhaust(2, broken);
        assert_eq!(last, Some(3));
        // A connection that broke at first is tried again sooner.
        let [(1, 2), (2, second)] = seen[..] else { panic!("{seen:?}") };
        assert!((20..=40).contains(&second), "{second}");
        let status = |code| move || Transient { status: Some(code), ..Transient::new("it broke") };
        let (last, seen) = exhaust(1, status(500));
        assert_eq!(last, Some(2));
        assert!(matches!(seen[..], [(1, 10..=20)]), "{seen:?}");
        let after = || Transient { after: Some(Duration::from_millis(3)), ..Transient::new("it broke") };
        assert_eq!(exhaust(1, after), (Some(2), vec![(1, 3)]));
        // A registry that asks to wait may do so four times as often, and a silent one twice.
        let limited = || Transient { after: Some(Duration::ZERO), ..status(429)() };
        assert_eq!(exhaust(1, limited).0, Some(5));
        let silent = || Transient { silent: true, ..Transient::new("it broke") };
        assert_eq!(exhaust(9, silent).0, Some(2));
    }

    #[test]
    fn progress_resets_the_budget_and_the_gate_takes_the_delay_of_a_busy_registry() {
        let events: Arc<dyn ClientEvents> = Arc::new(Retries::default());
        let policy = RetryPolicy { retries: 1, delay: Duration::from_millis(1), events };
        let repository: crate::model::Repository = "reg.example/a".parse().unwrap();
        let task = Task::new(&repository, super::super::error::Verb::Read, "blob".to_owned());
        let mut budget = RetryBudget::new();
        for _ in 0..3 {
            budget.failed(&policy, None, &task, Transient::new("it broke")).unwrap();
            budget.progressed();
            assert_eq!(budget.attempt(), 1);
        }
        let started = Instant::now();
        for (status, paced) in [(503, false), (429, true)] {
            let gate = Gate::default();
            let after = Some(Duration::from_secs(60));
            let failure = Transient { status: Some(status), after, ..Transient::new("busy") };
            RetryBudget::new().failed(&policy, Some(&gate), &task, failure).unwrap();
            assert_eq!(pace(&gate) > Duration::ZERO, paced, "{status}");
            assert!(gate.state.lock().unwrap().closed_until.is_some());
        }
        let gate = Gate::default();
        RetryBudget::new().failed(&policy, Some(&gate), &task, Transient::new("it broke")).unwrap();
        assert!(gate.state.lock().unwrap().closed_until.is_none());
        assert!(started.elapsed() < Duration::from_secs(30), "the gate waits, not the failed request");
    }

    #[test]
    fn a_failure_of_another_server_names_it() {
        assert_eq!(Transient::new("it broke").about("the token server").cause, "the token server: it broke");
    }

    #[test]
    fn a_wait_takes_its_time_and_no_wait_takes_none() {
        let waited = |milliseconds: u64| {
            let started = Instant::now();
            sleep(Duration::from_millis(milliseconds)).unwrap();
            started.elapsed()
        };
        assert!(waited(0) < Duration::from_secs(10));
        let both = Duration::from_millis(70)..Duration::from_secs(10);
        assert!(both.contains(&waited(70)), "it is longer than the 50 ms between two checks");
    }
}
