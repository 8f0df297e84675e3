//! How results are printed: tables for people, JSON and YAML for programs.

use super::failure::{Failure, Result};
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Makes the text for people from an answer, with ages as of a time.
pub type Render = fn(&Value, Timestamp) -> String;

/// The width that the last column of a table, the title, gets before others are left out.
const TITLE_WIDTH_MIN: u16 = 24;

/// The form in which results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Text for people
    #[default]
    Table,
    /// What the server sent
    Json,
    /// The same as YAML
    Yaml,
}

/// The option that every listing has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputArgument {
    /// The form of the output: table, json or yaml
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    pub output: Output,
}

/// Writes to standard output, with a line end.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Says something to the person at the terminal, beside the data.
pub fn say(text: &str) {
    // When nobody can hear us any more there is nobody to tell.
    writeln!(std::io::stderr().lock(), "{text}").unwrap_or(());
}

/// Prints an answer in the form that was asked for.
pub fn show(value: &Value, output: Output, render: Render) -> Result<()> {
    print(&document(value, output, render)?)
}

/// Prints a listing; says so when it is empty or goes on.
pub fn list(listing: &Value, output: Output, render: Render) -> Result<()> {
    if output == Output::Table {
        if items(listing).is_empty() {
            say("nothing found");
            return Ok(());
        }
        show(listing, output, render)?;
        if listing.get("next_cursor").is_some_and(|it| !it.is_null()) {
            say("there are more; raise `--limit` to see them");
        }
        return Ok(());
    }
    show(listing, output, render)
}

/// The text of an answer.
pub fn document(value: &Value, output: Output, render: Render) -> Result<String> {
    match output {
        Output::Table => Ok(render(value, Timestamp::now())),
        Output::Json => serde_json::to_string_pretty(value)
            .map_err(|error| Failure::BadReply(error.to_string())),
        Output::Yaml => {
            serde_saphyr::to_string(value).map_err(|error| Failure::BadReply(error.to_string()))
        }
    }
}

/// The entries of a listing.
pub fn items(listing: &Value) -> &[Value] {
    entries(listing, "items")
}

/// The entries of a list inside an object; none when it is absent.
pub fn entries<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A field as text for people; empty when it is absent. Lists are joined by commas.
pub fn field(value: &Value, name: &str) -> String {
    value.get(name).map(text).unwrap_or_default()
}

/// A value as text for people.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{}={}", plain(name), text(value)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Text that does nothing to a terminal: what senders write is hostile. Control characters and
/// those that turn the direction of writing are shown by their number.
pub fn plain(text: &str) -> String {
    let turns = |it: char| matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            '\r' => {}
            it if it.is_control() || turns(it) => out.extend(it.escape_default()),
            it => out.push(it),
        }
    }
    out
}

/// Seconds as people say them: `40s`, `2m`, `3h`, `5d`.
pub fn seconds(seconds: i64) -> String {
    match seconds.max(0) {
        it @ ..60 => format!("{it}s"),
        it @ ..3_600 => format!("{}m", it / 60),
        it @ ..172_800 => format!("{}h", it / 3_600),
        it => format!("{}d", it / 86_400),
    }
}

/// How long ago the time in a field was; empty when it is absent.
pub fn age(value: &Value, name: &str, now: Timestamp) -> String {
    time(value, name).map(|at| seconds(now.duration_since(at).as_secs())).unwrap_or_default()
}

/// The time left until, or gone since, the time in a field: `3m left`, `2m over`.
pub fn due(value: &Value, name: &str, now: Timestamp) -> String {
    let Some(at) = time(value, name) else { return String::new() };
    let left = at.duration_since(now);
    if left >= SignedDuration::ZERO {
        format!("{} left", seconds(left.as_secs()))
    } else {
        format!("{} over", seconds(-left.as_secs()))
    }
}

/// The time in a field to the second, which is all that people read; empty when it is absent.
pub fn moment(value: &Value, name: &str) -> String {
    match time(value, name) {
        Some(at) => format!("{at:.0}"),
        None => field(value, name),
    }
}

/// A count with its noun.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The time in a field, if there is one.
pub fn time(value: &Value, name: &str) -> Option<Timestamp> {
    value.get(name)?.as_str()?.parse().ok()
}

/// A table without borders. In a terminal each row is one line: the last column, the title, gives
/// way first, then the columns before it are left out; `-o json` always tells all.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let text = table_within(terminal_width(), header, rows);
    if !colours() {
        return text;
    }
    match text.split_once('\n') {
        Some((first, rest)) => format!("\u{1b}[1m{first}\u{1b}[0m\n{rest}"),
        None => text,
    }
}

