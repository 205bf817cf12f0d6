//! The description of the API compared with that of FirecREST v2: every operation, its
//! parameters, statuses and the fields of its bodies. Each difference is listed with its
//! reason. FirecREST's description lies beside this repository, not in it: without it the
//! test says that it is skipped.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

/// What is different on purpose: the operation, the beginning of the field, why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "get /status/{system_name}/userinfo",
        "+answer.groups[].default",
        "clients of version 2.6 read it",
    ),
    (
        "get /status/systems",
        "+answer.systems[].dataOperation.data_transfers",
        "extension: several transfer methods for one system",
    ),
    (
        "get /status/systems",
        "+answer.systems[].dataOperation.data_transfer.mailboxUrl",
        "extension: a wormhole mailbox of one's own",
    ),
    (
        "get /status/systems",
        "+answer.systems[].dataOperation.data_transfer.transitRelay",
        "extension: a wormhole relay of one's own",
    ),
    (
        "get /status/systems",
        "+answer.systems[].probing.services.",
        "the probes are described by name, there as a map",
    ),
    (
        "get /status/systems",
        "-answer.systems[].probing.services{}",
        "the probes are described by name, there as a map",
    ),
    (
        "*/filesystem/{system_name}/transfer/",
        "+request.path",
        "sourcePath, source_path and path are all accepted; clients send path",
    ),
    (
        "*/filesystem/{system_name}/transfer/",
        "-request.sourcePath",
        "sourcePath, source_path and path are all accepted; clients send path",
    ),
    (
        "post /filesystem/{system_name}/transfer/download",
        "+request.transferDirectives.wormholeCode",
        "one description of the directives for both directions",
    ),
    (
        "*/filesystem/{system_name}/transfer/",
        "+request.transferDirectives.existing",
        "extension: uploads to what exists",
    ),
];

/// Operations that FirecREST does not have.
const EXTENSIONS: &[&str] = &["get /filesystem/{system_name}/transfer/{job_id}"];

#[test]
fn the_description_agrees_with_the_contract_but_for_what_is_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/contract/openapi.json");
    let Ok(contract) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let theirs = Description(serde_json::from_str(&contract).unwrap());
    let ours = Description(serde_json::from_str(&api_server::openapi::text()).unwrap());
    let names = |description: &Description| -> BTreeSet<String> {
        description
            .operations()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    let (our_names, their_names) = (names(&ours), names(&theirs));
    let missing: Vec<_> = their_names.difference(&our_names).collect();
    assert!(
        missing.is_empty(),
        "operations that are not served: {missing:?}"
    );
    let new = our_names.difference(&their_names).map(String::as_str);
    let unlisted: Vec<_> = new.filter(|name| !EXTENSIONS.contains(name)).collect();
    assert!(
        unlisted.is_empty(),
        "operations that the contract does not have: {unlisted:?}"
    );

    let mut surprises = Vec::new();
    let mut used = BTreeSet::new();
    for (name, operation) in theirs.operations() {
        let facts = theirs.facts(&operation);
        let own = ours.operations().into_iter().find(|(own, _)| *own == name);
        let own = ours.facts(&own.unwrap().1);
        let less = facts.difference(&own).map(|fact| format!("-{fact}"));
        let more = own.difference(&facts).map(|fact| format!("+{fact}"));
        for fact in less.chain(more) {
            match rows_for(&name, &fact) {
                rows if rows.is_empty() => surprises.push(format!("{name}: {fact}")),
                rows => used.extend(rows),
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let stale: Vec<_> = (0..DIFFERENCES.len())
        .filter(|row| !used.contains(row))
        .map(|row| DIFFERENCES[row])
        .collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
    let stale: Vec<_> = EXTENSIONS
        .iter()
        .filter(|name| !our_names.contains(**name) || their_names.contains(**name))
        .collect();
    assert!(stale.is_empty(), "no extension any more: {stale:?}");
}

/// The rows that a difference is listed in.
fn rows_for(operation: &str, fact: &str) -> Vec<usize> {
    let is_of = |(of, begins, _): &(&str, &str, &str)| {
        let of_it = match of.strip_prefix('*') {
            Some(path) => operation.contains(path),
            None => *of == operation,
        };
        of_it && fact.starts_with(begins)
    };
    (0..DIFFERENCES.len())
        .filter(|row| is_of(&DIFFERENCES[*row]))
        .collect()
}

struct Description(Value);

impl Description {
    /// `method path` and the operation.
    fn operations(&self) -> Vec<(String, Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let each = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
        });
        each.collect()
    }

    /// What is said of an operation, a line each.
    fn facts(&self, operation: &Value) -> BTreeSet<String> {
        let mut facts = BTreeSet::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let text = |name: &str| parameter[name].as_str().unwrap().to_owned();
            let required = parameter["required"] == json!(true);
            let (place, name) = (text("in"), text("name"));
            facts.insert(format!("parameter {name} in {place}, required: {required}"));
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            facts.insert(format!("status {status}"));
            if status.starts_with('2') {
                self.add_bodies(response, "answer", &mut facts);
            }
        }
        let body = &operation["requestBody"];
        if !body.is_null() {
            facts.insert("a body".to_owned());
            self.add_bodies(body, "request", &mut facts);
        }
        facts
    }

    fn add_bodies(&self, of: &Value, what: &str, facts: &mut BTreeSet<String>) {
        for (kind, content) in of["content"].as_object().into_iter().flatten() {
            if kind == "application/json" {
                self.add_fields(&content["schema"], what, &[], facts);
            }
        }
    }

    /// Paths of all fields of a schema; a schema inside of itself is not followed again.
    fn add_fields(&self, schema: &Value, at: &str, inside: &[&str], facts: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            if !inside.contains(&name) {
                let inside = [inside, &[name]].concat();
                let schema = &self.0["components"]["schemas"][name];
                self.add_fields(schema, at, &inside, facts);
            }
            return;
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            for schema in schema[choice].as_array().into_iter().flatten() {
                self.add_fields(schema, at, inside, facts);
            }
        }
        self.add_fields_below(&schema["items"], &format!("{at}[]"), inside, facts);
        let others = &schema["additionalProperties"];
        self.add_fields_below(others, &format!("{at}{{}}"), inside, facts);
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            self.add_fields(schema, &at, inside, facts);
            facts.insert(at);
        }
    }

    fn add_fields_below(
        &self,
        schema: &Value,
        at: &str,
        inside: &[&str],
        facts: &mut BTreeSet<String>,
    ) {
        if schema.is_object() {
            self.add_fields(schema, at, inside, facts);
        }
    }
}
