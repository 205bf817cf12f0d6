//! Makes an object of a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use streamer_core::net::stop::{Stop, stopped};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};

use super::client::{Client, Payload};
use super::etag::{self, PartHash, Tag};
use super::get::{ATTEMPTS, PIECE_BYTES, QUEUE, RETRY_PAUSE, hash_part, joined, lock};
use super::journal::Journal;
use super::parts::{PARTS_MAX, Part, count, parts};
use super::{Moved, PutPlan, S3Error};

/// How an object is made.
#[derive(Debug)]
pub struct PutOptions {
    /// The file to read.
    pub source: PathBuf,
    /// Where it is noted which parts are through.
    pub journal: PathBuf,
    /// Parts on the way at once.
    pub parallel: usize,
    /// No later call will go on from here, unless this one is stopped: the plan does not stay.
    pub is_last: bool,
}

/// Sends a file, part by part, and has the object made of them. Its size.
///
/// Not cancel-safe; `stop` ends it early, and the next call goes on from there. On an error
/// that trying again would not mend, or if this call is the last, the parts are thrown away: nobody sees
/// them, but they count.
///
/// # Errors
/// When the file cannot be read or changes, or the store refuses it.
pub async fn put(
    plan: PutPlan,
    options: PutOptions,
    moved: Arc<Moved>,
    stop: Stop,
) -> Result<u64, S3Error> {
    let client = Client::new()?;
    let (abort, is_last) = (plan.abort.clone(), options.is_last);
    let send = async {
        let send = Send::new(client.clone(), plan, options, moved)?;
        send.run().await
    };
    let result = tokio::select! {
        result = send => result,
        code = stopped(stop) => return Err(S3Error::Stopped(code)),
    };
    if let Err(error) = &result
        && (is_last || !error.keeps_parts())
        && let Err(error) = client.abort(&abort).await
    {
        tracing::debug!(%error, "parts that were sent stay until they expire");
    }
    result
}

struct Send {
    client: Client,
    plan: Arc<PutPlan>,
    parallel: usize,
    moved: Arc<Moved>,
    source: Arc<Source>,
    journal_path: PathBuf,
    journal: Arc<Mutex<Journal>>,
    /// An earlier run had sent all parts, and may have had the object made of them.
    was_sent: bool,
}

/// An open file, and what it was when it was opened.
#[derive(Debug)]
struct Source {
    file: File,
    shown: String,
    opened: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    size: u64,
    modified: (i64, i64),
    /// `st_ctime`, which the system alone sets; it also moves with a new name or mode.
    touched: (i64, i64),
}

impl Source {
    fn open(path: &Path) -> Result<Self, S3Error> {
        let shown = path.display().to_string();
        let failed = |source| S3Error::File {
            action: "read",
            path: shown.clone(),
            source,
        };
        // Looked at before it is opened: opening a FIFO would wait for its other end.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let opened = version(&file).map_err(failed)?;
        Ok(Self {
            file,
            shown,
            opened,
        })
    }

    fn size(&self) -> u64 {
        self.opened.size
    }

    /// Sees that nothing says that it has other bytes by now. When it was touched last.
    fn check_unchanged(&self) -> Result<(i64, i64), S3Error> {
        let Version { size, modified, .. } = self.opened;
        match version(&self.file) {
            Ok(now) if (now.size, now.modified) == (size, modified) => Ok(now.touched),
            _ => Err(S3Error::Changed("file")),
        }
    }

    /// Sees that what was sent is what is there. Whoever writes can set the time of modification
    /// back: where the file was touched, only its bytes tell, and may be changed while they do.
    async fn seal(self: &Arc<Self>, sent: &[(Part, Option<PartHash>)]) -> Result<(), S3Error> {
        let mut seen = self.opened.touched;
        for _ in 0..COMPARISONS {
            let now = self.check_unchanged()?;
            if now == seen {
                return Ok(());
            }
            seen = now;
            for (part, hash) in sent {
                let (source, part) = (Arc::clone(self), *part);
                let there = spawn_blocking(move || source.hash(part)).await;
                if Some(joined(there)?) != *hash {
                    return Err(S3Error::Changed("file"));
                }
            }
        }
        Err(S3Error::Changed("file"))
    }

