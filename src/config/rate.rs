//! `unusual_rates:`: that people want to know of what begins far more often than usual, and of what is new.

use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::incident::Severity;
use crate::domain::rate::RateRule;

/// How long rates are learned unless told: two weeks.
const LEARN_SECONDS: u32 = 14 * 86_400;

/// An entry of `unusual_rates`.
pub(super) fn unusual_rates(reader: &mut Reader<'_>, node: &Node) -> Option<RateRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("unusual rate", &mut fields);
    let learn = fields.optional("learn").map(|it| reader.positive_duration(it));
    let words = [Severity::Critical, Severity::Error, Severity::Warning, Severity::Info]
        .map(|it| (it.as_str(), it));
    let severity = fields.optional("severity").and_then(|it| reader.word(it, &words));
    let tell_new = fields.optional("tell_new").is_some_and(|it| reader.boolean(it));
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    Some(RateRule {
        rule,
        learn_seconds: learn.unwrap_or(LEARN_SECONDS),
        severity: severity.unwrap_or(Severity::Info),
        tell_new,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::rules_from_texts;
    use crate::domain::incident::Severity;
    use crate::domain::rules::Mode;

    #[test]
    fn rates_are_read_and_what_is_wrong_is_said_with_its_place() {
        let text = "
unusual_rates:
  - {name: a, learn: 7d, severity: warning, tell_new: true}
  - {name: b}
";
        let checked = rules_from_texts(&[("r.yaml", text)], Mode::Act);
        assert_eq!(checked.findings, []);
        let rates = checked.value.unwrap().unusual_rates;
        let read: Vec<(u32, Severity, bool)> =
            rates.iter().map(|it| (it.learn_seconds, it.severity, it.tell_new)).collect();
        let expected =
            [(7 * 86_400, Severity::Warning, true), (14 * 86_400, Severity::Info, false)];
        assert_eq!(read, expected);
        let text = "
unusual_rates:
  - {name: b}
  - {name: a, learn: 0s, severity: bad, tell_new: maybe, more: 1}
";
        let checked = rules_from_texts(&[("r.yaml", text)], Mode::Act);
        let shown =
            |it: &crate::config::Finding| format!("{}:{} {}", it.line, it.column, it.message);
        let found: Vec<String> = checked.findings.iter().map(shown).collect();
        let expected = [
            "4:22 this cannot be zero",
            "4:36 unknown value `bad`",
            "4:51 expected `true` or `false`",
            "4:58 unknown field `more`",
        ];
        assert_eq!(found, expected);
    }
}
