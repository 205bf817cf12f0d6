//! `scontrol show reservations`.

use super::partitions::value;
use super::{SlurmCommand, SlurmError, given, success, unexpected, with_unix_times};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::model::status::ReservationModel;

/// Asks for the reservations.
#[derive(Debug, Clone, Copy)]
pub struct Reservations;

impl SlurmCommand for Reservations {
    type Parsed = Vec<ReservationModel>;

    fn render(&self) -> ShellLine {
        with_unix_times("scontrol").args(["-a", "show", "-o", "reservations"])
    }

    fn read(&self, output: &Output) -> Result<Vec<ReservationModel>, SlurmError> {
        let text = success(output)?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("ReservationName="));
        let reservations: Option<Vec<_>> = lines.map(reservation).collect();
        reservations.ok_or_else(|| unexpected(output))
    }
}

fn reservation(line: &str) -> Option<ReservationModel> {
    let moment = |key| value(line, key)?.parse().ok();
    Some(ReservationModel {
        name: value(line, "ReservationName")?.to_owned(),
        node_list: value(line, "Nodes").and_then(given).unwrap_or_default(),
        end_time: moment("EndTime")?,
        start_time: moment("StartTime")?,
        features: value(line, "Features").and_then(given),
        state: value(line, "State")
            .and_then(given)
            .map(|state| state.to_lowercase()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::printed;
    use super::*;

    #[test]
    fn reservations_of_slurm_22_05() {
        let text = include_str!("../../../testdata/slurm22.05/reservations.txt");
        let reservations = Reservations.read(&printed(text)).unwrap();
        let [one] = &reservations[..] else {
            panic!("{reservations:?}")
        };
        assert_eq!(
            (one.name.as_str(), one.node_list.as_str()),
            ("maintenance", "nid003")
        );
        assert_eq!(one.end_time - one.start_time, 3600);
        assert_eq!(
            (one.features.as_deref(), one.state.as_deref()),
            (None, Some("inactive"))
        );
        let none = Reservations.read(&printed("No reservations in the system\n"));
        assert_eq!(none, Ok(Vec::new()));
        let words = printed("ReservationName=a StartTime=soon EndTime=later\n");
        assert!(Reservations.read(&words).is_err());
    }
}
