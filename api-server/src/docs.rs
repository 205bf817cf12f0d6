//! What operators and authors read: the documentation page, Swagger UI from files in the
//! binary with nothing fetched elsewhere, and the metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use utoipa_swagger_ui::Config;

use crate::error::{ApiError, json};
use crate::metrics;
use crate::openapi::description_for;
use crate::state::AppState;

/// `/openapi.json`.
pub(crate) async fn openapi(State(state): State<AppState>) -> Response {
    json(StatusCode::OK, &description_for(&state.config))
}

/// `/docs` and `/redoc`. Links are relative: they work under the root path and behind proxies.
pub(crate) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// `/metrics`, for Prometheus.
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    let kind = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (StatusCode::OK, kind, state.metrics.text()).into_response()
}

/// `/docs/{file}`.
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let name = if name == "oauth2-redirect" {
        "oauth2-redirect.html".to_owned()
    } else {
        name
    };
    let found = utoipa_swagger_ui::serve(&name, Arc::new(Config::from("../openapi.json")));
    let Some(file) = found.ok().flatten() else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "Not Found"));
    };
    let kind = [(header::CONTENT_TYPE, file.content_type)];
    Ok((StatusCode::OK, kind, file.bytes.into_owned()).into_response())
}

const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FirecREST</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  oauth2RedirectUrl: new URL("docs/oauth2-redirect", window.location.href).href,
});
</script>
</body>
</html>
"##;
