//! Times in which errors are to be expected: the node process is away, or a source is broken for good.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Odd while it is open.
#[derive(Default)]
pub(super) struct Window(AtomicU64);

impl Window {
    pub(super) fn open(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    pub(super) fn close(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// A sight of it, to be compared with later.
    pub(super) fn look(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Whether it was open at some moment since `look`.
    pub(super) fn was_open_since(&self, look: u64) -> bool {
        look % 2 == 1 || self.look() != look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_opened_and_closed_in_between_was_open() {
        let window = Window::default();
        let look = window.look();
        assert!(!window.was_open_since(look));
        window.open();
        assert!(window.was_open_since(look) && window.was_open_since(window.look()));
        window.close();
        assert!(window.was_open_since(look) && !window.was_open_since(window.look()));
    }
}
