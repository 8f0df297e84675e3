//! The expressions of declared sources: compiled and checked for what they can give.

use super::expression::{self, Reason};
use cel::common::ast::{Expr, LiteralValue, operators};
use cel::extractors::Arguments;
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Program, Value, extensions};
use std::sync::{Arc, LazyLock};

/// The names that every mapping knows.
pub(super) const ROOTS: &[&str] = &["body", "headers"];
/// The names within an `each`.
pub(super) const ROOTS_OF_EACH: &[&str] = &["body", "headers", "item"];

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A text; a number or a truth is written as one.
    Text,
    /// `firing` or `resolved`.
    State,
    /// `true` or `false`.
    Truth,
    /// A time, as text or as a number of seconds, milliseconds, …
    Time,
    /// A list.
    List,
    /// A map.
    Map,
}

/// What can be known of a value before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Truth,
    List,
    Map,
    Null,
}

impl Type {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Null => "nothing",
        }
    }
}

impl Wanted {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::State => "`firing` or `resolved`",
            Self::Truth => "true or false",
            Self::Time => "a time",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }

    fn takes(self, found: Type) -> bool {
        match self {
            Self::Text => matches!(found, Type::Text | Type::Number | Type::Truth | Type::Null),
            Self::State => found == Type::Text,
            Self::Truth => found == Type::Truth,
            Self::Time => matches!(found, Type::Text | Type::Number | Type::Null),
            Self::List => found == Type::List,
            Self::Map => matches!(found, Type::Map | Type::Null),
        }
    }
}

/// Compiles an expression of a mapping. Fails with what is wrong and what to try: its syntax, a
/// name or function that nobody knows, or a value of the wrong kind.
pub fn compile(text: &str, wanted: Wanted, is_each: bool) -> Result<Program, Reason> {
    let roots = if is_each { ROOTS_OF_EACH } else { ROOTS };
    let program = expression::compile(text, roots).map_err(|(message, hint)| {
        let is_word = text.chars().all(|it| it.is_alphanumeric() || "-_ ".contains(it));
        let hint = if is_word {
            Some(format!("a text stands in quotes of its own: `\"'{text}'\"`"))
        } else {
            hint
        };
        (message.replace("condition", "mapping"), hint)
    })?;
    let unknown = {
        let references = program.references();
        let mut used = references.functions();
        used.sort_unstable();
        used.into_iter().find(|it| !is_function(it)).map(str::to_owned)
    };
    if let Some(name) = unknown {
        let hint = expression::suggest(&name, FUNCTIONS);
        return Err((format!("a mapping knows no function `{name}`"), Some(hint)));
    }
    check_type(&program.expression().expr, wanted)?;
    Ok(program)
}

/// The functions that a mapping may use.
const FUNCTIONS: &[&str] = &[
    "charAt",
    "contains",
    "double",
    "endsWith",
    "first",
    "get",
    "has",
    "indexOf",
    "int",
    "join",
    "json",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "pairs",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "type",
    "uint",
    "upperAscii",
];

/// Operators and what macros are made of are no functions.
fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name) || !name.starts_with(|it: char| it.is_ascii_alphabetic())
}

fn check_type(expression: &Expr, wanted: Wanted) -> Result<(), Reason> {
    if let Expr::Call(call) = expression
        && call.func_name == operators::CONDITIONAL
        && let [_, yes, no] = call.args.as_slice()
    {
        check_type(&yes.expr, wanted)?;
        return check_type(&no.expr, wanted);
    }
    if let (Wanted::State, Expr::Literal(LiteralValue::String(text))) = (wanted, expression)
        && !["firing", "resolved"].contains(&text.inner())
    {
        let message = format!("a status is `firing` or `resolved`, not `{}`", text.inner());
        return Err((message, None));
    }
    match type_of(expression) {
        Some(found) if !wanted.takes(found) => {
            Err((format!("this gives {}, not {}", found.word(), wanted.word()), None))
        }
        _ => Ok(()),
    }
}

fn type_of(expression: &Expr) -> Option<Type> {
    use operators as op;
    Some(match expression {
        Expr::Literal(LiteralValue::String(_)) => Type::Text,
        Expr::Literal(LiteralValue::Boolean(_)) => Type::Truth,
        Expr::Literal(LiteralValue::Null) => Type::Null,
        Expr::Literal(LiteralValue::Bytes(_)) => return None,
        Expr::Literal(_) => Type::Number,
        Expr::List(_) => Type::List,
        Expr::Map(_) => Type::Map,
        Expr::Select(select) if select.test => Type::Truth,
        Expr::Call(call) => match call.func_name.as_str() {
            op::LOGICAL_AND
            | op::LOGICAL_OR
            | op::LOGICAL_NOT
            | op::EQUALS
            | op::NOT_EQUALS
            | op::GREATER
            | op::GREATER_EQUALS
            | op::LESS
            | op::LESS_EQUALS
            | op::IN
            | "has"
            | "contains"
            | "startsWith"
            | "endsWith"
            | "matches" => Type::Truth,
            "size"
            | "int"
            | "uint"
            | "double"
            | "indexOf"
            | "lastIndexOf"
            | op::MULTIPLY
            | op::DIVIDE
            | op::MODULO
            | op::SUBSTRACT
            | op::NEGATE => Type::Number,
            "string" | "lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "join"
            | "charAt" => Type::Text,
            "split" => Type::List,
            "pairs" => Type::Map,
            op::ADD => call.args.iter().find_map(|it| type_of(&it.expr))?,
            _ => return None,
        },
        _ => return None,
    })
}

