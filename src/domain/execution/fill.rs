//! The texts of a run: conditions decided, templates filled in, values taken over.

use super::{Execution, Part, StepRun, StepState};
use crate::domain::condition;
use crate::domain::rules::{
    self, Action, Approval, Bounds, ChangeNote, Parameter, SecretText, Step,
};
use crate::domain::template::{self, Values};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Execution {
    /// The parameters as a step knows them: with the thing that it is done for.
    fn parameters_of(&self, index: usize) -> Cow<'_, BTreeMap<String, String>> {
        let mut parameters = Cow::Borrowed(&self.parameters);
        if let Some(item) = self.steps.get(index).and_then(|it| it.item.as_ref()) {
            parameters.to_mut().insert(item.name.clone(), item.value.clone());
        }
        parameters
    }

    /// Whether a step's condition holds.
    pub(super) fn is_wanted(&self, index: usize, step: &Step) -> Result<bool, String> {
        let more = [("parameters", json!(self.parameters_of(index))), ("steps", self.results())];
        condition::holds_over(&step.condition, &self.context, &more)
    }

    /// What came of the steps so far, for conditions and for `set`.
    pub(super) fn results(&self) -> Value {
        let ended = self.steps.iter().filter(|it| it.part == Part::Step && it.ended_at.is_some());
        let result = |it: &StepRun| {
            let code = it.exit_code.map(|it| ("exit_code", json!(it)));
            let known =
                [("state", json!(it.state.as_str())), ("output", json!(it.output_tail.trim_end()))];
            let result = known.into_iter().chain(code);
            let result: serde_json::Map<_, _> =
                result.map(|(name, value)| (name.to_owned(), value)).collect();
            (it.id.clone(), Value::from(result))
        };
        let mut results = serde_json::Map::new();
        for (id, result) in ended.map(result) {
            // A step that is done for several things has failed where it failed for one.
            let is_good = |it: &Value| it["state"] == StepState::Succeeded.as_str();
            if results.get(&id).is_none_or(is_good) {
                results.insert(id, result);
            }
        }
        results.into()
    }

    /// Takes values over as parameters; one that does not fit its pattern sets none.
    pub(super) fn set(&mut self, values: &BTreeMap<String, Parameter>) -> Result<String, String> {
        let results = self.results();
        let over =
            Values { context: &self.context, parameters: &self.parameters, steps: Some(&results) };
        let mut set = BTreeMap::new();
        for (name, parameter) in values {
            let value = template::render_over(&parameter.value, &over)
                .and_then(|it| super::start::check_value(&it, &parameter.pattern).map(|()| it))
                .map_err(|error| format!("`{name}`: {error}"))?;
            set.insert(name.clone(), value);
        }
        let names: Vec<&str> = set.keys().map(String::as_str).collect();
        let detail = format!("set {}", names.join(", "));
        self.parameters.append(&mut set);
        Ok(detail)
    }

    /// What an action does, with every template filled in.
    pub(super) fn rendered(&self, index: usize, action: &Action) -> Result<Action, String> {
        let parameters = self.parameters_of(index);
        let fill = |text: &String| template::render(text, &self.context, &parameters);
        Ok(match action {
            Action::Command { argv, bounds } => Action::Command {
                argv: rules::arguments(argv, &fill, &parameters)?,
                bounds: Box::new(filled(bounds, &fill)?),
            },
            Action::Http { method, url, headers, body, expect_status } => Action::Http {
                method: method.clone(),
                url: fill(url)?,
                headers: (headers.iter())
                    .map(|(name, value)| Ok((name.clone(), fill(value)?)))
                    .collect::<Result<_, String>>()?,
                body: body.as_ref().map(fill).transpose()?,
                expect_status: expect_status.clone(),
            },
            Action::Query { source, promql, assert } => Action::Query {
                source: source.clone(),
                promql: fill(promql)?,
                assert: assert.clone(),
            },
            Action::Notify { receiver, text } => {
                Action::Notify { receiver: receiver.clone(), text: fill(text)? }
            }
            Action::Approval(approval) => {
                let text = fill(&approval.text)?;
                Action::Approval(Box::new(Approval { text, ..approval.as_ref().clone() }))
            }
            Action::Tool(run) => Action::Command {
                argv: run.tool.argv(&fill, &parameters)?,
                bounds: Box::new(filled(&run.bounds, &fill)?),
            },
            Action::Runbook { runbook, parameters } => Action::Runbook {
                runbook: runbook.clone(),
                parameters: (parameters.iter())
                    .map(|(name, value)| Ok((name.clone(), fill(value)?)))
                    .collect::<Result<_, String>>()?,
            },
            Action::Change(note) => Action::Change(Box::new(ChangeNote {
                title: fill(&note.title)?,
                service: fill(&note.service)?,
                environment: fill(&note.environment)?,
                version: fill(&note.version)?,
            })),
            Action::Wait { .. } | Action::Set { .. } => action.clone(),
        })
    }
}

/// Bounds with every template filled in.
fn filled(
    bounds: &Bounds,
    fill: &dyn Fn(&String) -> Result<String, String>,
) -> Result<Bounds, String> {
    let variable = |(name, value): (&String, &SecretText)| {
        let value = match value {
            SecretText::Text(text) => SecretText::Text(fill(text)?),
            SecretText::File(_) | SecretText::Env(_) => value.clone(),
        };
        Ok((name.clone(), value))
    };
    Ok(Bounds {
        directory: bounds.directory.as_ref().map(fill).transpose()?,
        environment: bounds.environment.iter().map(variable).collect::<Result<_, String>>()?,
        limits: bounds.limits.clone(),
        user: bounds.user.clone(),
        stdin: bounds.stdin.as_ref().map(fill).transpose()?,
        paths: bounds.paths.clone(),
    })
}
