//! Checks the two small languages inside rules: minijinja for text, CEL for conditions.

use super::fields::{closest, one_of};
use minijinja::{Environment, ErrorKind, context};
use std::collections::BTreeSet;

/// The longest template, in bytes. Both languages recurse over chains such as `a + a + …`, and a
/// stack that overflows takes the daemon with it; at these lengths half of a thread's 2 MiB do.
const TEMPLATE_BYTES_MAX: usize = 4 * 1024;
/// The longest condition, in bytes.
const CONDITION_BYTES_MAX: usize = 1024;
/// How deep brackets may nest in a condition, for the same reason.
const NESTING_MAX: usize = 24;
/// How much work a trial rendering may do.
const FUEL: u64 = 10_000;
/// Functions of minijinja that look like names.
const FUNCTIONS: [&str; 5] = ["range", "dict", "debug", "namespace", "loop"];

/// What a template may name.
#[derive(Clone)]
pub(super) struct Names {
    /// The words that stand at the front: `labels`, `incident`, …
    pub(super) roots: &'static [&'static str],
    /// The fields of `parameters`.
    pub(super) parameters: BTreeSet<String>,
}

impl Names {
    /// Words without parameters.
    pub(super) fn of(roots: &'static [&'static str]) -> Self {
        Self { roots, parameters: BTreeSet::new() }
    }
}

/// What is wrong, and what to try.
pub(super) type Reason = (String, Option<String>);

/// Checks a template: its syntax, the names, filters and functions that it uses.
pub(super) fn check_template(text: &str, names: &Names) -> Result<(), Reason> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err((format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes"), None));
    }
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let template = environment.template_from_str(text).map_err(|error| {
        let detail = error.detail().unwrap_or("it cannot be read").to_owned();
        (format!("bad template: {detail}"), Some("write `{{ labels.name }}`".to_owned()))
    })?;
    // Sorted, so that the same file always gives the same finding first.
    let used: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    for name in &used {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or_default();
        if !names.roots.contains(&root) && !FUNCTIONS.contains(&root) {
            let hint = suggest(root, names.roots);
            return Err((format!("a template here knows no name `{root}`"), Some(hint)));
        }
        if let ("parameters", Some(field)) = (root, parts.next())
            && !names.parameters.contains(field)
        {
            let declared: Vec<&str> = names.parameters.iter().map(String::as_str).collect();
            let hint = if declared.is_empty() {
                "declare it under `parameters:` of this runbook".to_owned()
            } else {
                suggest(field, &declared)
            };
            return Err((format!("this runbook has no parameter `{field}`"), Some(hint)));
        }
    }
    // Filters and functions are looked up only when they run.
    let trial = template.render(context! {
        labels => context! {},
        annotations => context! {},
        incident => context! {},
        trigger => context! {},
        parameters => context! {},
    });
    match trial {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest
            ) =>
        {
            let detail = error.detail().unwrap_or("unknown filter or function").to_owned();
            Err((format!("bad template: {detail}"), None))
        }
        _ => Ok(()),
    }
}

