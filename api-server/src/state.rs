//! Everything a request needs, built from the configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticator, Authorizer, ClientCredentials};
use crate::config::{Config, ConnectionMode, DataTransfer, SchedulerType, SystemConfig};
use crate::context;
use crate::executor::{
    AccountError, Accounts, Executor, LocalExecutor, ObservedExecutor, RunLimits, UserPolicy,
};
use crate::health::HealthBoard;
use crate::http_client::HttpClient;
use crate::limits;
use crate::metrics::Metrics;
use crate::scheduler::{
    Hybrid, LocalLimits, LocalScheduler, NotDriven, PbsCommandLine, Scheduler, SlurmCli, SlurmRest,
};
use crate::ssh::{Credentials, SshExecutor};
use crate::storage::ObjectStore;
use crate::tracing_log::TracingLog;
use crate::transfer::{
    Installer, PrivateFiles, Program, S3Method, StreamerMethod, TransferMethod, Transfers,
    WormholeMethod,
};

/// Shared by all requests; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Inner>);

/// What [`AppState`] points to.
#[derive(Debug)]
pub struct Inner {
    /// The configuration.
    pub config: Config,
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// Tokens for the health checks.
    pub client_credentials: ClientCredentials,
    /// Asked before each request to a system, when configured.
    pub authorizer: Option<Authorizer>,
    /// The systems, in the order of the configuration.
    pub systems: Vec<Arc<System>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Two records for each request, when that is configured.
    pub tracing_log: Option<TracingLog>,
    /// Speaks to the services behind.
    pub http: Arc<HttpClient>,
    /// Owns what must not stop when a client goes away.
    pub tasks: TaskTracker,
    /// Cancelled when the service stops and waits no longer for requests that are open.
    pub closing: CancellationToken,
}

