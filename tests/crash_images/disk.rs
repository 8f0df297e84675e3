//! What a disk may hold after a power loss: the model of a file system that keeps only promises.
//!
//! Modelled soberly, and stricter than any one file system:
//! - A file's bytes and size are durable after `fsync` or `fdatasync`, and not by anything else.
//! - Names (created, renamed, removed) are durable after an `fsync` of their folder, and not by an
//!   `fsync` of the file. Until then they may be lost, but the changes of one folder reach the disk
//!   in their order, and a rename is there or not: file systems keep a journal of names.
//! - Of a file's changes that are not durable each 4 KiB page is written back by itself, at any
//!   moment or never, with what it held then; the write that was going on may be torn at 512 bytes.
//!   What lies between pages that were written back is zeros. The size may be ahead of the bytes.
//!
//! Not modelled: sectors that turn bad, a disk that lies about its flushes.

use crate::lot::Lot;
use crate::recording::Step;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// What a power loss leaves of what was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing is lost.
    Nothing,
    /// All of it is lost.
    Unsynced,
    /// Each file and folder keeps what came before some moment; the last write may be torn.
    Tails,
    /// Each page keeps what came before some moment of its own; each folder too.
    Pages,
}

/// All kinds of losses.
pub(crate) const LOSSES: [Loss; 4] = [Loss::Nothing, Loss::Unsynced, Loss::Tails, Loss::Pages];

/// The files below the root, as they are and as far as they are durable.
#[derive(Default)]
pub(crate) struct Disk<'a> {
    /// Never shrinks; the root is the first one.
    nodes: Vec<Node<'a>>,
    /// An inode's number may be used again after its file is gone.
    by_inode: BTreeMap<u64, usize>,
}

enum Node<'a> {
    File { durable: Vec<u8>, pending: Vec<Change<'a>> },
    Folder { durable: Names, now: Names, pending: Vec<Naming> },
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Copy)]
enum Change<'a> {
    Write { offset: usize, bytes: &'a [u8] },
    Resize(usize),
}

enum Naming {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

impl<'a> Disk<'a> {
    /// Does what the program did.
    pub(crate) fn apply(&mut self, step: &'a Step) {
        match step {
            Step::MakeFolder { inode, path } => {
                let (durable, now, pending) = <(Names, Names, Vec<Naming>)>::default();
                self.add(*inode, path, Node::Folder { durable, now, pending });
            }
            Step::MakeFile { inode, path } => {
                self.add(*inode, path, Node::File { durable: Vec::new(), pending: Vec::new() });
            }
            Step::Write { inode, offset, bytes } => {
                self.change(*inode, Change::Write { offset: size(*offset), bytes });
            }
            Step::Resize { inode, length } => self.change(*inode, Change::Resize(size(*length))),
            Step::Sync { inode, length } => self.sync(*inode, size(*length)),
            Step::Rename { from, to } => {
                let ((old_parent, old), (parent, new)) = (split(from), split(to));
                assert_eq!(old_parent, parent, "a rename between folders is not modelled");
                self.name(parent, Naming::Rename(old.to_owned(), new.to_owned()));
            }
            Step::Remove { path } => {
                let (parent, name) = split(path);
                self.name(parent, Naming::Remove(name.to_owned()));
            }
            Step::WriteBack | Step::Remark(_) => {}
        }
    }

    /// Builds the folder as a power loss at this moment may leave it.
    pub(crate) fn build(&self, loss: Loss, lot: &mut Lot, target: &Path) {
        self.build_folder(0, loss, lot, target);
    }

    fn build_folder(&self, id: usize, loss: Loss, lot: &mut Lot, target: &Path) {
        fs::create_dir_all(target).unwrap();
        let Some(Node::Folder { durable, now, pending }) = self.nodes.get(id) else {
            panic!("`{}` is no folder", target.display())
        };
        let names = match loss {
            Loss::Nothing => now.clone(),
            Loss::Unsynced => durable.clone(),
            Loss::Tails | Loss::Pages => {
                let mut names = durable.clone();
                let kept = lot.below(pending.len() + 1);
                pending.iter().take(kept).for_each(|it| it.apply(&mut names));
                names
            }
        };
        for (name, id) in names {
            let path = target.join(name);
            match self.nodes.get(id) {
                Some(Node::File { durable, pending }) => {
                    fs::write(path, content(durable, pending, loss, lot)).unwrap();
                }
                _ => self.build_folder(id, loss, lot, &path),
            }
        }
    }

    fn add(&mut self, inode: u64, path: &str, node: Node<'a>) {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.by_inode.insert(inode, id);
        if id > 0 {
            let (parent, name) = split(path);
            self.name(parent, Naming::Add(name.to_owned(), id));
        }
    }

    fn change(&mut self, inode: u64, change: Change<'a>) {
        match self.node(inode) {
            Node::File { pending, .. } => pending.push(change),
            Node::Folder { .. } => panic!("a folder was written to"),
        }
    }

