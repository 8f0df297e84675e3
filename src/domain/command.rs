//! Commands: what people and programs may tell us to do, and who carries it out.

use super::event::Command;
use super::execution::{ExecutionState, Person};
use super::label::Fingerprint;
use super::planted::{self, Bug};
use super::problem::KnownError;
use super::rules::RuleSet;
use super::silence::Silence;
use super::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;
use std::sync::Arc;

impl State {
    /// Carries out a command, or says why not. A refused command changes nothing.
    pub(super) fn carry_out(&mut self, now: Timestamp, by: &str, command: &Command) -> Reply {
        let reply = self.try_to_carry_out(now, by, command);
        if reply.is_ok() {
            self.note_order(now, command);
        }
        reply
    }

    fn try_to_carry_out(&mut self, now: Timestamp, by: &str, command: &Command) -> Reply {
        match command {
            Command::AcknowledgeIncident { incident } => self.acknowledge(now, by, *incident),
            Command::AssignIncident { incident, owner } => self.assign(now, by, *incident, owner),
            Command::NoteIncident { incident, text } => self.note(now, by, *incident, text),
            Command::ResolveIncident { incident: id, reason } => self.resolve(now, by, *id, reason),
            Command::ReopenIncident { incident, reason } => self.reopen(now, by, *incident, reason),
            Command::MergeIncidents { into, from } => self.merge_and_learn(now, by, *into, from),
            Command::SplitIncident { incident, alerts } => {
                self.split_and_learn(now, by, *incident, alerts)
            }
            Command::LinkIncident { incident, parent } => {
                self.link_incident(now, by, *incident, *parent)
            }
            Command::UnlinkIncident { incident } => self.unlink_incident(now, by, *incident),
            Command::LockIncident { incident, reason } => {
                self.lock_incident(now, by, *incident, reason)
            }
            Command::UnlockIncident { incident } => self.unlock_incident(now, by, *incident),
            Command::SetSilence { .. } => self.set_silence_by(now, command),
            Command::ExpireSilence { id } => self.expire_silence(now, id),
            Command::PauseHeartbeat { heartbeat } => self.pause_heartbeat(now, by, heartbeat),
            Command::ResumeHeartbeat { heartbeat } => self.resume_heartbeat(now, by, heartbeat),
            Command::AddChange { source, change } => {
                let id = self.receive_change(now, source, change);
                Ok(Accepted::Object(ObjectKey::Change(id)))
            }
            Command::AddFreeze { terms } => self.add_freeze(now, by, terms),
            Command::EndFreeze { freeze } => self.end_freeze(now, by, freeze),
            Command::RunRunbook { runbook, parameters, incident, dry_run, emergency } => {
                let order = (runbook.as_str(), *incident, *dry_run, *emergency);
                self.run_runbook(now, by, order, parameters)
            }
            Command::ApproveExecution { execution, role } => {
                self.approve(now, *execution, &Person { by, role: *role })
            }
            Command::DenyExecution { execution, role, reason } => {
                self.deny(now, *execution, &Person { by, role: *role }, reason)
            }
            Command::AbortExecution { execution, reason } => {
                self.abort(now, by, *execution, reason)
            }
            Command::StopRunbooks { reason } => {
                self.stop_runbooks(now, by, reason);
                Ok(Accepted::Done)
            }
            Command::ResumeRunbooks => self.resume_runbooks(),
            Command::StopRunbook { runbook, reason } => self.stop_runbook(now, by, runbook, reason),
            Command::ResumeRunbook { runbook } => self.resume_runbook(runbook),
            Command::DetectProblems => self.detect_now(now),
            Command::AcceptProblem { problem } => self.accept_problem(now, by, *problem),
            Command::RejectProblem { problem, reason } => {
                self.reject_problem(now, by, *problem, reason)
            }
            Command::CloseProblem { problem, reason } => {
                self.close_problem(now, by, *problem, reason)
            }
            Command::DeclareKnownError { problem, cause, workaround, runbook } => {
                let known = KnownError { cause, workaround, runbook: runbook.as_deref() };
                self.declare_known_error(now, by, *problem, &known)
            }
            Command::PlanFix { problem, change } => self.plan_fix(now, by, *problem, *change),
            Command::SetArticle { article } => self.set_article(now, by, article),
            Command::RemoveArticle { article } => self.remove_article(now, article),
            Command::RateKnowledge { subject, incident, helped } => {
                self.rate_knowledge(now, by, subject, (*incident, *helped))
            }
            Command::LinkProblem { problem, incident } => {
                self.link_problem(now, by, *problem, *incident)
            }
        }
    }

    fn set_silence_by(&mut self, now: Timestamp, command: &Command) -> Reply {
        let Command::SetSilence {
            new_id,
            replaces,
            matchers,
            starts_at,
            ends_at,
            created_by,
            comment,
        } = command
        else {
            return Err(Refusal::Invalid("not a silence".to_owned()));
        };
        let silence = Silence {
            id: new_id.as_str().into(),
            matchers: matchers.clone(),
            starts_at: *starts_at,
            ends_at: *ends_at,
            updated_at: now,
            created_by: created_by.clone(),
            comment: comment.clone(),
            from_file: false,
            time_intervals: Vec::new(),
            alert_count: 0,
            warned_at: None,
        };
        self.set_silence(now, silence, replaces.as_deref())
    }

    fn resume_runbooks(&mut self) -> Reply {
        if self.memory.stopped.take().is_none() {
            return Err(Refusal::WrongState("runbooks are not stopped".to_owned()));
        }
        self.changes.objects.insert(ObjectKey::Memory);
        Ok(Accepted::Done)
    }

    /// Takes new rules. What was decided stays; what waits for a person stays as it was asked.
    pub(super) fn load_rules(&mut self, now: Timestamp, rules: &Arc<RuleSet>) {
        let mut rules = rules.clone();
        if planted::is(Bug::ReloadHalfDone) {
            Arc::make_mut(&mut rules).correlations.clone_from(&self.rules.correlations);
        }
        let asks_graph = rules.inhibitions.iter().any(|it| it.topology.is_some());
        let holds_differ = self.rules.inhibitions != rules.inhibitions
            || self.rules.maintenance != rules.maintenance
            || asks_graph && self.rules.catalog != rules.catalog;
        if self.rules.catalog != rules.catalog {
            self.unbound = super::item::UnboundAlerts::default();
        }
        let before = std::mem::replace(&mut self.rules, rules);
        // A start loads most often what is there already.
        if before != self.rules {
            self.changes.objects.insert(ObjectKey::Rules);
        }
        if holds_differ {
            self.rebuild_inhibitions();
            self.forget_maintenance();
        }
        if before.catalog != self.rules.catalog {
            self.rebuild_sightings();
            self.note_new_graph(now);
            self.all_may_fall_apart(now);
        }
        if before.never_together != self.rules.never_together {
            self.keep_apart(now);
        }
        self.load_file_silences(now);
        if holds_differ {
            let alerts: Vec<Fingerprint> = self.alerts.keys().copied().collect();
            self.look_again(now, alerts);
            // An end that comes while nobody watches has still to have its effect.
            self.memory.maintenance_seen_at = Some(now);
            self.changes.objects.insert(ObjectKey::Memory);
        }
        self.load_heartbeats(now, &before);
        self.note_new_detections(now);
        self.note_new_triggers(now);
        self.watch_rates(now);
        self.set_rule_timers(now);
    }

    /// Whether a runbook is at work; for a calm stop.
    pub fn runbooks_at_work(&self) -> usize {
        self.executions.values().filter(|it| it.state == ExecutionState::Running).count()
    }
}
