//! How many requests wait for one registry's responses at the same time: more while it answers, fewer when it complains.
//!
//! Requests that carry a blob are not counted: such a request may wait for a download from the same registry, which must
//! then not wait for it. They are as many as the workers of the operation, and a closed [`Gate`](super::retry::Gate)
//! holds them too.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::stream::{cancel, lock};

use super::error::RegistryError;

/// Requests at the same time before the first response: the default of `--concurrency`.
const FIRST: usize = 16;
/// How long a wait may last before the stop signal is looked at.
const SLICE: Duration = Duration::from_millis(50);

/// Counts the requests to one registry whose responses are awaited.
#[derive(Debug, Default)]
pub(super) struct AtOnce {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug)]
struct State {
    /// Requests that may wait at the same time.
    limit: usize,
    waiting: usize,
    /// Answers since the limit last grew.
    responses: usize,
    /// After a complaint the limit grows by one for as many responses as it allows, before that for each.
    complained: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { limit: FIRST, waiting: 0, responses: 0, complained: false }
    }
}

/// A request's right to wait for its response, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a AtOnce);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
        self.0.free.notify_one();
    }
}

impl AtOnce {
    /// Waits for a turn; at most `most` are given at the same time, even if the registry bears more.
    pub(super) fn turn(&self, most: usize) -> Result<Turn<'_>, RegistryError> {
        let mut state = lock(&self.state);
        while state.waiting >= state.limit.min(most.max(1)) {
            if cancel::is_cancelled() {
                return Err(RegistryError::Cancelled);
            }
            state = self.free.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting += 1;
        Ok(Turn(self))
    }

    /// The registry answered.
    pub(super) fn answered(&self) {
        let mut state = lock(&self.state);
        state.responses += 1;
        if !state.complained || state.responses >= state.limit {
            state.responses = 0;
            // More than all callers together ask for changes nothing, and would take longer to shrink.
            state.limit = (state.limit + 1).min(crate::model::limits::CONCURRENCY);
            drop(state);
            self.free.notify_one();
        }
    }

    /// The registry said that it is too much, or cut connections.
    pub(super) fn complained(&self) {
        let mut state = lock(&self.state);
        // The one that complains has given its turn back.
        let used = state.limit.min((state.waiting + 1).max(FIRST));
        (state.limit, state.responses, state.complained) = ((used / 2).max(1), 0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(at_once: &AtOnce) -> usize {
        lock(&at_once.state).limit
    }

    #[test]
    fn requests_at_once_grow_with_responses_and_shrink_with_complaints() {
        let at_once = AtOnce::default();
        assert_eq!(limit(&at_once), 16);
        (0..100).for_each(|_| at_once.answered());
        assert_eq!(limit(&at_once), 64);
        at_once.complained();
        assert_eq!(limit(&at_once), 8, "half of what is in use, not of what would be allowed");
        (0..8).for_each(|_| at_once.answered());
        assert_eq!(limit(&at_once), 9);
        (0..8).for_each(|_| at_once.answered());
        assert_eq!(limit(&at_once), 9, "slower than before the complaint");
        for expected in [4, 2, 1, 1] {
            at_once.complained();
            assert_eq!(limit(&at_once), expected);
        }
    }

    #[test]
    fn no_more_requests_wait_than_are_allowed() {
        let at_once = AtOnce::default();
        let first = at_once.turn(2).unwrap();
        let second = at_once.turn(2).unwrap();
        std::thread::scope(|scope| {
            let third = scope.spawn(|| at_once.turn(2).map(drop).is_ok());
            assert_eq!(lock(&at_once.state).waiting, 2, "a third waits");
            drop(first);
            assert!(third.join().unwrap());
        });
        drop(second);
        assert_eq!(lock(&at_once.state).waiting, 0);
    }
}