/// Checks a condition: its syntax and the names that it uses.
pub(super) fn check_condition(text: &str, roots: &[&'static str]) -> Result<(), Reason> {
    compile(text, roots).map(drop)
}

/// Compiles CEL within its bounds, and checks the names that it uses.
pub(super) fn compile(text: &str, roots: &[&'static str]) -> Result<cel::Program, Reason> {
    if text.len() > CONDITION_BYTES_MAX || nesting(text) > NESTING_MAX {
        let message = format!(
            "a condition has {CONDITION_BYTES_MAX} bytes and nests {NESTING_MAX} deep at most"
        );
        return Err((message, None));
    }
    // The parser is known to panic on some broken text; what it cannot read is no condition.
    let compiled = std::panic::catch_unwind(|| cel::Program::compile(text));
    let Ok(Ok(program)) = compiled else {
        let reason = match &compiled {
            Ok(Err(errors)) => errors.errors.first().map(|it| it.msg.clone()),
            _ => None,
        };
        let reason = reason.unwrap_or_else(|| "it cannot be read".to_owned());
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        return Err((format!("bad condition: {reason}"), Some(condition_hint(text))));
    };
    // Within `list.exists(it, …)` a name may be the loop's own.
    if ["exists", "all", "map", "filter"].iter().any(|it| text.contains(it)) {
        return Ok(program);
    }
    let unknown = {
        let references = program.references();
        let used: BTreeSet<&str> = references.variables().into_iter().collect();
        used.iter().find(|it| !roots.contains(it)).map(|it| (*it).to_owned())
    };
    match unknown {
        Some(name) => {
            let message = format!("a condition here knows no name `{name}`");
            Err((message, Some(suggest(&name, roots))))
        }
        None => Ok(program),
    }
}

pub(super) fn suggest(name: &str, known: &[&str]) -> String {
    closest(name, known).map_or_else(|| one_of(known), |it| format!("did you mean `{it}`?"))
}

/// What people used to other languages write.
fn condition_hint(text: &str) -> String {
    let alone = |sign: char| {
        let characters: Vec<char> = text.chars().collect();
        characters.windows(3).any(|it| match it {
            [before, middle, after] => {
                *middle == sign && !['=', '!', '<', '>'].contains(before) && *after != sign
            }
            _ => false,
        })
    };
    let word = |word: &str| text.split_whitespace().any(|it| it.eq_ignore_ascii_case(word));
    if alone('=') {
        "did you mean `==`?".to_owned()
    } else if word("and") {
        "did you mean `&&`?".to_owned()
    } else if word("or") {
        "did you mean `||`?".to_owned()
    } else if word("not") {
        "did you mean `!`?".to_owned()
    } else {
        "conditions are CEL, for example `incident.priority == 'P1'`".to_owned()
    }
}

/// How much the parser would have to recurse at most: open brackets, and runs of signs and
/// question marks.
fn nesting(text: &str) -> usize {
    let (mut open, mut deepest, mut signs) = (0_usize, 0_usize, 0_usize);
    for character in text.chars() {
        match character {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '!' | '-' | '?' => signs += 1,
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest.max(signs / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_for_syntax_and_names() {
        let mut names = Names::of(&["labels", "parameters"]);
        names.parameters.insert("unit".to_owned());
        for (text, expected) in [
            ("plain", None),
            ("{{ labels.alertname }}{% if labels.a %} on {{ labels.a }}{% endif %}", None),
            ("{{ parameters.unit|upper }}", None),
            ("{{ labels['b'] | default('none') }}", None),
            ("{% for it in range(3) %}{{ it }}{% endfor %}", None),
            ("{{ labels.alertname", Some("bad template")),
            ("{{ lables.alertname }}", Some("`lables`")),
            ("{{ parameters.unti }}", Some("no parameter `unti`")),
            ("{{ labels.a|nofilter }}", Some("nofilter")),
            ("{{ env('HOME') }}", Some("`env`")),
        ] {
            let found = check_template(text, &names).err().map(|(message, _)| message);
            match (expected, found) {
                (None, None) => {}
                (Some(part), Some(message)) => assert!(message.contains(part), "{message}"),
                (expected, found) => panic!("{text}: expected {expected:?}, found {found:?}"),
            }
        }
    }

    #[test]
    fn conditions_are_checked_for_syntax_and_names() {
        let deep = "(".repeat(60);
        for (text, expected) in [
            ("incident.priority != 'P1'", None),
            ("labels.env == 'prod' && incident.alert_count > 2", None),
            ("incident.services.exists(it, it == 'web')", None),
            ("incident.priority = 'P1'", Some("did you mean `==`?")),
            ("labels.a == 'b' and labels.c == 'd'", Some("did you mean `&&`?")),
            ("lables.a == 'b'", Some("did you mean `labels`?")),
            ("incident.priority ==", Some("conditions are CEL")),
            (deep.as_str(), Some("")),
        ] {
            let found = check_condition(text, &["incident", "labels"]).err();
            match (expected, found) {
                (None, None) => {}
                (Some(part), Some((_, hint))) => {
                    assert!(hint.clone().unwrap_or_default().contains(part), "{text}: {hint:?}");
                }
                (expected, found) => panic!("{text}: expected {expected:?}, found {found:?}"),
            }
        }
    }

    /// A stack that overflows cannot be caught; the threads of tests have the size of tokio's.
    #[test]
    fn long_chains_do_not_overflow_the_stack() {
        let fill = |start: &str, part: &str, max: usize| {
            start.to_owned() + &part.repeat((max - start.len()) / part.len())
        };
        for (start, part) in
            [("a", "+a"), ("a", "&&a"), ("a", ".b"), ("", "!"), ("a", "?a:a"), ("a", "[0]")]
        {
            let text = fill(start, part, CONDITION_BYTES_MAX);
            drop(check_condition(&text, &["a"]));
        }
        for (start, part) in
            [("a", "+a"), ("a", "~a"), ("a", ".b"), ("a", "[0]"), ("a", "|a"), ("", "not ")]
        {
            let text = fill(start, part, TEMPLATE_BYTES_MAX - 10);
            drop(check_template(&format!("{{{{ {text} }}}}"), &Names::of(&["a"])));
        }
        drop(check_template(&"{% if a %}".repeat(1600), &Names::of(&["a"])));
    }
}
