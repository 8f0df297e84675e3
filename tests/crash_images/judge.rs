//! Makes images of a recording and judges each.

use crate::disk::{Disk, LOSSES, Loss};
use crate::lot::Lot;
use crate::open;
use crate::recording::{Recording, Remark, Step};
use crate::room;
use crate::workload::{holdings, next_batch};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tempfile::TempDir;
use watchkeeper::store::{Engine, Store};

/// How many bad images of a recording are kept for whoever looks into it.
const KEPT_IMAGES: usize = 3;

/// What must be true of an image.
pub(crate) struct Promise<'a> {
    /// What the store held when it last acknowledged, and what it will hold after the step that is
    /// going on; before the first of them it is empty or not there.
    pub(crate) allowed: Vec<&'a str>,
}

/// An image that broke its promise.
pub(crate) struct Failure {
    /// How many steps came before the power loss, and what it took.
    pub(crate) place: (usize, Loss),
    pub(crate) why: String,
    /// The folder as it was before it was judged; for the first ones only.
    pub(crate) image: Option<TempDir>,
}

/// Judges a folder: tells what is wrong.
pub(crate) type Judge<'a> = dyn Fn(&Path, &Promise<'_>) -> Result<(), String> + Sync + 'a;

/// Makes `count` images of a recording, one in each four of each loss, and judges them.
pub(crate) fn judge_images(
    recording: &Recording,
    (seed, count): (u64, usize),
    judge: &Judge<'_>,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut disk = Disk::default();
    let mut done = 0;
    for (cut, number) in cuts(recording, seed, count.div_ceil(LOSSES.len())) {
        for step in recording.steps.get(done..cut).unwrap_or_default() {
            disk.apply(step);
        }
        done = cut;
        let promise = promise(&recording.steps, cut);
        for loss in LOSSES {
            let image = || {
                let folder = room();
                let mut lot = Lot::new(seed.wrapping_add(number as u64));
                disk.build(loss, &mut lot, folder.path());
                folder
            };
            let folder = image();
            let judged = catch_unwind(AssertUnwindSafe(|| judge(folder.path(), &promise)));
            if let Err(why) = judged.unwrap_or_else(|_| Err("a panic".to_owned())) {
                let image = (failures.len() < KEPT_IMAGES).then(image);
                failures.push(Failure { place: (cut, loss), why, image });
            }
        }
    }
    failures
}

/// Builds a folder as a power loss in the second half of a recording may leave it.
pub(crate) fn leave_image(recording: &Recording, seed: u64, folder: &Path) {
    let mut lot = Lot::new(seed);
    let half = recording.steps.len() / 2;
    let mut disk = Disk::default();
    recording.steps.iter().take(half + lot.below(half)).for_each(|it| disk.apply(it));
    disk.build(Loss::Pages, &mut lot, folder);
}

/// Chooses where the power goes, in rising order, each with its number. Every third one is within
/// the making or opening of the store, which are rare in the trace.
fn cuts(recording: &Recording, seed: u64, count: usize) -> Vec<(usize, usize)> {
    let Recording { steps, found, .. } = recording;
    let mut lot = Lot::new(seed);
    let mut opening = Vec::new();
    let mut is_opening = true;
    for (place, step) in steps.iter().enumerate().skip(*found) {
        match step {
            Step::Remark(Remark::Opening) => is_opening = true,
            Step::Remark(Remark::Opened) => is_opening = false,
            _ => {}
        }
        if is_opening {
            opening.push(place + 1);
        }
    }
    let mut cuts = Vec::new();
    for number in 0..count {
        let rare = opening.get(lot.below(opening.len())).filter(|_| number % 3 == 0);
        cuts.push((rare.copied().unwrap_or(found + lot.below(steps.len() - found + 1)), number));
    }
    cuts.sort_unstable();
    cuts
}

/// What was promised when the power went.
fn promise(steps: &[Step], cut: usize) -> Promise<'_> {
    let (before, after) = steps.split_at(cut);
    let mut allowed = Vec::new();
    let last = before.iter().rev().find_map(acknowledged);
    // Before the first acknowledgement the store is empty, as it is told there.
    allowed.extend(last.or_else(|| after.iter().find_map(acknowledged)));
    let ended = before.iter().rposition(|it| acknowledged(it).is_some());
    let begun = before.iter().rposition(|it| matches!(it, Step::Remark(Remark::Begun(_))));
    if begun > ended {
        allowed.extend(after.iter().find_map(acknowledged));
    }
    Promise { allowed }
}

fn acknowledged(step: &Step) -> Option<&str> {
    match step {
        Step::Remark(Remark::Acknowledged(_, held)) => Some(held),
        _ => None,
    }
}

/// An image of one of our stores must open, hold what was acknowledged, and take a write that is
/// there after it is opened again.
pub(crate) fn check_store(
    engine: Engine,
    root: &Path,
    promise: &Promise<'_>,
) -> Result<(), String> {
    let folder = root.join(crate::STORE);
    let text = |what: &'static str| move |error| format!("{what}: {error}");
    let store = open(engine, &folder).map_err(text("does not open"))?;
    let held = holdings(&store).map_err(text("cannot be read"))?;
    if !promise.allowed.contains(&held.as_str()) {
        return Err(format!("holds\n  {held}\nbut not\n  {}", promise.allowed.join("\nor\n  ")));
    }
    let batch = next_batch(&store).map_err(text("cannot be read"))?;
    store.write(&batch).map_err(text("takes no write"))?;
    let held = holdings(&store).map_err(text("cannot be read after a write"))?;
    drop(store);
    let store = open(engine, &folder).map_err(text("does not open again"))?;
    if holdings(&store).map_err(text("cannot be read again"))? != held {
        return Err("what was written after the power loss is not there".to_owned());
    }
    let last = store.records(batch.appends.first().map_or(0, |it| it.seq - 1), usize::MAX);
    if last.map_err(text("cannot be read again"))? != batch.appends {
        return Err("the record that was written after the power loss is another".to_owned());
    }
    Ok(())
}

/// All files below a folder with their bytes.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.insert(name.clone(), Vec::new());
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}
