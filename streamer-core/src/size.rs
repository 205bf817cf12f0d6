//! Sizes as people type them.

/// Reads `5GiB`, `5G`, `5GB` or plain bytes. Binary units are powers of 1024, decimal ones of
/// 1000; a bare letter is binary.
///
/// # Errors
/// Says what was expected, for a usage error.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        _ => return Err("unknown unit; try 500MiB or plain bytes".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a whole number".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

/// The digits at the beginning, and what follows them.
pub fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("5368709120"), Ok(5 << 30));
        assert_eq!(parse_bytes("5GiB"), Ok(5 << 30));
        assert_eq!(parse_bytes("5 gb"), Ok(5_000_000_000));
        assert_eq!(parse_bytes("0"), Ok(0));
        for bad in ["", "MiB", "-1", "5x", "99999999P", "1.5G"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