fn table_within(width: Option<u16>, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.to_vec());
    table.set_truncation_indicator("…");
    for row in rows {
        let cells = row.into_iter().map(|it| if it.is_empty() { "–".to_owned() } else { it });
        let mut row = Row::from(cells.map(|it| it.replace('\n', " ")).collect::<Vec<_>>());
        if width.is_some() {
            row.max_height(1);
        }
        table.add_row(row);
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    let widths = table.column_max_content_widths();
    let others = widths.split_last().map_or(&[][..], |(_, others)| others);
    let shown = width.map_or(others.len(), |it| columns_that_fit(others, it));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index < shown {
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else if index < others.len() {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    table.load_style(comfy_table::presets::NOTHING);
    let lines: Vec<String> = table.lines().map(|it| it.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// How many columns fit beside the title; those nearest to it go first, the id stays.
fn columns_that_fit(widths: &[u16], terminal: u16) -> usize {
    let mut left = terminal.saturating_sub(TITLE_WIDTH_MIN);
    let fitting = widths.iter().take_while(|it| {
        let needed = it.saturating_add(2);
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    });
    fitting.count().max(1)
}

/// Lines of names and values; those without a value are left out.
pub fn card(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let below = format!("\n{:width$}  ", "");
    let told = fields.iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| format!("{name:width$}  {}\n", value.trim_end().replace('\n', &below)))
        .collect::<Vec<_>>()
        .concat()
}

/// A part of a text for people, under its own title; empty when there is nothing in it.
pub fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let body: Vec<String> = lines.iter().map(|it| format!("  {}", indented(it))).collect();
    format!("\n{title}\n{}\n", body.join("\n"))
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

/// Whether colours are wanted on standard output.
fn colours() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}

/// Whether `NO_COLOR` is unset or empty (<https://no-color.org>).
pub fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// The columns of the terminal that standard output is, if it is one.
fn terminal_width() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seconds_are_rounded_to_one_unit() {
        for (count, expected) in [
            (-3, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (7_200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(seconds(count), expected);
        }
    }

    #[test]
    fn times_are_shown_against_now() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let value = json!({"at": "2026-01-01T00:08:00Z", "due": "2026-01-01T00:10:30Z", "x": 1});
        assert_eq!(age(&value, "at", now), "2m");
        let precise = json!({"at": "2026-01-01T00:08:00.123456789Z"});
        assert_eq!(moment(&precise, "at"), "2026-01-01T00:08:00Z");
        assert_eq!(
            (counted(1, "alert"), counted(2, "alert")),
            ("1 alert".into(), "2 alerts".into())
        );
        assert_eq!(age(&value, "x", now), "");
        assert_eq!(due(&value, "due", now), "30s left");
        assert_eq!(due(&value, "at", now), "2m over");
    }

    #[test]
    fn hostile_text_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\u{202e}d"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d");
        assert_eq!(plain("zwei\tWörter\r\n"), "zwei Wörter\n");
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let row = ["INC-1", "open", "a very long title that does not fit into any terminal at all"];
        let rows = || vec![row.map(str::to_owned).to_vec()];
        let header = ["ID", "STATE", "TITLE"];
        let wide = table_within(None, &header, rows());
        assert_eq!(wide.lines().next(), Some("ID     STATE  TITLE"));
        assert!(wide.contains("at all"), "{wide}");
        for width in [30, 40, 72, 80] {
            let text = table_within(Some(width), &header, rows());
            assert_eq!(text.lines().count(), 2, "{text}");
            let longest = text.lines().map(|it| it.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width), "{width}: {longest}\n{text}");
            assert!(text.contains("INC-1  "), "{width}\n{text}");
        }
        assert!(table_within(Some(40), &header, rows()).contains('…'));
    }

    #[test]
    fn many_columns_share_a_narrow_terminal() {
        let header = ["ID", "PRI", "STATE", "AGE", "ALERTS", "SERVICES", "SLA", "OWNER", "TITLE"];
        let row = [
            "INC-313",
            "P1",
            "acknowledged",
            "2m",
            "118",
            "recommendations +6",
            "ack 3m left",
            "–",
            "PostgresDown on orders-db takes everything along",
        ];
        for width in [60, 80, 100, 140] {
            let text = table_within(Some(width), &header, vec![row.map(str::to_owned).to_vec()]);
            let longest = text.lines().map(|it| it.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width), "{width}: {longest}\n{text}");
            assert!(
                text.contains("INC-313  P1") && text.contains("PostgresDown"),
                "{width}\n{text}"
            );
        }
    }

    #[test]
    fn documents_have_three_forms() {
        let value = json!({"items": [{"id": "INC-1", "on": "no"}], "next_cursor": null});
        let render: Render = |it, _| field(&items(it)[0], "id");
        assert_eq!(document(&value, Output::Table, render).unwrap(), "INC-1");
        let text = document(&value, Output::Json, render).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let text = document(&value, Output::Yaml, render).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn a_card_leaves_out_what_is_empty() {
        let fields = [("id", "1".to_owned()), ("owner", String::new()), ("why", "a\nb".to_owned())];
        assert_eq!(card(&fields), "id     1\nwhy    a\n       b\n");
    }

    #[test]
    fn any_value_becomes_text() {
        for (value, expected) in [
            (json!(null), ""),
            (json!("a"), "a"),
            (json!(3), "3"),
            (json!(["a", 1]), "a, 1"),
            (json!({"a": "b"}), "a=b"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
