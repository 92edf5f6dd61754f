//! Log lines on their way out: collected in memory and written together by a thread of their own, so that a slow terminal or disk
//! never holds a request up and a line costs neither a system call nor a wake-up.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// More bytes do not wait: what comes then is thrown away and counted.
const MOST: usize = 8 << 20;
/// After a write lines are collected for this long. The first line after a silence is written at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the end waits for `out` to take the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are put. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Queue>);

/// Writes out what is left when it is dropped.
#[derive(Debug)]
pub struct Flush(Lines);

/// What is on its way out.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// A line is there, or the end.
    news: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread waits for news.
    idle: bool,
    /// Nothing more comes.
    ended: bool,
    /// All is written.
    done: bool,
}

impl Lines {
    /// How many lines were thrown away because `out` was too slow for them.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }

    /// Writes out what is left and ends the thread; waits for a second at most, since a reader may be stuck.
    pub fn end(&self) {
        let mut state = self.0.state();
        state.ended = true;
        self.0.news.notify_all();
        drop(self.0.news.wait_timeout_while(state, PATIENCE, |state| !state.done));
    }

    /// Starts the thread that writes to `out`. Errors of `out` have nowhere to be told and are ignored.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn write_to(&self, out: impl Write + Send + 'static) -> io::Result<Flush> {
        let lines = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.0.write(out))?;
        Ok(Flush(self.clone()))
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > MOST {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        if state.idle {
            state.idle = false;
            drop(state);
            self.news.notify_all();
        }
    }

    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.ended {
                state.idle = true;
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle = false;
            if state.waiting.is_empty() {
                state.done = true;
                self.news.notify_all();
                return;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            drop(state);
            drop(out.write_all(&batch).and_then(|()| out.flush()));
            batch.clear();
            let state = self.state();
            // Only the end cuts the pause short: lines do not tell while nobody is idle.
            drop(self.news.wait_timeout_while(state, PAUSE, |state| !state.ended));
        }
    }
}

impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> Self::Writer {
        &self.0
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes a batch when it is told to.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, batch: &[u8]) -> io::Result<usize> {
            self.0.send(batch.to_vec()).unwrap();
            self.1.recv().unwrap();
            Ok(batch.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Flush, Receiver<Vec<u8>>, Sender<()>) {
        let ((taken, seen), (go, told)) = (channel(), channel());
        let lines = Lines::default();
        let flush = lines.write_to(Slow(taken, told)).unwrap();
        (lines, flush, seen, go)
    }

    #[test]
    fn a_line_after_a_silence_comes_at_once_and_those_meanwhile_together() {
        let (lines, _flush, seen, go) = slow();
        lines.0.put(b"one\n");
        assert_eq!(seen.recv().unwrap(), b"one\n");
        lines.0.put(b"two\n");
        lines.0.put(b"three\n");
        go.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), b"two\nthree\n");
        go.send(()).unwrap();
    }

    #[test]
    fn what_is_left_is_written_before_the_end() {
        let (lines, flush, seen, go) = slow();
        lines.0.put(b"one\n");
        assert_eq!(seen.recv().unwrap(), b"one\n");
        lines.0.put(b"two\n");
        go.send(()).unwrap();
        go.send(()).unwrap();
        drop(flush);
        assert_eq!(seen.try_recv().unwrap(), b"two\n");
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_their_writer_is_not_held_up() {
        let (lines, flush, seen, go) = slow();
        lines.0.put(b"one\n");
        assert_eq!(seen.recv().unwrap(), b"one\n");
        let line = vec![b'x'; MOST / 4];
        (0..7).for_each(|_| lines.0.put(&line));
        assert_eq!(lines.lost(), 3);
        go.send(()).unwrap();
        go.send(()).unwrap();
        drop(flush);
        assert_eq!(seen.recv().unwrap().len(), MOST);
    }
}
