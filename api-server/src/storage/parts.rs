//! How a file is cut into the parts of an object.

/// Parts of one size, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Size of each but the last, in bytes.
    pub part_bytes: u64,
    /// How many.
    pub count: u16,
}

/// No object holds so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A file of {size} bytes is larger than an object can be.")]
pub struct ObjectTooLarge {
    /// How much.
    pub size: u64,
}

impl Parts {
    /// For `size` bytes in parts of at most `wanted` bytes; larger ones where an object could
    /// not hold as many, never smaller than a store takes. An empty file has one part.
    ///
    /// # Errors
    /// When no object holds so much.
    pub fn of(size: u64, wanted: u64) -> Result<Self, ObjectTooLarge> {
        let smallest = size.div_ceil(COUNT_MAX).next_multiple_of(MEBIBYTE);
        let part_bytes = wanted.clamp(PART_MIN_BYTES, PART_MAX_BYTES).max(smallest);
        if part_bytes > PART_MAX_BYTES {
            return Err(ObjectTooLarge { size });
        }
        let count = size.div_ceil(part_bytes).max(1);
        // Local invariant: parts are at least so large that there are no more than COUNT_MAX.
        let count = u16::try_from(count).map_err(|_| ObjectTooLarge { size })?;
        Ok(Self { part_bytes, count })
    }
}

const MEBIBYTE: u64 = 1 << 20;
/// Bounds of S3 on every part but the last, and on their number.
const PART_MIN_BYTES: u64 = 5 * MEBIBYTE;
const PART_MAX_BYTES: u64 = 5 << 30;
const COUNT_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_within_what_stores_take() {
        let of = |size, wanted| Parts::of(size, wanted).map(|p| (p.part_bytes, p.count));
        assert_eq!(of(0, 100 * MEBIBYTE), Ok((100 * MEBIBYTE, 1)));
        assert_eq!(of(1, 1), Ok((PART_MIN_BYTES, 1)));
        assert_eq!(of(PART_MIN_BYTES + 1, 1), Ok((PART_MIN_BYTES, 2)));
        assert_eq!(of(1 << 40, u64::MAX), Ok((PART_MAX_BYTES, 205)));
        // 5 MiB parts would be 209,716.
        assert_eq!(of(1 << 40, 1), Ok((105 * MEBIBYTE, 9987)));
        assert_eq!(of(10_000 * PART_MAX_BYTES, 1), Ok((PART_MAX_BYTES, 10_000)));
        assert!(of(10_000 * PART_MAX_BYTES + 1, 1).is_err());
        assert!(of(u64::MAX, 1).is_err());
    }
}
