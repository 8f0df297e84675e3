//! Many senders at once, while the store comes and goes.

use super::{FAILING, FULL, GOOD, NO_COMMIT, Place, alert, check_replay, names};
use crate::engine::Handle;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends alerts one after another. Returns the names of those that were taken.
async fn send(handle: Handle, sender: usize) -> Vec<String> {
    let mut taken = Vec::new();
    for number in 0..100 {
        let name = format!("{sender}-{number}");
        let answer = timeout(PATIENCE, handle.submit(vec![alert(&name)])).await;
        if answer.expect("each sender gets an answer").is_ok() {
            taken.push(name);
        }
        sleep(Duration::from_millis(20)).await;
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_senders_were_told_is_so_while_the_store_comes_and_goes() {
    let place = Place::new();
    let handle = place.start();
    let senders: Vec<_> = (0..8).map(|it| tokio::spawn(send(handle.clone(), it))).collect();
    for mood in [GOOD, FULL, GOOD, FAILING, GOOD, NO_COMMIT, GOOD] {
        place.set(mood);
        sleep(Duration::from_millis(300)).await;
    }
    let mut taken = Vec::new();
    for sender in senders {
        taken.extend(sender.await.unwrap());
    }
    while handle.submit(vec![alert("last")]).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    let known = handle.read(names).await.unwrap();
    let lost: Vec<&String> = taken.iter().filter(|it| !known.contains(it)).collect();
    assert!(lost.is_empty(), "these were taken and are not there: {lost:?}");
    assert!(taken.len() > 8, "{taken:?}");
    timeout(PATIENCE, handle.stop()).await.expect("it stops");
    check_replay(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_stops_although_its_last_decisions_cannot_be_written() {
    for mood in [FULL, FAILING, NO_COMMIT] {
        let place = Place::new();
        let handle = place.start();
        handle.submit(vec![alert("one")]).await.unwrap();
        place.set(mood);
        timeout(PATIENCE, handle.stop()).await.expect("it stops");
        place.set(GOOD);
        let handle = place.start();
        assert_eq!(handle.read(names).await.unwrap(), ["one"], "in mood {mood}");
        handle.stop().await;
        check_replay(&place);
    }
}
