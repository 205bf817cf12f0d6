//! The table on standard output.

use crate::report::{Figures, Line, Outcome};

const HEADINGS: [&str; 9] = [
    "tool",
    "seconds",
    "MB/s",
    "range",
    "of cp",
    "CPU s/GiB",
    "client + server",
    "peak MB client / server",
    "verified",
];

/// The lines as aligned text: the first column to the left, numbers to the right; a tool
/// without figures has its reason instead.
pub fn render(lines: &[Line]) -> String {
    let rows: Vec<[String; 9]> = lines
        .iter()
        .filter_map(|line| line.figures().map(|figures| row(&line.name, figures)))
        .collect();
    let headings = HEADINGS.map(str::to_owned);
    let mut widths = headings.clone().map(|heading| heading.len());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for line in lines {
        widths[0] = widths[0].max(line.name.len());
    }
    let mut text = aligned(&headings, &widths);
    let mut rows = rows.iter();
    for line in lines {
        let (word, reason) = match &line.outcome {
            Outcome::Measured(_) => {
                text.extend(rows.next().map(|row| aligned(row, &widths)));
                continue;
            }
            Outcome::Missing(reason) => ("not run", reason),
            Outcome::Failed(reason) => ("FAILED", reason),
        };
        let reason = reason.replace('\n', "\n    ");
        text.push_str(&format!(
            "{:<width$}  {word}: {reason}\n",
            line.name,
            width = widths[0]
        ));
    }
    text
}

fn row(name: &str, figures: &Figures) -> [String; 9] {
    let [slowest, fastest] = figures.megabytes_per_second_range;
    let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        name.to_owned(),
        format!("{:.2}", figures.wall_seconds),
        format!("{:.0}", figures.megabytes_per_second),
        format!("{slowest:.0}-{fastest:.0}"),
        or_dash(figures.of_cp.map(|share| format!("{share:.3}"))),
        format!("{:.2}", figures.cpu_seconds_per_gib),
        format!(
            "{:.2} + {}",
            figures.client_cpu_seconds_per_gib,
            or_dash(
                figures
                    .server_cpu_seconds_per_gib
                    .map(|cpu| format!("{cpu:.2}"))
            )
        ),
        format!(
            "{} / {}",
            megabytes(figures.client_peak_memory_bytes),
            or_dash(figures.server_peak_memory_bytes.map(megabytes))
        ),
        "yes".to_owned(),
    ]
}

fn aligned(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let mut text = format!("{:<width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        text.push_str(&format!("  {cell:>width$}"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_reasons_shown() {
        let figures = |rate: f64| Figures {
            wall_seconds: 1.0,
            megabytes_per_second: rate,
            megabytes_per_second_range: [rate, rate],
            of_cp: Some(1.0),
            client_cpu_seconds_per_gib: 0.5,
            server_cpu_seconds_per_gib: None,
            cpu_seconds_per_gib: 0.5,
            client_peak_memory_bytes: 2_000_000,
            server_peak_memory_bytes: None,
            rounds_wall_seconds: vec![1.0],
        };
        let line = |name: &str, outcome| Line {
            name: name.to_owned(),
            outcome,
        };
        let text = render(&[
            line("cp", Outcome::Measured(figures(2000.0))),
            line(
                "scp-download",
                Outcome::Missing("sshd is missing".to_owned()),
            ),
            line("curl-tls", Outcome::Measured(figures(9.0))),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].len(), lines[1].len());
        assert_eq!(lines[1].len(), lines[3].len());
        assert!(
            lines[1].contains("2000") && lines[1].contains("0.50 + -"),
            "{text}"
        );
        assert_eq!(lines[2], "scp-download  not run: sshd is missing");
    }
}
