//! Ends work that may take hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells whoever hashes a partial or a source, which may take hours, that its session is over.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
