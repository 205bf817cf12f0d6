//! Sizes and durations as people type and read them.

use std::time::Duration;

use streamer_core::limits::LANES_MAX;
pub(crate) use streamer_core::size::parse_bytes;
use streamer_core::size::split;

use crate::line::Connections;

/// As [`parse_bytes`], but not nothing; `/s` may follow.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_bytes(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("nothing would ever move".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads `auto` or a count.
pub(crate) fn parse_connections(text: &str) -> Result<Connections, String> {
    if text == "auto" {
        return Ok(Connections::Auto);
    }
    let count = text.parse().ok().filter(|n| (1..=LANES_MAX).contains(n));
    count
        .and_then(|n| u16::try_from(n).ok())
        .map(Connections::Count)
        .ok_or_else(|| format!("expected auto or a number from 1 to {LANES_MAX}"))
}

/// Reads `90s`, `10m`, `2h`, `1d` or plain seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("unknown unit; try 90s, 10m or 2h".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a whole number".to_owned())?;
    let seconds = number
        .checked_mul(factor)
        .filter(|seconds| *seconds <= MAX_SECONDS);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

/// `1.5 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A hundred years: longer waits only overflow clocks.
const MAX_SECONDS: u64 = 100 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1 << 20), "1.0 MiB");
        assert_eq!(show_bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "2w", "99999999999d", "1s2"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
