//! Live changes as server-sent events: that something changed, not what; viewers then read again.

use super::Context;
use super::routes::{Answer, Operation};
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{Stream, unfold};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest time between two events, so that a storm does not freeze a browser.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// After this long without an event a comment is sent, so that both sides know that they live.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/api/v1/stream",
        "Tells that something changed, at most four times a second: `change` with `{\"revision\"}`",
        Answer::Other("text/event-stream"),
        stream,
    )]
}

async fn stream(
    State(context): State<Context>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let revisions = revisions(context.handle.changes(), context.stopping.clone());
    let events = futures_util::StreamExt::map(revisions, |revision| {
        let data = format!("{{\"revision\":{revision}}}");
        Ok(Event::default().event("change").id(revision.to_string()).data(data))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here"))
}

/// The present revision, then each later one that there is time for, until the daemon stops.
pub(super) fn revisions(
    changes: watch::Receiver<u64>,
    stopping: CancellationToken,
) -> impl Stream<Item = u64> {
    unfold((changes, stopping, true), |(mut changes, stopping, is_first)| async move {
        if !is_first {
            let next = async {
                tokio::time::sleep(PAUSE).await;
                changes.changed().await.is_ok()
            };
            tokio::select! {
                () = stopping.cancelled() => return None,
                goes_on = next => if !goes_on { return None },
            }
        }
        let revision = *changes.borrow_and_update();
        Some((revision, (changes, stopping, false)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn changes_are_gathered_and_the_stop_ends_the_stream() {
        let (sender, receiver) = watch::channel(1);
        let stopping = CancellationToken::new();
        let mut stream = Box::pin(revisions(receiver, stopping.clone()));
        assert_eq!(stream.next().await, Some(1));
        for revision in 2..=9 {
            sender.send_replace(revision);
        }
        assert_eq!(stream.next().await, Some(9), "those in between are left out");
        stopping.cancel();
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn the_end_of_the_engine_ends_the_stream() {
        let (sender, receiver) = watch::channel(1);
        let mut stream = Box::pin(revisions(receiver, CancellationToken::new()));
        assert_eq!(stream.next().await, Some(1));
        drop(sender);
        assert_eq!(stream.next().await, None);
    }
}
