//! The threads of a receiver that look after files: one finds the place of what is offered,
//! the other gives finished files their names, as many at once as are finished.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::net::lane::Event;
use crate::net::queue::WorkQueue;
use crate::session::{FIRST_ENTRY, Preparation};
use crate::store::StoreError;
use crate::store::at_a_time::at_a_time;
use crate::store::leaving::Leaving;
use crate::store::partial::{HeldRuns, PartialFile};
use crate::store::small::SmallFile;
use crate::store::target::{Prepared, Target};
use crate::store::tree::{Directory, LargePlace, Located, TreeTarget};
use crate::wire::message::{Entry, EntryKind};

/// What an entry was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    Prepare,
    Write,
    Finish,
}

/// A file that lanes write to.
#[derive(Debug, Clone)]
pub(crate) enum OpenFile {
    /// Block by block. Its directory, in a tree, is not finished before it.
    Blocks(Arc<PartialFile>, Option<Arc<Directory>>),
    /// In one go.
    Small(Arc<SmallFile>),
}

/// The files that lanes write to.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    files: Mutex<HashMap<u32, OpenFile>>,
    /// The first one may have to be waited for: its records may come before it is found.
    expects_first: watch::Sender<bool>,
    /// The session is over.
    is_closed: AtomicBool,
}

impl OpenFiles {
    /// None yet. `expects_first`: records of the first one may come before
    /// [`first_found`](Self::first_found).
    pub(crate) fn new(expects_first: bool) -> Self {
        Self {
            files: Mutex::default(),
            expects_first: watch::Sender::new(expects_first),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self, entry: u32) -> Option<OpenFile> {
        self.lock().get(&entry).cloned()
    }

    /// Lets whoever writes end with what it is at.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether this entry is to be waited for with [`until_first_found`](Self::until_first_found).
    pub(crate) fn expects(&self, entry: u32) -> bool {
        entry == FIRST_ENTRY && *self.expects_first.borrow()
    }

    /// Waits until the first entry is among the files, or will not be. Cancel-safe.
    pub(crate) async fn until_first_found(&self) {
        // Never fails: the sender is ours.
        let _ = self
            .expects_first
            .subscribe()
            .wait_for(|expects| !expects)
            .await;
    }

    /// The first entry is among the files, or will not be.
    pub(crate) fn first_found(&self) {
        self.expects_first.send_if_modified(std::mem::take);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, OpenFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both threads, and the queues that feed them.
#[derive(Debug)]
pub(crate) struct Keeper {
    finder: Arc<WorkQueue<Find>>,
    namer: Arc<WorkQueue<Name>>,
    leaving: Leaving,
    threads: [JoinHandle<()>; 2],
}

#[derive(Debug)]
enum Find {
    Prepare {
        entry: u32,
        offered: Arc<Entry>,
    },
    /// Is refused, or cannot be sent.
    Refused {
        entry: u32,
        offered: Arc<Entry>,
    },
    Suspend {
        entry: u32,
    },
    /// A file of several blocks is over: another one may be opened.
    Room,
    Leave,
}

#[derive(Debug)]
enum Name {
    Finish {
        entry: u32,
        root: Hash,
    },
    Sync,
    /// The last one. Whether nobody will ask for the receipt again.
    Leave {
        is_settled: bool,
    },
}

/// What both threads share.
struct Files {
    target: Target,
    tree: OnceLock<TreeTarget>,
    open: Arc<OpenFiles>,
    events: mpsc::Sender<Event>,
    finder: Arc<WorkQueue<Find>>,
    leaving: Leaving,
}

impl Keeper {
    pub(crate) fn spawn(target: Target, open: Arc<OpenFiles>, events: mpsc::Sender<Event>) -> Self {
        let (finder, namer) = (Arc::new(WorkQueue::new()), Arc::new(WorkQueue::new()));
        let leaving = Leaving::default();
        let files = Arc::new(Files {
            target,
            tree: OnceLock::new(),
            open,
            events,
            finder: Arc::clone(&finder),
            leaving: leaving.clone(),
        });
        let finding = Finder {
            files: Arc::clone(&files),
            waiting: VecDeque::new(),
            large: 0,
        };
        let names = Arc::clone(&namer);
        let threads = [
            tokio::task::spawn_blocking(move || finding.run()),
            tokio::task::spawn_blocking(move || files.name_all(&names)),
        ];
        Self {
            finder,
            namer,
            leaving,
            threads,
        }
    }

    pub(crate) fn prepare(&self, entry: u32, offered: Arc<Entry>) {
        self.finder.push(Find::Prepare { entry, offered });
    }

    pub(crate) fn refused(&self, entry: u32, offered: Arc<Entry>) {
        self.finder.push(Find::Refused { entry, offered });
    }

    pub(crate) fn suspend(&self, entry: u32) {
        self.finder.push(Find::Suspend { entry });
    }

    pub(crate) fn finish(&self, entry: u32, root: Hash) {
        self.namer.push(Name::Finish { entry, root });
    }

    pub(crate) fn sync(&self) {
        self.namer.push(Name::Sync);
    }

    /// Lets go of what was not begun.
    pub(crate) fn leave(&self) {
        self.leaving.set();
        self.finder.push_first(Find::Leave);
    }

    /// Waits until what is finished has its name and partials are put away, however slow
    /// the disk. `is_settled`: nobody will ask for the receipt again. Nobody may write any more: what
    /// is put away is for the next session.
    ///
    /// Cancel safety: dropped, both threads end once the disk lets them, and nothing is made
    /// durable any more.
    pub(crate) async fn left(mut self, is_settled: bool) {
        let [finder, namer] = &mut self.threads;
        let _ = finder.await;
        self.namer.push(Name::Leave { is_settled });
        let _ = namer.await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.leaving.set();
        self.finder.close();
        self.namer.close();
    }
}

/// Finds places in the order of the manifest; opens only so many partials at a time.
struct Finder {
    files: Arc<Files>,
    waiting: VecDeque<(u32, LargePlace)>,
    large: usize,
}

impl Finder {
    fn run(mut self) {
        while let Some(first) = self.files.finder.pop() {
            let mut told = Vec::new();
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Find::Prepare { entry, offered } => told.extend(self.prepare(entry, &offered)),
                    Find::Refused { entry, offered } => {
                        let tree = self.files.tree.get();
                        tree.into_iter()
                            .for_each(|tree| tree.note_refused(&offered.path));
                        told.push(found(entry, Preparation::Noted));
                    }
                    Find::Suspend { entry } => told.extend(self.suspend(entry)),
                    Find::Room => self.large = self.large.saturating_sub(1),
                    Find::Leave => return,
                }
                let is_short = told.len() < TOLD_AT_ONCE && self.waiting.is_empty();
                next = is_short.then(|| self.files.finder.try_pop()).flatten();
            }
            self.files.tell(Event::Many(told));
            // Not before: what a lane tells of its blocks comes after that.
            self.files.open.first_found();
            self.open_waiting();
        }
    }

    /// `None` when what is at its place was told before.
    fn suspend(&mut self, entry: u32) -> Option<Event> {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != entry);
        if self.waiting.len() < before {
            return Some(found(entry, Preparation::Noted));
        }
        let file = self.files.open.lock().remove(&entry);
        if file.is_some_and(|file| file.put_away()) {
            self.large -= 1;
        }
        None
    }

