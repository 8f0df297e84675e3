//! The command `import`: takes over the configuration of an Alertmanager.

use super::failure::{Failure, Result};
use super::output::{self, Output};
use crate::config::{self, ImportNote};
use crate::domain::rules::Mode;
use serde_json::json;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest configuration that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The file that is written.
const RULES_FILE: &str = "alertmanager.yaml";

/// What is taken over.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// The configuration of an Alertmanager; `-` = standard input
    file: PathBuf,
    /// The folder in which `alertmanager.yaml` is written
    #[arg(long, value_name = "DIR", default_value = "rules")]
    out: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Print the rules and write nothing
    #[arg(long, conflicts_with = "force")]
    dry_run: bool,
    #[command(flatten)]
    output: super::OutputArgument,
}

/// Does it. What could not be carried over goes to standard error, line by line.
pub fn run(arguments: &ImportArguments) -> Result<()> {
    let name = arguments.file.display().to_string();
    let text = read(&arguments.file)?;
    let told = |notes: &[ImportNote]| -> String {
        let lines = notes.iter().map(|it| format!("{name}:{}: {}", it.line, it.message));
        lines.collect::<Vec<String>>().join("\n")
    };
    let imported =
        config::import_alertmanager(&text).map_err(|notes| Failure::Usage(told(&notes)))?;
    // What it writes must be good as it is.
    let checked = config::rules_from_texts(&[(RULES_FILE, &imported.rules)], Mode::Act);
    if let Some(finding) = checked.findings.first().filter(|_| checked.value.is_none()) {
        let text = format!("the rules made of `{name}` are not good: {}", finding.message);
        return Err(Failure::Findings(text));
    }
    let written = write(arguments, &imported.rules)?;
    if arguments.output.output != Output::Table {
        let document = json!({
            "file": written,
            "notes": imported.notes.iter()
                .map(|it| json!({"line": it.line, "message": it.message}))
                .collect::<Vec<_>>(),
        });
        return output::show(&document, arguments.output.output, |_, _| String::new());
    }
    if !imported.notes.is_empty() {
        output::say(&told(&imported.notes));
    }
    match written {
        Some(path) => output::say(&format!(
            "wrote {path}; {} lines could not be carried over as they were, see above",
            imported.notes.len()
        )),
        None => output::print(&imported.rules)?,
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    let failed = |error: std::io::Error| {
        Failure::Usage(format!("cannot read `{}`: {error}", file.display()))
    };
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(file).map_err(failed)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

/// Writes the file, unless that is not wanted; returns its path.
fn write(arguments: &ImportArguments, rules: &str) -> Result<Option<String>> {
    if arguments.dry_run {
        return Ok(None);
    }
    let path = arguments.out.join(RULES_FILE);
    let shown = path.display().to_string();
    if path.exists() && !arguments.force {
        let text = format!("there is a file already: `{shown}`; `--force` writes over it");
        return Err(Failure::Usage(text));
    }
    let written =
        std::fs::create_dir_all(&arguments.out).and_then(|()| std::fs::write(&path, rules));
    written?;
    Ok(Some(shown))
}
