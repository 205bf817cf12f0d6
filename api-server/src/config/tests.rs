//! The schema, through files.

use super::*;
use std::path::Path;

struct Files(tempfile::TempDir);

impl Files {
    fn new(yaml: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("config.yaml", yaml);
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn sources(&self) -> Sources {
        Sources {
            file: Some(self.path().join("config.yaml")),
            ..Sources::default()
        }
    }

    fn load(&self) -> Result<Config, String> {
        self.sources().load().map_err(|error| error.to_string())
    }
}

fn load(yaml: &str) -> Result<Config, String> {
    Files::new(yaml).load()
}

const AUTH: &str = "auth: {authentication: {token_url: http://idp/token}}\n";

fn system(extra: &str) -> String {
    format!(
        "{AUTH}ssh_credentials: {{type: SSHService, url: http://keys}}\nclusters:\n- name: One\n  \
         ssh: {{host: login, port: 22}}\n  scheduler: {{type: slurm, version: 24.11.5}}\n  \
         service_account: {{client_id: x, secret: y}}\n  probing: {{}}\n{extra}"
    )
}

#[test]
fn no_error_shows_a_value_that_may_be_secret() {
    let near_a_secret = system("").replace("secret: y", "secret: \"hush\n  bad: [");
    let not_yaml = load(&near_a_secret).unwrap_err();
    assert!(not_yaml.contains("is not valid YAML"), "{not_yaml}");
    assert!(
        !not_yaml.contains("hush") && !not_yaml.contains('\n'),
        "{not_yaml}"
    );
    let in_the_wrong_place = [
        ("secret: y", "secret: 84123"),
        ("secret: y", "secret: [84123]"),
        (
            "{type: SSHService, url: http://keys}",
            "{type: SSHStaticKeys, keys: {bob: \"84123, expected x\"}}",
        ),
        ("{type: SSHService, url: http://keys}", "84123"),
        ("port: 22", "port: \"84123\""),
    ];
    for (right, wrong) in in_the_wrong_place {
        let error = load(&system("").replace(right, wrong)).unwrap_err();
        assert!(!error.contains("84123"), "{error}");
    }
}

#[test]
fn a_file_that_is_too_long_is_not_cut() {
    let long = format!("{}# {}\n", system(""), "x".repeat(4 << 20));
    let files = Files::new(&long);
    let error = files.sources().load().unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, "longer than 4 MiB");
}

#[test]
fn defaults() {
    let config = load(&system("")).unwrap();
    let one = &config.clusters[0];
    assert_eq!(one.name, "one");
    assert_eq!(
        config.auth.authentication.username_claim,
        "preferred_username"
    );
    assert_eq!(config.auth.authentication.min_token_ttl, 30);
    assert_eq!(one.ssh.as_ref().unwrap().timeout.idle_timeout, 60);
    assert_eq!(one.probing.as_ref().unwrap().interval_check, 120);
    assert_eq!(one.data_operation.max_ops_file_size, 5_242_880);
    assert!(one.data_operation.data_transfer.is_none());
}

#[test]
fn both_spellings_and_numbers_as_strings() {
    let config = load(
        "auth:\n  authentication:\n    tokenUrl: http://idp\n    publicCerts: ['file:///k']\n    \
         minTokenTtl: '5'\n    tokenEndpointAuthMethod: client_secret_post\n\
         logger: {enableTracingLog: 'yes'}\n",
    );
    let config = config.unwrap();
    assert_eq!(config.auth.authentication.min_token_ttl, 5);
    assert_eq!(config.auth.authentication.public_certs, ["file:///k"]);
    assert!(config.logger.enable_tracing_log);
}

#[test]
fn keys_are_in_a_file_that_can_be_read_again() {
    let load = |url: &str| {
        let keys = format!("{{public_certs: ['{url}'], token_url");
        load(&AUTH.replace("{token_url", &keys))
    };
    for path in [
        "/dev/fd/63",
        "//dev//./fd/63",
        "/dev/stdin",
        "/proc/self/fd/63",
        "/proc/1/task/1/fd/63",
    ] {
        let error = load(&format!("file://{path}")).unwrap_err();
        assert!(
            error.starts_with("auth.authentication.public_certs: 'file://")
                && error.contains("left open"),
            "{error}"
        );
    }
    for url in ["file:///dev/shm/fd/1", "file:///proc", "https://x/dev/fd/3"] {
        assert!(load(url).is_ok(), "{url}");
    }
}

