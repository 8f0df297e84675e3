//! The OpenAPI document: made from the table of routes and the schemas beside this file.

use super::access::word;
use super::doors;
use super::error::ApiError;
use super::routes::{self, Answer, Operation};
use axum::Json;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Our objects as JSON Schema, written by hand. The tests of each view compare.
const SCHEMAS: &str = include_str!("schemas.json");

/// Parts of the page, which no program asks for.
const PAGE_FILES: [&str; 4] = ["/", "/page.css", "/page.js", "/icon.svg"];

static DOCUMENT: LazyLock<Result<Value, String>> = LazyLock::new(|| {
    let schemas: Value = serde_json::from_str(SCHEMAS).map_err(|error| error.to_string())?;
    Ok(document(&routes::operations(), &schemas))
});

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/api/v1/openapi.json",
        "Shows this document",
        Answer::Other("application/json"),
        show,
    )]
}

async fn show() -> Result<Json<&'static Value>, ApiError> {
    match &*DOCUMENT {
        Ok(document) => Ok(Json(document)),
        Err(error) => Err(ApiError::unavailable(format!("the document cannot be made: {error}"))),
    }
}

/// Makes the document.
fn document(operations: &[Operation], schemas: &Value) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for it in operations.iter().filter(|it| !PAGE_FILES.contains(&it.path)) {
        let verbs = paths.entry(it.path).or_insert_with(|| json!({}));
        if let Some(verbs) = verbs.as_object_mut() {
            verbs.insert(it.method.as_str().to_lowercase(), operation(it));
        }
    }
    for it in &doors::ROUTES {
        let verbs = paths.entry(it.path).or_insert_with(|| json!({}));
        if let Some(verbs) = verbs.as_object_mut() {
            verbs.insert(it.method.to_owned(), doors::operation(it));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Watchkeeper",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are RFC 3339 in UTC, durations whole seconds. Listings are \
                `{\"items\":[…],\"next_cursor\":…}`. Commands need `content-type: application/json` \
                and, when no tokens are configured, a `by` in the body. Paths outside of `/api/v1` take \
                the formats of others; Alertmanager's API, at `/api/v2`, has its own document.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(it: &Operation) -> Value {
    let mut value = json!({
        "summary": it.summary,
        "operationId": operation_id(it),
        "responses": responses(it),
    });
    let Some(object) = value.as_object_mut() else { return value };
    let parameters = parameters(it);
    if !parameters.is_empty() {
        object.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(request) = it.request {
        let content = json!({"application/json": {"schema": reference(request)}});
        object.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    let security = match it.role {
        Some(role) => {
            object.insert("x-role".to_owned(), json!(word(role)));
            json!([{"token": []}, {}])
        }
        None => json!([]),
    };
    object.insert("security".to_owned(), security);
    value
}

/// For example `post_incidents_id_ack`; unique by method and path.
fn operation_id(it: &Operation) -> String {
    let path = it.path.trim_start_matches("/api/v1");
    let mut id = it.method.as_str().to_lowercase();
    for part in path.split(['/', '.', '-']).filter(|it| !it.is_empty()) {
        id.push('_');
        id.push_str(part.trim_matches(['{', '}']));
    }
    id
}

fn parameters(it: &Operation) -> Vec<Value> {
    let string = json!({"type": "string"});
    let in_path =
        it.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(
            |name| {
                let schema = path_schema(it.path);
                json!({"name": name, "in": "path", "required": true, "schema": schema})
            },
        );
    let in_query = it.query.iter().map(|(name, meaning)| {
        let schema = if *name == "limit" {
            json!({"type": "integer", "minimum": 1, "default": 100})
        } else {
            string.clone()
        };
        json!({"name": name, "in": "query", "description": meaning, "schema": schema})
    });
    in_path.chain(in_query).collect()
}

/// How what stands in a path is written.
fn path_schema(path: &str) -> Value {
    let pattern = match path.split('/').nth(3) {
        Some("incidents") => "^INC-[0-9]{1,18}$",
        Some("executions") => "^EXE-[0-9]{1,18}$",
        Some("problems") => "^PRB-[0-9]{1,18}$",
        Some("changes") => "^CHG-[0-9]{1,18}$",
        Some("alerts") => "^[0-9a-f]{16}$",
        Some("explain") => "^((INC|EXE|PRB|CHG|NTF)-[0-9]{1,18}|[0-9a-f]{16})$",
        // The names that people give have no form of their own.
        _ => return json!({"type": "string", "minLength": 1}),
    };
    json!({"type": "string", "pattern": pattern})
}

/// The statuses of refusals, and what they mean.
fn refusals(it: &Operation) -> Vec<(&'static str, &'static str)> {
    let is_command = it.request.is_some();
    let names_one = it.path.contains('{');
    let takes_input = is_command || names_one || !it.query.is_empty();
    [
        (takes_input, "400", "What was sent cannot be right"),
        (it.role.is_some(), "401", "A token is needed"),
        (true, "403", "The token's role, the host or the origin does not allow it"),
        (names_one, "404", "There is no such thing"),
        (is_command, "409", "Its state does not allow it, or not any more"),
        (is_command, "413", "The body is too large"),
        (is_command, "415", "The body is no JSON"),
        (is_command, "422", "It makes no sense as things are"),
        (true, "503", "Not now; try again after `Retry-After`"),
    ]
    .into_iter()
    .filter_map(|(can_be, status, meaning)| can_be.then_some((status, meaning)))
    .collect()
}

fn responses(it: &Operation) -> Value {
    let content = match it.response {
        Answer::Json(name) => json!({"application/json": {"schema": reference(name)}}),
        Answer::Page(name) => json!({"application/json": {"schema": {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": reference(name)},
                "next_cursor": {"type": ["string", "null"]},
            },
        }}}),
        Answer::Other(media_type) => json!({media_type: {}}),
    };
    let error = json!({"schema": reference("Error")});
    // Load balancers are told in plain text that we are not ready.
    let is_plain = matches!(it.response, Answer::Other("text/plain"));
    let refused = refusals(it).into_iter().map(|(status, meaning)| {
        let content = if is_plain && status == "503" {
            json!({"application/json": error, "text/plain": {}})
        } else {
            json!({"application/json": error})
        };
        (status.to_owned(), json!({"description": meaning, "content": content}))
    });
    let done = ("200".to_owned(), json!({"description": "Done", "content": content}));
    Value::Object(std::iter::once(done).chain(refused).collect())
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Panics unless the JSON of a view has exactly the properties of a schema, all of them declared
/// as required (a timeline, which listings leave out, excepted), and of a declared type.
#[cfg(test)]
pub(super) fn assert_schema(name: &str, json: &Value) {
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("schemas.json is JSON");
    let schema = &schemas[name];
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("no schema {name}"));
    let keys = |it: &Map<String, Value>| {
        it.keys().cloned().collect::<std::collections::BTreeSet<String>>()
    };
    let object = json.as_object().unwrap_or_else(|| panic!("{name} is no object: {json}"));
    assert_eq!(keys(object), keys(properties), "{name}: view on the left, schema on the right");
    for (key, value) in object {
        let declared = properties[key]["type"].clone();
        let actual = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = match &declared {
            Value::String(one) => one == actual,
            Value::Array(some) => some.iter().any(|it| it == actual),
            // A reference: an object with a schema of its own, or one of several.
            _ => true,
        };
        assert!(fits, "{name}.{key} is {actual}, the schema says {declared}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(text)) = object.get("$ref") {
                    found.insert(text.trim_start_matches("#/components/schemas/").to_owned());
                }
                object.values().for_each(|it| references(it, found));
            }
            Value::Array(array) => array.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_id_is_unique() {
        let document = DOCUMENT.as_ref().unwrap();
        let mut used = BTreeSet::new();
        references(document, &mut used);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let known: BTreeSet<String> = schemas.keys().cloned().collect();
        assert_eq!(used, known, "used on the left, written on the right");
        let operations = routes::operations();
        let ids: BTreeSet<String> = operations.iter().map(operation_id).collect();
        assert_eq!(ids.len(), operations.len());
    }

    #[test]
    fn the_document_is_as_it_was_read_last() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let text = serde_json::to_string_pretty(DOCUMENT.as_ref().unwrap()).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == text, "docs/openapi.json is old; UPDATE_GOLDEN=1 writes it anew");
    }
}
