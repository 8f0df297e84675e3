//! Following a run: what its programs print and where its steps are, as the server tells it.

use super::client::Client;
use super::failure::{Failure, Result};
use super::output::{self, field, plain};
use super::runbook::{goes_on, progress};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// A longer line of the stream is none of ours, in bytes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Prints a run until it is over or waits for a person to look; gives it as it is then.
pub(super) async fn follow(client: &Client, id: &str, prints: bool) -> Result<Value> {
    let mut screen = Screen { prints, ..Screen::default() };
    let mut reply = client.stream(&["executions", id, "stream"]).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = reply.chunk().await.map_err(|error| client.unreachable(&error))? {
        for (event, data) in lines.take(&chunk)? {
            let value = serde_json::from_str(&data)
                .map_err(|error| Failure::BadReply(format!("an event is no JSON: {error}")))?;
            if let ControlFlow::Break(execution) = screen.show(&event, value)? {
                return Ok(execution);
            }
        }
    }
    Err(Failure::BadReply("it stopped telling before the run was over".to_owned()))
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
    /// Where the steps were.
    told: BTreeSet<String>,
    /// The steps whose programs were seen printing.
    seen: BTreeSet<String>,
    /// The beginnings of lines, by effect.
    open_lines: BTreeMap<String, String>,
}

impl Screen {
    fn show(&mut self, event: &str, mut value: Value) -> Result<ControlFlow<Value>> {
        match event {
            "output" => self.show_output(&value)?,
            "execution" => {
                let is_over = !goes_on(&field(&value, "state"));
                if is_over {
                    for (_, line) in std::mem::take(&mut self.open_lines) {
                        self.print(&format!("  | {line}"))?;
                    }
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
        if left_out > 0 {
            self.print(&format!("  | [{left_out} bytes were left out here]"))?;
        }
        let mut all = self.open_lines.remove(effect).unwrap_or_default();
        all.push_str(text("text"));
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
}
