//! Finding the configuration: YAML file, then environment, then `.env`, by top-level key.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Config, values};
use crate::{bounded, limits};

/// Why there is no configuration. Says which key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Neither an argument nor the environment names a file.
    #[error("no configuration file: give --config FILE or set YAML_CONFIG_FILE")]
    NotNamed,
    /// A file or directory cannot be read.
    #[error("{} could not be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("{} is not valid YAML: {message}", path.display())]
    NotYaml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value is missing, unknown, or of the wrong type or range.
    #[error("{}", about(key, message))]
    Invalid {
        /// Path of the key; empty for the whole.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// Where configuration comes from; tests pass their own.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// File given as an argument.
    pub file: Option<PathBuf>,
    /// Process environment.
    pub environment: Vec<(String, String)>,
    /// Text of `.env` in the current directory.
    pub dot_env: Option<String>,
}

impl Sources {
    /// An argument, this process's environment, and `.env` here.
    ///
    /// # Errors
    /// When there is a `.env` that cannot be read: what it says may be what keeps others out.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let path = std::env::current_dir().unwrap_or_default().join(".env");
        let dot_env = match bounded::read_text(&path, limits::CONFIG_MAX_BYTES) {
            Ok(text) => Some(text),
            // Virtual environments of Python are called so, too.
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::IsADirectory].contains(&error.kind()) =>
            {
                None
            }
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        Ok(Self {
            file,
            environment,
            dot_env,
        })
    }

    /// Reads, merges and checks.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut settings = read_mapping(&self.file_name()?)?;
        for (name, text) in &self.environment {
            let key = name.to_ascii_lowercase();
            if TOP_LEVEL_KEYS.contains(&key.as_str()) && !settings.contains_key(&key) {
                let value = environment_value(&key, text)?;
                settings.insert(key, value);
            }
        }
        for (key, text) in self.dot_env_entries()? {
            if !settings.contains_key(&key) {
                let value = environment_value(&key, &text)?;
                settings.insert(key, value);
            }
        }
        let files = expand_clusters(&mut settings)?;
        let checked = parse(settings).and_then(Config::validated);
        match checked {
            Ok(config) => Ok(Config { files, ..config }),
            Err(ConfigError::Invalid { key, message }) => Err(ConfigError::Invalid {
                key: by_file(&files, &key),
                message,
            }),
            Err(other) => Err(other),
        }
    }

    fn file_name(&self) -> Result<PathBuf, ConfigError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let find = |name: &str| {
            self.environment
                .iter()
                .find(|(k, _)| k == name)
                .map(|(_, v)| v)
        };
        match find("YAML_CONFIG_FILE").or_else(|| find("INPUT_YAML_CONFIG_FILE")) {
            Some(file) if !file.is_empty() => Ok(PathBuf::from(file)),
            _ => Err(ConfigError::NotNamed),
        }
    }

    fn dot_env_entries(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut entries = Vec::new();
        for line in self
            .dot_env
            .as_deref()
            .unwrap_or_default()
            .lines()
            .map(str::trim)
        {
            let line = line.strip_prefix("export ").unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, text) = line.split_once('=').unwrap_or((line, ""));
            let key = name.trim().to_ascii_lowercase();
            if !TOP_LEVEL_KEYS.contains(&key.as_str()) {
                return Err(invalid(&key, "unknown key in .env"));
            }
            entries.push((key, text.trim().trim_matches(['"', '\'']).to_owned()));
        }
        Ok(entries)
    }
}

const TOP_LEVEL_KEYS: &[&str] = &[
    "app_debug",
    "app_version",
    "apis_root_path",
    "doc_servers",
    "auth",
    "ssh_credentials",
    "clusters",
    "logger",
];

fn read_mapping(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    match read_yaml(path)? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(ConfigError::NotYaml {
            path: path.to_owned(),
            message: "the document is not a mapping".to_owned(),
        }),
    }
}

fn read_yaml(path: &Path) -> Result<Value, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let read = file
        .take(limits::CONFIG_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if read as u64 > limits::CONFIG_MAX_BYTES {
        // Its beginning alone could be valid, without users or systems.
        let mebibytes = limits::CONFIG_MAX_BYTES >> 20;
        let message = format!("longer than {mebibytes} MiB");
        return Err(unreadable(std::io::Error::other(message)));
    }
    let not_yaml = |message| ConfigError::NotYaml {
        path: path.to_owned(),
        message,
    };
    // As the YAML reader of existing installations: `y` and `n` are strings (`yes` and `on`
    // are read as booleans where one is expected), the last of equal keys counts.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        // The lines around an error may hold keys and passwords.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| not_yaml(error.to_string()))
}

/// Collections are JSON in the environment; scalars stand as they are.
fn environment_value(key: &str, text: &str) -> Result<Value, ConfigError> {
    let collection = [
        "doc_servers",
        "auth",
        "ssh_credentials",
        "clusters",
        "logger",
    ]
    .contains(&key);
    if !collection || text.starts_with("path:") {
        return Ok(Value::String(text.to_owned()));
    }
    serde_json::from_str(text).map_err(|_| invalid(key, "the environment variable is not JSON"))
}

/// A message about a key, with the file of a system in place of a number that stands nowhere.
pub(super) fn by_file(files: &[PathBuf], text: &str) -> String {
    let named = || {
        let (number, rest) = text.strip_prefix("clusters[")?.split_once(']')?;
        let file = files.get(number.parse::<usize>().ok()?)?.display();
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        Some(match rest {
            "" => file.to_string(),
            rest => format!("{file}: {rest}"),
        })
    };
    named().unwrap_or_else(|| text.to_owned())
}

/// `clusters: path:/dir` stands for the `*.yaml` files there, in order of their names. Those files.
fn expand_clusters(settings: &mut Map<String, Value>) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(Value::String(text)) = settings.get("clusters") else {
        return Ok(Vec::new());
    };
    let Some(directory) = text.strip_prefix("path:") else {
        return Err(invalid("clusters", "must be a list or 'path:<directory>'"));
    };
    let directory = values::expand_home(directory);
    let unreadable = |source| ConfigError::Unreadable {
        path: directory.clone(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
    files.sort();
    let clusters = files
        .iter()
        .map(|file| read_system(file))
        .collect::<Result<Vec<_>, _>>()?;
    settings.insert("clusters".to_owned(), Value::Array(clusters));
    Ok(files)
}

fn read_system(file: &Path) -> Result<Value, ConfigError> {
    let wrong = |message| Err(invalid(&file.display().to_string(), message));
    match read_yaml(file)? {
        system @ Value::Object(_) => Ok(system),
        Value::Array(_) => wrong("must be one cluster, not a list"),
        Value::Null => wrong("must be one cluster; the file is empty"),
        _ => wrong("must be one cluster, a mapping"),
    }
}

fn parse(settings: Map<String, Value>) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(Value::Object(settings)).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.into_inner());
        invalid(
            if path == "." { "" } else { &path },
            values::without_value(&cause.to_string()),
        )
    })
}

fn about(key: &str, message: &str) -> String {
    match key {
        "" => message.to_owned(),
        key => format!("{key}: {message}"),
    }
}

fn invalid(key: &str, message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        key: key.to_owned(),
        message: message.into(),
    }
}
