//! Ids as people type them.

use crate::domain::label::Fingerprint;

/// Reads the id of an incident as people type it: `INC-42`, `inc-42` or `42`.
pub fn parse_incident(text: &str) -> Result<String, String> {
    parse_number("INC", text)
}

/// Reads the id of a problem: `PRB-7`, `prb-7` or `7`.
pub fn parse_problem(text: &str) -> Result<String, String> {
    parse_number("PRB", text)
}

/// Reads the id of a change: `CHG-3`, `chg-3` or `3`.
pub fn parse_change(text: &str) -> Result<String, String> {
    parse_number("CHG", text)
}

/// Reads the id of an execution: `EXE-9`, `exe-9` or `9`.
pub fn parse_execution(text: &str) -> Result<String, String> {
    parse_number("EXE", text)
}

fn parse_number(kind: &str, text: &str) -> Result<String, String> {
    let id = text.trim().to_ascii_uppercase();
    let number = id.strip_prefix(kind).and_then(|it| it.strip_prefix('-')).unwrap_or(&id);
    match number.parse::<u64>() {
        Ok(number) => Ok(format!("{kind}-{number}")),
        Err(_) => Err(format!("expected `{kind}-` and a number, not `{text}`")),
    }
}

/// Reads the id of anything that can be explained; a fingerprint is hexadecimal in small letters.
pub fn parse_any_id(text: &str) -> Result<String, String> {
    let id = text.trim();
    if let Some((kind, _)) = id.split_once('-') {
        return parse_number(&kind.to_ascii_uppercase(), id);
    }
    let fingerprint = id.to_ascii_lowercase();
    match fingerprint.parse::<Fingerprint>() {
        Ok(_) => Ok(fingerprint),
        Err(_) => Err("expected INC-42, PRB-7, EXE-9, CHG-3, NTF-12 or an alert's fingerprint, \
                       16 hexadecimal digits (`watchkeeper alert list` shows them)"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_people_type_them() {
        for text in ["INC-42", "inc-42", " 42 "] {
            assert_eq!(parse_incident(text).unwrap(), "INC-42");
        }
        for text in ["PRB-4", "INC-", "INC42", "-1", "", "4 2"] {
            assert!(parse_incident(text).unwrap_err().contains("`INC-` and a number"), "{text}");
        }
        assert_eq!(parse_any_id("exe-9").unwrap(), "EXE-9");
        assert_eq!(parse_any_id("00FF00FF00FF00FF").unwrap(), "00ff00ff00ff00ff");
        for text in ["", "INC", "INC-x", "42", "00fg00ff00ff00ff"] {
            assert!(parse_any_id(text).is_err(), "{text}");
        }
    }
}
