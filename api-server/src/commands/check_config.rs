//! `firecrest-api check-config`.

use anyhow::Context as _;
use api_server::config::Sources;

use crate::args::ConfigFile;

pub(crate) fn run(config: ConfigFile) -> anyhow::Result<()> {
    let config = Sources::of_process(config.config)
        .and_then(|sources| sources.load())
        .context("configuration")?;
    let mut text = format!(
        "The configuration is valid: {} system(s).\n",
        config.clusters.len()
    );
    for system in &config.clusters {
        text.push_str(&format!(
            "  {} ({:?})\n",
            system.name, system.scheduler.kind
        ));
    }
    super::print(&text)?;
    config
        .thorough_warnings()
        .iter()
        .for_each(|text| super::warn(text));
    Ok(())
}
