//! Everything that reads bytes from outside, on the corpus of the fuzz targets and what they found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "the fuzz targets use the same functions")]
#[path = "../fuzz/src/lib.rs"]
mod reading;

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let name = |it: fs::DirEntry| it.path().file_stem()?.to_str().map(str::to_owned);
    entries.filter_map(|it| name(it.expect("the folder can be read"))).collect()
}

#[test]
fn what_was_thrown_at_a_reader_once_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, read) in reading::TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(name)).expect("each target has seeds") {
            let path = entry.expect("the folder can be read").path();
            println!("reading {}", path.display());
            read(&fs::read(path).expect("the file can be read"));
            count += 1;
        }
        assert!(count > 0, "no seeds for `{name}`");
    }
}

#[test]
fn each_target_has_its_program_and_its_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let targets = reading::TARGETS.map(|it| it.0.to_owned()).into();
    assert_eq!(names(&fuzz.join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz.join("corpus")), targets);
}
