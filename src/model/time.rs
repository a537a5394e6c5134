//! Dates and times as other systems write them, to and from seconds since 1970.
//!
//! Reads RFC 3339 and HTTP dates, writes the basic form of ISO 8601. It asks no clock and knows no time zones
//! but the offset that a text gives.

const SECONDS_PER_DAY: i64 = 86_400;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A point in time; orders by time.
///
/// Units: seconds since 1970-01-01T00:00:00Z, negative before it, and nanoseconds within the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// Reads `2026-11-21T05:32:27.25+01:00`; `None` for anything else.
    ///
    /// Shape: years 0000 to 9999, offsets below 24 hours; digits of a fraction after the ninth are dropped.
    /// Source: RFC 3339 5.6.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
        let rest = rest.strip_prefix(['T', 't'])?;
        let (time, rest) = rest.split_at_checked(8)?;
        let [hour, minute, second] = numbers(time, b':', [2, 2, 2])?;
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (fraction, zone) = rest.split_at(zone_at);
        let local = Civil { year, month, day, hour, minute, second }.seconds()?;
        Some(Self { seconds: local - offset(zone)?, nanoseconds: nanoseconds(fraction)? })
    }

    /// Reads an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
    ///
    /// Source: RFC 9110 5.6.7; its two obsolete forms are not read.
    #[must_use]
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let (_, rest) = text.trim().split_once(", ")?;
        let (day, rest) = rest.split_once(' ')?;
        let (month, rest) = rest.split_once(' ')?;
        let (year, rest) = rest.split_once(' ')?;
        let month = MONTHS.iter().zip(1..).find_map(|(name, number)| (*name == month).then_some(number))?;
        let time = rest.strip_suffix(" GMT")?;
        let [hour, minute, second] = numbers(time, b':', [2, 2, 2])?;
        let (day, year) = (number(day, 2)?, number(year, 4)?);
        let seconds = Civil { year, month, day, hour, minute, second }.seconds()?;
        Some(Self { seconds, nanoseconds: 0 })
    }

    /// Returns whole seconds since 1970, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Returns whole milliseconds since 1970, rounded down.
    #[must_use]
    pub fn unix_milliseconds(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanoseconds / 1_000_000)
    }
}

/// Writes seconds since 1970 as `20150830T123600Z`, the basic form of ISO 8601.
#[must_use]
pub fn format_basic(unix_seconds: u64) -> String {
    const DAY: u64 = SECONDS_PER_DAY.unsigned_abs();
    let (days, rest) = (unix_seconds / DAY, unix_seconds % DAY);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Writes seconds since 1970 as `2015-08-30T12:36:00Z`; `None` after the year 9999.
///
/// Source: RFC 3339 5.6.
#[must_use]
pub fn format_rfc3339(unix_seconds: u64) -> Option<String> {
    let basic = format_basic(unix_seconds);
    let (date, time) = basic.split_once('T')?;
    let [year, month, day] = [date.get(..4)?, date.get(4..6)?, date.get(6..8)?];
    let [hour, minute, second] = [time.get(..2)?, time.get(2..4)?, time.get(4..6)?];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    (date.len() == 8).then_some(text)
}

/// A date and a time of day, not checked yet.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// Returns seconds since 1970, if each part is in its range; 60 is a leap second and counts as the next second.
    fn seconds(&self) -> Option<i64> {
        let days = days_from_civil(self.year, self.month, self.day)?;
        let in_range = self.hour < 24 && self.minute < 60 && self.second <= 60;
        in_range.then(|| days * SECONDS_PER_DAY + self.hour * 3600 + self.minute * 60 + self.second)
    }
}

/// Returns the days from 1970-01-01 to a date of the proleptic Gregorian calendar, if there is such a date.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(0..=9999).contains(&year) || !(1..=days_in_month).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Returns year, month and day of a number of days since 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // An era is 400 years, which always have the same number of days; years begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Reads three numbers of fixed widths with `separator` between them.
fn numbers(text: &str, separator: u8, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(char::from(separator));
    let found = [
        number(parts.next()?, widths[0])?,
        number(parts.next()?, widths[1])?,
        number(parts.next()?, widths[2])?,
    ];
    parts.next().is_none().then_some(found)
}

/// Reads a number of exactly `digits` digits, without a sign; at most 18, which always fit.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Reads a fraction of a second, `.25` or nothing.
fn nanoseconds(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix('.').filter(|digits| !digits.is_empty())?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

/// Reads `Z` or an offset such as `+01:00`, as seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if let "Z" | "z" = zone {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_read_within_its_bounds() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2015-08-30T12:36:00Z", 1_440_938_160, 0),
            ("2024-02-29T12:00:00.123456Z", 1_709_208_000, 123_456_000),
            ("2024-12-31T23:59:59z", 1_735_689_599, 0),
            ("2016-12-31t23:59:60Z", 1_483_228_800, 0),
            ("2024-03-01T00:00:00.1234567899Z", 1_709_251_200, 123_456_789),
            ("2024-03-01T01:30:00+01:30", 1_709_251_200, 0),
            ("2024-02-29T00:01:00-23:59", 1_709_251_200, 0),
            ("0000-01-01T00:00:00Z", -62_167_219_200, 0),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
            ("1900-02-28T00:00:00Z", -2_203_977_600, 0),
            ("2000-02-29T00:00:00Z", 951_782_400, 0),
            ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
    }

    #[test]
    fn what_is_no_rfc3339_is_refused_and_nothing_overflows() {
        for text in [
            "",
            "2024",
            "2024-02-29",
            "yesterday",
            "2024-03-01T00:00:00",
            "2024-03-01 00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1x2Z",
            "2024-01-01T00:00:00,5Z",
            "2024-01-01T00:00:00ZZ",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+00:60",
            "2024-01-01T00:00:00+0000",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+999999999999999999:00",
            "2024-01-01T00:00:00-00:999999999999999999",
            "+024-01-01T00:00:00Z",
            "2024-+1-01T00:00:00Z",
            "2024-01-01T00:00:0éZ",
            "202é-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_sort_by_time_in_any_zone() {
        let order = [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2024-02-29T23:59:59.5+00:00",
            "2024-03-01T01:00:00+01:00",
            "2024-03-01T00:00:00.000000001Z",
            "2024-03-01T00:00:00.1Z",
            "2024-02-29T19:30:00-05:00",
        ]
        .map(|text| Timestamp::parse_rfc3339(text).unwrap());
        assert!(order.is_sorted_by(|one, two| one < two), "{order:?}");
    }

    #[test]
    fn http_dates_are_read() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            (" Sun, 06 Nov 1994 08:49:37 GMT ", Some(784_111_777)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Tue, 31 Dec 2024 23:59:60 GMT", Some(1_735_689_600)),
            ("Sun, 99 Nov 1994 08:49:40 GMT", None),
            ("Sun, 06 nov 1994 08:49:40 GMT", None),
            ("Sun, 06 Nov 1994 08:49:40", None),
            ("Sun, 06 Nov 1994 08:49:40 CET", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
        ] {
            let found = Timestamp::parse_http_date(text).map(Timestamp::unix_seconds);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_basic_form_is_written_for_any_day() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_709_208_000, "20240229T120000Z"),
            (1_709_251_200, "20240301T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(format_basic(seconds), expected);
        }
        for day in 0..2_932_897 {
            let (year, month, date) = civil_from_days(day);
            let [year, month, date] = [year, month, date].map(|part: u64| i64::try_from(part).unwrap());
            assert_eq!(days_from_civil(year, month, date), i64::try_from(day).ok(), "{year}-{month}-{date}");
        }
    }
}
