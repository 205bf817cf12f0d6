//! Is a system well? A task for each system looks, a board remembers, gates ask it.

mod board;
mod checker;
mod gate;
mod probe;

pub use board::HealthBoard;
pub(crate) use board::moment;
pub use checker::{check, start};
pub use gate::{GateError, Gates};
