//! The body of a submission, which differs from version to version. Pure.

use serde_json::{Map, Value, json};

use super::directives::Directives;
use crate::scheduler::JobDescription;

/// What is posted to `job/submit`: what the request says, and what the script's directives do.
///
/// # Errors
/// With the directive that cannot be given.
pub(super) fn body(version: u32, job: &JobDescription, script: &str) -> Result<Value, String> {
    let mut fields = Map::new();
    let optional = [
        ("name", &job.name),
        ("account", &job.account),
        ("reservation", &job.reservation),
        ("partition", &job.partition),
        ("standard_input", &job.standard_input),
        ("standard_output", &job.standard_output),
        ("standard_error", &job.standard_error),
        ("constraints", &job.constraints),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.as_str().into());
        }
    }
    let directory = job.working_directory.as_str().into();
    fields.insert("current_working_directory".to_owned(), directory);
    fields.insert("environment".to_owned(), environment(version, job));
    Directives::of(script)?.add_to(&mut fields, version)?;
    if version < 41 {
        return Ok(json!({"job": fields, "script": script}));
    }
    fields.insert("script".to_owned(), script.into());
    Ok(json!({"job": fields}))
}

/// Slurm refuses a job without any variable.
fn environment(version: u32, job: &JobDescription) -> Value {
    let mut variables = job.environment.clone();
    if variables.is_empty() {
        variables.insert("F7T_version".to_owned(), "v2.0.0".to_owned());
    }
    if version < 39 {
        return json!(variables);
    }
    let pair = |(name, value): (&String, &String)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    };
    variables.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_gets_its_own_form() {
        let mut job = JobDescription {
            name: Some("n".to_owned()),
            working_directory: "/home".to_owned(),
            ..JobDescription::default()
        };
        job.environment.insert("A".to_owned(), "b=c".to_owned());
        job.environment.insert("E".to_owned(), String::new());
        let old = json!({"job": {
            "name": "n", "current_working_directory": "/home",
            "environment": {"A": "b=c", "E": ""},
        }, "script": "#!/bin/sh"});
        let body = |version, job: &JobDescription, script| body(version, job, script).unwrap();
        assert_eq!(body(38, &job, "#!/bin/sh"), old);
        let list = json!(["A=b=c", "E"]);
        let middle = body(40, &job, "s");
        assert_eq!(
            (&middle["job"]["environment"], &middle["script"]),
            (&list, &json!("s"))
        );
        let new = body(42, &job, "s");
        assert_eq!(
            (&new["job"]["script"], new.get("script")),
            (&json!("s"), None)
        );
        job.environment.clear();
        assert_eq!(
            body(42, &job, "s")["job"]["environment"],
            json!(["F7T_version=v2.0.0"])
        );
    }
}
