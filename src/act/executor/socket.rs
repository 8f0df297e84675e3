//! Where an executor listens: a socket that only those reach who should, and only one executor has.

use super::super::launch;
use rustix::fs::{FlockOperation, Mode, flock};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where to listen, and who may get there.
#[derive(Clone, Debug)]
pub struct Place {
    /// The path of the socket.
    pub socket: PathBuf,
    /// Whether another user than our own is to reach it: its group may then, too.
    pub is_shared: bool,
    /// The socket's group; `None` = our own.
    pub group: Option<u32>,
}

/// A socket that is listened to, and ours alone until this is dropped.
pub struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Held until the process is gone, however it ends.
    _lock: File,
}

impl Socket {
    /// Ends what an executor left behind that died here, takes its socket away, and listens. Fails
    /// where another one lives, where others could put a socket of theirs in its place, and where
    /// something stands that is no socket.
    pub fn open(place: &Place) -> Result<Self, String> {
        let path = whole(&place.socket)?;
        let told = path.display();
        let lock = lock(&path)?;
        let stranded = launch::end_stranded(&told.to_string());
        if stranded > 0 {
            tracing::warn!(stranded, "programs of a former life were ended");
        }
        match fs::symlink_metadata(&path) {
            Ok(known) if known.file_type().is_socket() => fs::remove_file(&path)
                .map_err(|error| format!("cannot remove the old socket `{told}`: {error}"))?,
            Ok(_) => return Err(format!("something stands here that is no socket: `{told}`")),
            Err(_) => {}
        }
        // Nobody gets in before its group and its mode are what they should be.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(&path);
        rustix::process::umask(before);
        let failed = |error| format!("cannot listen on `{told}`: {error}");
        let listener = listener.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        if let Some(group) = place.group {
            std::os::unix::fs::chown(&path, None, Some(group)).map_err(|error| {
                format!("cannot give the socket to its group, are we a member of it? {error}")
            })?;
        }
        let mode = if place.is_shared { 0o660 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
        Ok(Self { listener: Some(listener), path, _lock: lock })
    }

    /// What is to be listened to; `None` the second time.
    pub(super) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }

    /// By what the keepers of this executor's programs are known again in its next life.
    pub(super) fn mark(&self) -> String {
        self.path.display().to_string()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Who comes too late is then told that nobody is there, rather than by silence.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// The path without links in its folder, which must be safe.
fn whole(path: &Path) -> Result<PathBuf, String> {
    let told = path.display();
    let name = path.file_name().ok_or_else(|| format!("no path of a socket: `{told}`"))?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| {
        format!("cannot find the folder of the socket, make it first: {error}: `{told}`")
    })?;
    let known = fs::metadata(&folder)
        .map_err(|error| format!("cannot look at `{}`: {error}", folder.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if known.mode() & 0o022 != 0 || ![0, own].contains(&known.uid()) {
        return Err(format!(
            "others could put a socket of theirs there: the folder must belong to us or to root, and \
             nobody else may write it: `{}`",
            folder.display()
        ));
    }
    Ok(folder.join(name))
}

/// Holds a file beside the socket, so that there is only one executor.
fn lock(socket: &Path) -> Result<File, String> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error| format!("cannot lock `{}`: {error}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(format!("an executor runs there already: `{}`", socket.display()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// The number of a user: told as such, or looked up in this machine's list.
pub fn user_number(told: &str) -> Result<u32, String> {
    told.parse().or_else(|_| launch::account(told).map(|it| it.user))
}

/// The number of a group: told as such, or looked up in this machine's list.
pub fn group_number(told: &str) -> Result<u32, String> {
    if let Ok(number) = told.parse() {
        return Ok(number);
    }
    let list = fs::read_to_string("/etc/group")
        .map_err(|error| format!("cannot read the list of groups: {error}"))?;
    let find = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(told)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    list.lines().find_map(find).ok_or_else(|| format!("this machine has no group `{told}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn place(socket: PathBuf) -> Place {
        Place { socket, is_shared: false, group: None }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_is_for_few_and_of_one_executor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = Socket::open(&place(path.clone())).unwrap();
        assert_eq!(mode(&path), 0o600);
        let told = Socket::open(&place(path.clone())).err().unwrap();
        assert!(told.contains("runs there already"), "{told}");
        assert!(UnixStream::connect(&path).is_ok(), "the first one has it still");
        drop(first);
        assert!(!path.exists());
        // As one leaves it behind that was killed.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let group = Some(rustix::process::getegid().as_raw());
        let shared = Place { is_shared: true, group, ..place(path.clone()) };
        let second = Socket::open(&shared).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(UnixStream::connect(second.path()).is_ok());
    }

    #[test]
    fn where_it_is_not_safe_nothing_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        for (mode, path, part) in [
            (0o755, folder.path().join("none/socket"), "make it first"),
            (0o775, open.join("socket"), "a socket of theirs"),
            (0o1777, open.join("socket"), "a socket of theirs"),
            (0o755, file.clone(), "no socket"),
            (0o755, PathBuf::from("/"), "no path"),
            (0o755, open.join("x".repeat(120)), "cannot listen"),
        ] {
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            let told = Socket::open(&place(path)).err().unwrap();
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!((user_number("root"), user_number("65534")), (Ok(0), Ok(65534)));
        assert_eq!((group_number("root"), group_number("7")), (Ok(0), Ok(7)));
        assert!(user_number("no-such-user").unwrap_err().contains("no user"));
        assert!(group_number("no-such-group").unwrap_err().contains("no group"));
    }
}
