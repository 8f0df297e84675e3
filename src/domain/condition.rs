//! Conditions: CEL over an incident, for rules that say `when`.

use super::execution::Context;
use cel::{Context as Scope, Program, Value};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The longest condition, in bytes. Its parser goes one call deeper with each link of a chain such as
/// `1 + 1 + …`, and a stack that overflows would end the process.
const CONDITION_BYTES_MAX: usize = 2048;

/// So many conditions are kept compiled; rules have tens.
const COMPILED_MAX: usize = 256;

thread_local! {
    /// What was compiled lately, by its text.
    static COMPILED: RefCell<BTreeMap<String, Rc<Program>>> = const { RefCell::new(BTreeMap::new()) };
    /// The functions that every condition may use.
    static ROOT: Scope<'static, 'static> = Scope::default();
}

/// Decides a condition over `incident`, `labels`, `annotations` and `trigger`. An empty one holds.
///
/// Fails when it cannot be decided; whoever asks must then do nothing.
pub fn holds(condition: &str, context: &Context) -> Result<bool, String> {
    holds_over(condition, context, &[])
}

/// The same, with more names.
pub fn holds_over(
    condition: &str,
    context: &Context,
    more: &[(&str, Json)],
) -> Result<bool, String> {
    if condition.trim().is_empty() {
        return Ok(true);
    }
    let program = compiled(condition)?;
    ROOT.with(|root| decide(&program, root.new_inner_scope(), context, more))
}

fn decide(
    program: &Program,
    mut scope: Scope<'_, '_>,
    context: &Context,
    more: &[(&str, Json)],
) -> Result<bool, String> {
    for (name, value) in [
        ("incident", serde_json::to_value(&context.incident)),
        ("labels", serde_json::to_value(&context.labels)),
        ("annotations", serde_json::to_value(&context.annotations)),
        ("trigger", serde_json::to_value(&context.trigger)),
    ] {
        let value = value.map_err(|error| error.to_string())?;
        scope.add_variable(name, value).map_err(|error| format!("`{name}`: {error}"))?;
    }
    for (name, value) in more {
        scope.add_variable(*name, value).map_err(|error| format!("`{name}`: {error}"))?;
    }
    match program.execute(&scope) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(other) => Err(format!("the condition gives {:?}, not true or false", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks a condition's syntax.
pub fn check(condition: &str) -> Result<(), String> {
    if condition.trim().is_empty() {
        return Ok(());
    }
    compile(condition).map(drop)
}

/// The same condition is decided again and again, and to read it takes longer than that.
fn compiled(condition: &str) -> Result<Rc<Program>, String> {
    COMPILED.with_borrow_mut(|known| {
        if let Some(program) = known.get(condition) {
            return Ok(Rc::clone(program));
        }
        let program = Rc::new(compile(condition)?);
        if known.len() >= COMPILED_MAX {
            known.clear();
        }
        known.insert(condition.to_owned(), Rc::clone(&program));
        Ok(program)
    })
}

fn compile(condition: &str) -> Result<Program, String> {
    if condition.len() > CONDITION_BYTES_MAX {
        return Err(format!("the condition is longer than {CONDITION_BYTES_MAX} bytes"));
    }
    Program::compile(condition).map_err(|error| explain(&error))
}

/// Makes one line of the parser's many.
fn explain(errors: &impl ToString) -> String {
    let text = errors.to_string();
    let line = text.lines().find(|it| !it.trim().is_empty()).unwrap_or_default();
    line.trim().trim_start_matches("ERROR: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Labels;

    fn check_holds(condition: &str, expected: Option<bool>) {
        let context = Context {
            labels: Labels::from_pairs([("env", "prod")]),
            incident: [("priority".to_owned(), "P1".to_owned())].into(),
            ..Context::default()
        };
        assert_eq!(holds(condition, &context).ok(), expected, "{condition}");
    }

    #[test]
    fn conditions_are_decided_or_refused() {
        check_holds("", Some(true));
        check_holds("incident.priority != 'P1'", Some(false));
        check_holds("labels.env == 'prod' && incident.priority == 'P1'", Some(true));
        check_holds("labels.team == 'a'", None);
        check_holds("has(labels.team)", Some(false));
        check_holds("1 + 1", None);
        check_holds("labels.env = 'prod'", None);
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        for (begin, link) in [("1", "+1"), ("labels", ".a"), ("true", "&&true"), ("1", "<1")] {
            let longest = (CONDITION_BYTES_MAX - begin.len()) / link.len();
            let fits = format!("{begin}{}", link.repeat(longest));
            assert_eq!(check(&fits), Ok(()), "{link}");
            drop(holds(&fits, &Context::default()));
            let error = check(&format!("{begin}{}", link.repeat(longest * 5))).unwrap_err();
            assert!(error.contains("longer than 2048 bytes"), "{error}");
        }
    }
}
