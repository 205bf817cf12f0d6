//! Fetches an object into a file, which gets its name when all of it is there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use rustix::fs::{FallocateFlags, FileType, fallocate};
use rustix::io::Errno;
use streamer_core::ErrorCode;
use streamer_core::net::stop::{Stop, stopped};
use streamer_core::store::StoreError;
use streamer_core::store::place::Place;
use streamer_core::store::places::Places;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};

use super::client::{Client, Object};
use super::etag::{self, PartHash, Stored};
use super::journal::{self, Journal};
use super::parts::{PARTS_MAX, Part, count, likely_cuts, parts, parts_in};
use super::{GetPlan, Moved, PresignedUrl, S3Error};

/// How an object is fetched.
#[derive(Debug)]
pub struct GetOptions {
    /// The file to make; one that is there is replaced at the end.
    pub target: PathBuf,
    /// Parts on the way at once.
    pub parallel: usize,
    /// How long to wait for the object.
    pub wait: Duration,
}

/// Waits for the object, fetches and verifies it. Its size.
///
/// Not cancel-safe; `stop` ends it early, and the next call goes on from there.
///
/// # Errors
/// When it does not come, cannot be read or written, or is not what it was.
pub async fn get(
    plan: GetPlan,
    options: GetOptions,
    moved: Arc<Moved>,
    on_found: impl FnOnce(),
    stop: Stop,
) -> Result<u64, S3Error> {
    let fetch = async {
        let client = Client::new()?;
        let object = wait_for_object(&client, &plan.head, options.wait).await?;
        on_found();
        // It may have to wait for a run of this job that is being killed.
        let fetch = spawn_blocking(move || Fetch::new(client, plan, options, moved, object));
        joined(fetch.await)?.run().await
    };
    tokio::select! {
        result = fetch => result,
        code = stopped(stop) => Err(S3Error::Stopped(code)),
    }
}

/// Asks again and again, less often with time.
async fn wait_for_object(
    client: &Client,
    head: &PresignedUrl,
    wait: Duration,
) -> Result<Object, S3Error> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match client.head(head).await {
            Ok(Some(object)) => return Ok(object),
            Ok(None) => {}
            Err(error) if error.is_transient() => tracing::debug!(%error, "asking again"),
            Err(error) => return Err(error),
        }
        let left = wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(S3Error::NobodyCame {
                seconds: wait.as_secs(),
            });
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

struct Fetch {
    client: Client,
    plan: Arc<GetPlan>,
    object: Arc<Object>,
    parallel: usize,
    moved: Arc<Moved>,
    places: Places,
    file: Arc<File>,
    journal: Arc<Mutex<Journal>>,
}

impl Fetch {
    fn new(
        client: Client,
        plan: GetPlan,
        options: GetOptions,
        moved: Arc<Moved>,
        object: Object,
    ) -> Result<Self, S3Error> {
        let is_cut = count(object.size, plan.part_bytes) <= PARTS_MAX;
        if !is_cut || object.size > plan.most_bytes {
            return Err(S3Error::Plan("the object is larger than was said"));
        }
        let places = places(&options.target)?;
        let (file, journal) = take_up(&places, &object, plan.part_bytes)?;
        moved.on_total(object.size);
        Ok(Self {
            client,
            plan: Arc::new(plan),
            object: Arc::new(object),
            parallel: options.parallel.max(1),
            moved,
            places,
            file: Arc::new(file),
            journal: Arc::new(Mutex::new(journal)),
        })
    }

    async fn run(self) -> Result<u64, S3Error> {
        let slots = Arc::new(Semaphore::new(self.parallel));
        let mut running = JoinSet::new();
        for part in parts(self.object.size, self.plan.part_bytes) {
            if self.is_done(part) {
                self.moved.on_moved(part.length());
                continue;
            }
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            while let Some(ended) = running.try_join_next() {
                joined(ended)?;
            }
            let fetch = PartFetch {
                client: self.client.clone(),
                plan: Arc::clone(&self.plan),
                object: Arc::clone(&self.object),
                moved: Arc::clone(&self.moved),
                file: Arc::clone(&self.file),
                journal: Arc::clone(&self.journal),
                shown: self.places.part.shown().display().to_string(),
                part,
            };
            running.spawn(async move {
                let result = fetch.run().await;
                drop(slot);
                result
            });
        }
        while let Some(ended) = running.join_next().await {
            joined(ended)?;
        }
        let size = self.object.size;
        let finished = spawn_blocking(move || {
            self.verify()?;
            finish(&self.places, &self.file)
        });
        joined(finished.await).map(|()| size)
    }

