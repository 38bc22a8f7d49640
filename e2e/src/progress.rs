//! Progress lines for steps that take long: what, how long it usually takes, how long it took.

use std::io::IsTerminal;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a step says that it is still going when nobody watches a terminal.
const REMINDER: Duration = Duration::from_secs(30);

/// One step that is under way; it reports when it is dropped or [`done`](Step::done).
pub struct Step {
    what: String,
    begun: Instant,
    display: Display,
    finished: bool,
}

enum Display {
    Terminal(ProgressBar),
    Lines { stop: Sender<()>, thread: JoinHandle<()> },
    Ended,
}

/// Begins a step. `usually` is shown, so that one knows whether to wait or to get a coffee.
pub fn step(what: impl Into<String>, usually: Option<&str>) -> Step {
    let what = what.into();
    let shown = match usually {
        Some(time) => format!("{what} (usually {time})"),
        None => what.clone(),
    };
    let display = if std::io::stderr().is_terminal() { on_terminal(shown) } else { in_lines(shown) };
    Step { what, begun: Instant::now(), display, finished: false }
}

/// One line about something that took no time.
pub fn note(text: impl AsRef<str>) {
    eprintln!("  {}", text.as_ref());
}

impl Step {
    /// Ends the step as a success.
    pub fn done(mut self) {
        self.finished = true;
    }

    fn end(&mut self) {
        match std::mem::replace(&mut self.display, Display::Ended) {
            Display::Terminal(bar) => bar.finish_and_clear(),
            Display::Lines { stop, thread } => {
                drop(stop);
                // The thread only prints; a panic in it is no reason to fail the step.
                let _ = thread.join();
            }
            Display::Ended => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.end();
        let mark = if self.finished { "ok" } else { "FAILED" };
        eprintln!("  {}: {mark}, {}", self.what, human(self.begun.elapsed()));
    }
}

fn on_terminal(shown: String) -> Display {
    let bar = ProgressBar::new_spinner().with_message(shown);
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    Display::Terminal(bar)
}

fn in_lines(shown: String) -> Display {
    let (stop, stopped) = channel::<()>();
    let begun = Instant::now();
    eprintln!("  {shown} ...");
    let thread = std::thread::spawn(move || {
        while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(REMINDER) {
            eprintln!("  {shown} ... {} so far", human(begun.elapsed()));
        }
    });
    Display::Lines { stop, thread }
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub fn human(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(human(Duration::from_millis(430)), "0.4 s");
        assert_eq!(human(Duration::from_secs(119)), "119 s");
        assert_eq!(human(Duration::from_secs(185)), "3 min 05 s");
    }
}
