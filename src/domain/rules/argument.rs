//! Arguments of programs, filled in, of which only those are options that the rules say so.

use std::collections::BTreeMap;

/// Fills in the arguments of a program. What begins with a dash because of what a gap was filled
/// with is refused, since a program would read it as an option, unless the author says that it may:
/// by a dash of his own, by `--` with nothing but gaps between it and the argument, or by a parameter
/// whose pattern begins with a dash (without that its value has none).
pub fn arguments(
    texts: &[String],
    fill: &dyn Fn(&String) -> Result<String, String>,
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let mut is_behind_dashes = false;
    let mut filled = Vec::with_capacity(texts.len());
    for text in texts {
        let value = fill(text)?;
        if value.contains('\0') {
            return Err("an argument has no NUL".to_owned());
        }
        let is_open =
            is_behind_dashes || text.starts_with('-') || is_optional_parameter(text, parameters);
        if value.starts_with('-') && !is_open {
            return Err(format!(
                "an argument looks like an option because of what is filled in: write `--` right \
                 before it, begin it with something fixed, or let the pattern of its parameter \
                 begin with a dash: `{value}`"
            ));
        }
        let has_gap = text.contains("{{") || text.contains("{%");
        is_behind_dashes = if has_gap { is_behind_dashes } else { text == "--" };
        filled.push(value);
    }
    Ok(filled)
}

/// Whether a text is, or begins with, a parameter whose own value begins with a dash.
fn is_optional_parameter(text: &str, parameters: &BTreeMap<String, String>) -> bool {
    let named = text.strip_prefix("{{").map(str::trim_start);
    let named = named.and_then(|it| it.strip_prefix("parameters."));
    let Some((name, _)) = named.and_then(|it| it.split_once("}}")) else { return false };
    parameters.get(name.trim_end()).is_some_and(|it| it.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], value: &str, expected: bool) {
        let texts: Vec<String> = texts.iter().map(|it| (*it).to_owned()).collect();
        let fill = |text: &String| {
            let gaps = ["{{ labels.a }}", "{{ parameters.p }}", "{{ parameters.p|upper }}"];
            Ok(gaps.iter().fold(text.clone(), |text, gap| text.replace(gap, value)))
        };
        let parameters = BTreeMap::from([("p".to_owned(), value.to_owned())]);
        let got = arguments(&texts, &fill, &parameters);
        assert_eq!(got.is_ok(), expected, "{texts:?} with {value:?}: {got:?}");
    }

    #[test]
    fn only_what_the_rules_call_an_option_is_one() {
        for value in ["-rf", "--output=x", "-", "--"] {
            check(&["rm", "{{ labels.a }}"], value, false);
            check(&["rm", "{{ labels.a }}-b"], value, false);
            check(&["{{ labels.a }}"], value, false);
            check(&["rm", "--", "{{ labels.a }}"], value, true);
            check(&["mv", "--", "{{ labels.a }}", "{{ labels.a }}"], value, true);
            check(&["rm", "--dir={{ labels.a }}"], value, true);
            check(&["rm", "./{{ labels.a }}"], value, true);
            check(&["rm", "{{ parameters.p }}"], value, true);
            check(&["rm", "{{ parameters.p|upper }}"], value, false);
            // The dashes are those of another program, which starts this one.
            check(&["kubectl", "exec", "web", "--", "rm", "{{ labels.a }}"], value, false);
            check(&["sudo", "--", "rm", "--", "{{ labels.a }}"], value, true);
        }
        check(&["rm", "{{ labels.a }}"], "a-b", true);
        check(&["rm", "--", "{{ labels.a }}"], "a\0b", false);
    }
}
