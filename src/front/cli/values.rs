//! Parsers of flag values: switches, Go durations, `key=value`.
//!
//! Errors are plain sentences without the flag's name; the caller knows which flag it was.

use std::time::Duration;

/// A flag that is on or off; `--flag`, `--flag=true` and `--flag=false` as in imgpkg, empty means not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(Option<bool>);

impl Switch {
    /// A switch that is on.
    pub const ON: Self = Self(Some(true));

    /// Returns the given value, or the default.
    #[must_use]
    pub fn or(self, default: bool) -> bool {
        self.0.unwrap_or(default)
    }

    /// Returns the given value, if there is one.
    #[must_use]
    pub fn given(self) -> Option<bool> {
        self.0
    }
}

impl std::str::FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self(None)),
            // The texts of Go's strconv.ParseBool, so that imgpkg's scripts keep their meaning.
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Self(Some(true))),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Self(Some(false))),
            _ => Err("expected `true` or `false`".into()),
        }
    }
}

/// Parses a duration, also in whole days: `30d`.
pub fn duration_in_days(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    match days {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        None => duration(text).map_err(|_| {
            format!("`{text}` is not a duration, expected a number with a unit such as `30d`, `12h` or `90m`")
        }),
    }
}

/// Parses a Go duration: `30s`, `1m30s`, `1.5h`, `250ms`, `0`.
///
/// Source: Go's time.ParseDuration, without signs; units `ns`, `us`, `µs`, `ms`, `s`, `m`, `h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration, expected a number with a unit such as `30s` or `1m30s`");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Parses a number of bytes: `1073741824`, `500MB`, `1GiB`; `K`, `M`, `G` and `T` alone count in 1024s, as cf's manifests.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("`{text}` is not a size, expected a number of bytes such as `1073741824`, `500MB` or `1GiB`")
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(wrong)
}

/// Splits `key=value`; the key must not be empty.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) => Err(format!("`{text}` has no key before the `=`")),
        None => Err(format!("`{text}` has no `=`, expected `key=value`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_in_go_and_empty_is_not_given() {
        assert_eq!("".parse::<Switch>().unwrap().given(), None);
        assert!("T".parse::<Switch>().unwrap().or(false));
        assert!(!"0".parse::<Switch>().unwrap().or(true));
        assert!("yes".parse::<Switch>().is_err());
    }

    #[test]
    fn durations_are_read_as_in_go() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0", 0),
            ("2h45m.5s", 9_900_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1 s", "1d", "1.2.3s", "99999999999999999999h"] {
            assert!(duration(text).unwrap_err().contains("is not a duration"), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("1", 1),
            ("1073741824", 1 << 30),
            ("1GiB", 1 << 30),
            ("1g", 1 << 30),
            ("500MB", 500_000_000),
            ("2T", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "GiB", "1.5G", "-1", "1 G", "1X", "99999999999999999999", "99999999999T"] {
            assert!(size(text).unwrap_err().contains("is not a size"), "{text}");
        }
    }

    #[test]
    fn pairs_need_a_key_and_may_have_an_empty_value() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").unwrap_err().contains("no key"));
        assert!(key_value("a").unwrap_err().contains("no `=`"));
    }
}
