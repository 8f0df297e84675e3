//! Texts from outside as plain text within Markdown, and durations for people.

/// The longest text that is taken over, in characters.
const CHARACTERS_MAX: usize = 500;

/// A text that stays text, whatever stands in it: on one line, and with nothing that means something in Markdown
/// or HTML.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.trim().chars().take(CHARACTERS_MAX) {
        if letter.is_control() {
            out.push(' ');
            continue;
        }
        if matches!(
            letter,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '&' | '!' | '~'
        ) {
            out.push('\\');
        }
        out.push(letter);
    }
    if text.trim().chars().count() > CHARACTERS_MAX {
        out.push('…');
    }
    out
}

/// A number of seconds, in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut told = Vec::new();
    for (size, unit) in parts {
        let count = left / size;
        left %= size;
        if count > 0 {
            told.push(format!("{count} {unit}"));
        }
    }
    told.truncate(2);
    if told.is_empty() { "0 s".to_owned() } else { told.join(" ") }
}

/// A count with its noun.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Writes a list; where it has no lines, the other text instead, if there is one.
pub(super) fn list(out: &mut Vec<String>, lines: &[String], otherwise: &str) {
    if lines.is_empty() && !otherwise.is_empty() {
        out.push(format!("- {otherwise}\n"));
    }
    for line in lines {
        out.push(format!("- {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_means_nothing() {
        let hostile = "<b>x</b>\n# [a](http://b) `c` | ![d](e)";
        let expected = "\\<b\\>x\\</b\\> \\# \\[a\\](http://b) \\`c\\` \\| \\!\\[d\\](e)";
        assert_eq!(plain(hostile), expected);
        assert_eq!(plain(&"x".repeat(600)).chars().count(), CHARACTERS_MAX + 1);
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (3661, "1 h 1 min"), (86_400, "1 d")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
