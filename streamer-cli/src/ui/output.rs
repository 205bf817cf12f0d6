//! The one thread that writes. A terminal or pipe that nobody reads holds up this thread, and nothing else
//! until a good deal is waiting; then whoever has more to tell is not driven on ([`Output::paced`]).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use streamer_core::net::stop::{Stop, stopped};
use streamer_server::{Pace, drive};
use tokio::sync::Notify;

use crate::ui::progress::View;

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Takes lines, and never waits.
pub(crate) struct Output {
    shared: Arc<Shared>,
    /// When there is no thread, whoever prints writes.
    has_thread: bool,
    /// What ends the waiting for a reader.
    stop: OnceLock<Stop>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    changed: Condvar,
    /// Something was done: for threads, and for tasks.
    done: Condvar,
    written: Notify,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(Stream, String)>,
    /// Of these lines, and of those that are being written.
    bytes: usize,
    /// What is to be shown from now on.
    view: Option<Option<View>>,
    is_busy: bool,
    /// Lines of the log.
    left_out: u64,
    /// The same of news.
    unsaid: u64,
}

impl State {
    fn is_idle(&self) -> bool {
        !self.is_busy && self.lines.is_empty() && self.view.is_none()
    }

    fn push(&mut self, stream: Stream, line: String) {
        self.bytes += line.len();
        self.lines.push_back((stream, line));
    }

    /// Lines that are written at once. A pipe takes as many bytes as a whole: a program that ends while
    /// nobody reads leaves no half of a line in it.
    fn batch(&mut self) -> Option<(Stream, String)> {
        let (stream, mut text) = self.lines.pop_front()?;
        while let Some((_, line)) = self
            .lines
            .pop_front_if(|(next, line)| *next == stream && text.len() + line.len() <= PIPE_BUF)
        {
            text.push_str(&line);
        }
        Some((stream, text))
    }
}

impl Output {
    /// To stdout and stderr. The thread lives as long as the program.
    pub(crate) fn start() -> Arc<Self> {
        Self::to(Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn to(out: Sink, err: Sink) -> Arc<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            done: Condvar::new(),
            written: Notify::new(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            out,
            err,
            view: None,
            due: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("output".to_owned());
        Arc::new(Self {
            shared,
            has_thread: thread.spawn(|| writer.run()).is_ok(),
            stop: OnceLock::new(),
        })
    }

    /// Whoever is waited for is not, any more, once this says stop.
    pub(crate) fn heed(&self, stop: &Stop) {
        // Nobody watches for signals twice.
        let _ = self.stop.set(stop.clone());
    }

    /// One line, or several.
    pub(crate) fn line(&self, stream: Stream, text: &str) {
        let line = format!("{text}\n");
        if self.has_thread {
            self.shared.lock().push(stream, line);
            self.shared.changed.notify_one();
        } else {
            match stream {
                Stream::Out => write(&mut io::stdout(), &line),
                Stream::Err => write(&mut io::stderr(), &line),
            }
        }
    }

    /// Of the log: left out while others wait.
    fn log(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        let Some(left_out) = self.spare(|state| &mut state.left_out) else {
            return;
        };
        if left_out > 0 {
            self.line(
                Stream::Err,
                &format!("{left_out} lines of the log are left out"),
            );
        }
        self.line(Stream::Err, text);
    }

    /// What goes on, and may be missed: left out while others wait, and counted in `left_out`, which is
    /// said before the next one.
    pub(crate) fn news(&self, stream: Stream, text: &str, left_out: impl FnOnce(u64) -> String) {
        match self.spare(|state| &mut state.unsaid) {
            None => return,
            Some(0) => {}
            Some(count) => self.line(stream, &left_out(count)),
        }
        self.line(stream, text);
    }

    /// How many lines of news were left out since the last one.
    pub(crate) fn unsaid(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().unsaid)
    }

    /// How many lines of a kind that can be spared were left out before this one; `None` when this one
    /// has to be as well, and is counted.
    fn spare(&self, left_out: impl Fn(&mut State) -> &mut u64) -> Option<u64> {
        let mut state = self.shared.lock();
        let is_much = state.bytes >= SPARE_MARK;
        let left_out = left_out(&mut state);
        *left_out += u64::from(is_much);
        (!is_much).then(|| std::mem::take(left_out))
    }

    /// Shows this while it waits for lines; `None` takes away what is shown.
    pub(crate) fn show(&self, view: Option<View>) {
        if self.has_thread {
            self.shared.lock().view = Some(view);
            self.shared.changed.notify_one();
        }
    }

    /// Does `work`, and rests while too much waits to be written: what travels waits in the buffers of the
    /// connection then, which others keep alive. Asked to stop, it rests no more. Cancel-safe if `work` is.
    pub(crate) async fn paced<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            self.room().await;
            if let Some(result) = drive(work.as_mut(), self).await {
                return result;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.get().is_some_and(|stop| stop.borrow().is_some())
    }

    /// Waits until somebody asks to stop. Cancel-safe.
    async fn stopped(&self) {
        match self.stop.get() {
            Some(stop) => drop(stopped(stop.clone()).await),
            None => std::future::pending().await,
        }
    }

    /// Waits until all is written, but not for long once somebody asks to stop. Whether it is. Cancel-safe.
    pub(crate) async fn finished(&self) -> bool {
        // Both arms are cancel-safe.
        tokio::select! {
            () = self.idle() => return true,
            () = self.stopped() => {}
        }
        tokio::time::timeout(PATIENCE, self.idle()).await.is_ok()
    }

    async fn idle(&self) {
        loop {
            let written = self.shared.written.notified();
            if self.shared.lock().is_idle() {
                return;
            }
            written.await;
        }
    }

    /// The same without a runtime, for what is said when that has ended, or never was.
    pub(crate) fn flush(&self) {
        let busy = |state: &mut State| !state.is_idle();
        let done = &self.shared.done;
        // Too late for complaints when it takes longer.
        drop(done.wait_timeout_while(self.shared.lock(), PATIENCE, busy));
    }
}

impl Pace for Output {
    fn is_full(&self) -> bool {
        self.shared.lock().bytes >= MARK && !self.is_stopped()
    }

