//! Both machines against each other, and each against a peer that misbehaves.

mod disorder;
mod pair;
mod properties;
mod scenarios;
mod table;
mod tamper;
mod world;
