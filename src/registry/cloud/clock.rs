//! Points in time as cloud providers write them, to and from seconds since 1970.

use std::sync::Arc;

/// Tells the time as seconds since 1970; the clock is the front's, like everything from outside.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

const DAY: u64 = 86_400;

/// Writes `20150830T123600Z`, the form that signatures carry.
pub(super) fn basic_form(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    // Civil date from days, with years that begin in March so that leap days come last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Reads `2026-11-21T05:32:27Z`, with or without a fraction of a second.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let number = |text: Option<&str>| text?.parse::<u64>().ok();
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next())?, number(date.next())?, number(date.next())?);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.split(':');
    let (hour, minute, second) = (number(time.next())?, number(time.next())?, number(time.next())?);
    let sane = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sane || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1).checked_sub(719_468)?;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, basic, extended) in [
            (0, "19700101T000000Z", "1970-01-01T00:00:00Z"),
            (1_440_938_160, "20150830T123600Z", "2015-08-30T12:36:00Z"),
            (1_709_208_000, "20240229T120000Z", "2024-02-29T12:00:00.123456Z"),
            (1_735_689_599, "20241231T235959Z", "2024-12-31T23:59:59Z"),
        ] {
            assert_eq!(basic_form(seconds), basic);
            assert_eq!(parse(extended), Some(seconds), "{extended}");
        }
        for wrong in
            ["", "2024", "2024-02-29", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z", "1969-12-31T00:00:00Z"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
