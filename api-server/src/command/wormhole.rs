//! `wormhole` (magic-wormhole) in a job: the code is read from a private file and is on no
//! command line, in no environment and in no log.

use super::ShellLine;

/// One file or directory through a wormhole.
#[derive(Debug, Clone)]
pub struct Wormhole {
    /// Which way.
    pub verb: WormholeVerb,
    /// The file or directory to send, or the file to make.
    pub path: String,
    /// The file that holds the code; removed at the end.
    pub code_file: String,
    /// Beginning of the file in which the job says how it stands, for [`ShellLine::job_arg`].
    pub state_prefix: String,
    /// The program on the node. Absent: it is installed.
    pub program: Option<String>,
    /// Beginning of the virtual environment into which it is, absolute: jobs begin anywhere, also
    /// where the user has one. Its end is the version of the node's Python.
    pub environment: String,
    /// Package index for that.
    pub index_url: Option<String>,
    /// Mailbox server; absent: the public one.
    pub mailbox_url: Option<String>,
    /// Transit relay; absent: the public one.
    pub transit_relay: Option<String>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WormholeVerb {
    /// To the other side.
    Send,
    /// From the other side.
    Receive,
}

impl Wormhole {
    /// The line that a job runs.
    pub fn render(&self) -> ShellLine {
        let verb = match self.verb {
            WormholeVerb::Send => "send",
            WormholeVerb::Receive => "receive",
        };
        let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
        ShellLine::new("sh")
            .args(["-c", RUN, "sh", verb, &self.code_file, &self.path])
            .args([&self.program, &self.index_url].map(or_none))
            .args([&self.mailbox_url, &self.transit_relay].map(or_none))
            .args([PROGRAM, &self.environment])
            .job_arg(&self.state_prefix)
    }
}

/// A program that fails says why, but for the lines in which it repeats the code. Of one that
/// runs no more is known than that the other side can come.
const RUN: &str = r##"verb=$1 private=$2 path=$3 program=$4 index=$5
mailbox=$6 relay=$7 main=$8 environment=$9
shift 9
state=$1
if [ -n "$mailbox" ]; then export WORMHOLE_RELAY_URL="$mailbox"; fi
if [ -n "$relay" ]; then export WORMHOLE_TRANSIT_HELPER="$relay"; fi
export LC_ALL=C.UTF-8 WORMHOLE_QR=0
errors=$private-errors
trap 'rm -f -- "$private" "$errors"' EXIT
if [ -n "$program" ]; then
  case $program in
    */*) script=$program ;;
    *) script=$(command -v "$program") ;;
  esac
  first='' second=''
  { read -r first; read -r second; } <"$script"
  # Several words, as `/usr/bin/env python3`, and none of them a pattern.
  set -f
  python() { false; }
  # Where Python's path is too long for a first line, or has blanks: by Spack, and by pip.
  case $first in "#!"*/sbang) first=$second ;; esac
  case $first in "#!"*) python() { ${first#"#!"} "$@"; } ;; esac
  case $second in
    "'''exec' "*' "$0" "$@"'*)
      words=${second#"'''exec' "}
      words=${words%' "$0" "$@"'*}
      python() { sh -c "exec $words "'"$@"' "$script" "$@"; } ;;
  esac
  python -c 'import wormhole' || {
    echo "wormhole_binary: $program is not started by a Python that has wormhole" >&2
    exit 1
  }
else
  # Nodes may have different ones, and other jobs use theirs.
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit
  environment=$environment-$version
  python() { "$environment/bin/python" "$@"; }
  (
    flock 9 || exit
    python -c 'import wormhole' 2>/dev/null && exit
    install() {
      python3 -m venv "$@" "$environment" &&
        python -m pip install --quiet --disable-pip-version-check ${index:+--index-url "$index"} magic-wormhole
    }
    # One that starts may have jobs that run; where it is only damaged, that mends nothing.
    if python -c '' 2>/dev/null; then
      install && python -c 'import wormhole' 2>/dev/null && exit
    fi
    install --clear
  ) 9>"$environment.lock" || exit
fi
(
  umask 077
  : >"$errors"
  printf '{"state":"listening","host":"%s","updated":%s}\n' "$(uname -n)" "$(date +%s)" >"$state"
)
python -c "$main" "$private" "$verb" "$path" >"$errors" 2>&1
status=$?
if [ "$status" -ne 0 ]; then
  grep -a -v -F -f "$private" -- "$errors" >&2
elif [ "$verb" = receive ]; then
  sync -- "$path" || exit
fi
exit "$status""##;

/// As the program's own script starts it, with the code put among the arguments inside the
/// process, where nobody sees it.
const PROGRAM: &str = r#"import sys
private, verb, path = sys.argv[1:]
with open(private) as file:
    code = file.read().strip()
if verb == "send":
    options = ["--hide-progress", "--code", code, "--", path]
else:
    options = ["--hide-progress", "--accept-file", "--output-file", path, "--", code]
sys.argv = ["wormhole", verb] + options
from wormhole.cli.cli import wormhole
wormhole()"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in package shows what the real one would be given.
    #[test]
    fn the_code_reaches_the_program_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir_all(at("lib/wormhole/cli")).unwrap();
        std::fs::write(at("lib/wormhole/__init__.py"), "").unwrap();
        std::fs::write(at("lib/wormhole/cli/__init__.py"), "").unwrap();
        let program = "import os, sys\n\
            def wormhole():\n    \
            for line in ('wormhole code is: %s', \"bad code '%s'!\", 'no relay'):\n        \
            print(line.replace('%s', sys.argv[-1]), file=sys.stderr)\n    \
            open(os.environ['SHOWN'], 'w').write('\\n'.join(sys.argv[1:]))\n    \
            line = open('/proc/self/cmdline').read() + str(dict(os.environ))\n    \
            sys.exit('the code is in sight' if '7-secret' in line else 3)\n";
        std::fs::write(at("lib/wormhole/cli/cli.py"), program).unwrap();
        std::fs::write(at("wormhole"), "#!/usr/bin/env python3\n").unwrap();
        std::fs::write(at("code"), "7-secret\n").unwrap();
        let line = Wormhole {
            verb: WormholeVerb::Receive,
            path: "/a 'b\n$(id)".into(),
            code_file: at("code"),
            state_prefix: at("job-"),
            program: Some(at("wormhole")),
            environment: at("venv"),
            index_url: None,
            mailbox_url: Some("ws://127.0.0.1:4000/v1".into()),
            transit_relay: None,
        };
        let line = line.render();
        assert!(!line.as_str().contains("7-secret"));
        let output = std::process::Command::new("sh")
            .args(["-c", line.as_str()])
            .env("SLURM_JOB_ID", "17")
            .env("PYTHONPATH", at("lib"))
            .env("SHOWN", at("shown"))
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), error.as_str()),
            (Some(3), "no relay\n")
        );
        assert_eq!(
            std::fs::read_to_string(at("shown")).unwrap(),
            "receive\n--hide-progress\n--accept-file\n--output-file\n/a 'b\n$(id)\n--\n7-secret"
        );
        let state = std::fs::read_to_string(at("job-17.json")).unwrap();
        assert!(
            state.starts_with(r#"{"state":"listening","host":""#),
            "{state}"
        );
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        assert!(state["updated"].as_u64().unwrap() > 1_700_000_000);
        for name in ["code", "code-errors"] {
            assert!(!std::fs::exists(at(name)).unwrap(), "{name}");
        }
    }

    /// What comes of a program with this head that is configured as `program`: the exit status, what
    /// is said, and whether the job's state was.
    fn run_by(directory: &std::path::Path, head: &str, program: &str) -> (i32, String, bool) {
        let at = |name: &str| directory.join(name).display().to_string();
        std::fs::write(at("wormhole"), head).unwrap();
        std::fs::write(at("code"), "7-secret").unwrap();
        for name in ["wormhole", "python"] {
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(at(name), executable).unwrap();
        }
        let line = Wormhole {
            program: Some(program.into()),
            ..installed_in(at("venv"), at)
        };
        let path = std::env::var("PATH").unwrap();
        let output = std::process::Command::new("sh")
            .args(["-c", line.render().as_str()])
            .env("SLURM_JOB_ID", "17")
            .env("PATH", format!("{}:{path}", directory.display()))
            .output()
            .unwrap();
        assert!(!std::fs::exists(at("code")).unwrap());
        let state = std::fs::remove_file(at("job-17.json")).is_ok();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), error, state)
    }

    #[test]
    fn the_python_of_a_program_is_found_as_pip_and_spack_name_it() {
        for prefix in ["plain", "it's a $(id) "] {
            let directory = tempfile::Builder::new().prefix(prefix).tempdir();
            let directory = directory.unwrap();
            let at = |name: &str| directory.path().join(name).display().to_string();
            std::fs::create_dir_all(at("lib/wormhole/cli")).unwrap();
            for package in ["lib/wormhole", "lib/wormhole/cli"] {
                std::fs::write(at(&format!("{package}/__init__.py")), "").unwrap();
            }
            let program = "def wormhole():\n    raise SystemExit(7)\n";
            std::fs::write(at("lib/wormhole/cli/cli.py"), program).unwrap();
            // No other one has the package.
            let python = "#!/bin/sh\nPYTHONPATH=${0%/*}/lib exec python3 \"$@\"\n";
            std::fs::write(at("python"), python).unwrap();
            let (program, python) = (at("wormhole"), at("python"));
            let quoted = format!("\"{}\"", python.replace('$', "\\$"));
            let exec = |python: &str| format!("#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"");
            let mut heads = vec![
                exec(&quoted) + "\n' '''\nimport sys\n",
                exec(&format!("{quoted} -s -B")) + " #'''\n",
                exec(r#""$(dirname -- "$(realpath -- "$0")")"/'python'"#) + "\n' '''\n",
            ];
            if prefix == "plain" {
                heads.extend([
                    exec(&python),
                    format!("#!{python}"),
                    format!("#! {python} -s\nimport sys\n"),
                    format!("#!/bin/sh {}\n#!{python} -s\n", at("bin/sbang")),
                    "#!/usr/bin/env python\nimport sys\n".into(),
                ]);
            }
            for head in &heads {
                let run = run_by(directory.path(), head, &program);
                assert_eq!(run, (7, String::new(), true), "{head}");
            }
            let run = run_by(directory.path(), &heads[0], "wormhole");
            assert_eq!(run, (7, String::new(), true), "on PATH");
        }
    }

    #[test]
    fn a_program_of_no_such_python_is_told_of_before_it_is_said_to_listen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("python"), "#!/bin/sh\nexit 1\n").unwrap();
        let python = format!("#!{}\n", at("python"));
        let (own, absent) = (at("wormhole"), at("absent"));
        for (head, program) in [
            ("#!/bin/sh\nexec /opt/wormhole \"$@\"\n", own.as_str()),
            (&python, &own),
            ("\x7fELF\0\n", &own),
            ("", &own),
            ("", &absent),
            ("", "no-such-wormhole"),
        ] {
            let (status, error, state) = run_by(directory.path(), head, program);
            assert_eq!((status, state), (1, false), "{program}: {error}");
            let told = format!("wormhole_binary: {program} is not started by");
            assert!(error.lines().any(|line| line.starts_with(&told)), "{error}");
        }
    }

    #[test]
    fn the_environment_is_where_it_is_told_and_nowhere_else() {
        let directory = tempfile::Builder::new().prefix("it's a ").tempdir();
        let directory = directory.unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let version = std::process::Command::new("python3")
            .args([
                "-c",
                "import sys; print('%d.%d' % sys.version_info[:2], end='')",
            ])
            .output();
        let version = String::from_utf8(version.unwrap().stdout).unwrap();
        let own = format!("own venv-{version}");
        std::fs::create_dir_all(at(&format!("{own}/bin"))).unwrap();
        // Where the job begins, the user has one of their own.
        std::fs::create_dir_all(at("home/.venv/bin")).unwrap();
        std::fs::create_dir_all(at("wormhole/cli")).unwrap();
        for package in ["wormhole", "wormhole/cli"] {
            std::fs::write(at(&format!("{package}/__init__.py")), "").unwrap();
        }
        let program = "def wormhole():\n    open('called', 'w')\n";
        std::fs::write(at("wormhole/cli/cli.py"), program).unwrap();
        for (place, python) in [
            (own.as_str(), "#!/bin/sh\nexec python3 \"$@\"\n"),
            ("home/.venv", "#!/bin/sh\nexit 1\n"),
        ] {
            let python_file = at(&format!("{place}/bin/python"));
            std::fs::write(&python_file, python).unwrap();
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&python_file, executable).unwrap();
        }
        std::fs::write(at("code"), "7-secret").unwrap();
        let line = installed_in(at("own venv"), at);
        let output = std::process::Command::new("sh")
            .args(["-c", line.render().as_str()])
            .current_dir(at("home"))
            .env("PYTHONPATH", directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(std::fs::exists(at(&format!("{own}.lock"))).unwrap());
        let mut names: Vec<_> = std::fs::read_dir(at("home"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort_unstable();
        assert_eq!(names, [".venv", "called"]);
    }

    /// What sends by a program that is installed there.
    fn installed_in(environment: String, at: impl Fn(&str) -> String) -> Wormhole {
        Wormhole {
            verb: WormholeVerb::Send,
            path: "/a".into(),
            code_file: at("code"),
            state_prefix: at("job-"),
            program: None,
            environment,
            index_url: None,
            mailbox_url: None,
            transit_relay: None,
        }
    }

    /// A stand-in for a Python that makes environments, in which there is no program until `pip` was
    /// called.
    const PYTHON: &str = r##"#!/bin/sh
case $1 in
  -c) echo "$VERSION" ;;
  *)
    shift 2
    echo "$@" >>"$MADE"
    for last; do :; done
    [ "$1" != --clear ] || rm -rf "$last"
    mkdir -p "$last/bin"
    cat >"$last/bin/python" <<'END'