/// One system and what drives it.
#[derive(Debug)]
pub struct System {
    /// Name in URLs.
    pub name: String,
    /// Which kind of scheduler it has.
    pub kind: SchedulerType,
    /// As `/status/systems` shows it, with its health.
    pub health: HealthBoard,
    /// Runs commands; absent while this build cannot.
    pub executor: Option<Arc<dyn Executor>>,
    /// What one command of a user may take.
    pub command_limits: RunLimits,
    /// Runs jobs.
    pub scheduler: Arc<dyn Scheduler>,
    /// Moves files.
    pub transfers: Transfers,
    /// Where files lie on their way, for transfers by S3.
    pub object_store: Option<Arc<ObjectStore>>,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No TLS roots.
    #[error("the trusted certificates of this machine could not be loaded")]
    TlsRoots(#[source] std::io::Error),
    /// No thread.
    #[error("the tracing log could not be started")]
    TracingLog(#[source] std::io::Error),
    /// No account database.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// No spool directory.
    #[error("the spool directory of system {system} could not be made")]
    Spool {
        /// Which system.
        system: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl AppState {
    /// Builds all parts and fetches the key sets. A tracing log goes to standard output.
    ///
    /// # Errors
    /// When this machine lacks something essential.
    pub async fn new(config: Config) -> Result<Self, BuildError> {
        Self::with_log(config, Box::new(std::io::stdout())).await
    }

    /// As [`new`](Self::new), with the tracing log, if it is enabled, going to `log`.
    ///
    /// # Errors
    /// When this machine lacks something essential.
    pub async fn with_log(
        config: Config,
        log: Box<dyn std::io::Write + Send>,
    ) -> Result<Self, BuildError> {
        let http = Arc::new(HttpClient::new().map_err(BuildError::TlsRoots)?);
        let authenticator =
            Authenticator::new(&config.auth.authentication, Arc::clone(&http)).await;
        let client_credentials =
            ClientCredentials::new(&config.auth.authentication, Arc::clone(&http));
        let authorization = config.auth.authorization.as_ref();
        let authorizer = authorization.map(|config| Authorizer::new(config, Arc::clone(&http)));
        let metrics = Arc::new(Metrics::new());
        let mut systems = Vec::new();
        let credentials = config.ssh_credentials.as_ref();
        let credentials =
            credentials.map(|config| Arc::new(Credentials::new(config, Arc::clone(&http))));
        for system in &config.clusters {
            let login = login_node(system, credentials.as_ref());
            systems.push(Arc::new(System::new(system, login, &http, &metrics).await?));
        }
        let tasks = TaskTracker::new();
        Ok(Self(Arc::new(Inner {
            metrics,
            tracing_log: TracingLog::new(&config.logger, log).map_err(BuildError::TracingLog)?,
            http,
            config,
            authenticator,
            client_credentials,
            authorizer,
            systems,
            tasks,
            closing: CancellationToken::new(),
        })))
    }

    /// The system of this name.
    pub fn system(&self, name: &str) -> Option<Arc<System>> {
        self.0
            .systems
            .iter()
            .find(|system| system.name == name)
            .cloned()
    }

    /// Runs a change to its end even when the client goes away meanwhile.
    ///
    /// Cancel safety: dropping the future leaves the change running.
    pub async fn detached<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        // An error means that the change panicked; the runtime reports that.
        self.0.tasks.spawn(context::inherit(change)).await.ok()
    }

    /// Ends what the service runs: changes in progress, then jobs of local systems.
    pub async fn shutdown(&self) {
        self.0.tasks.close();
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, self.0.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("changes in progress did not end in time");
        }
        for system in &self.0.systems {
            system.scheduler.shutdown().await;
        }
    }
}

impl std::ops::Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl System {
    /// The kind of scheduler, for people.
    pub(crate) fn scheduler_word(&self) -> &'static str {
        match self.kind {
            SchedulerType::Slurm => "Slurm",
            SchedulerType::Pbs => "PBS",
            SchedulerType::Local => "local",
        }
    }

    async fn new(
        config: &SystemConfig,
        login: Option<Arc<dyn Executor>>,
        http: &Arc<HttpClient>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        let observed = |executor: Arc<dyn Executor>| -> Arc<dyn Executor> {
            Arc::new(ObservedExecutor::new(
                executor,
                &config.name,
                Arc::clone(metrics),
            ))
        };
        let (executor, scheduler): (Option<Arc<dyn Executor>>, Arc<dyn Scheduler>) =
            match config.scheduler.kind {
                SchedulerType::Local => {
                    let (executor, scheduler) = local(config).await?;
                    (Some(observed(Arc::new(executor))), Arc::new(scheduler))
                }
                SchedulerType::Slurm => {
                    let login = login.map(observed);
                    let scheduler = slurm(config, login.as_ref(), http, metrics);
                    (login, scheduler)
                }
                SchedulerType::Pbs => {
                    let login = login.map(observed);
                    (login.clone(), pbs(config, login))
                }
            };
        let object_store = object_store(config, http);
        Ok(Self {
            name: config.name.clone(),
            kind: config.scheduler.kind,
            health: HealthBoard::new(config.into()),
            executor,
            command_limits: command_limits(config),
            scheduler,
            transfers: transfers(config, object_store.as_ref()),
            object_store,
        })
    }
}

fn slurm(
    config: &SystemConfig,
    login: Option<&Arc<dyn Executor>>,
    http: &Arc<HttpClient>,
    metrics: &Arc<Metrics>,
) -> Arc<dyn Scheduler> {
    let command_line = || -> Arc<dyn Scheduler> {
        let version = config.scheduler.version.as_deref().unwrap_or_default();
        match login {
            Some(login) => Arc::new(SlurmCli::new(
                Arc::clone(login),
                command_limits(config),
                version,
            )),
            None => Arc::new(NotDriven { scheduler: "Slurm" }),
        }
    };
    let rest = SlurmRest::new(config, Arc::clone(http), Arc::clone(metrics));
    match (config.scheduler.connection_mode, rest) {
        (ConnectionMode::Rest, Some(rest)) => Arc::new(rest),
        (ConnectionMode::Hybrid, Some(rest)) => Arc::new(Hybrid {
            rest: Arc::new(rest),
            command_line: command_line(),
        }),
        _ => command_line(),
    }
}

fn pbs(config: &SystemConfig, login: Option<Arc<dyn Executor>>) -> Arc<dyn Scheduler> {
    match login {
        Some(login) => Arc::new(PbsCommandLine::new(login, command_limits(config))),
        None => Arc::new(NotDriven { scheduler: "PBS" }),
    }
}

/// Commands over SSH, where that is configured.
fn login_node(
    config: &SystemConfig,
    credentials: Option<&Arc<Credentials>>,
) -> Option<Arc<dyn Executor>> {
    let (ssh, credentials) = (config.ssh.as_ref()?, Arc::clone(credentials?));
    Some(Arc::new(SshExecutor::new(&config.name, ssh, credentials)))
}

fn command_limits(config: &SystemConfig) -> RunLimits {
    let ssh = config.ssh.as_ref();
    let seconds = ssh.map_or(5, |ssh| ssh.timeout.command_execution);
    RunLimits {
        timeout: Duration::from_secs(seconds),
        output_bytes: config.data_operation.max_ops_file_size,
    }
}

async fn local(config: &SystemConfig) -> Result<(LocalExecutor, LocalScheduler), BuildError> {
    let scheduler = &config.scheduler;
    let policy = match scheduler.dangerous_everybody_as_service {
        true => UserPolicy::DangerousEverybodyAsService,
        false => UserPolicy::SameName,
    };
    let accounts = Arc::new(Accounts::new(policy).await?);
    let limits = LocalLimits {
        wall_time: Duration::from_secs(scheduler.wall_time),
        max_running: usize::try_from(scheduler.max_running_jobs).unwrap_or(usize::MAX),
        max_history: usize::try_from(scheduler.max_history).unwrap_or(usize::MAX),
        kill_grace: limits::LOCAL_KILL_GRACE,
    };
    let executor = LocalExecutor::new(Arc::clone(&accounts));
    let scheduler = LocalScheduler::new(&config.name, limits, accounts).map_err(|source| {
        BuildError::Spool {
            system: config.name.clone(),
            source,
        }
    })?;
    Ok((executor, scheduler))
}

fn object_store(config: &SystemConfig, http: &Arc<HttpClient>) -> Option<Arc<ObjectStore>> {
    config
        .data_operation
        .methods()
        .find_map(|method| match method {
            DataTransfer::S3(s3) => Some(Arc::new(ObjectStore::new(s3.clone(), Arc::clone(http)))),
            _ => None,
        })
}

fn transfers(config: &SystemConfig, object_store: Option<&Arc<ObjectStore>>) -> Transfers {
    let operation = &config.data_operation;
    let methods = operation
        .methods()
        .filter_map(|method| -> Option<Arc<dyn TransferMethod>> {
            Some(match method {
                DataTransfer::Streamer(streamer) => Arc::new(StreamerMethod::new(streamer.clone())),
                DataTransfer::S3(_) => Arc::new(S3Method::new(Arc::clone(object_store?))),
                DataTransfer::Wormhole(config) => Arc::new(WormholeMethod::new(config.clone())),
            })
        });
    let limits = command_limits(config);
    let work = config
        .file_systems
        .iter()
        .find(|file_system| file_system.default_work_dir);
    Transfers {
        system: config.name.clone(),
        work_directory: work.map(|file_system| file_system.path.clone()),
        directives: operation.datatransfer_jobs_directives.clone(),
        command_timeout: limits.timeout,
        command_output_bytes: limits.output_bytes,
        methods: methods.collect(),
        program: program(config),
        private_files: PrivateFiles::default(),
    }
}

/// A local system finds the program on its own `PATH`; elsewhere there is none.
fn program(config: &SystemConfig) -> Program {
    let operation = &config.data_operation;
    if let Some(path) = operation.program() {
        return Program::There(path.to_owned());
    }
    match &operation.streamer_binary_source {
        Some(source) => Program::Installed(Installer::new(source.clone())),
        None if config.scheduler.kind == SchedulerType::Local => {
            Program::There("streamer".to_owned())
        }
        None => {
            let own = std::env::current_exe().unwrap_or_default();
            Program::Installed(Installer::new(own.with_file_name("streamer")))
        }
    }
}
