//! Object storage: the few calls the service makes itself, and URLs for everybody else.

mod parts;
mod s3;

pub use parts::{ObjectTooLarge, Parts};
pub(crate) use s3::secret_json;
pub use s3::{ObjectStore, StorageError, Upload};
