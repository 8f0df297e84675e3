//! The commands on services and other configuration items: list, show, and the graph in the terminal.

use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, card, counted, entries, field, plain, section};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

/// The most items that a graph of everything is drawn of.
const GRAPH_ITEMS_MAX: usize = 2_000;

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List services, hosts and other items of the catalog
    List {
        /// Only these: component, resource, api, system, domain; several with commas
        #[arg(long, default_value = "")]
        kind: String,
        /// Only of this owner
        #[arg(long, default_value = "")]
        owner: String,
        /// Only those whose name has this in it
        #[arg(long, short, default_value = "")]
        q: String,
        /// Only those about which an alert fires
        #[arg(long)]
        firing: bool,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Show an item: who owns it, what it needs, what fires there
    Show {
        /// Its name, or `kind:namespace/name`
        name: String,
    },
    /// Draw what an item needs and what needs it; without a name, everything from the top
    Graph {
        /// Its name, or `kind:namespace/name`
        name: Option<String>,
        /// How many steps away
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
        depth: u8,
    },
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { kind, owner, q, firing, limit } => {
            let firing = if firing { "true".to_owned() } else { String::new() };
            let query = [("kind", kind), ("owner", owner), ("q", q), ("firing", firing)];
            let listing = Listing { path: &["services"], query: &query, limit };
            output::list(&client.list(&listing).await?, output, service_table)
        }
        Command::Show { name } => {
            output::show(&client.get(&["services", &name], &[]).await?, output, service_card)
        }
        Command::Graph { name: Some(name), depth } => {
            let query = [("depth", depth.to_string())];
            let graph = client.get(&["services", &name, "graph"], &query).await?;
            draw(&graph, output, |graph| Drawing::new(graph).around(depth))
        }
        Command::Graph { name: None, depth } => {
            let listing = Listing { path: &["services"], query: &[], limit: GRAPH_ITEMS_MAX };
            let all = client.list(&listing).await?;
            draw(&all, output, |all| Drawing::new(all).everything(depth))
        }
    }
}

fn draw(graph: &Value, output: Output, text: impl Fn(&Value) -> String) -> Result<()> {
    match output {
        Output::Table if output::items(graph).is_empty() => {
            output::list(graph, output, service_table)
        }
        Output::Table => output::print(&text(graph)),
        Output::Json | Output::Yaml => output::show(graph, output, service_table),
    }
}

/// How many alerts fire, or nothing.
fn firing(service: &Value) -> String {
    match field(service, "firing_count").as_str() {
        "0" => String::new(),
        count => count.to_owned(),
    }
}

fn service_table(listing: &Value, _: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let mark = if it.get("learned") == Some(&Value::Bool(true)) { "learned" } else { "" };
        let title = [field(it, "title"), mark.to_owned()];
        vec![
            field(it, "name"),
            field(it, "kind"),
            field(it, "type"),
            field(it, "owner"),
            field(it, "zone"),
            firing(it),
            field(it, "incidents"),
            title.iter().filter(|it| !it.is_empty()).cloned().collect::<Vec<_>>().join(", "),
        ]
    });
    let header = ["NAME", "KIND", "TYPE", "OWNER", "ZONE", "FIRING", "INCIDENTS", "TITLE"];
    output::table(&header, rows.collect())
}

fn service_card(service: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(service, name);
    let mut out = card(&[
        ("id", of("id")),
        ("title", of("title")),
        ("type", of("type")),
        ("owner", of("owner")),
        ("system", of("system")),
        ("lifecycle", of("lifecycle")),
        ("tier", of("tier")),
        ("zone", of("zone")),
        ("labels", of("labels")),
        ("firing", firing(service)),
        ("incidents", of("incidents")),
        ("written", format!("{}:{}", of("file"), of("line"))),
    ]);
    for (name, title) in [
        ("depends_on", "needs"),
        ("hosts", "runs on"),
        ("dependents", "needed by"),
        ("residents", "runs here"),
        ("part_of", "part of"),
        ("parts", "parts"),
        ("alerts", "alerts that fire"),
    ] {
        let lines: Vec<String> = entries(service, name).iter().map(output::text).collect();
        out.push_str(&section(title, &lines));
    }
    out
}

