//! The demo's screen: a block that renews itself on a terminal, else a line now and then.

use crate::cli::output::plain;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The time between two lines when nobody looks live.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where the demo draws: standard error, so that standard output keeps only the results.
pub struct Screen {
    is_terminal: bool,
    drawn: usize,
    last_line: Option<Instant>,
}

impl Screen {
    /// Looks at what standard error is.
    pub fn on_stderr() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), drawn: 0, last_line: None }
    }

    /// Draws the block over the one before; without a terminal `line` is printed now and then.
    pub fn draw(&mut self, block: &[String], line: &str) {
        if self.is_terminal {
            write(&frame(self.drawn, block, width()));
            self.drawn = block.len();
        } else if self.last_line.is_none_or(|it| it.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            write(&format!("{line}\n"));
        }
    }

    /// Leaves the block as it stands.
    pub fn end(&mut self) {
        self.drawn = 0;
    }
}

/// The text that replaces `drawn` lines above the cursor by a block, cut to the terminal.
fn frame(drawn: usize, block: &[String], width: usize) -> String {
    let mut out = if drawn == 0 { String::new() } else { format!("\u{1b}[{drawn}A\u{1b}[J") };
    for line in block {
        out.extend(plain(line).replace('\n', " ").chars().take(width));
        out.push('\n');
    }
    out
}

fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // A screen that is gone is no reason to end the demo.
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).unwrap_or(());
}

/// One less than the terminal's columns, so that no line ever wraps.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(79, |it| usize::from(it.ws_col).saturating_sub(1)).max(20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_replaces_the_one_before_and_never_wraps() {
        let block = ["short".to_owned(), "a long line\u{1b}[2J\nwith ends".to_owned()];
        assert_eq!(frame(0, &block, 11), "short\na long line\n");
        assert_eq!(frame(2, &block[..1], 80), "\u{1b}[2A\u{1b}[Jshort\n");
        assert!(!frame(0, &block, 80).contains('\u{1b}'));
    }
}
