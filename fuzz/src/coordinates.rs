//! Any text is coordinates that encode back to themselves, or an error without any of it.

use streamer_core::Coordinates;

/// Panics when that does not hold.
pub fn run(bytes: &[u8]) {
    check(&String::from_utf8_lossy(bytes));
    // What the base64 hides, which is hard to guess.
    check(&base64_url(bytes));
}

fn check(text: &str) {
    let Ok(coordinates) = Coordinates::parse(text) else {
        return;
    };
    let again = Coordinates::parse(&coordinates.encode()).expect("our own text is valid");
    assert!(again == coordinates);
    let shown = format!("{coordinates:?}");
    assert!(shown.contains("redacted"));
}

fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for i in 0..=group.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}