    /// Waits until there is room for more. Cancel-safe.
    async fn room(&self) {
        loop {
            // Made before the look: it hears of all that is written after it.
            let written = self.shared.written.notified();
            if !self.is_full() {
                return;
            }
            // Both arms are cancel-safe.
            tokio::select! {
                () = written => {}
                () = self.stopped() => return,
            }
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Sink = Box<dyn Write + Send>;

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    out: Sink,
    err: Sink,
    view: Option<View>,
    /// When it is to be shown next.
    due: Instant,
}

enum Task {
    View(Option<View>),
    Show,
    Write(Stream, String),
}

impl Writer {
    fn run(mut self) {
        let mut done_bytes = 0;
        loop {
            let task = self.next(done_bytes);
            done_bytes = 0;
            match task {
                Task::View(view) => {
                    self.view.iter_mut().for_each(View::end);
                    self.due = Instant::now();
                    self.due += view.as_ref().map_or(Duration::ZERO, View::first_after);
                    self.view = view;
                }
                Task::Show => {
                    let line = self.view.as_mut().and_then(View::show);
                    if let Some(line) = line {
                        write(&mut self.out, &format!("{line}\n"));
                    }
                    // However long that took: nobody wants to see what was.
                    let interval = self.view.as_ref().map_or(Duration::ZERO, View::interval);
                    self.due = Instant::now() + interval;
                }
                Task::Write(stream, text) => {
                    let sink = match stream {
                        Stream::Out => &mut self.out,
                        Stream::Err => &mut self.err,
                    };
                    match &self.view {
                        Some(view) => view.aside(|| write(sink, &text)),
                        None => write(sink, &text),
                    }
                    done_bytes = text.len();
                }
            }
        }
    }

    /// Waits for something to do, with the last of it done.
    fn next(&self, done_bytes: usize) -> Task {
        let mut state = self.shared.lock();
        state.bytes -= done_bytes;
        state.is_busy = false;
        if state.is_idle() {
            self.shared.done.notify_all();
        }
        if state.is_idle() || state.bytes < MARK {
            self.shared.written.notify_waiters();
        }
        loop {
            let wait = match &self.view {
                Some(_) => self.due.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            let task = if let Some(view) = state.view.take() {
                Some(Task::View(view))
            } else if wait.is_zero() {
                Some(Task::Show)
            } else {
                state
                    .batch()
                    .map(|(stream, text)| Task::Write(stream, text))
            };
            if let Some(task) = task {
                state.is_busy = true;
                return task;
            }
            let changed = &self.shared.changed;
            state = match wait {
                Duration::MAX => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                wait => {
                    let waited = changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// A reader that left is no error of ours, and when stderr is gone there is nowhere left to complain.
fn write(sink: &mut impl Write, text: &str) {
    let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
}

/// Writes the log, line by line.
#[derive(Debug)]
pub(crate) struct Log(pub(crate) Arc<Output>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.log(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that wait before whoever tells more has to: as much as twenty thousand entries of a tree say.
const MARK: usize = 4 << 20;

/// Bytes that wait before the log is not written any more, nor other things that can be missed.
const SPARE_MARK: usize = 1 << 20;

/// Bytes that a pipe takes as a whole.
const PIPE_BUF: usize = 4096;

/// How long a reader is waited for who was asked to stop.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
    use streamer_core::ErrorCode;
    use tokio::sync::watch;

    /// A reader that takes one write at a time, when it wants to.
    struct Pipe(SyncSender<()>, Sender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.send(()).map_err(gone)?;
            self.1
                .send(text)
                .map_err(|_| gone(std::sync::mpsc::SendError(())))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        output: Arc<Output>,
        turns: Receiver<()>,
        text: Receiver<String>,
    }

    impl Reader {
        fn new() -> Self {
            let (turn, turns) = sync_channel(0);
            let (tell, text) = channel();
            let output = Output::to(Box::new(Pipe(turn, tell)), Box::new(io::sink()));
            Self {
                output,
                turns,
                text,
            }
        }

        fn read(&self) -> String {
            self.turns.recv().unwrap();
            self.text.recv().unwrap()
        }

        fn read_all(&self, bytes: usize) -> String {
            let mut all = String::new();
            while all.len() < bytes {
                all += &self.read();
            }
            all
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// Tells of one entry each turn, as a session does.
    async fn tell(output: &Output, count: usize) {
        let line = "x".repeat(1023);
        for _ in 0..count {
            output.line(Stream::Out, &line);
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn lines_keep_their_order_and_are_whole_in_each_write() {
        let reader = Reader::new();
        let lines: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
        lines
            .iter()
            .for_each(|line| reader.output.line(Stream::Out, line));
        let expected = lines.join("\n") + "\n";
        let mut all = String::new();
        while all.len() < expected.len() {
            let text = reader.read();
            assert!(text.ends_with('\n') && text.len() <= PIPE_BUF);
            all += &text;
        }
        assert!(all == expected);
    }

    #[test]
    fn whoever_tells_too_much_rests_until_it_is_read() {
        let reader = Reader::new();
        let output = Arc::clone(&reader.output);
        let work = std::thread::spawn(move || {
            let count = 3 * MARK / 1024;
            runtime().block_on(output.paced(tell(&output, count)));
            count * 1024
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!work.is_finished());
        assert_eq!(reader.output.shared.lock().bytes, MARK);
        reader.read_all(3 * MARK);
        assert_eq!(work.join().unwrap(), 3 * MARK);
    }

    #[test]
    fn whoever_is_asked_to_stop_waits_for_no_reader() {
        let reader = Reader::new();
        let (ask, stop) = watch::channel(None);
        reader.output.heed(&stop);
        let output = Arc::clone(&reader.output);
        let work = std::thread::spawn(move || {
            runtime().block_on(async {
                output.paced(tell(&output, 2 * MARK / 1024)).await;
                output.finished().await
            })
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!work.is_finished());
        let begun = Instant::now();
        ask.send(Some(ErrorCode::Terminated)).unwrap();
        assert!(!work.join().unwrap());
        assert!(begun.elapsed() < 2 * PATIENCE);
    }

    #[test]
    fn a_slow_reader_gets_everything_before_the_end() {
        let reader = Reader::new();
        let output = Arc::clone(&reader.output);
        let end = std::thread::spawn(move || {
            output.line(Stream::Out, "one");
            runtime().block_on(output.finished())
        });
        std::thread::sleep(2 * PATIENCE);
        assert!(!end.is_finished());
        assert_eq!(reader.read(), "one\n");
        assert!(end.join().unwrap());
    }

    #[test]
    fn news_are_left_out_and_counted_where_nobody_reads_them_and_results_are_not() {
        let reader = Reader::new();
        let result = "x".repeat(SPARE_MARK);
        let tell = |text: &str| {
            let left_out = |count: u64| format!("{count} left out");
            reader.output.news(Stream::Out, text, left_out);
        };
        tell("first");
        reader.output.line(Stream::Out, &result);
        ["second", "third"].into_iter().for_each(tell);
        reader.output.line(Stream::Out, "result");
        let told = format!("first\n{result}\nresult\n");
        assert!(reader.read_all(told.len()) == told);
        runtime().block_on(reader.output.idle());
        tell("fourth");
        let told = "2 left out\nfourth\n";
        assert_eq!(reader.read_all(told.len()), told);
    }

    #[test]
    fn the_log_is_left_out_where_nobody_reads_it() {
        let reader = Reader::new();
        let mut log = Log(Arc::clone(&reader.output));
        reader.output.line(Stream::Out, &"x".repeat(SPARE_MARK - 1));
        (0..3).for_each(|_| log.write_all(b"a line\n").unwrap());
        assert_eq!(reader.output.shared.lock().left_out, 3);
        reader.read();
        reader.output.flush();
        log.write_all(b"a line\n").unwrap();
        assert_eq!(reader.output.shared.lock().left_out, 0);
    }
}