    fn hash(&self, part: Part) -> Result<PartHash, S3Error> {
        hash_part(&self.file, part).map_err(|source| S3Error::File {
            action: "read",
            path: self.shown.clone(),
            source,
        })
    }
}

fn version(file: &File) -> io::Result<Version> {
    let found = file.metadata()?;
    Ok(Version {
        size: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        touched: (found.ctime(), found.ctime_nsec()),
    })
}

impl Send {
    fn new(
        client: Client,
        plan: PutPlan,
        options: PutOptions,
        moved: Arc<Moved>,
    ) -> Result<Self, S3Error> {
        let source = Source::open(&options.source)?;
        let planned = plan.parts.len() as u64;
        if planned > PARTS_MAX || planned != count(source.size(), plan.part_bytes) {
            return Err(S3Error::Changed("file"));
        }
        let Version {
            size,
            modified: (mtime, nsec),
            ..
        } = source.opened;
        let subject = format!("{size} {mtime} {nsec} {}", plan.part_bytes);
        let journal = open_journal(&options.journal, &subject).map_err(|source| S3Error::File {
            action: "write",
            path: options.journal.display().to_string(),
            source,
        })?;
        moved.on_total(source.size());
        let was_sent = journal.done().len() as u64 == planned;
        Ok(Self {
            client,
            plan: Arc::new(plan),
            parallel: options.parallel.max(1),
            moved,
            source: Arc::new(source),
            journal_path: options.journal,
            journal: Arc::new(Mutex::new(journal)),
            was_sent,
        })
    }

    async fn run(self) -> Result<u64, S3Error> {
        let slots = Arc::new(Semaphore::new(self.parallel));
        let mut running = JoinSet::new();
        for part in parts(self.source.size(), self.plan.part_bytes) {
            if lock(&self.journal).done().contains_key(&part.index) {
                self.moved.on_moved(part.length());
                continue;
            }
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            while let Some(ended) = running.try_join_next() {
                joined(ended)?;
            }
            let send = PartSend {
                client: self.client.clone(),
                plan: Arc::clone(&self.plan),
                source: Arc::clone(&self.source),
                moved: Arc::clone(&self.moved),
                journal: Arc::clone(&self.journal),
                part,
            };
            running.spawn(async move {
                let result = send.run().await;
                drop(slot);
                result
            });
        }
        while let Some(ended) = running.join_next().await {
            joined(ended)?;
        }
        self.source.seal(&self.sent()).await?;
        self.complete().await?;
        // The object is there: that the journal stays would harm nobody.
        let _ = std::fs::remove_file(&self.journal_path);
        Ok(self.source.size())
    }

    /// Every part, with the hash of what was sent of it.
    fn sent(&self) -> Vec<(Part, Option<PartHash>)> {
        let journal = lock(&self.journal);
        let hash = |part: Part| {
            journal
                .done()
                .get(&part.index)
                .and_then(|word| hash_of(word))
        };
        parts(self.source.size(), self.plan.part_bytes)
            .map(|part| (part, hash(part)))
            .collect()
    }

