//! How a file is cut into parts.

/// One part: a half-open range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Part {
    pub(super) fn length(self) -> u64 {
        self.end - self.start
    }
}

/// The parts of `size` bytes; an empty file has one, empty, since an object needs one.
pub(super) fn parts(size: u64, part_bytes: u64) -> impl Iterator<Item = Part> {
    let part_bytes = part_bytes.max(1);
    (0..count(size, part_bytes)).map(move |index| {
        let start = index * part_bytes;
        Part {
            // Local invariant: there are at most `PARTS_MAX` parts wherever this is used.
            index: usize::try_from(index).unwrap_or(usize::MAX),
            start,
            end: start.saturating_add(part_bytes).min(size),
        }
    })
}

pub(super) fn count(size: u64, part_bytes: u64) -> u64 {
    size.div_ceil(part_bytes.max(1)).max(1)
}

/// S3 numbers parts up to this.
pub(super) const PARTS_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_once() {
        for (size, part) in [(0, 5), (1, 5), (5, 5), (6, 5), (14, 5), (15, 5)] {
            let parts: Vec<Part> = parts(size, part).collect();
            assert_eq!(parts.len() as u64, count(size, part));
            assert_eq!(parts.first().unwrap().start, 0);
            assert_eq!(parts.last().unwrap().end, size);
            assert!(parts.windows(2).all(|w| w[0].end == w[1].start));
            assert!(parts.iter().rev().skip(1).all(|p| p.length() == part));
        }
    }
}
