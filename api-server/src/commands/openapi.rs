//! `firecrest-api openapi`.

pub(crate) fn run() -> anyhow::Result<()> {
    super::print(&api_server::openapi::text())
}