    async fn complete(&self) -> Result<(), S3Error> {
        let (document, hashes) = {
            let journal = lock(&self.journal);
            let tags = journal.done().values().map(|word| tag_of(word));
            let hashes = journal.done().values().map(|word| proven_hash_of(word));
            (document(tags), hashes.collect::<Option<Vec<PartHash>>>())
        };
        // Where the tags of all parts are hashes, that of the object is made of them.
        let agrees = |tag: &Tag| {
            hashes
                .as_ref()
                .and_then(|hashes| tag.object_agrees(hashes.iter()))
        };
        let mut failures = 0;
        let tag = loop {
            match self
                .client
                .complete(&self.plan.complete, document.clone())
                .await
            {
                Ok(tag) => break tag,
                Err(error) if error.is_transient() && failures < ATTEMPTS => {
                    failures += 1;
                    tokio::time::sleep(RETRY_PAUSE * failures).await;
                }
                // The answer that was lost, also with an earlier run, may have been that all is well.
                Err(error) if error.has_no_parts() && (failures > 0 || self.was_sent) => {
                    let object = self.client.head(&self.plan.head).await?;
                    let object = object.filter(|object| object.size == self.source.size());
                    return match object {
                        Some(object) if agrees(&object.tag) != Some(false) => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(error) => return Err(error),
            }
        };
        match agrees(&tag) {
            Some(false) => Err(S3Error::Integrity {
                what: "the object".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

struct PartSend {
    client: Client,
    plan: Arc<PutPlan>,
    source: Arc<Source>,
    moved: Arc<Moved>,
    journal: Arc<Mutex<Journal>>,
    part: Part,
}

impl PartSend {
    async fn run(self) -> Result<(), S3Error> {
        let mut failures = 0;
        let word = loop {
            match self.attempt().await {
                Ok(word) => break word,
                Err(error) => {
                    self.source.check_unchanged()?;
                    failures += 1;
                    if !error.is_transient() || failures >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(part = self.part.index, %error, "trying again");
                    tokio::time::sleep(RETRY_PAUSE * failures).await;
                }
            }
        };
        let (journal, index) = (Arc::clone(&self.journal), self.part.index);
        let noted = spawn_blocking(move || lock(&journal).add(index, &word));
        joined(noted.await.map(|result| {
            result.map_err(|source| S3Error::File {
                action: "write the journal of",
                path: self.source.shown.clone(),
                source,
            })
        }))
    }

    /// Sends the part once. What the journal keeps of it: hash and tag.
    async fn attempt(&self) -> Result<String, S3Error> {
        let (pieces, outbox) = mpsc::channel(QUEUE);
        let (source, part) = (Arc::clone(&self.source), self.part);
        let moved = Arc::clone(&self.moved);
        let reader = spawn_blocking(move || read_part(&source.file, part, &pieces, &moved));
        let payload = Payload::stream(outbox, part.length());
        let url = self.plan.parts.get(part.index);
        let url = url.ok_or(S3Error::Plan("it has too few parts"))?;
        let sent = self.client.write(url, payload).await;
        let (read, bytes) = joined(reader.await.map(Ok))?;
        let result = sent.and_then(|tag| {
            let hash = read.map_err(|source| S3Error::File {
                action: "read",
                path: self.source.shown.clone(),
                source,
            })?;
            match tag.part_agrees(&hash) {
                Some(false) => Err(S3Error::Integrity {
                    what: format!("part {}", part.index + 1),
                }),
                _ => Ok(format!("{} {}", etag::hex(&hash), tag.text)),
            }
        });
        if result.is_err() {
            self.moved.on_taken_back(bytes);
        }
        result
    }
}

/// Reads and hashes one part. How many bytes were handed on is told in any case.
fn read_part(
    file: &File,
    part: Part,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    moved: &Moved,
) -> (io::Result<PartHash>, u64) {
    let (mut hash, mut at) = (Md5::new(), part.start);
    while at < part.end {
        let left = usize::try_from(part.end - at).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE_BYTES)];
        if let Err(error) = file.read_exact_at(&mut piece, at) {
            // Without this piece the request cannot be completed: the store refuses it.
            let _ = pieces.blocking_send(Err(error.kind().into()));
            return (Err(error), at - part.start);
        }
        hash.update(&piece);
        let length = piece.len() as u64;
        if pieces.blocking_send(Ok(piece.into())).is_err() {
            let gone = io::ErrorKind::BrokenPipe.into();
            return (Err(gone), at - part.start);
        }
        at += length;
        moved.on_moved(length);
    }
    (Ok(hash.finalize().into()), part.length())
}

fn open_journal(path: &Path, subject: &str) -> io::Result<Journal> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    Journal::open(options.mode(0o600).open(path)?, subject)
}

fn hash_of(word: &str) -> Option<PartHash> {
    etag::unhex(word.split_once(' ')?.0)
}

/// The hash of a part whose tag it is too. Any other tag was taken because it proves nothing.
fn proven_hash_of(word: &str) -> Option<PartHash> {
    hash_of(word).filter(|hash| etag::part_agrees(tag_of(word), hash) == Some(true))
}

fn tag_of(word: &str) -> &str {
    word.split_once(' ').map_or("", |(_, tag)| tag)
}

/// The list of parts that makes an object.
fn document<'a>(tags: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("<CompleteMultipartUpload>");
    for (index, tag) in tags.enumerate() {
        let (number, tag) = (index + 1, tag.replace('&', "&amp;").replace('<', "&lt;"));
        text.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        ));
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

/// Of a file that goes on being touched without other bytes.
const COMPARISONS: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::store::{self, at};
    use super::*;

    const PART: &str = "01234";

    /// Sends ten bytes in two parts to a store that answers as `answer` says.
    async fn put_to(
        directory: &Path,
        is_last: bool,
        answer: impl Fn(&str) -> (u16, String, String) + std::marker::Send + Sync + 'static,
    ) -> Result<u64, S3Error> {
        let url = store::start(answer).await;
        let plan = PutPlan {
            parts: vec![at(&url, "part"), at(&url, "part")],
            complete: at(&url, "complete"),
            abort: at(&url, "abort"),
            head: at(&url, "head"),
            part_bytes: PART.len() as u64,
        };
        let options = PutOptions {
            source: directory.join("source"),
            journal: directory.join("journal"),
            parallel: 1,
            is_last,
        };
        if !options.source.exists() {
            std::fs::write(&options.source, PART.repeat(2)).unwrap();
        }
        let (_stopper, stop) = tokio::sync::watch::channel(None);
        put(plan, options, Arc::default(), stop).await
    }

    fn completed(tag: &str) -> String {
        format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>")
    }

    /// Looks like an MD5, and is none.
    const RANDOM: &str = "0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn tags_under_a_key_of_the_store_are_not_taken_for_checksums() {
        let directory = tempfile::tempdir().unwrap();
        for key in [
            "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption: aws:kms:dsse",
            "x-amz-server-side-encryption-customer-algorithm: AES256",
        ] {
            for says_at_the_end in [true, false] {
                let sent = put_to(directory.path(), false, move |request| {
                    let is_part = request.starts_with("PUT");
                    let key = match is_part || says_at_the_end {
                        true => format!("{key}\r\n"),
                        false => String::new(),
                    };
                    match is_part {
                        true => (200, format!("etag: \"{RANDOM}\"\r\n{key}"), String::new()),
                        false => (200, key, completed(&format!("{RANDOM}-2"))),
                    }
                });
                assert_eq!(sent.await.unwrap(), 10, "{key}");
            }
        }
    }

    #[tokio::test]
    async fn an_object_of_parts_with_checksums_is_compared() {
        let directory = tempfile::tempdir().unwrap();
        let part: PartHash = Md5::digest(PART).into();
        let sent = put_to(directory.path(), false, move |request| match request {
            "PUT /part" => (
                200,
                format!("etag: {}\r\n", etag::hex(&part)),
                String::new(),
            ),
            _ => (200, String::new(), completed(&format!("{RANDOM}-2"))),
        });
        let sent = sent.await;
        assert!(matches!(sent, Err(S3Error::Integrity { .. })), "{sent:?}");
    }

    /// As when the earlier run was killed while the store made the object of its parts.
    #[tokio::test]
    async fn an_object_that_an_earlier_run_made_is_recognised() {
        let part: PartHash = Md5::digest(PART).into();
        let whole: PartHash = Md5::new()
            .chain_update(part)
            .chain_update(part)
            .finalize()
            .into();
        let made = format!("{}-2", etag::hex(&whole));
        for (sent_before, size, tag, is_made) in [
            (2, 10, made.clone(), true),
            (2, 9, made.clone(), false),
            (2, 10, format!("{RANDOM}-2"), false),
            (1, 10, made, false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("source");
            std::fs::write(&path, PART.repeat(2)).unwrap();
            let Version { modified, .. } = Source::open(&path).unwrap().opened;
            let subject = format!("10 {} {} {}", modified.0, modified.1, PART.len());
            let mut journal = open_journal(&directory.path().join("journal"), &subject).unwrap();
            let hash = etag::hex(&part);
            for index in 0..sent_before {
                journal.add(index, &format!("{hash} {hash}")).unwrap();
            }
            drop(journal);
            let sent = put_to(directory.path(), false, move |request| match request {
                "PUT /part" => (200, format!("etag: {hash}\r\n"), String::new()),
                "HEAD /head" => (
                    200,
                    format!("etag: {tag}\r\ncontent-length: {size}\r\n"),
                    String::new(),
                ),
                _ => (
                    404,
                    String::new(),
                    "<Error><Code>NoSuchUpload</Code></Error>".to_owned(),
                ),
            });
            let sent = sent.await;
            assert_eq!(sent.is_ok(), is_made, "{sent_before} {size}: {sent:?}");
        }
    }

    #[tokio::test]
    async fn parts_go_with_the_plan_of_which_they_are() {
        for is_last in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let aborted = Arc::new(AtomicBool::new(false));
            let noted = Arc::clone(&aborted);
            let part: PartHash = Md5::digest(PART).into();
            let part = etag::hex(&part);
            let completed = AtomicBool::new(false);
            let sent = put_to(directory.path(), is_last, move |request| {
                let gone = "<Error><Code>NoSuchUpload</Code></Error>";
                match request {
                    "PUT /part" => (200, format!("etag: {part}\r\n"), String::new()),
                    // Then the store is out of order, for the time being.
                    "POST /complete" if !completed.swap(true, Ordering::Relaxed) => {
                        (503, String::new(), String::new())
                    }
                    "POST /complete" => (404, String::new(), gone.to_owned()),
                    "DELETE /abort" => {
                        noted.store(true, Ordering::Relaxed);
                        (204, String::new(), String::new())
                    }
                    _ => (503, String::new(), String::new()),
                }
            });
            assert!(sent.await.is_err_and(|error| error.is_transient()));
            assert_eq!(aborted.load(Ordering::Relaxed), is_last);
        }
    }

    #[tokio::test]
    async fn a_file_that_was_only_touched_is_sent_and_one_with_other_bytes_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("source");
        std::fs::write(&path, "0123456789").unwrap();
        let source = Arc::new(Source::open(&path).unwrap());
        let sent: Vec<_> = parts(10, 4)
            .map(|part| (part, Some(source.hash(part).unwrap())))
            .collect();
        let file = File::options().write(true).open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let touch = |file: &File| {
            let before = version(file).unwrap().touched;
            // The clock of the file system may be coarse.
            while version(file).unwrap().touched == before {
                file.set_modified(modified).unwrap();
            }
        };
        source.seal(&sent).await.unwrap();
        touch(&file);
        source.seal(&sent).await.unwrap();
        assert!(source.check_unchanged().is_ok());
        file.write_all_at(b"x", 5).unwrap();
        touch(&file);
        let changed = source.seal(&sent).await;
        assert!(matches!(changed, Err(S3Error::Changed(_))), "{changed:?}");
        file.set_len(9).unwrap();
        assert!(source.check_unchanged().is_err());
    }

    #[test]
    fn the_list_of_parts_is_what_stores_read() {
        assert_eq!(
            document(["\"a\"", "\"b<\""].into_iter()),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>\
             <Part><PartNumber>2</PartNumber><ETag>\"b&lt;\"</ETag></Part></CompleteMultipartUpload>"
        );
    }
}
