//! What a verified token must say. Pure: time is an argument.

use serde_json::{Map, Value};

use super::{AuthError, Flaw, UserName, excerpt};
use crate::config::AuthenticationConfig;

/// Rules for the claims of a token whose signature is good.
#[derive(Debug, Clone)]
pub(super) struct ClaimRules {
    pub(super) username_claim: String,
    pub(super) min_token_ttl_seconds: u64,
    pub(super) audience: Vec<String>,
    pub(super) issuer: Option<String>,
}

impl From<&AuthenticationConfig> for ClaimRules {
    fn from(config: &AuthenticationConfig) -> Self {
        Self {
            username_claim: config.username_claim.clone(),
            min_token_ttl_seconds: config.min_token_ttl,
            audience: config.aud.clone(),
            issuer: config.iss.clone(),
        }
    }
}

impl ClaimRules {
    /// Checks times (`now` in unix seconds), audience and issuer, and finds the user name.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: f64,
    ) -> Result<UserName, AuthError> {
        self.check_times(claims, now)?;
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(AuthError::Invalid(Flaw::Issuer {
                expected: issuer.clone(),
                found: shown(claims.get("iss")),
            }));
        }
        if !self.audience.is_empty() && !self.is_audience(claims.get("aud")) {
            return Err(AuthError::Invalid(Flaw::Audience {
                expected: self.audience.clone(),
                found: shown(claims.get("aud")),
            }));
        }
        self.user_name(claims)
    }

    fn check_times(&self, claims: &Map<String, Value>, now: f64) -> Result<(), AuthError> {
        number(claims, "iat")?;
        if let Some(nbf) = number(claims, "nbf")?
            && nbf > now
        {
            return Err(AuthError::Invalid(Flaw::NotYet {
                nbf: nbf.to_string(),
                now: format!("{now:.0}"),
            }));
        }
        let Some(exp) = number(claims, "exp")? else {
            return Ok(());
        };
        if exp <= now {
            return Err(AuthError::Expired);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
        if exp - now < self.min_token_ttl_seconds as f64 {
            return Err(AuthError::ExpiresTooSoon(self.min_token_ttl_seconds));
        }
        Ok(())
    }

    fn is_audience(&self, aud: Option<&Value>) -> bool {
        let ours = |value: &Value| {
            value
                .as_str()
                .is_some_and(|a| self.audience.iter().any(|x| x == a))
        };
        match aud {
            Some(Value::Array(list)) => list.iter().any(ours),
            Some(value) => ours(value),
            None => false,
        }
    }

    fn user_name(&self, claims: &Map<String, Value>) -> Result<UserName, AuthError> {
        let claim = || self.username_claim.clone();
        match claims.get(&self.username_claim) {
            None | Some(Value::Null) => Err(AuthError::NoUserName(claim())),
            Some(value) => value
                .as_str()
                .and_then(UserName::parse)
                .ok_or_else(|| AuthError::BadUserName(claim())),
        }
    }
}

/// A claim as a log may show it.
fn shown(claim: Option<&Value>) -> String {
    claim.map_or_else(|| "absent".to_owned(), |value| excerpt(&value.to_string()))
}

/// A numeric date; anything else under that name makes the token invalid.
fn number(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_f64().map(Some);
            number.ok_or(AuthError::Invalid(Flaw::NotADate(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> ClaimRules {
        ClaimRules {
            username_claim: "preferred_username".into(),
            min_token_ttl_seconds: 30,
            audience: Vec::new(),
            issuer: None,
        }
    }

    fn check(rules: &ClaimRules, mut claims: Value) -> Result<String, AuthError> {
        if claims.get("preferred_username").is_none() && claims.get("anonymous").is_none() {
            claims["preferred_username"] = json!("bob");
        }
        rules
            .check(claims.as_object().unwrap(), 1000.0)
            .map(|n| n.as_str().to_owned())
    }

    #[test]
    fn times() {
        let check = |claims| check(&rules(), claims);
        assert_eq!(check(json!({})).unwrap(), "bob");
        assert_eq!(check(json!({"exp": 1030})).unwrap(), "bob");
        assert_eq!(
            check(json!({"exp": 1029})),
            Err(AuthError::ExpiresTooSoon(30))
        );
        assert_eq!(check(json!({"exp": 1000})), Err(AuthError::Expired));
        assert_eq!(check(json!({"exp": 1})), Err(AuthError::Expired));
        let flaw = |claims| match check(claims) {
            Err(AuthError::Invalid(flaw)) => flaw.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(flaw(json!({"exp": "soon"})), "its claim exp is no date");
        assert_eq!(
            flaw(json!({"nbf": 1001})),
            "it is not valid yet (nbf 1001, and it is 1000 here)"
        );
        assert_eq!(check(json!({"nbf": 1000})).unwrap(), "bob");
        assert_eq!(flaw(json!({"iat": []})), "its claim iat is no date");
    }

    #[test]
    fn user_names() {
        let check = |claims| check(&rules(), claims);
        let claim = || "preferred_username".to_owned();
        assert_eq!(
            check(json!({"anonymous": 1})),
            Err(AuthError::NoUserName(claim()))
        );
        for bad in [json!(5), json!(""), json!("../root"), json!(["bob"])] {
            let claims = json!({"preferred_username": bad});
            assert_eq!(check(claims), Err(AuthError::BadUserName(claim())));
        }
    }

    #[test]
    fn audience_and_issuer_when_configured() {
        let rules = ClaimRules {
            audience: vec!["f7t".into()],
            issuer: Some("https://idp".into()),
            ..rules()
        };
        let iss = "https://idp";
        assert!(check(&rules, json!({"iss": iss, "aud": "f7t"})).is_ok());
        assert!(check(&rules, json!({"iss": iss, "aud": ["x", "f7t"]})).is_ok());
        let audience =
            |found| format!("its audience is {found}, and auth.authentication.aud is [\"f7t\"]");
        let issuer = |found| {
            format!("its issuer is {found}, and auth.authentication.iss is \"https://idp\"")
        };
        for (bad, flaw) in [
            (json!({"iss": iss}), audience("absent")),
            (json!({"iss": iss, "aud": "x"}), audience("\"x\"")),
            (json!({"aud": "f7t"}), issuer("absent")),
            (json!({"iss": "other", "aud": "f7t"}), issuer("\"other\"")),
        ] {
            let Err(AuthError::Invalid(found)) = check(&rules, bad) else {
                panic!("{flaw}");
            };
            assert_eq!(found.to_string(), flaw);
        }
    }
}
