//! The blast radius of runs: how much of what is known may be in their hands at a time.

use super::Execution;
use crate::domain::item::{Bindings, Catalog, ItemId, ItemKind};
use crate::domain::rules::BlastRadius;
use crate::domain::{State, template};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What a run acts on, as far as it is known.
#[derive(Default)]
struct Hands {
    items: BTreeSet<ItemId>,
    /// What is named and not known.
    strangers: Vec<String>,
}

impl State {
    /// Why a run would touch too much, too much at once, or something too important.
    pub(super) fn blast_radius_holds(&self, _: Timestamp, execution: &Execution) -> Option<String> {
        let radius = execution.runbook.guards.blast_radius.as_ref()?;
        let catalog = &*self.rules.catalog;
        let own = match self.in_hands_of(execution) {
            Ok(own) => own,
            Err(error) => return Some(format!("it cannot be told what the run acts on: {error}")),
        };
        if !radius.unknown_allowed {
            if let Some(stranger) = own.strangers.first() {
                return Some(format!("no catalog knows `{stranger}`, which the run acts on"));
            }
            if own.items.is_empty() {
                return Some("it is not known what the run acts on".to_owned());
            }
        }
        // What others hold counts with it; what cannot be told of them counts for nothing.
        let at_work = self.others(execution).filter(|it| it.holds_lock());
        let held = at_work.filter_map(|it| self.in_hands_of(it).ok()).flat_map(|it| it.items);
        let all: BTreeSet<ItemId> = held.chain(own.items.iter().copied()).collect();
        too_many(catalog, radius, &all)
            .or_else(|| too_large_a_share(catalog, radius, &own.items, &all))
            .or_else(|| too_important(catalog, radius, &own.items))
    }

    /// The items that a run acts on: those that its guard names, else those that its parameters name,
    /// else what the labels of its incident speak of.
    fn in_hands_of(&self, execution: &Execution) -> Result<Hands, String> {
        let catalog = &*self.rules.catalog;
        let radius = execution.runbook.guards.blast_radius.as_ref();
        let mut hands = Hands::default();
        if let Some(of) = radius.and_then(|it| it.of.as_ref()) {
            let text = template::render(of, &execution.context, &execution.parameters)?;
            let names = text.split(|it: char| it == ',' || it.is_whitespace());
            for name in names.filter(|it| !it.is_empty()) {
                match catalog.find(name) {
                    Some(item) => drop(hands.items.insert(item)),
                    None => hands.strangers.push(name.to_owned()),
                }
            }
            return Ok(hands);
        }
        hands.items.extend(execution.parameters.values().filter_map(|it| catalog.find(it)));
        if hands.items.is_empty() {
            let bound = catalog.bind(&execution.context.labels);
            // A host that is named with a service is where the service runs.
            hands.items.extend(bound.iter().map(|it| it.item).take(1));
        }
        if hands.items.is_empty() {
            let guess = Bindings::guess(&execution.context.labels);
            hands.strangers.extend(guess.host.or(guess.service).map(str::to_owned));
        }
        Ok(hands)
    }
}

fn too_many(catalog: &Catalog, radius: &BlastRadius, all: &BTreeSet<ItemId>) -> Option<String> {
    /// So many are named.
    const NAMED_MAX: usize = 5;
    let most = radius.items? as usize;
    let names: Vec<&str> = all.iter().take(NAMED_MAX).map(|it| catalog.name(*it)).collect();
    (all.len() > most).then(|| {
        let (count, names) = (all.len(), names.join(", "));
        format!("{count} items would be in the hands of runs at once ({names}); {most} are allowed")
    })
}

fn too_large_a_share(
    catalog: &Catalog,
    radius: &BlastRadius,
    own: &BTreeSet<ItemId>,
    all: &BTreeSet<ItemId>,
) -> Option<String> {
    let most = radius.share_percent? as usize;
    for item in own {
        for (whole, members) in shared(catalog, *item) {
            let touched = members.iter().filter(|it| all.contains(it)).count();
            if touched * 100 > most * members.len() {
                let (whole, of) = (catalog.name(whole), members.len());
                return Some(format!(
                    "{touched} of the {of} that `{whole}` has would be in the hands of runs at \
                     once; {most} % are allowed"
                ));
            }
        }
    }
    None
}

/// What an item carries a part of, each with all that carry it. Software stands for all of itself.
fn shared(catalog: &Catalog, item: ItemId) -> Vec<(ItemId, Vec<ItemId>)> {
    let is_resource = catalog.item(item).is_some_and(|it| it.kind == ItemKind::Resource);
    let residents = catalog.residents(item).iter();
    let mut shared: Vec<(ItemId, Vec<ItemId>)> =
        residents.map(|it| (*it, catalog.hosts(*it).to_vec())).collect();
    if is_resource {
        let kind = catalog.item(item).map(|it| it.item_type.clone());
        let is_like = |it: &&ItemId| catalog.item(**it).map(|it| it.item_type.clone()) == kind;
        let wholes = catalog.wholes(item).iter();
        shared.extend(wholes.map(|whole| {
            (*whole, catalog.parts(*whole).iter().filter(is_like).copied().collect())
        }));
    }
    if shared.is_empty() {
        shared.push((item, vec![item]));
    }
    shared
}

fn too_important(
    catalog: &Catalog,
    radius: &BlastRadius,
    own: &BTreeSet<ItemId>,
) -> Option<String> {
    let least = radius.tier?;
    for item in own {
        // What runs on it, what it belongs to, and what needs it directly suffers with it.
        let beside = [catalog.residents(*item), catalog.wholes(*item), catalog.dependents(*item)];
        let concerned = std::iter::once(item).chain(beside.into_iter().flatten());
        let tiers = concerned.filter_map(|it| Some((catalog.item(*it)?.tier?, *it)));
        let name = catalog.name(*item);
        match tiers.min() {
            Some((tier, important)) if tier < least => {
                let important = catalog.name(important);
                return Some(format!(
                    "`{name}` is of tier {tier}, by `{important}`; nothing above tier {least} may be \
                     touched"
                ));
            }
            None if !radius.unknown_allowed => {
                return Some(format!(
                    "no catalog tells the tier of `{name}`, nor of what needs it"
                ));
            }
            Some(_) | None => {}
        }
    }
    None
}