#!/bin/sh
case $1$2 in
  '-cimport wormhole') exec test -e "$0.installed" -a ! -e "$0.damaged" ;;
  -mpip) : >"$0.installed" ;;
esac
END
    chmod +x "$last/bin/python" ;;
esac
"##;

    #[test]
    fn an_environment_that_jobs_may_use_is_neither_shared_with_another_python_nor_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir(at("bin")).unwrap();
        std::fs::write(at("bin/python3"), PYTHON).unwrap();
        let executable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(at("bin/python3"), executable).unwrap();
        let path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap());
        let line = installed_in(at("venv"), at);
        let line = line.render();
        let run = |version: &str| {
            std::fs::write(at("code"), "7-secret").unwrap();
            let output = std::process::Command::new("sh")
                .args(["-c", line.as_str()])
                .env("PATH", &path)
                .env("VERSION", version)
                .env("MADE", at("made"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let made = std::fs::read_to_string(at("made")).unwrap_or_default();
            let _ = std::fs::remove_file(at("made"));
            made
        };
        let made = |version: &str, options: &str| format!("{options}{}-{version}\n", at("venv"));
        assert_eq!(run("3.9"), made("3.9", "--clear "));
        assert_eq!(run("3.12"), made("3.12", "--clear "));
        assert_eq!(run("3.9"), "", "it is there");
        std::fs::remove_file(at("venv-3.9/bin/python.installed")).unwrap();
        assert_eq!(run("3.9"), made("3.9", ""), "it starts");
        std::fs::write(at("venv-3.9/bin/python.damaged"), "").unwrap();
        let both = made("3.9", "") + &made("3.9", "--clear ");
        assert_eq!(run("3.9"), both, "what pip takes for installed is not");
        std::fs::write(at("venv-3.9/bin/python"), "#!/nowhere\n").unwrap();
        std::fs::remove_file(at("venv-3.9/bin/python.installed")).unwrap();
        assert_eq!(run("3.9"), made("3.9", "--clear "));
    }
}
