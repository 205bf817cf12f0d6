//! What to do about an error.

use streamer_core::ErrorCode;
use streamer_core::net::dial::{DialError, Reason};
use streamer_server::{BindError, ConfigError, ServeError};

use crate::client::ClientError;

pub(crate) fn of(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::Coordinates(_) => {
            "pass the whole text that the transfer request returned, by --coordinates-file or STREAMER_COORDINATES"
        }
        ClientError::WrongDirection {
            operation: streamer_core::Operation::Send,
        } => "use 'streamer receive' with these coordinates",
        ClientError::WrongDirection { .. } => "use 'streamer send' with these coordinates",
        ClientError::Dial(DialError::Unreachable {
            reason: Reason::Others(_),
            ..
        }) => {
            "is the job running? were the coordinates issued for another job? --wait 10m keeps trying for longer"
        }
        ClientError::Dial(DialError::Unreachable { .. }) => {
            "is the job running? do the firewalls between let these ports pass, by UDP or by TCP? --wait 10m keeps trying for longer"
        }
        ClientError::Dial(DialError::Stranger { .. }) => {
            "were the coordinates issued for another job? request the transfer again"
        }
        ClientError::NotProven { .. } => {
            "is the job running? if it runs the Python streamer, --allow-websocket speaks its plaintext protocol: anybody on the way can read and change the file"
        }
        ClientError::JobOver { .. } => {
            "request the transfer again; the same command continues from what arrived"
        }
        ClientError::JobToCome { .. } => "--wait 2h keeps trying for longer",
        ClientError::LostForGood { .. } | ClientError::Interrupted => RESUME,
        ClientError::Transfer(error) if error.is_lost() => RESUME,
        ClientError::PlainTree { .. } => PLAIN_TREE,
        ClientError::Plain(error) if error.is_lost() => PLAIN_LOST,
        ClientError::Dial(_)
        | ClientError::Filter(_)
        | ClientError::Input { .. }
        | ClientError::Signals { .. }
        | ClientError::Ask(_)
        | ClientError::Api(_)
        | ClientError::NoRandomness => return None,
        ClientError::Plain(error) => return error.code().and_then(of_plain),
        ClientError::Store(_) | ClientError::Transfer(_) => return error.code().and_then(of_code),
    })
}

pub(crate) fn of_server(error: &ServeError) -> Option<&'static str> {
    Some(match error {
        ServeError::Bind(BindError::NoFreePort { .. }) => {
            "give a wider --port-range, or wait until other transfers on this machine are over"
        }
        ServeError::Bind(BindError::Config(ConfigError::GuessableSecret)) => {
            "use a secret of at least 22 random characters, or let the endpoint make one"
        }
        ServeError::Store(error) => return of_code(error.code),
        ServeError::NobodyCame(_) => "request the transfer again",
        ServeError::DidNotComeBack(_) | ServeError::Stopped(_) => {
            "request the transfer again; the same client command continues from what arrived"
        }
        ServeError::Bind(_) => return None,
        _ => return None,
    })
}

pub(crate) fn of_code(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::TargetExists => {
            "choose another name, or have the side that receives be started with --overwrite or --skip-existing: \
             'streamer receive', 'streamer server receive', or an upload requested with 'existing'"
        }
        ErrorCode::NameTaken => "move it away, or choose another name",
        ErrorCode::SourceMissing => "check the path of the source",
        ErrorCode::ParentMissing => "create the directory first",
        ErrorCode::PermissionDenied => "check who owns the file and its directory",
        ErrorCode::NoSpace => {
            "free some space or quota; the same command continues from what arrived"
        }
        ErrorCode::FileTooLarge => {
            "choose a target on another file system, or raise the limit that 'ulimit -f' shows"
        }
        ErrorCode::OverInboundLimit => {
            "the centre limits what one transfer may send; see inboundTransferLimit in /status/systems"
        }
        ErrorCode::UnsupportedType => {
            "only files, directories and symbolic links can be transferred"
        }
        ErrorCode::LinkLeavesTree => {
            "links are kept that lead to something in the same tree, by a relative path"
        }
        ErrorCode::TargetBusy => "wait until the other transfer is over",
        ErrorCode::Busy => "wait until the other client is done, or request a transfer of your own",
        ErrorCode::WrongDirection => "use the other verb: 'streamer send' or 'streamer receive'",
        ErrorCode::UnsupportedVersion => "update streamer on the older side",
        ErrorCode::SourceChanged => {
            "the partial is kept; run the same client command with --restart to throw it away and start over; \
             where the endpoint is gone, request the transfer again first"
        }
        ErrorCode::HashMismatch => "run the same command again: what is proven is kept",
        ErrorCode::Terminated => {
            "request the transfer again; the same command continues from what arrived"
        }
        ErrorCode::Interrupted => RESUME,
        _ => return None,
    })
}

/// About a transfer over the plaintext protocol.
pub(crate) fn of_plain(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnsupportedType => Some(PLAIN_TREE),
        other => of_code(other),
    }
}

/// About an entry of a tree whose others are in place.
pub(crate) fn of_entry(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::SourceChanged => Some(
            "request the transfer again and receive it with --overwrite; add --restart where it \
             still says so: what has arrived of such a file is kept until then",
        ),
        other => of_code(other),
    }
}

const PLAIN_TREE: &str = "a directory needs QUIC or TLS, and streamer on both sides: leave out --transport ws; to or from \
     the Python streamer, make an archive of it, as with tar, and move that";

const PLAIN_LOST: &str = "the same command starts over, since the plaintext protocol resumes nothing; where the source is a \
     directory, leave out --transport ws: this protocol carries single files only";

const RESUME: &str = "the same command continues from what arrived";
