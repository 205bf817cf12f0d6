//! Tokens of a real OpenID provider.

use serde_json::{Value, json};
use streamer_tests::cluster::{ANOTHER, Cluster, FIREUSER, Provider, SHORT};
use streamer_tests::http::request;
use streamer_tests::service::Service;

fn config(provider: &Provider, more: &str) -> String {
    let url = &provider.url;
    format!(
        "auth:\n  authentication:\n    token_url: {url}/token\n    public_certs: [{url}/jwks]\n{more}\
         clusters:\n- {{name: here, scheduler: {{type: local}}}}\n"
    )
}

fn refused(service: &Service, token: &str) -> (u16, Value) {
    let answer = service.get(token, "/status/systems");
    assert!(
        token.len() < 20 || !answer.text.contains(&token[..20]),
        "the token is repeated"
    );
    (answer.status, answer.json["message"].clone())
}

#[test]
fn tokens_of_programs_and_of_people_are_accepted_and_others_refused() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let provider = cluster.provider();
    let service = Service::start(&config(&provider, ""));
    let token = provider.token(FIREUSER);
    assert_eq!(service.get(&token, "/status/systems").status, 200);
    let person = provider.user_token("another");
    assert_eq!(service.get(&person, "/status/systems").status, 200);
    // Errors name the user that the token stands for.
    for (token, user) in [(&token, "fireuser"), (&person, "another")] {
        let answer = service.get(token, "/compute/nowhere/jobs");
        assert_eq!((answer.status, &answer.json["user"]), (404, &json!(user)));
    }

    let short = "Access token expires too soon (less than 30s remaining).";
    assert_eq!(
        refused(&service, &provider.token(SHORT)),
        (401, json!(short))
    );
    let invalid = json!("Access token is invalid.");
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = provider.token(ANOTHER);
    let (other_head, _) = other.rsplit_once('.').unwrap();
    for bad in [
        "garbage".to_owned(),
        format!("{head}."),
        // Somebody else's claims under this signature.
        format!("{other_head}.{signature}"),
    ] {
        assert_eq!(refused(&service, &bad), (401, invalid.clone()), "{bad}");
    }
    for headers in [vec![], vec!["Authorization: Basic Zm9vOmJhcg==".to_owned()]] {
        let answer = request(&service.url, "GET", "/status/systems", &headers, "");
        assert_eq!(
            (answer.status, &answer.json["message"]),
            (401, &json!("Not authenticated"))
        );
        assert!(
            answer
                .text
                .to_lowercase()
                .contains("\r\nwww-authenticate: bearer\r\n")
        );
    }
    let headers = [format!("authorization: bEARER {token}")];
    assert_eq!(
        request(&service.url, "GET", "/status/systems", &headers, "").status,
        200
    );
    assert!(!service.log().contains(signature), "a token is in the log");
}

#[test]
fn audience_and_issuer_are_checked_when_configured() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let provider = cluster.provider();
    let token = provider.token(FIREUSER);
    let status = |more: String| {
        let service = Service::start(&config(&provider, &more));
        service.get(&token, "/status/systems").status
    };
    let url = &provider.url;
    assert_eq!(
        status(format!("    aud: 'urn:firecrest:api'\n    iss: {url}\n")),
        200
    );
    assert_eq!(status("    aud: [other]\n".to_owned()), 401);
    assert_eq!(
        status("    iss: https://elsewhere.example\n".to_owned()),
        401
    );
}

#[test]
fn keys_that_are_replaced_are_fetched_again_and_old_ones_forgotten() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let port = free_port();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = cluster.start_provider(port, first.path());
    let old = provider.token(FIREUSER);
    let service = Service::start(&config(&provider, ""));
    assert_eq!(service.get(&old, "/status/systems").status, 200);
    drop(provider);
    let provider = cluster.start_provider(port, second.path());
    let new = provider.token(FIREUSER);
    // Key sets are not fetched more often than every ten seconds, whatever clients send.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while service.get(&new, "/status/systems").status != 200 {
        assert!(std::time::Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let fetched = || service.log().matches("key sets fetched").count();
    // It is logged by a thread of its own.
    while fetched() < 2 {
        assert!(std::time::Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(fetched(), 2);
    assert_eq!(
        refused(&service, &old),
        (401, json!("Token's public key not found."))
    );
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
