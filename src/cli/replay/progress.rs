//! How far a replay is, for the person at the terminal.

use jiff::Timestamp;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// After so many steps the clock is looked at.
const STEPS: u32 = 256;
/// How wide the bar is, in characters.
const WIDTH: u64 = 30;

/// A line at the bottom of the terminal; nothing where there is none.
pub(super) struct Progress {
    whole: u64,
    drawn_at: Option<Instant>,
    steps: u32,
}

impl Progress {
    /// A bar for so much to do.
    pub(super) fn new(whole: u64) -> Self {
        let drawn_at = std::io::stderr().is_terminal().then(Instant::now);
        Self { whole, drawn_at, steps: 0 }
    }

    /// So much is done, and the virtual clock stands there.
    pub(super) fn at(&mut self, done: u64, now: Timestamp) {
        let Some(drawn_at) = self.drawn_at else { return };
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS) || drawn_at.elapsed() < DRAW_EVERY {
            return;
        }
        self.drawn_at = Some(Instant::now());
        let bar = bar(done, self.whole);
        write_to_terminal(&format!("\r{bar} {now:.0}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn_at.is_some() {
            write_to_terminal("\r\u{1b}[K");
        }
    }
}

fn bar(done: u64, whole: u64) -> String {
    let share = |of: u64| done.min(whole) * of / whole.max(1);
    let full = share(WIDTH);
    let draw = |count: u64, with: char| (0..count).map(|_| with).collect::<String>();
    format!("[{}{}] {:3} %", draw(full, '#'), draw(WIDTH - full, ' '), share(100))
}

fn write_to_terminal(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // When nobody can see it any more there is nobody to tell.
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).unwrap_or(());
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0, 0), format!("[{}]   0 %", " ".repeat(30)));
        assert_eq!(bar(1, 2), format!("[{}{}]  50 %", "#".repeat(15), " ".repeat(15)));
        assert_eq!(bar(9, 9), format!("[{}] 100 %", "#".repeat(30)));
    }
}