    /// As many as there is room for.
    fn open_waiting(&mut self) {
        while self.large < PARTIALS_AT_A_TIME
            && !self.files.leaving.is_set()
            && let Some((entry, place)) = self.waiting.pop_front()
        {
            let event = self.open(entry, &place);
            self.files.tell(event);
        }
    }

    /// `None` when it has to wait.
    fn prepare(&mut self, entry: u32, offered: &Entry) -> Option<Event> {
        Some(match self.locate(entry, offered) {
            Ok(Some(Located::Large(place))) => {
                self.waiting.push_back((entry, place));
                return None;
            }
            Ok(Some(Located::Small(file))) => {
                let file = OpenFile::Small(Arc::new(file));
                self.files.open.lock().insert(entry, file);
                found(entry, Preparation::Data(Vec::new()))
            }
            Ok(Some(Located::Present)) => found(entry, Preparation::NoData),
            Ok(None) => self.prepare_file(entry, offered),
            Err(error) => {
                if let Some(tree) = self.files.tree.get() {
                    tree.keep_partial(&offered.path);
                }
                failed(entry, During::Prepare, error)
            }
        })
    }

    /// `None` when the transfer is of one file.
    fn locate(&self, entry: u32, offered: &Entry) -> Result<Option<Located>, StoreError> {
        let files = &self.files;
        if let Some(tree) = files.tree.get() {
            return tree.locate(entry, offered).map(Some);
        }
        if !offered.path.is_root() || offered.kind != EntryKind::Directory {
            return Ok(None);
        }
        let tree = files.target.prepare_tree(offered)?;
        // Local invariant: only this thread sets it, once.
        let _ = files.tree.set(tree);
        Ok(Some(Located::Present))
    }

