#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streamer_fuzz::codec::run(bytes));
