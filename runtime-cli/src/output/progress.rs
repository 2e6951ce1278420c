//! Word of work that takes long: a bar on terminals, plain lines elsewhere, nothing for those who want none.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Work that is done sooner is not spoken of.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a bar is drawn, and how often a line is written.
const REDRAW: Duration = Duration::from_millis(100);
const REPEAT: Duration = Duration::from_secs(15);

/// The bar that is drawn at the moment, so that other lines do not run into it.
#[derive(Clone, Debug, Default)]
pub struct Screen(Arc<Mutex<Option<ProgressBar>>>);

impl Screen {
    /// Writes something, with the bar out of the way.
    pub fn write<T>(&self, write: impl FnOnce() -> T) -> T {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Puts a bar there, unless another one is.
    fn put(&self, bar: ProgressBar) -> bool {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = slot.is_none();
        if is_free {
            *slot = Some(bar);
        }
        is_free
    }

    fn clear(&self) {
        if let Some(bar) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// Work under way. It ends when this is dropped.
#[derive(Debug, Default)]
pub struct Progress {
    done: Arc<AtomicU64>,
    /// What speaks of it, and the end of a channel whose other end it waits at.
    speaker: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What is said of the work.
#[derive(Clone, Copy, Debug)]
struct Work {
    what: &'static str,
    length: Option<u64>,
    start: Instant,
}

impl Progress {
    /// Work of `length` parts, or of unknown length, which is spoken of on `screen`.
    pub fn new(length: Option<u64>, what: &'static str, screen: &Screen) -> Progress {
        let work = Work { what, length, start: Instant::now() };
        let done = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let (counted, screen) = (Arc::clone(&done), screen.clone());
        let speak = move || {
            // Nothing is ever sent: the channel closes when the work is done.
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if io::stderr().is_terminal() {
                work.draw(&counted, &screen, &ended);
            } else {
                work.tell(&counted, &ended);
            }
        };
        // Without a thread the work is done all the same, in silence.
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(speak);
        Progress { done, speaker: thread.ok().map(|thread| (end, thread)) }
    }

    /// One more part is done.
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// So many parts are done.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.speaker.take() {
            drop(end);
            // One that panicked said what it had to say.
            let _ = thread.join();
        }
    }
}

impl Work {
    fn draw(self, done: &AtomicU64, screen: &Screen, ended: &mpsc::Receiver<()>) {
        let (bar, form) = match self.length {
            Some(length) => (ProgressBar::new(length), "{bar:32} {pos}/{len} {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style);
        if !screen.put(bar.clone()) {
            return;
        }
        loop {
            let counted = done.load(Ordering::Relaxed);
            bar.set_position(counted);
            bar.set_message(format!("{}, {}", self.what, self.time(counted)));
            bar.tick();
            if ended.recv_timeout(REDRAW) != Err(RecvTimeoutError::Timeout) {
                return screen.clear();
            }
        }
    }

    fn tell(self, done: &AtomicU64, ended: &mpsc::Receiver<()>) {
        loop {
            // Where standard error is gone there is nobody left to tell.
            let _ = writeln!(io::stderr().lock(), "{}", self.line(done.load(Ordering::Relaxed)));
            if ended.recv_timeout(REPEAT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// What a line says of the work.
    fn line(&self, done: u64) -> String {
        let time = self.time(done);
        match self.length {
            Some(length) => format!("... {done}/{length} {}, {time}", self.what),
            None => format!("... {}, {time}", self.what),
        }
    }

    /// How long it will take if it goes on like this, or how long it has taken where that is not known.
    fn time(&self, done: u64) -> String {
        let passed = self.start.elapsed().as_secs_f64();
        match self.length {
            Some(length) if done > 0 => {
                let left = passed * length.saturating_sub(done) as f64 / done as f64;
                format!("{left:.0} s left")
            }
            _ => format!("{passed:.0} s so far"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_work_ends_in_silence() {
        let screen = Screen::default();
        let progress = Progress::new(Some(3), "parts", &screen);
        progress.advance();
        progress.set(3);
        assert_eq!(progress.done.load(Ordering::Relaxed), 3);
        drop(progress);
        assert!(screen.0.lock().unwrap().is_none());
        assert_eq!(screen.write(|| 7), 7);
    }

    #[test]
    fn lines_say_how_far_the_work_is() {
        let start = Instant::now() - Duration::from_secs(6);
        let work = Work { what: "inputs compared", length: Some(40), start };
        assert_eq!(work.line(12), "... 12/40 inputs compared, 14 s left");
        assert_eq!(work.line(0), "... 0/40 inputs compared, 6 s so far");
        assert_eq!(Work { length: None, what: "planning", ..work }.line(0), "... planning, 6 s so far");
    }

    #[test]
    fn one_bar_at_a_time() {
        let screen = Screen::default();
        assert!(screen.put(ProgressBar::hidden()) && !screen.put(ProgressBar::hidden()));
        screen.clear();
        assert!(screen.put(ProgressBar::hidden()));
    }
}
