//! The clock that logins are given, and the times in responses of cloud providers.

use std::sync::Arc;

use crate::model::time::Timestamp;

/// Tells the time as seconds since 1970; the clock is the front's, like everything from outside.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Reads when something ends, in RFC 3339; times before 1970 are none.
pub(super) fn parse_expiry(text: &str) -> Option<u64> {
    u64::try_from(Timestamp::parse_rfc3339(text.trim())?.unix_seconds()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_read_and_one_before_1970_is_none() {
        for (text, expected) in [
            ("2026-11-21T05:32:27Z", Some(1_795_239_147)),
            (" 2024-02-29T12:00:00.123456Z ", Some(1_709_208_000)),
            ("1969-12-31T23:59:59Z", None),
            ("soon", None),
        ] {
            assert_eq!(parse_expiry(text), expected, "{text}");
        }
    }
}
