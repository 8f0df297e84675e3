//! What an executor starts at all: programs by their paths, as in sudo's list.

use super::super::command::{Task, own_path};
use rustix::fs::{Access, access};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Variables that the daemon sets itself, for every program.
const OURS: &str = "WATCHKEEPER_";

/// Which programs may be started, and which variables they may be given. Without programs it
/// permits everything.
#[derive(Clone, Debug, Default)]
pub struct Permit {
    programs: Vec<PathBuf>,
    /// All programs that are directly in one of these.
    folders: Vec<PathBuf>,
    variables: BTreeSet<String>,
}

impl Permit {
    /// Takes paths of programs, or of folders, which end with `/`, and names of variables. Fails
    /// where a path is not absolute, is not there, or may be written by everybody.
    pub fn new(
        programs: &[String],
        variables: impl IntoIterator<Item = String>,
    ) -> Result<Self, String> {
        let variables = variables.into_iter().collect();
        let mut permit = Self { programs: Vec::new(), folders: Vec::new(), variables };
        for told in programs {
            let path = Path::new(told);
            if !path.is_absolute() {
                return Err(format!("a program is named by its whole path, not `{told}`"));
            }
            let known = std::fs::metadata(path)
                .map_err(|error| format!("cannot look at the program `{told}`: {error}"))?;
            if known.permissions().mode() & 0o002 != 0 {
                return Err(format!("everybody may write `{told}`: take that right away"));
            }
            match (told.ends_with('/'), known.is_dir()) {
                (true, _) => permit.folders.push(canonical(path)?),
                (false, true) => {
                    let hint = "write it with `/` at its end if you mean all programs in it";
                    return Err(format!("it is a folder; {hint}: `{told}`"));
                }
                (false, false) => permit.programs.push(place_of(path)?),
            }
        }
        Ok(permit)
    }

    /// Whether there is a list at all.
    pub fn is_narrow(&self) -> bool {
        !self.programs.is_empty() || !self.folders.is_empty()
    }

    /// Lets a program through, with its whole path in its argument list, or says why not.
    pub(super) fn check(&self, task: &mut Task) -> Result<(), String> {
        if !self.is_narrow() {
            return Ok(());
        }
        let Some(name) = task.argv.first_mut() else { return Ok(()) };
        let place = found(name).ok_or_else(|| {
            format!("the executor may start programs of its list only, and finds no `{name}`")
        })?;
        let in_folder = place.parent().is_some_and(|it| self.folders.iter().any(|to| to == it));
        if !in_folder && !self.programs.contains(&place) {
            return Err(format!(
                "the executor may not start `{}`: it has no `--allow-program` for it",
                place.display()
            ));
        }
        // What is started is what was looked at, whatever `PATH` the step sets.
        place.to_str().ok_or("the path of the program is not UTF-8")?.clone_into(name);
        let mut names = task.environment.keys();
        match names.find(|it| !it.starts_with(OURS) && !self.variables.contains(*it)) {
            Some(name) => Err(format!(
                "the executor may not set the variable `{name}`: it has no `--allow-variable` for it"
            )),
            None => Ok(()),
        }
    }
}

/// Where a program is: as it is named, which must be by its whole path, or on our own `PATH`.
fn found(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(Path::new(name))
            .filter(|it| it.is_absolute())
            .and_then(|it| place_of(it).ok());
    }
    let path = own_path();
    let mut places = path.split(':').map(|it| Path::new(it).join(name));
    let found = places.find(|it| it.is_file() && access(it, Access::EXEC_OK).is_ok())?;
    place_of(&found).ok()
}

/// A path without links in its folders. The last part stays as it is: some programs do another
/// thing under each of their names.
fn place_of(path: &Path) -> Result<PathBuf, String> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(format!("no path of a program: `{}`", path.display()));
    };
    Ok(canonical(folder)?.join(name))
}

fn canonical(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("cannot follow `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn task(argv: &[&str], variables: &[&str]) -> Task {
        Task {
            argv: argv.iter().map(|it| (*it).to_owned()).collect(),
            directory: None,
            environment: variables.iter().map(|it| ((*it).to_owned(), "x".to_owned())).collect(),
            limits: crate::domain::rules::Limits::default(),
            user: None,
            stdin: None,
            paths: None,
        }
    }

    fn permit(programs: &[&str], variables: &[&str]) -> Result<Permit, String> {
        let programs: Vec<String> = programs.iter().map(|it| (*it).to_owned()).collect();
        Permit::new(&programs, variables.iter().map(|it| (*it).to_owned()))
    }

    #[test]
    fn what_is_on_the_list_is_started_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let text = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        for name in ["allowed", "other", "books/one", "books/deep/two"] {
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(folder.join("books"), folder.join("linked")).unwrap();
        symlink(folder.join("allowed"), folder.join("books/link")).unwrap();
        symlink(folder.join("allowed"), folder.join("alias")).unwrap();
        let permit = permit(&[&text("allowed"), &text("books/"), "/bin/sh"], &["A"]).unwrap();
        for (name, variables, expected) in [
            (text("allowed"), &["A", "WATCHKEEPER_STEP"][..], Ok(text("allowed"))),
            (text("books/../allowed"), &[], Ok(text("allowed"))),
            (text("books/one"), &[], Ok(text("books/one"))),
            (text("linked/one"), &[], Ok(text("books/one"))),
            (text("books/link"), &[], Ok(text("books/link"))),
            // The same file under another name may be another program.
            (text("alias"), &[], Err("may not start")),
            (text("other"), &[], Err("may not start")),
            (text("books/deep/two"), &[], Err("may not start")),
            (text("books/../other"), &[], Err("may not start")),
            ("allowed".to_owned(), &[], Err("finds no `allowed`")),
            ("./allowed".to_owned(), &[], Err("finds no")),
            (text("gone/x"), &[], Err("finds no")),
            ("/".to_owned(), &[], Err("finds no")),
            ("env".to_owned(), &[], Err("may not start")),
            (text("allowed"), &["LD_PRELOAD"], Err("variable `LD_PRELOAD`")),
            (text("allowed"), &["PATH"], Err("variable `PATH`")),
        ] {
            let mut task = task(&[&name, "x"], variables);
            let result = permit.check(&mut task).map(|()| task.argv[0].clone());
            match expected {
                Ok(expected) => assert_eq!(result, Ok(expected)),
                Err(part) => assert!(result.clone().unwrap_err().contains(part), "{result:?}"),
            }
        }
        let mut by_name = task(&["sh"], &[]);
        assert_eq!(permit.check(&mut by_name), Ok(()));
        assert!(by_name.argv[0].ends_with("bin/sh") && by_name.argv[0].starts_with('/'));
    }

    #[test]
    fn without_a_list_everything_is_started_as_it_is() {
        let mut task = task(&["anything"], &["LD_PRELOAD"]);
        assert_eq!(Permit::default().check(&mut task), Ok(()));
        assert_eq!(task.argv, ["anything"]);
    }

    #[test]
    fn a_list_that_holds_nothing_back_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::write(&open, "").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for (told, part) in [
            ("sh", "whole path"),
            ("/no/such/program", "cannot look at"),
            ("/bin", "it is a folder"),
            (open.to_str().unwrap(), "everybody may write"),
        ] {
            let error = permit(&[told], &[]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