    fn is_done(&self, part: Part) -> bool {
        let journal = lock(&self.journal);
        journal
            .done()
            .get(&part.index)
            .is_some_and(|hash| etag::unhex(hash).is_some())
    }

    /// The tag of the whole is made of the hashes of its parts. Which parts those were it does not
    /// tell: where they are none that are likely, and not as many as they had to be, nothing is known
    /// of the object.
    fn verify(&self) -> Result<(), S3Error> {
        let Some(stored) = self.object.tag.stored() else {
            return Ok(());
        };
        let journal = lock(&self.journal);
        let hashes: Vec<PartHash> = journal
            .done()
            .values()
            .filter_map(|hash| etag::unhex(hash))
            .collect();
        drop(journal);
        let agrees = self.object.tag.object_agrees(hashes.iter());
        if agrees == Some(true) {
            return Ok(());
        }
        let size = self.object.size;
        match stored {
            // It was to be sent in parts: what such a tag is then, only the store knows.
            Stored::AtOnce if agrees.is_none() => Ok(()),
            Stored::AtOnce => Err(self.damaged("the object".to_owned())),
            Stored::InParts(number) => {
                // That of the parts as they arrived is known.
                let is_new = |cut: &u64| agrees.is_none() || *cut != self.plan.part_bytes;
                for part_bytes in likely_cuts(size, number).into_iter().filter(is_new) {
                    if self.agrees_cut(part_bytes, number)? {
                        return Ok(());
                    }
                }
                let part_bytes = self.plan.part_bytes;
                if number == count(size, part_bytes) {
                    // More likely damaged than cut in a way that nobody was told.
                    return Err(self.damaged(format!(
                        "the object, if it was sent in parts of {part_bytes} bytes as it was to be,"
                    )));
                }
                tracing::warn!(
                    parts = number,
                    "the sizes of its parts are unknown: the object is not compared with its tag"
                );
                Ok(())
            }
        }
    }

    /// Nothing of it can be trusted: the next run begins anew.
    fn damaged(&self, what: String) -> S3Error {
        // What marks it as ours goes last.
        let removed = self.places.part.remove();
        let _ = removed.and_then(|()| self.places.journal.remove());
        S3Error::Integrity { what }
    }

    /// Whether it is as it was sent when it was sent in such parts: reads all of it again.
    fn agrees_cut(&self, part_bytes: u64, number: u64) -> Result<bool, S3Error> {
        let hash = |part: Part| hash_part(&self.file, part);
        let parts = parts_in(self.object.size, part_bytes, number);
        let hashes: io::Result<Vec<PartHash>> = parts.map(hash).collect();
        let hashes = hashes.map_err(|error| failed(&self.places.part, "read", error))?;
        Ok(self.object.tag.object_agrees(hashes.iter()) == Some(true))
    }
}

struct PartFetch {
    client: Client,
    plan: Arc<GetPlan>,
    object: Arc<Object>,
    moved: Arc<Moved>,
    file: Arc<File>,
    journal: Arc<Mutex<Journal>>,
    shown: String,
    part: Part,
}

impl PartFetch {
    async fn run(self) -> Result<(), S3Error> {
        let (pieces, inbox) = mpsc::channel(QUEUE);
        let (file, moved, start) = (
            Arc::clone(&self.file),
            Arc::clone(&self.moved),
            self.part.start,
        );
        let writer = spawn_blocking(move || write_part(&file, start, inbox, &moved));
        let received = self.receive(pieces).await;
        let written = joined(writer.await.map(|result| {
            result.map_err(|source| S3Error::File {
                action: "write",
                path: self.shown.clone(),
                source,
            })
        }));
        // A writer that failed is why nothing more could be received.
        let hash = written?;
        received?;
        let (journal, index) = (Arc::clone(&self.journal), self.part.index);
        let noted = spawn_blocking(move || lock(&journal).add(index, &etag::hex(&hash)));
        joined(noted.await.map(|result| {
            result.map_err(|source| S3Error::File {
                action: "write the journal of",
                path: self.shown.clone(),
                source,
            })
        }))
    }