/// The signs that a tree is drawn with.
struct Signs {
    branch: &'static str,
    last: &'static str,
    trunk: &'static str,
    fires: &'static str,
}

const LINES: Signs = Signs { branch: "├─ ", last: "└─ ", trunk: "│  ", fires: "●" };
const ASCII: Signs = Signs { branch: "|- ", last: "`- ", trunk: "|  ", fires: "!" };

/// Lines where a person looks at a terminal that knows them, else plain signs.
fn signs() -> &'static Signs {
    let set = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let knows_lines = locale.is_some_and(|it| {
        let it = it.to_ascii_lowercase();
        it.contains("utf-8") || it.contains("utf8")
    });
    if knows_lines && std::io::stdout().is_terminal() { &LINES } else { &ASCII }
}

/// Where a tree grows: the fields that name the next items.
type Ways = [&'static str; 2];
const DOWN: Ways = ["depends_on", "hosts"];
const UP: Ways = ["dependents", "residents"];

/// Draws items of a listing as trees.
struct Drawing<'a> {
    items: &'a [Value],
    by_id: BTreeMap<String, &'a Value>,
    signs: &'static Signs,
}

impl<'a> Drawing<'a> {
    fn new(listing: &'a Value) -> Self {
        let items = output::items(listing);
        let by_id = items.iter().map(|it| (field(it, "id"), it)).collect();
        Self { items, by_id, signs: signs() }
    }

    /// The first item, with what it needs and what needs it.
    fn around(&self, depth: u8) -> String {
        let Some(root) = self.items.first() else { return String::new() };
        let mut out = format!("{}\n", self.line(root));
        for (ways, title) in [(DOWN, "needs"), (UP, "is needed by")] {
            let mut lines = Vec::new();
            let mut drawn = BTreeSet::from([field(root, "id")]);
            self.grow(&mut lines, &mut drawn, (root, ways, depth), "");
            if !lines.is_empty() {
                out.extend(["\n", title, "\n", &lines.join("\n"), "\n"]);
            }
        }
        out
    }

    /// Every item that nothing needs, with what it needs. Where all of them need each other, the first
    /// is the top.
    fn everything(&self, depth: u8) -> String {
        let mut out = Vec::new();
        let mut drawn = BTreeSet::new();
        let is_top = |it: &&Value| {
            UP.iter().all(|way| entries(it, way).is_empty())
                && DOWN.iter().any(|way| !entries(it, way).is_empty())
        };
        let tops = self.items.iter().filter(is_top);
        for item in tops.chain(self.items) {
            if drawn.insert(field(item, "id")) {
                out.push(self.line(item));
                self.grow(&mut out, &mut drawn, (item, DOWN, depth), "");
                self.note_below(item, &mut drawn);
            }
        }
        out.join("\n")
    }

    /// What is too deep to be drawn is no top either.
    fn note_below(&self, item: &Value, drawn: &mut BTreeSet<String>) {
        let mut seen = BTreeSet::new();
        let mut edge = vec![item];
        while let Some(item) = edge.pop() {
            let below = DOWN.iter().flat_map(|it| entries(item, it)).map(output::text);
            let new: Vec<String> = below.filter(|it| seen.insert(it.clone())).collect();
            edge.extend(new.iter().filter_map(|it| self.by_id.get(it).copied()));
        }
        drawn.append(&mut seen);
    }

