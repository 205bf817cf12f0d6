//! What `quota` and Lustre's `lfs quota` print.

/// A limit on what somebody may have on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Whose: `user NAME` or `group NAME`.
    pub owner: String,
    /// Where the file system is mounted.
    pub mount: String,
    /// What is counted.
    pub counted: Counted,
    /// How much of it there is.
    pub used: u64,
    /// How much of it there may be: the hard limit, or the soft one when its time of grace
    /// is over.
    pub limit: u64,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Bytes.
    Bytes,
    /// Files and directories.
    Files,
}

/// Reads the limits from text that says first, each on a line, to which group the file will
/// belong (`group`, its number), and where the file system is mounted (`mount`). `now` is in
/// seconds since 1970.
///
/// Both programs print one row for a file system below a heading that says whose it is, in
/// eight columns after its name: blocks of 1 KiB, soft and hard limit, grace; the same of
/// files. A star says that a limit is passed, 0 that there is none. `lfs` breaks the line
/// after a long name and puts numbers that it is not sure of in brackets; such a row is no
/// limit here, nor is anything else that is not understood.
pub(super) fn parse(text: &str, now: u64) -> Vec<Quota> {
    let said = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let group: Option<u64> = said("group ").and_then(|number| number.trim().parse().ok());
    let mount = said("mount ").unwrap_or_default();
    let (mut quotas, mut owner) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("Disk quotas for ") {
            owner =
                Owner::parse(heading).filter(|owner| !owner.is_group || Some(owner.id) == group);
        } else if let (Some(owner), Some(row)) = (&owner, row(line)) {
            let usages = [(Counted::Bytes, &row[..4]), (Counted::Files, &row[4..])];
            let limits = usages.into_iter().filter_map(|(counted, columns)| {
                let (used, limit) = enforced(columns, now)?;
                // Blocks are counted in KiB.
                let scale = |n: u64| match counted {
                    Counted::Bytes => n.saturating_mul(1024),
                    Counted::Files => n,
                };
                Some(Quota {
                    owner: owner.to_string(),
                    mount: mount.to_owned(),
                    counted,
                    used: scale(used),
                    limit: scale(limit),
                })
            });
            quotas.extend(limits);
        }
    }
    quotas
}

/// What a heading is about.
struct Owner<'a> {
    is_group: bool,
    name: &'a str,
    id: u64,
}

impl<'a> Owner<'a> {
    /// Of `user NAME (uid N): …`, `group NAME (gid N): …`, `usr …`, `grp …`.
    fn parse(heading: &'a str) -> Option<Self> {
        let (kind, rest) = heading.split_once(' ')?;
        let is_group = match kind {
            "user" | "usr" => false,
            "group" | "grp" => true,
            _ => return None,
        };
        let (name, rest) = rest.rsplit_once(" (")?;
        let (id, _) = rest.get(4..)?.split_once(')')?;
        let id = id.parse().ok()?;
        Some(Self { is_group, name, id })
    }
}

impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_group { "group" } else { "user" };
        write!(f, "{kind} {}", self.name)
    }
}

/// The eight columns; the name before them may hold blanks.
fn row(line: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = words.len().checked_sub(8)?;
    Some(words[first..].to_vec())
}

