//! `firecrest-api serve`.

use std::net::IpAddr;

use anyhow::Context as _;
use api_server::config::Sources;
use api_server::serve;
use api_server::state::AppState;
use tokio::net::TcpListener;

use crate::args::ConfigFile;
use crate::inherited::Inherited;

pub(crate) async fn run(
    config: ConfigFile,
    host: IpAddr,
    port: u16,
    inherited: Inherited,
) -> anyhow::Result<()> {
    let config = Sources::of_process(config.config)
        .and_then(|sources| sources.load())
        .context("configuration")?;
    for doubt in config.warnings() {
        tracing::warn!("configuration: {doubt}");
    }
    let shutdown = serve::termination()?;
    let state = AppState::new(config).await?;
    inherited.close();
    let listener = TcpListener::bind((host, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on {host} port {port}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(serve::run(listener, state, shutdown).await?)
}
