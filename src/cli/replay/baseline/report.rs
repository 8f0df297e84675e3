//! A difference in words.

use super::Difference;
use crate::cli::output::plain;

/// For people: what differs, the worst first.
pub(in crate::cli::replay) fn text(difference: &Difference) -> String {
    if difference.is_none() {
        return "nothing differs from the baseline".to_owned();
    }
    let mut lines = vec!["what differs from the baseline, the worst first".to_owned()];
    for (kind, cases) in difference.kinds() {
        if cases.count == 0 {
            continue;
        }
        lines.push(format!("  {kind}: {}", cases.count));
        lines.extend(cases.worst.iter().map(|it| format!("    {}", plain(it))));
    }
    lines.join("\n")
}
