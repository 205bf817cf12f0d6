//! The streamer binary: client verbs, and server, which is the streamer-server library.
