//! Texts with gaps: minijinja, rendered once, never again from its own result.

use super::execution::Context;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};
use std::collections::BTreeMap;

/// How much work a template may be; a loop without end stops here.
const FUEL: u64 = 20_000;
/// The longest text that a template may give, in bytes.
const RENDERED_BYTES_MAX: usize = 64 * 1024;

/// What a template may use.
pub struct Values<'a> {
    /// Labels, annotations, some fields of the incident, and what started a run.
    pub context: &'a Context,
    /// Values of the parameters.
    pub parameters: &'a BTreeMap<String, String>,
    /// What came of steps; `None` = a template here must not know.
    pub steps: Option<&'a serde_json::Value>,
}

/// Renders a template over `labels`, `annotations`, `incident` and `parameters`.
///
/// Values are put in as they are and never read as templates themselves. A gap without a value
/// is an error, not an empty text.
pub fn render(
    template: &str,
    context: &Context,
    parameters: &BTreeMap<String, String>,
) -> Result<String, String> {
    render_over(template, &Values { context, parameters, steps: None })
}

/// The same, over whatever there is.
pub fn render_over(template: &str, over: &Values<'_>) -> Result<String, String> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    add_filters(&mut environment);
    let values = context! {
        labels => minijinja::Value::from(Serde(&over.context.labels)),
        annotations => minijinja::Value::from(Serde(&over.context.annotations)),
        incident => minijinja::Value::from(Serde(&over.context.incident)),
        trigger => minijinja::Value::from(Serde(&over.context.trigger)),
        parameters => minijinja::Value::from(Serde(over.parameters)),
        ..over.steps.map_or(minijinja::Value::UNDEFINED, |steps| {
            context! { steps => minijinja::Value::from(Serde(steps)) }
        }),
    };
    let text = environment.render_str(template, values).map_err(|error| explain(&error))?;
    if text.len() > RENDERED_BYTES_MAX {
        return Err(format!("the text is longer than {RENDERED_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Checks a template's syntax.
pub fn check(template: &str) -> Result<(), String> {
    let mut environment = Environment::empty();
    add_filters(&mut environment);
    environment.template_from_str(template).map(drop).map_err(|error| explain(&error))
}

/// The filters that templates may use: those that only change text.
fn add_filters(environment: &mut Environment<'_>) {
    use minijinja::filters;
    environment.add_filter("default", filters::default);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("length", filters::length);
    environment.add_filter("split", filters::split);
    environment.add_test("defined", minijinja::tests::is_defined);
    environment.add_test("undefined", minijinja::tests::is_undefined);
}

fn explain(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Labels;
    use proptest::prelude::*;

    fn context(value: &str) -> Context {
        Context { labels: Labels::from_pairs([("unit", value)]), ..Context::default() }
    }

    fn check_render(template: &str, expected: Result<&str, &str>) {
        let rendered = render(template, &context("nginx"), &BTreeMap::new());
        match (rendered, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{template}: {error}"),
            (other, _) => panic!("{template} gave {other:?}"),
        }
    }

    #[test]
    fn gaps_are_filled_and_mistakes_are_told() {
        check_render("restart {{ labels.unit }}", Ok("restart nginx"));
        check_render("{{ labels.unit|upper }}", Ok("NGINX"));
        check_render("{{ ('db-1:5433'|split(':'))[1]|default('5432') }}", Ok("5433"));
        check_render("{{ (labels.unit|split(':'))[1]|default('5432') }}", Ok("5432"));
        check_render("{% if labels.team %}x{% else %}y{% endif %}", Ok("y"));
        check_render("{{ labels.team|default('none') }}", Ok("none"));
        check_render("{{ labels.team }}", Err("undefined"));
        check_render("{{ labels.unit", Err("unexpected end"));
        check_render("{% for a in range(9) %}x{% endfor %}", Err("unknown"));
    }

    #[test]
    fn a_template_cannot_run_for_ever_or_read_files() {
        let nested = "{% set x = 'aaaaaaaaaa' %}".to_owned()
            + &"{% for a in x %}".repeat(6)
            + "b"
            + &"{% endfor %}".repeat(6);
        check_render(&nested, Err("fuel"));
        check_render("{% include '/etc/passwd' %}", Err(""));
    }

    proptest! {
        #[test]
        fn a_value_is_never_read_as_a_template(value in "[{}%#a-z7* ]{1,40}") {
            let value = value.trim();
            prop_assume!(!value.is_empty());
            let rendered = render("{{ labels.unit }}", &context(value), &BTreeMap::new());
            prop_assert_eq!(rendered.as_deref(), Ok(value));
        }
    }
}
