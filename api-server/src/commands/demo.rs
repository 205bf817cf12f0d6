//! `firecrest-api demo`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use api_server::command::{ShellLine, quote};
use api_server::demo::{Demo, DemoOptions, SYSTEM, USER, check};
use api_server::serve;

use crate::args::DemoArgs;
use crate::inherited::Inherited;

pub(crate) async fn run(args: DemoArgs, inherited: Inherited) -> anyhow::Result<()> {
    inherited.close();
    let streamer = find_streamer(args.streamer.as_deref())?;
    let shutdown = serve::termination()?;
    let port = if args.check { 0 } else { args.port };
    let options = DemoOptions {
        port,
        directory: args.dir,
        streamer,
        allow_websocket: args.allow_websocket,
    };
    let mut demo = Demo::start(options).await?;
    let result = if args.check {
        tokio::select! {
            result = run_check(&demo, args.size) => result,
            () = shutdown => Err(anyhow::anyhow!("interrupted")),
        }
    } else {
        super::print(&instructions(&demo))?;
        tokio::select! {
            () = shutdown => Ok(()),
            failed = demo.failed() => failed.context("a server of the demo failed"),
        }
    };
    demo.stop().await;
    result
}

async fn run_check(demo: &Demo, size: u64) -> anyhow::Result<()> {
    check::run(demo, size, |step, elapsed| {
        // What is wrong with standard output shows in the last print, which is checked.
        let _ = super::print(&format!("{:>8.3} s  {step}\n", elapsed.as_secs_f64()));
    })
    .await?;
    super::print("OK: the file went out and came back unchanged.\n")
}

/// The one given, else beside this program, else on PATH.
fn find_streamer(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_owned()));
    let candidates: Vec<PathBuf> = match given {
        Some(given) => vec![given.to_owned()],
        None => {
            let directories = beside.into_iter().chain(std::env::split_paths(&path));
            directories
                .map(|directory| directory.join("streamer"))
                .collect()
        }
    };
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    let found = found.context(
        "the program `streamer` was not found beside this program nor on PATH\n\
         hint: build it with `cargo build -p streamer-cli`, or give --streamer FILE",
    )?;
    Ok(found.canonicalize()?)
}

fn instructions(demo: &Demo) -> String {
    let Demo {
        api_url,
        identity_url,
        client_id,
        client_secret,
        password,
        home,
        streamer,
        ..
    } = demo;
    let (secret, password) = (client_secret.expose(), password.expose());
    // Paths may hold anything: quoted for JSON first, then for the shell.
    let body = serde_json::json!({
        "path": home.join("sample.txt"),
        "transferDirectives": {"transferMethod": "streamer"},
    });
    let body = quote(&body.to_string());
    let receive = ShellLine::new(&streamer.display().to_string());
    let receive = receive.args(["receive", "--path", "./sample.txt"]);
    let receive = receive.as_str();
    format!(
        r#"FirecREST demo. For development only: everybody on this machine can reach it, the
credentials below were made for this run, and jobs run as you.

  API            {api_url}   (description: {api_url}/docs)
  Login          {identity_url}   (user {USER}, password {password})
  Your files     {home}

1. Get a token:

  TOKEN=$(curl -s -u {client_id}:{secret} -d grant_type=client_credentials {identity_url}/token \
    | sed 's/.*"access_token":"\([^"]*\)".*/\1/')

2. Request a download:

  export STREAMER_COORDINATES=$(curl -s -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' \
    -d {body} \
    {api_url}/filesystem/{SYSTEM}/transfer/download \
    | sed 's/.*"coordinates":"\([^"]*\)".*/\1/')

3. Receive it:

  {receive}

Stop with Ctrl-C.
"#,
        home = home.display(),
    )
}
