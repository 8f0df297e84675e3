//! A run as it goes, by server-sent events: each change of it, and what its programs print.

use super::Context;
use super::error::ApiError;
use super::executions::{load, view};
use super::input::parse_id;
use super::stream::{HEARTBEAT, PAUSE};
use crate::domain::effect::EffectKey;
use crate::domain::execution::ExecutionId;
use crate::engine::Printed;
use axum::extract::{Path, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use tokio::sync::watch;

/// A part of what a program printed, as it is sent.
#[derive(Serialize)]
struct OutputView<'a> {
    effect: &'a str,
    text: &'a str,
    left_out: u64,
}

pub(super) async fn follow(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let id = parse_id(&id)?;
    load(&context, id).await?;
    let following = Following {
        revisions: context.handle.changes(),
        prints: context.handle.prints(),
        context,
        id,
        seen: BTreeMap::new(),
        before: String::new(),
        waiting: VecDeque::new(),
        has_begun: false,
        is_over: false,
    };
    let events = unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok(event), following))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// Somebody who watches a run.
struct Following {
    context: Context,
    id: ExecutionId,
    revisions: watch::Receiver<u64>,
    prints: watch::Receiver<u64>,
    /// How much of what each program printed was sent.
    seen: BTreeMap<EffectKey, u64>,
    /// The run as it was sent last.
    before: String,
    waiting: VecDeque<Event>,
    has_begun: bool,
    is_over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let has_changed = self.wait().await?;
            self.look(has_changed).await?;
        }
    }

    /// Waits until something happened; tells whether that may be about the run itself. What happens
    /// soon after another comes with it, so that neither side is overrun.
    async fn wait(&mut self) -> Option<bool> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.revisions.mark_unchanged();
            return Some(true);
        }
        let news = async {
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                changed = self.revisions.changed() => changed.map(|()| true),
                printed = self.prints.changed() => printed.map(|()| false),
            }
        };
        let is_about_run = tokio::select! {
            () = self.context.stopping.cancelled() => return None,
            news = news => news.ok()?,
        };
        let has_changed = self.revisions.has_changed().ok()?;
        self.revisions.mark_unchanged();
        self.prints.mark_unchanged();
        Some(is_about_run || has_changed)
    }

    /// Looks what there is to send: what was printed goes before what became of it.
    async fn look(&mut self, has_changed: bool) -> Option<()> {
        let mut changed = None;
        if has_changed {
            let execution = load(&self.context, self.id).await.ok()?;
            self.is_over = execution.state.is_final();
            let text = serde_json::to_string(&view(&execution)).ok()?;
            if text != self.before {
                changed = Some(Event::default().event("execution").data(&text));
                self.before = text;
            }
        }
        for Printed { effect, text, left_out } in
            self.context.handle.printed(self.id, &mut self.seen)
        {
            let output = OutputView { effect: &effect.0, text: &text, left_out };
            let data = serde_json::to_string(&output).ok()?;
            self.waiting.push_back(Event::default().event("output").data(data));
        }
        self.waiting.extend(changed);
        Some(())
    }
}
