//! The login page and what may be asked of it.

use std::net::IpAddr;

use axum::http::Uri;

use super::{CLIENT_ID, Form};

/// A request for an authorization code that may be answered.
#[derive(Debug)]
pub(super) struct AuthorizeRequest {
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    state: String,
}

impl AuthorizeRequest {
    /// Checks everything before anything is shown or redirected.
    pub(super) fn parse(form: &Form) -> Result<Self, &'static str> {
        if form.get("response_type") != "code" {
            return Err("response_type must be code");
        }
        if form.get("client_id") != CLIENT_ID {
            return Err("client_id is not known");
        }
        if !is_loopback(form.get("redirect_uri")) {
            return Err("redirect_uri must be an http URL on this machine, without fragment");
        }
        let challenge = form.get("code_challenge");
        // 32 bytes of SHA-256 are 43 characters.
        if form.get("code_challenge_method") != "S256" || challenge.len() != 43 {
            return Err("PKCE is required: code_challenge with code_challenge_method S256");
        }
        Ok(Self {
            redirect_uri: form.get("redirect_uri").to_owned(),
            challenge: challenge.to_owned(),
            state: form.get("state").to_owned(),
        })
    }

    /// Where the browser goes with its code.
    pub(super) fn location(&self, code: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("code", code);
        if !self.state.is_empty() {
            query.append_pair("state", &self.state);
        }
        let sign = if self.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        format!("{}{sign}{}", self.redirect_uri, query.finish())
    }

    /// The page, with a message.
    pub(super) fn login_page(&self, message: &str) -> String {
        let hidden = [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", &self.redirect_uri),
            ("code_challenge", &self.challenge),
            ("code_challenge_method", "S256"),
            ("state", &self.state),
        ];
        let hidden: String = hidden
            .iter()
            .map(|(k, v)| format!(r#"<input type="hidden" name="{k}" value="{}">"#, escape(v)))
            .collect();
        frame(&format!(
            r#"<p>{message}</p>
<form method="post" action="/authorize">{hidden}
<p><label>User <input name="username" autocomplete="username" autofocus></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>
<p><button>Log in</button></p>
</form>"#
        ))
    }
}

/// The page for a request that may not be answered.
pub(super) fn refusal(reason: &str) -> String {
    frame(&format!(
        "<p>This login request is refused: {}.</p>",
        escape(reason)
    ))
}

fn frame(content: &str) -> String {
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>FirecREST demo: log in</title>
<style>body {{ font-family: sans-serif; max-width: 24em; margin: 4em auto }}</style></head>
<body>
<h1>FirecREST demo</h1>
<p>Development identity provider. Do not type a real password.</p>
{content}
</body>
</html>
"#
    )
}

fn is_loopback(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let no_user = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    uri.scheme_str() == Some("http") && local && no_user && !text.contains('#')
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_to_this_machine_only() {
        for uri in [
            "http://127.0.0.1:9/cb",
            "http://localhost/x?y=1",
            "http://[::1]:80/",
        ] {
            assert!(is_loopback(uri), "{uri}");
        }
        for uri in [
            "",
            "/cb",
            "http://example.org/",
            "http://127.0.0.1.example.org/",
            "http://localhost@example.org/",
            "http://example.org@localhost/",
            "https://localhost/",
            "javascript:alert(1)",
            "http://localhost/#x",
        ] {
            assert!(!is_loopback(uri), "{uri}");
        }
    }

    #[test]
    fn what_was_sent_is_shown_as_text() {
        let request = AuthorizeRequest {
            redirect_uri: "http://localhost/".into(),
            challenge: "c".into(),
            state: r#""><script>"#.into(),
        };
        let page = request.login_page("");
        assert!(!page.contains("<script>"));
        assert!(page.contains("&quot;&gt;&lt;script&gt;"));
    }
}