    fn sync(&mut self, inode: u64, length: usize) {
        match self.node(inode) {
            Node::File { durable, pending } => {
                pending.drain(..).for_each(|it| it.apply(durable));
                durable.resize(length, 0);
            }
            Node::Folder { durable, now, pending } => {
                durable.clone_from(now);
                pending.clear();
            }
        }
    }

    fn name(&mut self, parent: &str, naming: Naming) {
        let mut id = 0;
        for part in parent.split('/').filter(|it| !it.is_empty()) {
            let Some(Node::Folder { now, .. }) = self.nodes.get(id) else { panic!("`{parent}`") };
            id = *now.get(part).unwrap_or_else(|| panic!("`{parent}` was never made"));
        }
        let Some(Node::Folder { now, pending, .. }) = self.nodes.get_mut(id) else {
            panic!("`{parent}` is no folder")
        };
        naming.apply(now);
        pending.push(naming);
    }

    fn node(&mut self, inode: u64) -> &mut Node<'a> {
        let id = self.by_inode.get(&inode).expect("a file is made before it is used");
        self.nodes.get_mut(*id).expect("nodes are never removed")
    }
}

impl Change<'_> {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(length) => content.resize(length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content
                    .get_mut(offset..end)
                    .expect("it was made long enough")
                    .copy_from_slice(bytes);
            }
        }
    }

    /// The pages that a write touches.
    fn pieces(self) -> Vec<(usize, Self)> {
        let Self::Write { offset: mut at, bytes: mut rest } = self else { return Vec::new() };
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(PAGE_BYTES - at % PAGE_BYTES));
            pieces.push((at / PAGE_BYTES, Change::Write { offset: at, bytes: piece }));
            at += piece.len();
            rest = more;
        }
        pieces
    }

    /// What is left of a write that the power loss interrupts.
    fn torn(self, lot: &mut Lot) -> Self {
        let Self::Write { offset, bytes } = self else { return self };
        let sectors = (offset % SECTOR_BYTES + bytes.len()) / SECTOR_BYTES;
        let kept = (lot.below(sectors + 1) * SECTOR_BYTES).saturating_sub(offset % SECTOR_BYTES);
        Self::Write { offset, bytes: bytes.get(..kept).unwrap_or(bytes) }
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                let id = names.remove(from).unwrap_or_else(|| panic!("`{from}` was never made"));
                names.insert(to.clone(), id);
            }
            Self::Remove(name) => {
                names.remove(name).unwrap_or_else(|| panic!("`{name}` was never made"));
            }
        }
    }
}

/// What a file may hold.
fn content(durable: &[u8], pending: &[Change<'_>], loss: Loss, lot: &mut Lot) -> Vec<u8> {
    let mut content = durable.to_vec();
    match loss {
        Loss::Unsynced => {}
        Loss::Nothing => pending.iter().for_each(|it| it.apply(&mut content)),
        Loss::Tails => {
            let kept = lot.below(pending.len() + 1);
            pending.iter().take(kept).for_each(|it| it.apply(&mut content));
            if let Some(last) = pending.get(kept) {
                last.torn(lot).apply(&mut content);
            }
        }
        Loss::Pages => keep_pages(&mut content, pending, lot),
    }
    content
}

fn keep_pages(content: &mut Vec<u8>, pending: &[Change<'_>], lot: &mut Lot) {
    let Some(cut) = pending.iter().rposition(|it| matches!(it, Change::Resize(_))) else {
        return keep_written_pages(content, pending, lot);
    };
    // A new size is a change of the file's metadata, before which its bytes are not looked at.
    let (before, after) = pending.split_at(cut + 1);
    if lot.below(2) == 0 {
        return keep_pages(content, before.get(..cut).unwrap_or_default(), lot);
    }
    for change in before {
        change.apply(content);
    }
    keep_written_pages(content, after, lot);
}

fn keep_written_pages(content: &mut Vec<u8>, pending: &[Change<'_>], lot: &mut Lot) {
    let mut pages: BTreeMap<usize, Vec<Change<'_>>> = BTreeMap::new();
    for (page, piece) in pending.iter().flat_map(|it| it.pieces()) {
        pages.entry(page).or_default().push(piece);
    }
    // Many images lose nearly all pages or nearly none.
    let lost_of_8 = lot.below(9);
    for pieces in pages.values() {
        let whole = lot.below(8) >= lost_of_8;
        let kept = if whole { pieces.len() } else { lot.below(pieces.len() + 1) };
        pieces.iter().take(kept).for_each(|it| it.apply(content));
        if let Some(last) = pieces.get(kept).filter(|_| lot.below(2) == 0) {
            last.torn(lot).apply(content);
        }
    }
    let length = pending.iter().fold(content.len(), |length, it| match it {
        Change::Write { offset, bytes } => length.max(offset + bytes.len()),
        Change::Resize(_) => length,
    });
    if lot.below(2) == 0 {
        content.resize(length, 0);
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("the files of a test are small")
}