    fn prepare_file(&self, entry: u32, offered: &Entry) -> Event {
        match self.files.target.prepare(offered, &self.files.leaving) {
            Ok(Prepared::File(file, held)) => self.opened(entry, file, held, None),
            Ok(Prepared::Present) => found(entry, Preparation::NoData),
            Err(error) => failed(entry, During::Prepare, error),
        }
    }

    fn open(&mut self, entry: u32, place: &LargePlace) -> Event {
        match place.open(&self.files.leaving) {
            Ok((file, held)) => {
                self.large += 1;
                let parent = Some(Arc::clone(&place.parent));
                self.opened(entry, Arc::new(file), held, parent)
            }
            Err(error) => failed(entry, During::Prepare, error),
        }
    }

    fn opened(
        &self,
        entry: u32,
        file: Arc<PartialFile>,
        held: HeldRuns,
        parent: Option<Arc<Directory>>,
    ) -> Event {
        let plan = file.plan();
        let blocks = held
            .iter()
            .flat_map(|(first, hashes)| *first..*first + hashes.len() as u64);
        let held_bytes = blocks.map(|block| plan.len(block)).sum();
        let file = OpenFile::Blocks(file, parent);
        self.files.open.lock().insert(entry, file);
        Event::Prepared {
            entry,
            preparation: Preparation::Data(held),
            held_bytes,
        }
    }
}

impl Files {
    /// Names what is finished until it is told to leave, then puts the rest away.
    fn name_all(&self, names: &WorkQueue<Name>) {
        let mut is_synced = false;
        while let Some(work) = names.pop_all() {
            let mut finished = Vec::new();
            for work in work {
                match work {
                    Name::Finish { entry, root } => {
                        is_synced = false;
                        let file = self.open.lock().remove(&entry);
                        finished.extend(file.map(|file| (entry, file, root)));
                    }
                    Name::Sync => {
                        self.name(std::mem::take(&mut finished));
                        // A file was synced before it got its name, and its directory after.
                        let synced = self.tree.get().map_or(Ok(()), TreeTarget::finish);
                        is_synced = synced.is_ok();
                        self.tell(Event::Synced(synced));
                    }
                    Name::Leave { is_settled } => {
                        self.name(finished);
                        if is_settled {
                            self.settle();
                        }
                        return self.put_all_away(is_synced);
                    }
                }
            }
            self.name(finished);
        }
    }

    fn name(&self, finished: Vec<(u32, OpenFile, Hash)>) {
        let mut told = Vec::with_capacity(finished.len());
        let mut synced = Vec::with_capacity(finished.len());
        for (entry, file, root) in finished {
            let accepted = match &file {
                OpenFile::Small(file) => file.accept(root),
                OpenFile::Blocks(file, Some(_)) => file.accept(root),
                OpenFile::Blocks(file, None) => file.finish(root),
            };
            match (accepted, &file) {
                (Ok(()), OpenFile::Blocks(file, None)) => {
                    self.target.on_made(file);
                    told.push(Event::Finished { entry });
                }
                (Ok(()), _) => synced.push((entry, file)),
                (Err(error), _) => told.push(self.end(entry, &file, Err(error))),
            }
        }
        if let Some(tree) = self.tree.get().filter(|_| !synced.is_empty()) {
            self.name_synced(tree, &synced, &mut told);
        }
        if !told.is_empty() {
            self.tell(Event::Many(told));
        }
    }

    /// Makes files durable together, and names them.
    fn name_synced(&self, tree: &TreeTarget, synced: &[(u32, OpenFile)], told: &mut Vec<Event>) {
        // A few need not wait for all that others write to this file system.
        let are_few = synced.len() <= SYNCED_ONE_BY_ONE;
        let mut all = match are_few {
            true => None,
            false => Some(tree.sync()),
        };
        let one_by_one = are_few || !tree.sync_tells();
        let results = match &all {
            Some(Err(error)) => synced.iter().map(|_| Err(error.again())).collect(),
            _ if one_by_one => sync_each(synced, tree.synced_at_a_time()),
            _ => synced.iter().map(|_| Ok(())).collect(),
        };
        for ((entry, file), own) in synced.iter().zip(results) {
            let durable = match own {
                // Its mode may keep even its owner out.
                Err(error) if error.code == ErrorCode::PermissionDenied => {
                    let all = all.get_or_insert_with(|| tree.sync());
                    all.as_ref().map_err(|error| error.again()).copied()
                }
                own => own,
            };
            let named = durable.and_then(|()| match file {
                OpenFile::Small(file) => file.give_name(),
                OpenFile::Blocks(file, _) => file.give_name(),
            });
            told.push(self.end(*entry, file, named));
        }
    }

