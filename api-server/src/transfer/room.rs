//! Whether a file fits, before a job is queued for it.

use std::time::{SystemTime, UNIX_EPOCH};

use streamer_core::Operation;

use super::{OnSystem, TransferError, TransferRequest, Transfers};
use crate::command::{self, AskRoom, Counted, Room};
use crate::executor::RunLimits;
use crate::limits;

impl Transfers {
    /// Of an upload, refuses what the file system or a quota has no room for, as far as it can be told in
    /// good time.
    pub(super) async fn check_room(
        &self,
        on: OnSystem<'_>,
        request: &TransferRequest,
    ) -> Result<(), TransferError> {
        if request.operation == Operation::Send {
            return Ok(());
        }
        let target = request.path.clone();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since_1970.map_or(0, |time| time.as_secs());
        let limits = RunLimits {
            timeout: self.command_timeout.min(limits::ROOM_TIMEOUT),
            output_bytes: self.command_output_bytes,
        };
        match command::run(on.executor, on.caller, limits, &AskRoom { target, now }).await {
            Ok(room) => fits(request.directive.file_size, room),
            Err(error) => {
                // Its directory is looked at too: what is wrong with it is told there.
                tracing::debug!(%error, "the room for a file cannot be told");
                Ok(())
            }
        }
    }
}

/// A file of `size` bytes, or of any size. What arrived of it earlier needs no room again.
fn fits(size: Option<u64>, room: Room) -> Result<(), TransferError> {
    let needed = size.map(|size| size.saturating_sub(room.arrived));
    if let (Some(size), Some(needed)) = (size, needed)
        && room.free < needed
    {
        let free = room.free;
        return Err(TransferError::NoRoom { size, free });
    }
    let is_new = room.arrived == 0;
    let over = room.quotas.into_iter().find(|quota| {
        let more = match (quota.counted, needed) {
            (Counted::Bytes, Some(needed)) => needed,
            (Counted::Bytes, None) | (Counted::Files, _) => u64::from(is_new),
        };
        more > 0 && quota.used.saturating_add(more) > quota.limit
    });
    match over {
        Some(quota) => Err(TransferError::OverQuota { size, quota }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Quota;

    fn quota(counted: Counted, used: u64, limit: u64) -> Quota {
        let (owner, mount) = ("user bob".into(), "/home".into());
        Quota {
            owner,
            mount,
            counted,
            used,
            limit,
        }
    }

    fn room(arrived: u64, quotas: &[(Counted, u64, u64)]) -> Room {
        let quotas = quotas.iter();
        Room {
            free: 1000,
            arrived,
            quotas: quotas
                .map(|&(c, used, limit)| quota(c, used, limit))
                .collect(),
        }
    }

    #[test]
    fn what_has_no_room_is_refused() {
        use Counted::{Bytes, Files};
        for (size, arrived, quotas, fitting) in [
            (Some(1000), 0, vec![], true),
            (Some(1001), 0, vec![], false),
            (Some(1600), 600, vec![], true),
            (None, 0, vec![], true),
            (Some(500), 0, vec![(Bytes, 500, 1000)], true),
            (Some(501), 0, vec![(Bytes, 500, 1000)], false),
            (
                Some(501),
                0,
                vec![(Bytes, 0, 2000), (Bytes, 500, 1000)],
                false,
            ),
            // What arrived is in what is used.
            (Some(900), 800, vec![(Bytes, 800, 1000)], true),
            (Some(0), 0, vec![(Bytes, 1000, 1000)], true),
            (Some(u64::MAX), 1, vec![(Bytes, 1, 1000)], false),
            (None, 0, vec![(Bytes, 999, 1000)], true),
            (None, 0, vec![(Bytes, 1000, 1000)], false),
            (None, 1, vec![(Bytes, 1000, 1000)], true),
            (Some(0), 0, vec![(Files, 9, 10)], true),
            (Some(0), 0, vec![(Files, 10, 10)], false),
            (Some(9), 8, vec![(Files, 10, 10)], true),
        ] {
            let answer = fits(size, room(arrived, &quotas));
            assert_eq!(answer.is_ok(), fitting, "{size:?} {arrived} {quotas:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_quota_and_what_to_do() {
        let refused = |size, counted| {
            let error = fits(size, room(0, &[(counted, 900, 900)])).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused(Some(200), Counted::Bytes),
            "A file of 200 bytes does not fit: user bob has 900 of the 900 bytes that the quota on \
             '/home' allows. Remove files there, or ask for a larger quota."
        );
        assert_eq!(
            refused(None, Counted::Files),
            "The file does not fit: user bob has 900 of the 900 files that the quota on '/home' \
             allows. Remove files there, or ask for a larger quota."
        );
    }
}
