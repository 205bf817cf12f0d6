//! A transfer that was caught in the middle.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::harness::{Process, World, beside, client, run, wait_for_partial, wait_until};

/// Long enough to be caught in the middle.
pub(crate) const LARGE: u64 = 640 << 20;

/// What was caught in the middle.
#[track_caller]
pub(crate) fn assert_partial(target: &Path) {
    assert!(!target.exists(), "it was over already");
    assert!(beside(target, ".part").exists());
    assert!(beside(target, ".part.journal").exists());
}

#[track_caller]
pub(crate) fn assert_whole(source: &Path, target: &Path) {
    let [mut source, mut arrived] = [source, target].map(|path| File::open(path).unwrap());
    assert_eq!(arrived.metadata().unwrap().len(), LARGE);
    let [mut expected, mut found] = [vec![0; 1 << 20], vec![0; 1 << 20]];
    for block in 0..LARGE >> 20 {
        source.read_exact(&mut expected).unwrap();
        arrived.read_exact(&mut found).unwrap();
        assert!(expected == found, "block {block} differs");
    }
    assert!(!beside(target, ".part").exists());
    // It is kept until the receipt was heard.
    wait_until("no journal", || !beside(target, ".part.journal").exists());
}

/// An endpoint and a client in the middle of a transfer.
pub(crate) struct Half {
    pub(crate) world: World,
    target: PathBuf,
    pub(crate) endpoint: Process,
    pub(crate) client: Process,
    pub(crate) coordinates: String,
    verb: &'static str,
    transport: &'static str,
}

impl Half {
    #[track_caller]
    pub(crate) fn new(verb: &'static str, transport: &'static str, options: &[&str]) -> Self {
        let world = World::new();
        let target = world.path("target");
        Self::to(world, &target, verb, transport, options)
    }

    /// With a target anywhere in a world.
    #[track_caller]
    pub(crate) fn to(
        world: World,
        target: &Path,
        verb: &'static str,
        transport: &'static str,
        options: &[&str],
    ) -> Self {
        world.sparse("source", LARGE);
        let (endpoint, coordinates) = Self::start(&world, target, verb);
        let mut half = ["--transport", transport].to_vec();
        half.extend(options);
        if !options.contains(&"--limit-rate") {
            // Two seconds: it would be over before a busy machine looks.
            half.extend(["--limit-rate", "300MB"]);
        }
        let mine = Self::mine(&world, target, verb);
        let client = Process::start(client(&coordinates, &half, verb, &mine));
        wait_for_partial(target);
        Self {
            world,
            target: target.to_owned(),
            endpoint,
            client,
            coordinates,
            verb,
            transport,
        }
    }

    #[track_caller]
    fn start(world: &World, target: &Path, verb: &str) -> (Process, String) {
        if verb == "receive" {
            world.endpoint(&[], "send", &world.path("source"))
        } else {
            world.endpoint(&[], "receive", target)
        }
    }

    /// Another endpoint of the same.
    #[track_caller]
    pub(crate) fn another_endpoint(&self) -> (Process, String) {
        Self::start(&self.world, &self.target, self.verb)
    }

    fn mine(world: &World, target: &Path, verb: &str) -> PathBuf {
        if verb == "receive" {
            target.to_owned()
        } else {
            world.path("source")
        }
    }

    /// Another client, to the end: it continues what is there.
    #[track_caller]
    pub(crate) fn finish(&self, coordinates: &str) {
        let options = ["--json", "--transport", self.transport];
        let mine = Self::mine(&self.world, &self.target, self.verb);
        let exit = run(client(coordinates, &options, self.verb, &mine));
        exit.assert(0, &[]);
        let resumed = exit.message("summary")["bytes_resumed"].as_u64().unwrap();
        assert!(resumed > 0, "{exit:#?}");
        assert_whole(&self.world.path("source"), &self.target);
    }
}