#[test]
fn errors_name_the_key() {
    let cases = [
        ("apisRootPath: /x\n", "apisRootPath"),
        ("storage: {}\n", "storage"),
    ];
    for (line, key) in cases {
        let error = load(&format!("{AUTH}{line}")).unwrap_err();
        assert!(
            error.contains(key) && error.contains("unknown field"),
            "{error}"
        );
    }
    assert_eq!(load("{}").unwrap_err(), "missing field `auth`");
    let error = load(&system("").replace("port: 22", "port: high")).unwrap_err();
    assert!(error.starts_with("clusters[0].ssh.port: "), "{error}");
    let error = load(&system("").replace("24.11.5", "24.11")).unwrap_err();
    assert!(
        error.starts_with("clusters[0].scheduler.version: "),
        "{error}"
    );
    let error = load(&system("").replace("type: slurm", "type: Slurm")).unwrap_err();
    assert!(error.starts_with("clusters[0].scheduler.type: "), "{error}");
    let error = load(&system("").replace("  probing: {}\n", "")).unwrap_err();
    assert!(error.starts_with("clusters[0].probing: "), "{error}");
    let wrong = "  data_operation: {data_transfer: {service_type: streamer, port_range: [9, 8]}}\n";
    let error = load(&system(wrong)).unwrap_err();
    assert!(
        error.starts_with("clusters[0].data_operation.data_transfer: port_range: "),
        "{error}"
    );
    let error =
        load(&system("  probing2: {}\n").replace("{}", "{services: {ssh: null}}")).unwrap_err();
    assert!(
        error.starts_with("clusters[0].probing.services.ssh: "),
        "{error}"
    );
}

#[test]
fn amounts_of_nothing_with_which_all_would_fail_are_refused() {
    let refused = |yaml: String, key: &str| {
        let error = load(&yaml).unwrap_err();
        assert_eq!(error, format!("{key}: must be at least 1"));
    };
    let one = |from: &str, to: &str| system("").replace(from, to);
    for name in ["connection", "login", "command_execution"] {
        let key = format!("clusters[0].ssh.timeout.{name}");
        refused(
            one("port: 22", &format!("port: 22, timeout: {{{name}: 0}}")),
            &key,
        );
    }
    let key = "clusters[0].ssh.max_clients";
    refused(one("port: 22", "port: 22, max_clients: 0"), key);
    let rest = "24.11.5, connection_mode: rest, api_url: 'http://r', api_version: 0.0.42";
    assert!(load(&one("24.11.5", rest)).is_ok());
    let key = "clusters[0].scheduler.timeout";
    refused(one("24.11.5", &format!("{rest}, timeout: '0'")), key);
    let probe = "probing: {services: {ssh: {timeout: 0}}}";
    refused(
        one("probing: {}", probe),
        "clusters[0].probing.services.ssh.timeout",
    );
    let size = "  data_operation: {max_ops_file_size: 0}\n";
    refused(system(size), "clusters[0].data_operation.max_ops_file_size");
    let wait = "  data_operation: {data_transfer: {service_type: streamer, wait_timeout: 0}}\n";
    refused(
        system(wait),
        "clusters[0].data_operation.data_transfer.wait_timeout",
    );
    let authorization = "auth: {authorization: {url: 'http://fga', timeout: 0}, ";
    refused(one("auth: {", authorization), "auth.authorization.timeout");
    // No uploads, no keeping alive, checks as often as can be: these have a meaning.
    let none =
        "  data_operation: {data_transfer: {service_type: streamer, inbound_transfer_limit: 0}}\n";
    let none = system(none).replace("port: 22", "port: 22, timeout: {keep_alive: 0}");
    assert!(load(&none.replace("probing: {}", "probing: {interval_check: 0}")).is_ok());
}

