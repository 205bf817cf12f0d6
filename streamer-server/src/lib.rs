//! The endpoint a job hosts, as a library: bind, announce, accept, serve one transfer, leave.