    /// What to tell about a file that is over.
    fn end(&self, entry: u32, file: &OpenFile, result: Result<(), StoreError>) -> Event {
        if let OpenFile::Blocks(_, Some(_)) = file {
            self.finder.push(Find::Room);
        }
        match result {
            Ok(()) => Event::Finished { entry },
            Err(error) => failed(entry, During::Finish, error),
        }
    }

    /// Removes what was kept for a client that misses the receipt.
    fn settle(&self) {
        let file = self.target.settle();
        let tree = self.tree.get().map_or(Ok(()), TreeTarget::settle);
        for error in [file, tree].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a journal is left");
        }
    }

    /// What is not finished stays, durable. When all `is_synced` nothing is left to be made so, and to wait
    /// for what others write to this file system would only keep the user waiting.
    fn put_all_away(&self, is_synced: bool) {
        let left: Vec<_> = self.open.lock().drain().collect();
        for (_, file) in &left {
            file.put_away();
        }
        if is_synced && left.is_empty() {
            return;
        }
        if let Some(tree) = self.tree.get()
            && let Err(error) = tree.sync()
        {
            tracing::warn!(%error, "what has arrived may not be durable");
        }
    }

    fn tell(&self, event: Event) {
        // The driver may have left; partials still have to be put away.
        let _ = self.events.blocking_send(event);
    }
}

/// Makes the bytes of each durable, so many at a time: what becomes of one says nothing of others.
fn sync_each(files: &[(u32, OpenFile)], most: usize) -> Vec<Result<(), StoreError>> {
    at_a_time(most, files, |(_, file)| file.sync())
}

impl OpenFile {
    /// Makes its bytes durable.
    fn sync(&self) -> Result<(), StoreError> {
        match self {
            Self::Small(file) => file.sync(),
            Self::Blocks(file, _) => file.sync(),
        }
    }

    /// Whether it took one of the places of partials.
    fn put_away(&self) -> bool {
        match self {
            Self::Small(file) => {
                file.discard();
                false
            }
            Self::Blocks(file, parent) => {
                file.discard_if_useless();
                if let Err(error) = file.suspend() {
                    tracing::warn!(%error, "a partial may not be durable");
                }
                parent.is_some()
            }
        }
    }
}

fn found(entry: u32, preparation: Preparation) -> Event {
    Event::Prepared {
        entry,
        preparation,
        held_bytes: 0,
    }
}

fn failed(entry: u32, during: During, error: StoreError) -> Event {
    Event::Failed {
        entry,
        during,
        error,
    }
}

/// Files of a batch that are synced each for itself; more are synced with the file system.
const SYNCED_ONE_BY_ONE: usize = 8;

/// Places that are found before the driver hears of them.
const TOLD_AT_ONCE: usize = 64;

/// Partials of a tree that are open at a time: each takes three file descriptors, of which a
/// process has 1024 as a rule.
const PARTIALS_AT_A_TIME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::store::place::Place;
    use crate::store::target::TargetPolicy;
    use crate::wire::message::Timestamp;

    #[test]
    fn a_file_that_cannot_be_made_durable_fails_alone() {
        const COUNT: u32 = 20;
        const LOST: u32 = 7;
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(&dir.path().join("tree")).unwrap();
        let entry = |path: &str, kind| Entry {
            path: RelPath::try_from(path.as_bytes().to_vec()).unwrap(),
            kind,
            mode: 0o600,
            modified: Timestamp::default(),
            has_holes: false,
        };
        let root = entry("", EntryKind::Directory);
        let policy = TargetPolicy::default();
        let tree = TreeTarget::open(&place, &root, policy, Arc::default()).unwrap();
        let small = |number: u32| {
            let offered = entry(&number.to_string(), EntryKind::File { size: 1 });
            let Ok(Located::Small(file)) = tree.locate(number, &offered) else {
                panic!("not small")
            };
            file.write(b"x", Hash::of(b"x")).unwrap();
            (number, OpenFile::Small(Arc::new(file)))
        };
        let files: Vec<_> = (1..=COUNT).map(small).collect();
        let OpenFile::Small(lost) = &files[LOST as usize - 1].1 else {
            panic!("not small")
        };
        lost.discard();
        for most in [1, 8] {
            let failed = sync_each(&files, most);
            let failed = (1..).zip(&failed).filter(|(_, result)| result.is_err());
            assert_eq!(
                failed.map(|(number, _)| number).collect::<Vec<u32>>(),
                [LOST]
            );
        }
    }
}