#[test]
fn endpoints_that_nobody_reaches_are_accepted_with_a_warning() {
    let warnings = |extra: &str| {
        let transfer = format!("{{service_type: streamer{extra}}}");
        let operation = format!("  data_operation: {{data_transfers: [{transfer}]}}\n");
        load(&system(&operation)).unwrap().warnings()
    };
    let key = "clusters[0].data_operation.data_transfers[0]";
    let default = warnings("");
    assert_eq!(default.len(), 2);
    let host = format!("{key}.host is absent, so that transfer jobs listen on the loopback");
    assert!(default[0].starts_with(&host), "{}", default[0]);
    let public = format!("{key}.public_ips is absent, so that transfer jobs are looked for");
    assert!(default[1].starts_with(&public), "{}", default[1]);
    for (extra, doubts) in [
        (", host: 0.0.0.0, public_ips: [192.0.2.1]", 0),
        (", host: nid1, public_ips: [localhost, 192.0.2.1]", 0),
        (", host: '::', public_ips: []", 1),
        (", host: 127.0.0.1, public_ips: [192.0.2.1]", 1),
        (
            ", host: Localhost, public_ips: ['::1', '[::1]', 127.0.0.2]",
            2,
        ),
    ] {
        assert_eq!(warnings(extra).len(), doubts, "{extra}");
    }
    let local = "clusters: [{name: here, scheduler: {type: local}, data_operation: \
                 {data_transfer: {service_type: streamer}}}]\n";
    let local = load(&format!("{AUTH}{local}")).unwrap();
    assert!(local.warnings().is_empty());
}

#[test]
fn unknown_keys_below_the_top_are_ignored() {
    assert!(
        load(&system(
            "  startup_grace_period: 5\n  data_operation: {maxOpsFileSize: 1}\n"
        ))
        .is_ok()
    );
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let files = Files::new("");
    files.write("secret", " open sesame\n");
    let file = files.path().join("secret");
    let yaml = system("").replace(
        "secret: y",
        &format!("secret: 'secret_file:{}'", file.display()),
    );
    files.write("config.yaml", &yaml);
    let config = files.load().unwrap();
    let account = config.clusters[0].service_account.as_ref().unwrap();
    assert_eq!(account.secret.expose(), "open sesame");
    assert!(!format!("{config:?}").contains("sesame"));
    std::fs::remove_file(&file).unwrap();
    let error = files.load().unwrap_err();
    assert!(
        error.starts_with("clusters[0].service_account.secret: "),
        "{error}"
    );
}

