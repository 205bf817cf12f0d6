//! The parts of `streamer-core` that meet foreign input, each as one function from any bytes
//! to a panic or nothing. A fuzzer drives them (`src/bin`), and so does `smoke`, without one.

pub mod codec;
pub mod coordinates;
pub mod session;
