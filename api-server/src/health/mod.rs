//! Is a system well? A task for each system looks, a board remembers, gates ask it.

mod board;
mod gate;

pub use board::HealthBoard;
pub(crate) use board::moment;
pub use gate::{GateError, Gates};