#[test]
fn the_environment_fills_what_the_file_leaves_out() {
    let files = Files::new(&format!("{AUTH}apis_root_path: /file\n"));
    let mut sources = files.sources();
    sources.environment = [
        ("APIS_ROOT_PATH", "/environment"),
        ("Logger", r#"{"enable_tracing_log": true}"#),
        ("APP_DEBUG", "1"),
        ("HOME", "/x"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec();
    sources.dot_env = Some("# comment\nAPP_DEBUG=0\n".into());
    let config = sources.load().unwrap();
    assert_eq!(config.apis_root_path, "/file");
    assert!(config.logger.enable_tracing_log && config.app_debug);
    sources.dot_env = Some("COLOUR=red\n".into());
    assert!(sources.load().unwrap_err().to_string().contains("colour"));
}

#[test]
fn the_root_path_matches_requests_in_lower_case() {
    let config = load(&format!("{AUTH}apis_root_path: /F7T/v2/\n")).unwrap();
    assert_eq!(config.apis_root_path, "/f7t/v2");
}

#[test]
fn an_algorithm_that_nobody_knows_is_refused() {
    let with = |name: &str| {
        let auth = AUTH.replace("{token_url", &format!("{{jwk_algorithm: {name}, token_url"));
        load(&auth)
    };
    assert!(with("RS256").is_ok());
    for name in ["RSA256", "rs256", "none"] {
        let error = with(name).unwrap_err();
        let expected = format!("auth.authentication.jwk_algorithm: '{name}' is no algorithm");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_version_of_a_scheduler_has_a_number() {
    let with = |version: &str| load(&system("").replace("24.11.5", version));
    assert!(with("v24.11.0").is_ok());
    for version in ["latest", "v", "slurm-24.11"] {
        let error = with(version).unwrap_err();
        assert!(error.contains("clusters[0].scheduler.version"), "{error}");
    }
}

#[test]
fn the_file_name_comes_from_the_environment() {
    let files = Files::new(AUTH);
    let name = files.path().join("config.yaml").display().to_string();
    let with = |pairs: &[(&str, &str)]| {
        let environment = pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        Sources {
            environment,
            ..Sources::default()
        }
        .load()
    };
    assert!(with(&[("INPUT_YAML_CONFIG_FILE", &name)]).is_ok());
    assert!(
        with(&[
            ("YAML_CONFIG_FILE", &name),
            ("INPUT_YAML_CONFIG_FILE", "/none")
        ])
        .is_ok()
    );
    for pairs in [
        &[][..],
        &[("YAML_CONFIG_FILE", ""), ("INPUT_YAML_CONFIG_FILE", &name)][..],
    ] {
        assert!(matches!(with(pairs), Err(ConfigError::NotNamed)));
    }
}

#[test]
fn clusters_come_from_a_directory() {
    let files = Files::new("");
    std::fs::create_dir(files.path().join("c")).unwrap();
    let local = |name: &str| format!("name: {name}\nscheduler: {{type: local}}\n");
    files.write("c/b.yaml", &local("B"));
    files.write("c/a.yaml", &local("A"));
    files.write("c/ignored.yml", &local("C"));
    let directory = files.path().join("c");
    files.write(
        "config.yaml",
        &format!("{AUTH}clusters: 'path:{}'\n", directory.display()),
    );
    let names: Vec<_> = files
        .load()
        .unwrap()
        .clusters
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(files.load().unwrap_err().contains("could not be read"));
}

#[test]
fn a_local_system_needs_little() {
    let config = load(&format!(
        "{AUTH}clusters: [{{name: here, scheduler: {{type: local}}}}]\n"
    ));
    let scheduler = &config.unwrap().clusters[0].scheduler;
    assert_eq!(
        (scheduler.kind, scheduler.wall_time),
        (SchedulerType::Local, 86_400)
    );
}

#[test]
fn the_reference_configuration_is_read_unchanged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/contract/recordings/config-used.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let files = Files::new("");
    std::fs::create_dir(files.path().join("keys")).unwrap();
    for name in text
        .split("STATE/keys/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        files.write(&format!("keys/{name}"), "x\n");
    }
    let state = files.path().display().to_string();
    files.write("config.yaml", &text.replace("STATE", &state));
    let config = files.load().unwrap();
    assert_eq!(config.clusters[0].name, "cluster-slurm-ssh");
    assert!(matches!(
        config.clusters[0].data_operation.data_transfer,
        Some(DataTransfer::Streamer(_))
    ));
}

#[test]
fn what_can_never_work_is_refused() {
    let one = |from: &str, to: &str| load(&system("").replace(from, to)).unwrap_err();
    for (from, to, key) in [
        ("host: login", "host: ''", "clusters[0].ssh.host: "),
        ("port: 22", "port: 0", "clusters[0].ssh.port: "),
        (
            "port: 22",
            "port: 22, proxy_host: ' '",
            "clusters[0].ssh.proxy_host: ",
        ),
        (
            "port: 22",
            "port: 22, proxy_host: j, proxy_port: 0",
            "clusters[0].ssh.proxy_port: ",
        ),
        (
            "port: 22",
            "port: 22, known_hosts: /nonexistent",
            "clusters[0].ssh.known_hosts: /non",
        ),
        (
            "port: 22",
            "port: 22, known_hosts: /dev/fd/9",
            "clusters[0].ssh.known_hosts: '/dev/fd/9' is a file that was left open",
        ),
        ("url: http://keys", "url: keys", "ssh_credentials.url: "),
        (
            "24.11.5",
            "24.11.5, connection_mode: rest, api_url: 'slurm:6820', api_version: 0.0.42",
            "clusters[0].scheduler.api_url: ",
        ),
        (
            "auth: {",
            "auth: {authorization: {url: 'ftp://fga'}, ",
            "auth.authorization.url: ",
        ),
        (
            "{token_url",
            "{iss: '', token_url",
            "auth.authentication: iss",
        ),
        (
            "{token_url",
            "{aud: [''], token_url",
            "auth.authentication: iss",
        ),
    ] {
        let error = one(from, to);
        assert!(error.starts_with(key), "{to}: {error}");
    }
}

#[test]
fn what_fails_for_some_is_accepted_with_a_warning() {
    let warnings = |yaml: &str| load(yaml).unwrap().thorough_warnings();
    assert_eq!(warnings(&system("")), [""; 0]);
    let found = warnings(&system("").replace("http://idp/token", "idp"));
    assert!(
        found[0].starts_with("auth.authentication.token_url is no http"),
        "{found:?}"
    );
    let bounded = |max: u32| {
        let to = format!("auth: {{authorization: {{url: 'http://fga', max_connections: {max}}}, ");
        warnings(&system("").replacen("auth: {", &to, 1))
    };
    assert_eq!(bounded(100), [""; 0]);
    let found = bounded(5);
    assert!(
        found[0].starts_with("auth.authorization.max_connections bounds nothing"),
        "{found:?}"
    );
    let s3 = "{service_type: s3, name: n, private_url: s3, public_url: 'http://s3', \
              access_key_id: hush, secret_access_key: hush, region: r, ttl: 1}";
    let s3 = system(&format!(
        "  data_operation: {{streamer_binary_source: /nonexistent, data_transfer: {s3}}}\n"
    ));
    let found = warnings(&s3);
    let key = "clusters[0].data_operation.";
    assert!(
        found[0].starts_with(&format!("{key}data_transfer.private_url is no")),
        "{found:?}"
    );
    let source = format!("{key}streamer_binary_source /nonexistent is no file");
    assert!(
        found[1].starts_with(&source) && found.len() == 2,
        "{found:?}"
    );
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let known = format!(
        "port: 22, proxy_host: j, known_hosts: {}",
        hosts.path().display()
    );
    let found = warnings(&system("").replace("port: 22", &known));
    assert!(found[0].contains("has no key of j port 22"), "{found:?}");
    assert!(
        found[1].contains("has no key of login port 22"),
        "{found:?}"
    );
}

#[test]
fn keys_that_open_nothing_are_told_of_by_user() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    for (name, passphrase) in [("plain", ""), ("closed", "sesame")] {
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", passphrase, "-f", &file(name)])
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: ssh-keygen is absent");
            return;
        }
    }
    std::fs::write(file("none"), "not a key").unwrap();
    let key =
        |name: &str, more: &str| format!("{{private_key: 'secret_file:{}'{more}}}", file(name));
    let keys = [
        ("good", key("plain", "")),
        ("opened", key("closed", ", passphrase: sesame")),
        ("a", key("none", "")),
        ("b", key("closed", "")),
        ("c", key("closed", ", passphrase: open")),
        ("d", key("plain", ", public_cert: hush")),
    ];
    let keys = keys.map(|(user, key)| format!("{user}: {key}")).join(", ");
    let yaml = system("").replace(
        "type: SSHService, url: http://keys",
        &format!("type: SSHStaticKeys, keys: {{{keys}}}"),
    );
    let config = load(&yaml).unwrap();
    let users = |doubts: Vec<String>| {
        assert!(
            !doubts.iter().any(|text| text.contains("hush")),
            "{doubts:?}"
        );
        let users = doubts.iter().map(|text| {
            let rest = text.strip_prefix("ssh_credentials.keys.").unwrap();
            rest.split(' ').next().unwrap().to_owned()
        });
        users.collect::<String>()
    };
    assert_eq!(users(config.thorough_warnings()), "abcd");
    // Without the time that passphrases take.
    assert_eq!(users(config.warnings()), "abd");
}

#[test]
fn what_is_wrong_with_a_system_names_its_file() {
    let files = Files::new("");
    std::fs::create_dir(files.path().join("c")).unwrap();
    let directory = files.path().join("c").display().to_string();
    files.write(
        "config.yaml",
        &format!("{AUTH}clusters: 'path:{directory}'\n"),
    );
    let local = "name: a\nscheduler: {type: local}\n";
    files.write("c/a.yaml", local);
    for (text, message) in [
        ("- name: b\n", "b.yaml: must be one cluster, not a list"),
        ("", "b.yaml: must be one cluster; the file is empty"),
        (
            "name: b\nscheduler: {type: lokal}\n",
            "b.yaml: scheduler.type: unknown variant",
        ),
        ("name: b\n", "b.yaml: missing field `scheduler`"),
        (local, "b.yaml: name: another system is named 'a' already"),
    ] {
        files.write("c/b.yaml", text);
        let error = files.load().unwrap_err();
        assert!(
            error.starts_with(&format!("{directory}/{message}")),
            "{error}"
        );
    }
    let transfer = "{service_type: streamer, host: 0.0.0.0}";
    let remote = system(&format!(
        "  data_operation: {{data_transfer: {transfer}}}\n"
    ));
    let (_, remote) = remote.split_once("- name: One").unwrap();
    files.write(
        "c/b.yaml",
        &format!("name: One{}", remote.replace("\n  ", "\n")),
    );
    let (head, _) = system("")
        .split_once("clusters:")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    files.write(
        "config.yaml",
        &format!("{head}clusters: 'path:{directory}'\n"),
    );
    let found = files.load().unwrap().warnings();
    let start = format!("{directory}/b.yaml: data_operation.data_transfer.public_ips is absent");
    assert!(found[0].starts_with(&start), "{found:?}");
}
