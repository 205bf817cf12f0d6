//! What PBS writes as text: times, sizes, lists of attributes. Pure.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// `[HH:]MM:SS` in seconds.
pub(super) fn clock(text: &str) -> Option<u64> {
    let parts = text.split(':').map(|part| part.parse::<u64>().ok());
    let parts = parts.collect::<Option<Vec<_>>>()?;
    if parts.len() > 3 {
        return None;
    }
    parts
        .into_iter()
        .try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(part))
}

/// `Thu Jun 19 21:27:51 2025`, in UTC, in unix seconds.
pub(super) fn moment(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = DateTime::strptime("%a %b %d %H:%M:%S %Y", words.join(" ")).ok()?;
    let at = TimeZone::UTC.to_timestamp(at).ok()?;
    u64::try_from(at.as_second()).ok()
}

/// `263842692kb` in MiB: units are powers of 1024, bytes without one.
pub(super) fn mebibytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        _ => return None,
    };
    Some(
        number
            .checked_shl(shift)
            .filter(|bytes| bytes >> shift == number)?
            >> 20,
    )
}

/// Blocks of `name = value` lines, each block after a line without ` = `; lines that begin
/// with a tab go on with the one before.
pub(super) fn blocks(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let joined = text.replace("\n\t", "");
    let mut blocks: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in joined
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        match (line.split_once(" = "), blocks.last_mut()) {
            (Some((name, value)), Some((_, block))) => {
                block.insert(name.to_owned(), value.to_owned());
            }
            _ => blocks.push((line.to_owned(), BTreeMap::new())),
        }
    }
    blocks
}