/// A scope with the functions that a mapping knows besides those of CEL: `get(body, 'a.b.0')`, which
/// gives nothing where there is nothing; `first(a, b)`, the first that is something, else the last; `json(text)`;
/// `pairs(list, 'name', 'value')`, a map out of a list of pairs.
pub fn scope<'a>() -> Context<'a, 'a> {
    static WITH_TEXTS: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut environment = Env::stdlib();
        // It fails only for what is there already.
        if extensions::strings(&mut environment).is_err() {
            environment = Env::stdlib();
        }
        Arc::new(environment)
    });
    let mut scope = Context::with_env(Arc::clone(&WITH_TEXTS));
    let added = [
        scope.add_function("get", get),
        scope.add_function("first", first),
        scope.add_function("json", json),
        scope.add_function("pairs", pairs),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "the names are free");
    scope
}

fn get(Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let [start, path, rest @ ..] = arguments.as_slice() else {
        return Err(ExecutionError::function_error("get", "write `get(body, 'a.b')`"));
    };
    let found = match path {
        Value::String(path) => walk(start, path),
        _ => None,
    };
    let nothing = rest.first().cloned().unwrap_or(Value::Null);
    Ok(found.filter(|it| !matches!(it, Value::Null)).unwrap_or(nothing))
}

/// What stands at a path. A key on the way may have points in it, as those of labels often have.
fn walk(value: &Value, path: &str) -> Option<Value> {
    step(value, path).or_else(|| {
        path.match_indices('.').find_map(|(end, _)| {
            let (part, rest) = (path.get(..end)?, path.get(end + 1..)?);
            walk(&step(value, part)?, rest)
        })
    })
}

fn step(value: &Value, part: &str) -> Option<Value> {
    match value {
        Value::Map(map) => map.get(&Key::from(part)).cloned(),
        Value::List(items) => items.get(part.parse::<usize>().ok()?).cloned(),
        _ => None,
    }
}

fn first(Arguments(arguments): Arguments) -> Value {
    let is_something = |it: &&Value| match it {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    };
    arguments.iter().find(is_something).or(arguments.last()).cloned().unwrap_or(Value::Null)
}

#[expect(clippy::needless_pass_by_value, reason = "functions of CEL take their arguments so")]
fn json(text: Arc<String>) -> Result<Value, ExecutionError> {
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| ExecutionError::function_error("json", error))?;
    cel::to_value(value).map_err(|error| ExecutionError::function_error("json", error))
}

fn pairs(Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let [list, Value::String(name), Value::String(value)] = arguments.as_slice() else {
        let message = "write `pairs(list, 'name', 'value')`";
        return Err(ExecutionError::function_error("pairs", message));
    };
    let Value::List(items) = list else { return Ok(Value::Null) };
    let found = items.iter().filter_map(|it| {
        let Some(Value::String(name)) = step(it, name) else { return None };
        Some(((*name).clone(), step(it, value)?))
    });
    Ok(found.collect::<std::collections::HashMap<String, Value>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_checked_for_what_they_give() {
        for (text, wanted, expected) in [
            ("body.title", Wanted::Text, ""),
            ("'firing'", Wanted::State, ""),
            ("body.ok ? 'resolved' : 'firing'", Wanted::State, ""),
            ("body.ok ? 'resolved' : 'open'", Wanted::State, "not `open`"),
            ("body.ok == true", Wanted::State, "gives true or false, not `firing`"),
            ("body.at", Wanted::Time, ""),
            ("has(body.at)", Wanted::Time, "gives true or false, not a time"),
            ("body.alerts", Wanted::List, ""),
            ("'a'", Wanted::List, "gives a text, not a list"),
            ("size(body.alerts) > 0", Wanted::Truth, ""),
            ("size(body.alerts)", Wanted::Truth, "gives a number"),
            ("item.name", Wanted::Text, "knows no name `item`"),
            ("firing", Wanted::State, "knows no name `firing`"),
            ("lower(body.a)", Wanted::Text, "knows no function `lower`"),
            ("body.a.lowerAscii().split(' ')[0]", Wanted::Text, ""),
            ("first(get(body, 'a.b'), 'c')", Wanted::Text, ""),
            ("body.tags.filter(it, it != 'x').map(it, it + '!')", Wanted::List, ""),
            ("body.", Wanted::Text, "bad mapping"),
        ] {
            let found = compile(text, wanted, false).err().map(|it| it.0).unwrap_or_default();
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{text}: {found}"
            );
        }
        let (_, hint) = compile("firing", Wanted::State, false).err().unwrap();
        assert_eq!(hint.unwrap(), "a text stands in quotes of its own: `\"'firing'\"`");
    }

    #[test]
    fn our_functions_give_what_they_say() {
        let mut scope = scope();
        let body =
            serde_json::json!({"a": {"b": [{"n": "x", "v": 1}]}, "t": "{\"c\": \"d\"}", "e": ""});
        scope.add_variable("body", body).unwrap();
        for (text, expected) in [
            ("get(body, 'a.b.0.n')", "\"x\""),
            ("get(body, 'a.z.0')", "null"),
            ("get(body, 'a.z', 'none')", "\"none\""),
            ("first(get(body, 'z'), body.e, 'c')", "\"c\""),
            ("first(get(body, 'z'), body.e)", "\"\""),
            ("get({'x.y': 1}, 'x.y')", "1"),
            ("get({'x.y': {'z': [1]}}, 'x.y.z.0')", "1"),
            ("get({'x': 1}, get(body, 'z'), 2)", "2"),
            ("json(body.t).c", "\"d\""),
            ("pairs(body.a.b, 'n', 'v').x", "1"),
            ("'A b'.lowerAscii()", "\"a b\""),
        ] {
            let program = compile(text, Wanted::Text, false).unwrap();
            let value = program.execute(&scope).unwrap().json().unwrap();
            assert_eq!(value.to_string(), expected, "{text}");
        }
    }
}
