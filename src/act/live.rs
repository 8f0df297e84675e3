//! What programs print while they run: the newest part, without secrets, for whoever watches.

use super::output::Secrets;
use crate::domain::effect::EffectKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How much of what one program printed is kept, in bytes of text.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// So many programs that have ended are kept, so that who watches sees their last words.
const ENDED_MAX: usize = 32;

/// What is being printed, by the effect that started the program. In memory only, and bounded: what
/// is kept for good is in the outcome.
pub struct Board {
    pages: Mutex<Pages>,
    /// Rises whenever something was printed.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Pages {
    by_key: BTreeMap<EffectKey, Page>,
    /// Those that have ended, the oldest first.
    ended: VecDeque<EffectKey>,
}

/// What one program printed.
#[derive(Default)]
struct Page {
    secrets: Secrets,
    /// The newest part of what may be seen.
    text: String,
    /// How many bytes were printed before it.
    before: u64,
    /// What may be the beginning of a secret.
    held: String,
    /// The beginning of a character.
    bytes: Vec<u8>,
}

/// A further part of what a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The attempt at a step that started the program.
    pub effect: EffectKey,
    /// What it printed, with secrets masked.
    pub text: String,
    /// How many bytes before it are not kept any more.
    pub left_out: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self { pages: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Board {
    /// A number that rises whenever something was printed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What was printed for effects whose names begin so, after what was seen of each.
    pub fn news(&self, prefix: &str, seen: &mut BTreeMap<EffectKey, u64>) -> Vec<Printed> {
        let pages = self.pages();
        let mut news = Vec::new();
        for (key, page) in pages.by_key.iter().filter(|(key, _)| key.0.starts_with(prefix)) {
            let end = page.before + page.text.len() as u64;
            let from = seen.insert(key.clone(), end).unwrap_or(0);
            if from < end {
                let known = usize::try_from(from.saturating_sub(page.before)).unwrap_or(usize::MAX);
                news.push(Printed {
                    effect: key.clone(),
                    text: page.text.get(known..).unwrap_or_default().to_owned(),
                    left_out: page.before.saturating_sub(from),
                });
            }
        }
        news
    }

    /// A program begins to print; where it is begun again, after what it printed before.
    pub(super) fn begin(self: &Arc<Self>, key: &EffectKey, secrets: Secrets) -> Printing {
        let mut pages = self.pages();
        pages.ended.retain(|it| it != key);
        let page = pages.by_key.entry(key.clone()).or_default();
        page.secrets = secrets;
        drop(pages);
        Printing { board: self.clone(), key: key.clone() }
    }

    /// Nothing panics while it holds the lock, so a poisoned one is still right.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|it| *it += 1);
    }
}

impl Page {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        let whole = whole_characters(&self.bytes);
        let rest = self.bytes.split_off(whole);
        let come = std::mem::replace(&mut self.bytes, rest);
        let text = [self.held.as_str(), &String::from_utf8_lossy(&come)].concat();
        let mut masked = self.secrets.mask(&text);
        self.held = masked.split_off(masked.len() - self.secrets.open_end(&masked));
        self.show(&masked);
    }

    /// There is no more: what looked like the beginning of a secret was none.
    fn end(&mut self) {
        let rest = String::from_utf8_lossy(&self.bytes).into_owned();
        let last = [std::mem::take(&mut self.held), rest].concat();
        self.bytes.clear();
        self.show(&last);
    }

    fn show(&mut self, text: &str) {
        self.text.push_str(text);
        // Twice the size, so that bytes are moved once for every TEXT_BYTES_MAX that come in.
        if self.text.len() > 2 * TEXT_BYTES_MAX {
            let from = self.text.ceil_char_boundary(self.text.len() - TEXT_BYTES_MAX);
            self.text.drain(..from);
            self.before += from as u64;
        }
    }
}

/// How many bytes stand before a character that is not whole yet.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let last = bytes.get(from..).unwrap_or_default();
    for (place, byte) in last.iter().enumerate().rev() {
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if from + place + length > bytes.len() { from + place } else { bytes.len() };
    }
    bytes.len()
}

/// A program that prints; dropped when it is over.
pub(super) struct Printing {
    board: Arc<Board>,
    key: EffectKey,
}

impl Printing {
    /// It printed something.
    pub(super) fn push(&self, chunk: &[u8]) {
        if let Some(page) = self.board.pages().by_key.get_mut(&self.key) {
            page.push(chunk);
        }
        self.board.tell();
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        let mut pages = self.board.pages();
        if let Some(page) = pages.by_key.get_mut(&self.key) {
            page.end();
        }
        pages.ended.push_back(self.key.clone());
        if pages.ended.len() > ENDED_MAX
            && let Some(oldest) = pages.ended.pop_front()
        {
            pages.by_key.remove(&oldest);
        }
        drop(pages);
        self.board.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets() -> Secrets {
        Secrets::new(["hunter2!".to_owned(), "hunger-games".to_owned()])
    }

    fn key(name: &str) -> EffectKey {
        EffectKey(name.into())
    }

    /// All that a program printed, as somebody sees it who looks after each chunk.
    fn watched(chunks: &[&[u8]]) -> String {
        let board = Arc::new(Board::default());
        let printing = board.begin(&key("EXE-1/a/1"), secrets());
        let (mut seen, mut text) = (BTreeMap::new(), String::new());
        let mut look = |board: &Board| {
            for printed in board.news("EXE-1/", &mut seen) {
                assert_eq!(printed.left_out, 0);
                text.push_str(&printed.text);
            }
        };
        for chunk in chunks {
            printing.push(chunk);
            look(&board);
        }
        drop(printing);
        look(&board);
        text
    }

    #[test]
    fn what_is_cut_by_chunks_is_whole_and_masked() {
        assert_eq!(watched(&[b"a hun", b"ter2", b"! b hun"]), "a *** b hun");
        assert_eq!(watched(&["é".as_bytes().get(..1).unwrap(), &[0xa9], b"\xff"]), "é\u{fffd}");
    }

    #[test]
    fn memory_is_bounded_and_what_is_left_out_is_told() {
        let board = Arc::new(Board::default());
        let printing = board.begin(&key("EXE-1/a/1"), Secrets::default());
        for _ in 0..100 {
            printing.push("é".repeat(2000).as_bytes());
        }
        let mut seen = BTreeMap::new();
        let news = board.news("EXE-1/", &mut seen);
        let printed = news.first().unwrap();
        assert!(printed.text.len() <= 2 * TEXT_BYTES_MAX && printed.left_out > 0);
        assert_eq!(printed.left_out + printed.text.len() as u64, 400_000);
        assert!(board.news("EXE-1/", &mut seen).is_empty(), "it was seen");
        assert!(board.news("EXE-10/", &mut seen).is_empty(), "it is another run");
        drop(printing);
        for number in 0..2 * ENDED_MAX {
            drop(board.begin(&key(&format!("EXE-2/a/{number}")), Secrets::default()));
        }
        assert_eq!(board.pages().by_key.len(), ENDED_MAX);
    }

    proptest! {
        #[test]
        fn however_it_comes_it_is_shown_as_if_it_came_at_once(
            parts in proptest::collection::vec("(hunter2!|hun|ger-games|[a-zé\u{10000}!2]{0,4})", 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12)
        ) {
            let all = parts.concat();
            let mut places: Vec<usize> = cuts.iter().map(|it| it.index(all.len() + 1)).collect();
            places.extend([0, all.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|it| &all.as_bytes()[it[0]..it[1]]).collect();
            prop_assert_eq!(watched(&chunks), secrets().mask(&all));
        }
    }
}
