//! Names as `ls --quoting-style=c` prints them: a C string literal of plain ASCII, whatever
//! bytes the name has.

/// Reads one literal at the start of `text`. Returns its bytes and what follows it.
///
/// Nothing when there is no whole literal.
pub(super) fn take_literal(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = Vec::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        let (plain, marked) = rest.split_at(at);
        name.extend_from_slice(plain.as_bytes());
        if let Some(after) = marked.strip_prefix('"') {
            return Some((name, after));
        }
        let (byte, after) = escape(&marked[1..])?;
        name.push(byte);
        rest = after;
    }
}

/// The byte that an escape stands for, after its backslash.
fn escape(text: &str) -> Option<(u8, &str)> {
    let first = *text.as_bytes().first()?;
    let byte = match first {
        b'0'..=b'3' => {
            let digits = text.get(..3)?;
            return Some((u8::from_str_radix(digits, 8).ok()?, &text[3..]));
        }
        b'a' => 0x07,
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 0x0b,
        b'f' => 0x0c,
        b'r' => b'\r',
        // `ls -R` escapes the colon of a directory's name: one ends its line.
        b'"' | b'\\' | b'?' | b':' => first,
        _ => return None,
    };
    Some((byte, &text[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_becomes_its_byte() {
        let text = r#""a b\n\t\\\"\303\274\a\b\v\f\r\000" -> "x""#;
        let (name, rest) = take_literal(text).unwrap();
        assert_eq!(name, b"a b\n\t\\\"\xc3\xbc\x07\x08\x0b\x0c\r\0");
        assert_eq!(rest, r#" -> "x""#);
    }

    #[test]
    fn half_a_literal_is_none() {
        for text in [
            "",
            "x",
            "\"",
            "\"a",
            "\"\\",
            "\"\\1",
            "\"\\12",
            "\"\\q\"",
            "\"\\400\"",
            "\"\\1é\"",
        ] {
            assert_eq!(take_literal(text), None, "{text}");
        }
    }
}