    /// Hands on the bytes of the part; what a broken connection did not bring is asked for
    /// again, from there.
    async fn receive(&self, pieces: mpsc::Sender<Bytes>) -> Result<(), S3Error> {
        let mut at = self.part.start;
        let mut failures = 0;
        while at < self.part.end {
            let before = at;
            match self.receive_from(&mut at, &pieces).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.is_transient() => {
                    failures = if at > before { 1 } else { failures + 1 };
                    if failures >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(part = self.part.index, %error, "trying again");
                    tokio::time::sleep(RETRY_PAUSE * failures).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `false` when the writer is gone.
    async fn receive_from(
        &self,
        at: &mut u64,
        pieces: &mpsc::Sender<Bytes>,
    ) -> Result<bool, S3Error> {
        let (get, tag) = (&self.plan.get, &self.object.tag.text);
        let mut body = self.client.read(get, tag, *at, self.part.end).await?;
        let mut piece = BytesMut::new();
        let result = loop {
            let frame = match tokio::time::timeout(STALL, body.frame()).await {
                Err(_) => break Err(S3Error::Connection("it stalled".to_owned())),
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(S3Error::Connection(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let room = self.part.end - *at - piece.len() as u64;
            if bytes.len() as u64 > room {
                break Err(S3Error::Connection(
                    "more came than was asked for".to_owned(),
                ));
            }
            piece.extend_from_slice(&bytes);
            if piece.len() >= PIECE_BYTES && !hand_on(at, &mut piece, pieces).await {
                return Ok(false);
            }
        };
        if !hand_on(at, &mut piece, pieces).await {
            return Ok(false);
        }
        result?;
        if *at < self.part.end {
            return Err(S3Error::Connection("it was cut off".to_owned()));
        }
        Ok(true)
    }
}

async fn hand_on(at: &mut u64, piece: &mut BytesMut, pieces: &mpsc::Sender<Bytes>) -> bool {
    let bytes = piece.split().freeze();
    *at += bytes.len() as u64;
    bytes.is_empty() || pieces.send(bytes).await.is_ok()
}

/// Hashes and writes one part; makes it durable, since the journal will say it is there.
fn write_part(
    file: &File,
    start: u64,
    mut inbox: mpsc::Receiver<Bytes>,
    moved: &Moved,
) -> io::Result<PartHash> {
    let (mut hash, mut at) = (Md5::new(), start);
    while let Some(bytes) = inbox.blocking_recv() {
        hash.update(&bytes);
        file.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
        moved.on_moved(bytes.len() as u64);
    }
    file.sync_data()?;
    Ok(hash.finalize().into())
}

pub(super) fn hash_part(file: &File, part: Part) -> io::Result<PartHash> {
    let (mut hash, mut at) = (Md5::new(), part.start);
    let mut piece = vec![0; PIECE_BYTES];
    while at < part.end {
        let length = (part.end - at).min(PIECE_BYTES as u64) as usize;
        file.read_exact_at(&mut piece[..length], at)?;
        hash.update(&piece[..length]);
        at += length as u64;
    }
    Ok(hash.finalize().into())
}

/// Where the object goes: to the file that a link which the user named leads to.
fn places(target: &Path) -> Result<Places, S3Error> {
    let target = Place::through_link(target, |_| true)?;
    let refused = |action| Err(failed(&target, action, io::ErrorKind::AlreadyExists.into()));
    let there = target.stat()?;
    match there.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        None | Some(FileType::RegularFile) => {}
        Some(FileType::Directory) => {
            let source = io::ErrorKind::IsADirectory.into();
            return Err(failed(&target, "create", source));
        }
        Some(FileType::Symlink) => return refused("replace the link, which leads to no file,"),
        Some(_) => return refused("replace what is no regular file"),
    }
    Ok(Places::with_suffixes(target, ".s3-part", ".s3-journal"))
}

/// The partial, and the journal of what an earlier run of the same left in it.
fn take_up(places: &Places, object: &Object, part_bytes: u64) -> Result<(File, Journal), S3Error> {
    let (partial, journal) = (&places.part, &places.journal);
    places.check_journal_by(journal::is_one)?;
    let file = open_alone(partial, || places.open_part())?;
    let found = file
        .metadata()
        .map_err(|error| failed(partial, "look at", error))?;
    // Before anything is in the partial, which it marks as ours. A run that has just given the
    // partial its name removes its own.
    let notes = open_alone(journal, || places.open_journal())?;
    if found.len() != object.size {
        // New, or of another object: nothing that a journal says is in it.
        notes
            .set_len(0)
            .map_err(|error| failed(journal, "write", error))?;
    }
    // Of another object there may be more.
    file.set_len(object.size)
        .map_err(|error| failed(partial, "write", error))?;
    reserve(&file, object.size).map_err(|error| failed(partial, "write", error))?;
    let subject = format!("{} {} {part_bytes}", object.tag.text, object.size);
    let opened = Journal::open(notes, &subject);
    let opened = opened.map_err(|error| failed(journal, "write", error))?;
    Ok((file, opened))
}

/// Opens what this run has alone for as long as it lives: two that write to a partial would make a
/// mixture of both, of which each has seen only its own.
fn open_alone(place: &Place, open: impl Fn() -> Result<File, StoreError>) -> Result<File, S3Error> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open() {
            Err(error) if error.code == ErrorCode::TargetBusy => {
                if Instant::now() >= deadline {
                    return Err(S3Error::Busy {
                        path: place.shown().display().to_string(),
                    });
                }
                std::thread::sleep(LOCK_PATIENCE / 100);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Gives what is whole its name.
fn finish(places: &Places, file: &File) -> Result<(), S3Error> {
    let (target, part) = (&places.target, &places.part);
    places.give_mode(file)?;
    file.sync_all()
        .map_err(|error| failed(part, "sync", error))?;
    places.check_part(file)?;
    part.rename_to(target, true)?;
    target.sync_directory()?;
    // Of a partial that is not there any more, the next run believes nothing.
    Ok(places.journal.remove()?)
}

/// A full disk is told before anything is fetched, where the file system can tell.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failed(place: &Place, action: &'static str, source: io::Error) -> S3Error {
    S3Error::File {
        action,
        path: place.shown().display().to_string(),
        source,
    }
}

pub(super) fn joined<T>(
    ended: Result<Result<T, S3Error>, tokio::task::JoinError>,
) -> Result<T, S3Error> {
    // A task that panicked has said so.
    ended.unwrap_or(Err(S3Error::Internal))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A journal has no in-between states in memory.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest wait for the end of an earlier run.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Between questions for the object: at first, and in the end.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// Failures in a row before a part is given up, without a byte in between.
pub(super) const ATTEMPTS: u32 = 6;
/// Before a part is tried again; longer each time.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A connection over which nothing comes for this long is dead.
const STALL: Duration = Duration::from_secs(60);
/// Bytes written at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Pieces of a part between network and disk.
pub(super) const QUEUE: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::etag::Tag;
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn object() -> Object {
        Object {
            tag: Tag {
                text: "\"tag\"".to_owned(),
                proves: true,
            },
            size: 10,
        }
    }

    fn fetched(target: &Path) -> Result<(), S3Error> {
        let places = places(target)?;
        let (file, _journal) = take_up(&places, &object(), 5)?;
        file.write_all_at(b"0123456789", 0).unwrap();
        finish(&places, &file)
    }

    #[test]
    fn an_object_gets_the_mode_of_what_it_replaces_or_of_a_new_file_and_a_link_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mode = |name: &str| at(name).metadata().unwrap().permissions().mode() & 0o777;
        std::fs::write(at("made"), "").unwrap();
        fetched(&at("new")).unwrap();
        assert_eq!(mode("new"), mode("made"));
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::fs::write(at("elsewhere/file"), "before").unwrap();
        std::os::unix::fs::symlink("elsewhere/file", at("link")).unwrap();
        for (kept, name) in [(0o640, "new"), (0o444, "link")] {
            std::fs::set_permissions(at(name), Permissions::from_mode(kept)).unwrap();
            fetched(&at(name)).unwrap();
            assert_eq!(mode(name), kept, "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"0123456789");
        }
        assert!(at("link").is_symlink());
        let names = std::fs::read_dir(at("elsewhere")).unwrap();
        assert_eq!(names.count(), 1, "nothing of ours stays");
    }

    #[test]
    fn what_is_no_file_is_not_replaced_and_no_partial_is_taken_that_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("directory")).unwrap();
        for (target, link) in [("directory", "to-directory"), ("nothing", "dangling")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
            assert!(fetched(&at(link)).is_err(), "{link}");
            assert!(at(link).is_symlink());
        }
        std::fs::write(at("mine"), "mine").unwrap();
        for (name, is_link) in [("a.s3-part", true), ("b.s3-part", false)] {
            match is_link {
                true => std::fs::hard_link(at("mine"), at(name)).unwrap(),
                false => std::fs::write(at(name), "mine").unwrap(),
            }
            let target = at(name).with_extension("");
            assert!(fetched(&target).is_err(), "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"mine");
        }
        // Nor is what is called like a journal, which would mark a partial as ours.
        for name in ["c.s3-journal", "c.s3-part"] {
            std::fs::write(at(name), "mine").unwrap();
            let refused = fetched(&at("c"));
            let is_taken = |error: &StoreError| error.code == ErrorCode::NameTaken;
            assert!(
                matches!(&refused, Err(S3Error::Store(error)) if is_taken(error)),
                "{refused:?}"
            );
            assert_eq!(std::fs::read(at(name)).unwrap(), b"mine");
            assert_eq!(std::fs::read(at("c.s3-journal")).unwrap(), b"mine");
        }
    }

    #[test]
    fn a_journal_is_believed_about_its_partial_only() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(&directory.path().join("x")).unwrap();
        let done = || {
            let (file, mut journal) = take_up(&places, &object(), 5).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 10);
            let done: Vec<usize> = journal.done().keys().copied().collect();
            journal.add(1, "hash").unwrap();
            done
        };
        assert!(done().is_empty());
        assert_eq!(done(), [1]);
        // A run that ended between the two names, and a purge of old files.
        places.part.remove().unwrap();
        assert!(done().is_empty());
        assert_eq!(done(), [1]);
        std::fs::write(places.part.shown(), "short").unwrap();
        assert!(done().is_empty());
    }

    /// What is said of ten MiB that arrived in parts of 5 MiB, of an object that was made of parts that
    /// end at `ends`, none where it was sent at once; and whether the partial stays.
    fn verified(ends: &[u64], spoil: bool) -> (Result<(), S3Error>, bool) {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..10 << 20).map(|at: u32| (at / 1000) as u8).collect();
        let size = bytes.len() as u64;
        let (mut all, mut start) = (Md5::new(), 0);
        for end in ends.iter().map(|end| *end as usize) {
            all.update(Md5::digest(&bytes[start..end]));
            start = end;
        }
        let text = match ends.len() {
            0 => etag::hex(&Md5::digest(&bytes)),
            number => format!("{}-{number}", etag::hex(&all.finalize())),
        };
        let url = || PresignedUrl::from(String::new());
        let plan = GetPlan {
            head: url(),
            get: url(),
            part_bytes: 5 << 20,
            most_bytes: size,
        };
        let options = GetOptions {
            target: directory.path().join("x"),
            parallel: 1,
            wait: Duration::ZERO,
        };
        let tag = Tag { text, proves: true };
        let object = Object { size, tag };
        let client = Client::new().unwrap();
        let fetch = Fetch::new(client, plan, options, Arc::default(), object).unwrap();
        fetch.file.write_all_at(&bytes, 0).unwrap();
        if spoil {
            fetch.file.write_all_at(b"spoilt", 1 << 20).unwrap();
        }
        for part in parts(size, 5 << 20) {
            let hash = hash_part(&fetch.file, part).unwrap();
            lock(&fetch.journal)
                .add(part.index, &etag::hex(&hash))
                .unwrap();
        }
        let result = fetch.verify();
        (result, directory.path().join("x.s3-part").exists())
    }

    #[test]
    fn an_object_is_damaged_unless_its_parts_agree_or_are_none_that_were_asked_for() {
        const SIZE: u64 = 10 << 20;
        for (ends, spoil) in [
            (&[5 << 20, SIZE][..], false),
            (&[6_000_000, SIZE], false),
            (&[3 << 20, 6 << 20, SIZE], false),
            (&[], false),
            (&[2 << 20, 3 << 20, SIZE], true),
        ] {
            let (result, is_there) = verified(ends, spoil);
            assert!(result.is_ok() && is_there, "{ends:?}: {result:?}");
        }
        for (ends, spoil) in [(&[5 << 20, SIZE][..], true), (&[1 << 20, SIZE], false)] {
            let (result, is_there) = verified(ends, spoil);
            let damaged = matches!(result, Err(S3Error::Integrity { .. }));
            assert!(damaged && !is_there, "{ends:?}: {result:?}");
        }
    }
}
