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
    parts_in(size, part_bytes, count(size, part_bytes))
}

/// So many parts of `size` bytes, of which the last has what the others, of `part_bytes`, leave.
pub(super) fn parts_in(size: u64, part_bytes: u64, number: u64) -> impl Iterator<Item = Part> {
    (0..number).map(move |index| {
        let start = index * part_bytes;
        Part {
            // Local invariant: there are at most `PARTS_MAX` parts wherever this is used.
            index: usize::try_from(index).unwrap_or(usize::MAX),
            start,
            end: match index + 1 == number {
                true => size,
                false => start + part_bytes,
            },
        }
    })
}

/// The sizes of all parts but the last in which somebody may have cut `size` bytes into so many,
/// likely ones first: round ones, and parts of one size.
pub(super) fn likely_cuts(size: u64, number: u64) -> Vec<u64> {
    if size == 0 || !(1..=PARTS_MAX).contains(&number) {
        return Vec::new();
    }
    let equal = size.div_ceil(number);
    let round = |unit| equal.checked_next_multiple_of(unit);
    let mut cuts = Vec::new();
    for part_bytes in [
        round(1 << 20),
        round(1_000_000),
        Some(equal),
        Some(size / number),
    ] {
        let fits = |part_bytes: &u64| {
            let before_last = part_bytes.checked_mul(number - 1);
            *part_bytes > 0 && before_last.is_some_and(|bytes| bytes < size)
        };
        cuts.extend(
            part_bytes
                .filter(fits)
                .filter(|bytes| !cuts.contains(bytes)),
        );
    }
    cuts
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
    fn likely_cuts_make_so_many_parts() {
        const MIB: u64 = 1 << 20;
        assert_eq!(
            likely_cuts(20 * MIB, 3),
            [7 * MIB, 7_000_000, 6_990_507, 6_990_506]
        );
        assert_eq!(likely_cuts(12 * MIB, 2), [6 * MIB, 7_000_000]);
        // The last one would be empty with round ones.
        assert_eq!(likely_cuts(10, 4), [3, 2]);
        assert!(likely_cuts(3, 4).is_empty());
        assert!(likely_cuts(0, 1).is_empty());
        assert!(likely_cuts(10, PARTS_MAX + 1).is_empty());
        assert!(likely_cuts(u64::MAX, 2).len() <= 4);
        for (size, number) in [(20 * MIB + 3, 3), (10, 4), (7, 7)] {
            for part_bytes in likely_cuts(size, number) {
                let parts: Vec<Part> = parts_in(size, part_bytes, number).collect();
                assert_eq!(parts.len() as u64, number);
                assert_eq!(parts.last().unwrap().end, size);
                assert!(parts.iter().all(|part| part.start < part.end));
                assert!(parts.windows(2).all(|w| w[0].end == w[1].start));
            }
        }
    }

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