/// How much is used and where writing ends, if anywhere.
fn enforced(columns: &[&str], now: u64) -> Option<(u64, u64)> {
    let [used, soft, hard, grace] = columns else {
        return None;
    };
    let used: u64 = used.trim_end_matches('*').parse().ok()?;
    let (soft, hard): (u64, u64) = (soft.parse().ok()?, hard.parse().ok()?);
    let is_over = match *grace {
        "none" | "expired" => true,
        // `quota -p` says when, and 0 when nothing is passed; `lfs` says how long still.
        other => other.parse().is_ok_and(|end: u64| end != 0 && end <= now),
    };
    let limit = match soft {
        1.. if is_over && used > soft => soft,
        _ => hard,
    };
    (limit > 0).then_some((used, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "free 100 4096 ext2/ext3\ngroup 100\nmount /home\n";

    fn read(text: &str) -> Vec<(String, Counted, u64, u64)> {
        let quotas = parse(&format!("{SAID}{text}"), 1_700_000_000);
        let all = quotas.into_iter().map(|quota| {
            assert_eq!(quota.mount, "/home");
            (quota.owner, quota.counted, quota.used, quota.limit)
        });
        all.collect()
    }

    /// `quota -u -g -v -w -p -f /home` of quota-tools 4.06.
    #[test]
    fn limits_of_the_user_and_of_the_group_of_the_file_are_read() {
        let text = "\
Disk quotas for user fireuser (uid 2101): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
/dev/mapper/vg-home of all  500000  900000 1000000       0      12    1000    2000       0
Disk quotas for group users (gid 100): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
/dev/mapper/vg-home of all  700000       0 2000000       0      99       0       0       0
Disk quotas for group staff (gid 50): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
/dev/mapper/vg-home of all 9000000*      0       1       0      99       0       0       0
";
        let kib = |n: u64| n * 1024;
        assert_eq!(
            read(text),
            [
                (
                    "user fireuser".into(),
                    Counted::Bytes,
                    kib(500_000),
                    kib(1_000_000)
                ),
                ("user fireuser".into(), Counted::Files, 12, 2000),
                (
                    "group users".into(),
                    Counted::Bytes,
                    kib(700_000),
                    kib(2_000_000)
                ),
            ]
        );
    }

    /// Within its time of grace a soft limit stops nobody.
    #[test]
    fn a_soft_limit_counts_when_its_grace_is_over() {
        let limit = |row: &str| {
            let text = format!("Disk quotas for user a b (uid 2101): \n{row}\n");
            let quotas = read(&text).into_iter();
            quotas.map(|quota| quota.3 / 1024).collect::<Vec<_>>()
        };
        for (row, limits) in [
            ("server:/home 20* 10 30 1700000001 1 0 0 0", vec![30]),
            ("server:/home 20* 10 30 1700000000 1 0 0 0", vec![10]),
            ("server:/home 20* 10 0 1600000000 1 0 0 0", vec![10]),
            ("server:/home 20* 10 0 1800000000 1 0 0 0", vec![]),
            ("/lustre 20* 10 30 6d23h59m 1 0 0 -", vec![30]),
            ("/lustre 20* 10 30 none 1 0 0 -", vec![10]),
            ("/lustre 20* 10 30 expired 1 0 0 -", vec![10]),
            ("/lustre 5 10 30 - 1 0 0 -", vec![30]),
        ] {
            assert_eq!(limit(row), limits, "{row}");
        }
    }

    /// `lfs quota` of Lustre 2.12 and 2.15; the second name is longer than its column.
    #[test]
    fn lustre_is_read() {
        let text = "\
Disk quotas for usr fireuser (uid 2101):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
        /scratch 1048576* 1000000 1048576       -      10       0       0       -
uid 2101 is using default file quota setting
Disk quotas for grp users (gid 100):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
/lustre/scratch/projects
                    8192       0   16384       -    2000*   1000    2000       -
";
        assert_eq!(
            read(text),
            [
                ("user fireuser".into(), Counted::Bytes, 1 << 30, 1 << 30),
                ("group users".into(), Counted::Bytes, 8 << 20, 16 << 20),
                ("group users".into(), Counted::Files, 2000, 2000),
            ]
        );
    }

    #[test]
    fn what_says_no_limit_or_is_not_sure_is_no_limit() {
        for text in [
            "",
            "Disk quotas for user fireuser (uid 2101): none\n",
            "Disk quotas for user fireuser (uid 2101): \n/dev/sda1 1 0 0 0 1 0 0 0\n",
            "Disk quotas for usr fireuser (uid 2101):\n/lustre [9] [0] [8] - [1] [0] [0] -\n\
             Some errors happened when getting quota info. Some devices may be not working or \
             deactivated. The data in \"[]\" is inaccurate.\n",
            "Disk quotas for prj 7 (pid 7):\n/lustre 9 0 8 - 1 0 0 -\n",
            "Disk quotas for user fireuser (u\n/dev/sda1 9 0 8 0 1 0 0 0\n",
            "/dev/sda1 9 0 8 0 1 0 0 0\n",
            "Disk quotas for user fireuser (uid 2101): \n/dev/sda1 9k 0 8k 0 1 0 0\n",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
    }
}
