//! Following a run: what its programs print and where its steps are, as the server tells it.

use super::client::Client;
use super::failure::{Failure, Result};
use super::output::{self, field, plain};
use super::runbook::{goes_on, progress};
use crate::act::executor::jitter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

/// A longer line of the stream is none of ours, in bytes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// How often in a row a stream may break that told nothing new, before it is given up.
const BREAKS_MAX: u32 = 8;
/// The pause after the first break; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Prints a run until it is over or waits for a person to look; gives it as it is then. When the
/// stream breaks it is asked for again, and what was shown is not shown twice.
pub(super) async fn follow(client: &Client, id: &str, prints: bool) -> Result<Value> {
    follow_with(client, id, prints, FIRST_PAUSE).await
}

async fn follow_with(
    client: &Client,
    id: &str,
    prints: bool,
    first_pause: Duration,
) -> Result<Value> {
    let mut screen = Screen { prints, ..Screen::default() };
    let mut breaks = 0;
    loop {
        let before = screen.events;
        let failure = match attend(client, id, &mut screen).await {
            Ok(Some(execution)) => return Ok(execution),
            Ok(None) => Failure::BadReply("it stopped telling before the run was over".to_owned()),
            Err(failure) if screen.events > 0 && failure.exit_code() == 3 => failure,
            Err(failure) => return Err(failure),
        };
        breaks = if screen.events > before { 1 } else { breaks + 1 };
        if breaks > BREAKS_MAX {
            return Err(failure);
        }
        let pause = (first_pause * 2_u32.pow(breaks - 1)).min(PAUSE_MAX);
        tokio::time::sleep(pause + jitter(pause / 2)).await;
    }
}

/// Shows what a stream tells, from its beginning; `None` when it breaks off.
async fn attend(client: &Client, id: &str, screen: &mut Screen) -> Result<Option<Value>> {
    let mut reply = client.stream(&["executions", id, "stream"]).await?;
    // What the programs of another life of the daemon print was not shown.
    let status = client.get(&["status"], &[]).await.unwrap_or_default();
    screen.begin(&field(&status, "started_at"))?;
    let mut lines = Lines::default();
    while let Some(chunk) = reply.chunk().await.map_err(|error| client.unreachable(&error))? {
        for (event, data) in lines.take(&chunk)? {
            let value = serde_json::from_str(&data)
                .map_err(|error| Failure::BadReply(format!("an event is no JSON: {error}")))?;
            if let ControlFlow::Break(execution) = screen.show(&event, value)? {
                return Ok(Some(execution));
            }
        }
    }
    Ok(None)
}

/// Server-sent events, as they come in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    event: String,
    data: String,
}

impl Lines {
    /// The events that a further piece makes whole: name and data.
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<(String, String)>> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|it| *it == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut self.event);
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            } else if line.is_empty() && !self.data.is_empty() {
                events.push((std::mem::take(&mut self.event), std::mem::take(&mut self.data)));
            }
        }
        if self.rest.len() + self.data.len() > LINE_BYTES_MAX {
            return Err(Failure::BadReply("an event is too long".to_owned()));
        }
        Ok(events)
    }
}

/// What was printed of a run.
#[derive(Default)]
struct Screen {
    prints: bool,
    /// How many events there were.
    events: u64,
    /// Which life of the daemon tells it.
    life: String,
    /// Up to where the output was told on this stream, by effect, in bytes.
    told_to: BTreeMap<String, u64>,
    /// Up to where it was shown.
    shown_to: BTreeMap<String, u64>,
    /// Where the steps were.
    told: BTreeSet<String>,
    /// The steps whose programs were seen printing.
    seen: BTreeSet<String>,
    /// The beginnings of lines, by effect.
    open_lines: BTreeMap<String, String>,
}

impl Screen {
    /// A stream begins, and tells all from the beginning.
    fn begin(&mut self, life: &str) -> Result<()> {
        self.told_to.clear();
        if self.life != life {
            life.clone_into(&mut self.life);
            self.shown_to.clear();
            self.end_lines()?;
        }
        Ok(())
    }

    /// Prints the beginnings of lines that do not go on.
    fn end_lines(&mut self) -> Result<()> {
        for (_, line) in std::mem::take(&mut self.open_lines) {
            self.print(&format!("  | {line}"))?;
        }
        Ok(())
    }