    /// Draws what is below an item; what stands there already is only named.
    fn grow(
        &self,
        out: &mut Vec<String>,
        drawn: &mut BTreeSet<String>,
        (item, ways, depth): (&Value, Ways, u8),
        indent: &str,
    ) {
        if depth == 0 {
            return;
        }
        let below: Vec<String> =
            ways.iter().flat_map(|it| entries(item, it)).map(output::text).collect();
        for (place, id) in below.iter().enumerate() {
            let is_last = place + 1 == below.len();
            let sign = if is_last { self.signs.last } else { self.signs.branch };
            let Some(next) = self.by_id.get(id) else {
                out.push(format!("{indent}{sign}{} ...", short(id)));
                continue;
            };
            let is_new = drawn.insert(id.clone());
            let has_more = ways.iter().any(|it| !entries(next, it).is_empty());
            let again = if is_new || !has_more { "" } else { " (above)" };
            out.push(format!("{indent}{sign}{}{again}", self.line(next)));
            if is_new {
                let trunk = if is_last { "   " } else { self.signs.trunk };
                self.grow(out, drawn, (next, ways, depth - 1), &format!("{indent}{trunk}"));
            }
        }
    }

    /// An item in a line: `cart (service, shop) ! 2 alerts INC-3`.
    fn line(&self, item: &Value) -> String {
        let kind = match field(item, "type") {
            it if it.is_empty() => field(item, "kind"),
            it => it,
        };
        let owner = field(item, "owner");
        let told = if owner.is_empty() { kind } else { format!("{kind}, {owner}") };
        let count = item.get("firing_count").and_then(Value::as_u64).unwrap_or_default();
        let mut line = format!("{} ({told})", field(item, "name"));
        if count > 0 {
            let count = counted(usize::try_from(count).unwrap_or(usize::MAX), "alert");
            let incidents = field(item, "incidents");
            line.extend([" ", self.signs.fires, " ", &count, " ", &incidents]);
        }
        plain(line.trim_end()).replace('\n', " ")
    }
}

/// The name in `component:default/cart`.
fn short(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(name: &str, down: &[&str], up: &[&str], firing: u64) -> Value {
        let ids = |it: &[&str]| it.iter().map(|it| format!("c:d/{it}")).collect::<Vec<_>>();
        json!({
            "id": format!("c:d/{name}"), "name": name, "kind": "component", "type": "service",
            "owner": "shop", "firing_count": firing, "hosts": [], "residents": [],
            "incidents": if firing > 0 { vec!["INC-1"] } else { vec![] },
            "depends_on": ids(down), "dependents": ids(up), "learned": name == "web",
        })
    }

    fn shop() -> Value {
        json!({"items": [
            item("cart", &["db", "rank"], &["web"], 2),
            item("db", &[], &["cart", "rank"], 0),
            item("rank", &["db", "cart"], &["cart"], 0),
            item("web", &["cart", "far"], &[], 0),
        ]})
    }

    #[test]
    fn a_graph_is_a_tree_each_way() {
        let text = Drawing { signs: &ASCII, ..Drawing::new(&shop()) }.around(3);
        let expected = "\
cart (service, shop) ! 2 alerts INC-1

needs
|- db (service, shop)
`- rank (service, shop)
   |- db (service, shop)
   `- cart (service, shop) ! 2 alerts INC-1 (above)

is needed by
`- web (service, shop)
";
        assert_eq!(text, expected);
        let text = Drawing { signs: &LINES, ..Drawing::new(&shop()) }.around(1);
        assert!(text.contains("├─ db") && !text.contains("(above)"), "{text}");
    }

    #[test]
    fn everything_is_drawn_from_the_top_once() {
        let text = Drawing { signs: &ASCII, ..Drawing::new(&shop()) }.everything(9);
        assert!(text.starts_with("web (service, shop)\n|- cart"), "{text}");
        assert!(text.contains("`- far ..."), "{text}");
        assert_eq!(text.lines().filter(|it| !it.starts_with(['|', '`', ' '])).count(), 1, "{text}");
    }

    #[test]
    fn people_see_what_fires_and_what_was_learned() {
        let table = service_table(&shop(), Timestamp::UNIX_EPOCH);
        for part in ["cart  component  service  shop", "INC-1", "learned"] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
        let card = service_card(&item("a\u{1b}[2J", &["db"], &[], 1), Timestamp::UNIX_EPOCH);
        assert!(!card.contains('\u{1b}') && card.contains("needs\n  c:d/db"), "{card}");
    }
}
