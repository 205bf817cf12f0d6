//! `transferDirectives`: one of three shapes. A wrong one is reported once for each shape.

use serde::Deserialize as _;
use serde_json::{Map, Value};
use streamer_core::Operation;

use super::fields::{MISSING, NOT_A_STRING, NOT_AN_OBJECT};
use super::query::whole_number;
use crate::error::FieldError;
use crate::model::transfer::{ExistingTarget, TransferDirectiveRequest, TransferMethodName};

use TransferMethodName::{S3, Streamer, Wormhole};

/// Reads the value that stood under `name`.
pub(super) fn parse(
    name: &str,
    value: &Value,
    operation: Operation,
) -> Result<TransferDirectiveRequest, Vec<FieldError>> {
    let all = |message: &str| Err(METHODS.map(|_| FieldError::body(name, message)).to_vec());
    let Value::Object(map) = value else {
        return all(NOT_AN_OBJECT);
    };
    let Some(method) = member(map, "transferMethod", "transfer_method") else {
        return all(MISSING);
    };
    let upload = operation == Operation::Receive;
    let code = member(map, "wormholeCode", "wormhole_code");
    let Some((method, _)) = METHODS
        .into_iter()
        .find(|(_, word)| method.as_str() == Some(word))
    else {
        return Err(unknown_method(name, upload && code.is_none()));
    };
    if method == Wormhole && upload {
        let wrong = match code {
            None => Some(MISSING),
            Some(code) if !code.is_string() => Some(NOT_A_STRING),
            Some(_) => None,
        };
        if let Some(message) = wrong {
            return Err(vec![FieldError::body(name, message)]);
        }
    }
    let existing = existing(name, map.get("existing"), method, operation)?;
    Ok(TransferDirectiveRequest {
        transfer_method: method,
        file_size: member(map, "fileSize", "file_size").and_then(size),
        wormhole_code: code.and_then(Value::as_str).map(str::to_owned),
        existing,
    })
}

/// Said where it means nothing, it would be a promise that nobody keeps.
fn existing(
    name: &str,
    value: Option<&Value>,
    method: TransferMethodName,
    operation: Operation,
) -> Result<ExistingTarget, Vec<FieldError>> {
    let value = value.filter(|value| !value.is_null());
    let Some(value) = value else {
        return Ok(ExistingTarget::default());
    };
    let refused = |message: &str| vec![FieldError::body(name, message)];
    if (method, operation) != (Streamer, Operation::Receive) {
        return Err(refused("'existing' is for uploads by streamer"));
    }
    ExistingTarget::deserialize(value)
        .map_err(|_| refused("'existing' should be 'refuse', 'overwrite' or 'skip'"))
}

const METHODS: [(TransferMethodName, &str); 3] =
    [(Wormhole, "wormhole"), (S3, "s3"), (Streamer, "streamer")];

fn unknown_method(name: &str, code_missing: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (method, word) in METHODS {
        let message = format!("Input should be <DataTransferType.{word}: '{word}'>");
        errors.push(FieldError::body(name, message));
        if method == Wormhole && code_missing {
            errors.push(FieldError::body(name, MISSING));
        }
    }
    errors
}

fn member<'a>(map: &'a Map<String, Value>, camel: &str, snake: &str) -> Option<&'a Value> {
    map.get(camel).or_else(|| map.get(snake))
}

/// A number, or a string holding one.
fn size(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => whole_number(text),
        Value::Number(number) => whole_number(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(value: Value, operation: Operation) -> Vec<String> {
        let errors = parse("transferDirectives", &value, operation).unwrap_err();
        errors.into_iter().map(|error| error.message).collect()
    }

    #[test]
    fn every_shape_and_spelling() {
        let value = json!({"transfer_method": "streamer", "file_size": "100", "extra": 1});
        let directive = parse("x", &value, Operation::Receive).unwrap();
        assert_eq!(
            (directive.transfer_method, directive.file_size),
            (Streamer, Some(100))
        );
        for (file_size, read) in [
            (json!(5.0), Some(5)),
            (json!("5.0"), Some(5)),
            (json!(5.5), None),
            (json!(-5), None),
            (json!(true), None),
        ] {
            assert_eq!(size(&file_size), read, "{file_size}");
        }
        let value = json!({"transferMethod": "streamer", "existing": "overwrite"});
        let directive = parse("x", &value, Operation::Receive).unwrap();
        assert_eq!(directive.existing, ExistingTarget::Overwrite);
        let value = json!({"transferMethod": "wormhole"});
        assert!(parse("x", &value, Operation::Send).is_ok());
        assert_eq!(messages(value, Operation::Receive), [MISSING]);
    }

    #[test]
    fn wrong_ones_are_reported_for_each_shape() {
        assert_eq!(messages(json!("s3"), Operation::Send), [NOT_AN_OBJECT; 3]);
        let value = json!({"transferMethod": "streamer", "existing": "destroy"});
        let expected = "'existing' should be 'refuse', 'overwrite' or 'skip'";
        assert_eq!(messages(value, Operation::Receive), [expected]);
        for (method, operation) in [("s3", Operation::Receive), ("streamer", Operation::Send)] {
            let value = json!({"transferMethod": method, "existing": "skip"});
            let expected = "'existing' is for uploads by streamer";
            assert_eq!(messages(value, operation), [expected]);
        }
        let pigeon = || json!({"transferMethod": "carrier-pigeon"});
        assert_eq!(
            messages(pigeon(), Operation::Send),
            [
                "Input should be <DataTransferType.wormhole: 'wormhole'>",
                "Input should be <DataTransferType.s3: 's3'>",
                "Input should be <DataTransferType.streamer: 'streamer'>",
            ]
        );
        assert_eq!(messages(pigeon(), Operation::Receive)[1], MISSING);
    }
}