    fn show(&mut self, event: &str, mut value: Value) -> Result<ControlFlow<Value>> {
        self.events += 1;
        match event {
            "output" => self.show_output(&value)?,
            "execution" => {
                let is_over = !goes_on(&field(&value, "state"));
                if is_over {
                    self.end_lines()?;
                }
                let whole = is_over.then(|| value.clone());
                self.leave_out_what_was_seen(&mut value);
                for line in progress(&value) {
                    if self.told.insert(line.clone()) {
                        self.print(&line)?;
                    }
                }
                if let Some(execution) = whole {
                    return Ok(ControlFlow::Break(execution));
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn show_output(&mut self, value: &Value) -> Result<()> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let effect = text("effect");
        self.seen.insert(step_of(effect).to_owned());
        let left_out = value.get("left_out").and_then(Value::as_u64).unwrap_or(0);
        let (left_out, text) = self.not_shown(effect, left_out, text("text"));
        if left_out > 0 {
            self.print(&format!("  | [{left_out} bytes were left out here]"))?;
        }
        let mut all = self.open_lines.remove(effect).unwrap_or_default();
        all.push_str(text);
        let (whole, open) = all.rsplit_once('\n').map_or(("", all.as_str()), |it| it);
        if all.contains('\n') {
            for line in whole.split('\n') {
                self.print(&format!("  | {}", plain(line)))?;
            }
        }
        if !open.is_empty() {
            self.open_lines.insert(effect.to_owned(), plain(open));
        }
        Ok(())
    }

    /// What of a further text was not shown yet, and how many bytes before it never will be.
    fn not_shown<'a>(&mut self, effect: &str, left_out: u64, text: &'a str) -> (u64, &'a str) {
        let told_to = self.told_to.entry(effect.to_owned()).or_default();
        let from = told_to.saturating_add(left_out);
        *told_to = from.saturating_add(text.len() as u64);
        let shown_to = self.shown_to.entry(effect.to_owned()).or_default();
        let known = usize::try_from(shown_to.saturating_sub(from)).unwrap_or(usize::MAX);
        let missing = from.saturating_sub(*shown_to);
        *shown_to = (*told_to).max(*shown_to);
        (missing, text.get(known..).unwrap_or_default())
    }

    /// What a program was seen printing is not printed again with its step.
    fn leave_out_what_was_seen(&self, execution: &mut Value) {
        let steps = execution.get_mut("steps").and_then(Value::as_array_mut);
        for step in steps.into_iter().flatten() {
            let part = if field(step, "part") == "undo" { "undo/" } else { "" };
            let is_seen = self.seen.contains(&format!("{part}{}", field(step, "id")));
            if let Some(fields) = step.as_object_mut().filter(|_| is_seen) {
                fields.remove("output_tail");
            }
        }
    }

    fn print(&self, line: &str) -> Result<()> {
        if self.prints { output::print(line) } else { Ok(()) }
    }
}

/// The step that an effect belongs to: `EXE-9/undo/a.2/1` is one of `undo/a`.
fn step_of(effect: &str) -> &str {
    let name = effect.split_once('/').map_or(effect, |(_, name)| name);
    let name = name.rsplit_once('/').map_or(name, |(name, _)| name);
    match name.rsplit_once('.') {
        Some((name, place)) if place.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_pieces() {
        let text = "event: output\ndata: {\"a\":1}\n\n: still here\n\nevent:x\r\ndata:2\r\n\r\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let chunks = text.as_bytes().chunks(size);
            let events: Vec<_> = chunks.flat_map(|it| lines.take(it).unwrap()).collect();
            let pair = |name: &str, data: &str| (name.to_owned(), data.to_owned());
            assert_eq!(events, [pair("output", "{\"a\":1}"), pair("x", "2")]);
        }
        assert!(Lines::default().take(&vec![b'a'; LINE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn an_effect_names_its_step() {
        for (effect, step) in
            [("EXE-9/a/1", "a"), ("EXE-9/undo/a/2", "undo/a"), ("EXE-9/a.12/1", "a")]
        {
            assert_eq!(step_of(effect), step);
        }
    }

    #[test]
    fn what_is_told_again_is_not_shown_again() {
        let mut screen = Screen::default();
        screen.begin("one").unwrap();
        assert_eq!(screen.not_shown("a", 0, "abc"), (0, "abc"));
        assert_eq!(screen.not_shown("a", 2, "fg"), (2, "fg"));
        screen.begin("one").unwrap();
        for (left_out, text, expected) in
            [(1, "bcd", (0, "")), (0, "efgh", (0, "h")), (0, "i", (0, "i")), (7, "q", (7, "q"))]
        {
            assert_eq!(screen.not_shown("a", left_out, text), expected);
        }
        assert_eq!(screen.not_shown("b", 0, "x"), (0, "x"));
        screen.begin("two").unwrap();
        assert_eq!(screen.not_shown("a", 0, "abc"), (0, "abc"));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_is_asked_for_again_a_few_times() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering};
        let execution = |state: &str| serde_json::json!({"id": "EXE-9", "state": state});
        let begun = format!("event: execution\ndata: {}\n\n", execution("running"));
        let over = format!("event: execution\ndata: {}\n\n", execution("succeeded"));
        for (told, ends, asked) in [
            // It says something each time, and ends with the fifth.
            ([begun.clone(), begun.clone() + &over], true, 5),
            // It says nothing any more.
            ([String::new(), over], false, 1 + BREAKS_MAX),
        ] {
            let times = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&times);
            let answer = move || async move {
                let [before, last] = told;
                if count.fetch_add(1, Ordering::SeqCst) == 4 && ends { last } else { before }
            };
            let router = axum::Router::new()
                .route("/api/v1/executions/EXE-9/stream", axum::routing::get(answer));
            let client = super::super::client::tests::serve(router).await;
            let result = follow_with(&client, "EXE-9", false, Duration::from_millis(1)).await;
            assert_eq!((result.is_ok(), times.load(Ordering::SeqCst)), (ends, asked));
        }
    }
}
