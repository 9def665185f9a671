//! Arrays of Linux's software RAID, by `/proc/mdstat`.

use std::{fs, io};

use farol_protocol::Status;

use super::{Probing, Seen, text::Text};

/// Levels without redundancy, of which the kernel tells no `[2/2]`.
const PLAIN: [&str; 3] = ["raid0", "linear", "faulty"];
const TABLE: &str = "/proc/mdstat";

pub(super) async fn run(probing: Probing) -> Seen {
    let read = || match fs::read_to_string(TABLE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    match probing.blocking(Text::WhatArrays, read).await {
        Ok(table) => judge(probing, &arrays(&table)),
        Err(seen) => seen,
    }
}

/// One array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Array {
    name: String,
    active: bool,
    /// Members it should have and members it has; none where it keeps no
    /// redundancy.
    members: Option<(u32, u32)>,
    /// Whether it keeps no redundancy and so tells no members.
    plain: bool,
    failed: usize,
    /// `recovery = 12.6%`, as the kernel says it.
    progress: Option<String>,
}

/// A line that makes no sense costs nothing but itself.
fn arrays(table: &str) -> Vec<Array> {
    let mut all: Vec<Array> = Vec::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [name, ":", rest @ ..] = words.as_slice()
            && name.starts_with("md")
        {
            let failed = rest.iter().filter(|word| word.ends_with("(F)")).count();
            let active = rest.first() == Some(&"active");
            let plain = rest.iter().any(|word| PLAIN.contains(word));
            all.push(Array { name: (*name).to_owned(), active, failed, plain, ..Array::default() });
        } else if let Some(array) = all.last_mut().filter(|_| line.starts_with(' ')) {
            if let Some(members) = words.iter().find_map(|word| members(word)) {
                array.members = Some(members);
            }
            if let Some(at) = ["recovery", "resync", "reshape", "check"]
                .iter()
                .find_map(|word| words.iter().position(|found| found == word || found.starts_with(&format!("{word}="))))
            {
                let percent = words.iter().find(|word| word.ends_with('%')).copied();
                let what = words[at].trim_end_matches("=DELAYED").trim_end_matches("=PENDING");
                array.progress =
                    Some(percent.map_or_else(|| words[at].to_owned(), |percent| format!("{what} {percent}")));
            }
        }
    }
    all
}

/// `[2/1]`: wanted and working.
fn members(word: &str) -> Option<(u32, u32)> {
    let (wanted, working) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
    Some((wanted.parse().ok()?, working.parse().ok()?))
}

fn judge(probing: Probing, arrays: &[Array]) -> Seen {
    if arrays.is_empty() {
        return probing.not_configured(Text::RaidNone, &[]);
    }
    let lacks = |array: &&Array| !array.active || array.members.is_some_and(|(wanted, working)| working < wanted);
    let bad: Vec<&Array> = arrays.iter().filter(lacks).collect();
    let busy = arrays.iter().find_map(|array| Some((array, array.progress.as_deref()?)));
    let words = |array: &Array| {
        let (wanted, working) = array.members.unwrap_or_default();
        let progress = array.progress.as_deref().map(|progress| format!(", {progress}")).unwrap_or_default();
        let failed = if array.failed > 0 { format!(", {} failed", array.failed) } else { String::new() };
        format!("{} [{wanted}/{working}{failed}{progress}]", array.name)
    };
    let unread: Vec<&str> = arrays
        .iter()
        .filter(|array| array.active && !array.plain && array.members.is_none())
        .map(|array| array.name.as_str())
        .collect();
    let names = bad.iter().map(|array| words(array)).collect::<Vec<_>>().join(", ");
    let checks = |progress: &str| progress.starts_with("check");
    if bad.is_empty() && !unread.is_empty() && busy.is_none_or(|(_, progress)| checks(progress)) {
        return probing.unknown(Text::RaidUnread, &[("names", &unread.join(", "))]);
    }
    let (status, text) = match (bad.len(), busy) {
        (0, None) => (Status::Ok, Text::RaidOk),
        (0, Some((_, progress))) if checks(progress) => (Status::Ok, Text::RaidOk),
        (0, Some(_)) => (Status::Warning, Text::RaidBusy),
        _ => (Status::Critical, Text::RaidBad),
    };
    let busy = busy.map(|(array, progress)| format!("{}: {progress}", array.name)).unwrap_or_default();
    let total = arrays.len().to_string();
    probing.counted(status, bad.len(), text, &[("total", &total), ("names", &names), ("busy", &busy)])
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::UnknownCause;

    use super::{super::tests::probing, *};

    const TWO: &str = "\
Personalities : [raid1] [raid6] [raid5] [raid4]
md1 : active raid1 sdb2[1] sda2[0]
      976630464 blocks super 1.2 [2/2] [UU]
      bitmap: 2/8 pages [8KB], 65536KB chunk

md0 : active raid5 sdd1[3] sdc1[1](F) sda1[0]
      1953260544 blocks level 5, 64k chunk, algorithm 2 [3/2] [U_U]
      [==>..................]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec

unused devices: <none>
";

    fn seen(table: &str) -> Seen {
        judge(probing(), &arrays(table))
    }

    #[test]
    fn an_array_without_a_member_is_critical_with_its_progress() {
        let all = arrays(TWO);
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].members, all[1].failed), (Some((3, 2)), 1));
        let seen = seen(TWO);
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(1.0)));
        assert!(seen.text.contains("md0 [3/2, 1 failed, recovery 12.6%]"), "{}", seen.text);
        assert!(!seen.text.contains("md1"), "{}", seen.text);
    }

    #[test]
    fn a_whole_one_is_ok_also_while_it_checks_itself_and_a_resync_is_a_warning() {
        let whole = "md1 : active raid1 b[1] a[0]\n      9 blocks super 1.2 [2/2] [UU]\n";
        assert_eq!(seen(whole).status, Status::Ok);
        let with = |line: &str| seen(&format!("{whole}      {line}\n"));
        assert_eq!(with("[=>...]  check =  5.0% (1/9) finish=1.0min").status, Status::Ok);
        assert_eq!(with("[=>...]  resync =  5.0% (1/9) finish=1.0min").status, Status::Warning);
        assert_eq!(with("\tresync=DELAYED").status, Status::Warning);
        assert_eq!(seen("md2 : inactive sdb[0](S)\n      9 blocks\n").status, Status::Critical);
    }

    #[test]
    fn an_array_whose_members_cannot_be_read_is_unknown_unless_its_level_has_none() {
        let unread = "md3 : active raid1 b[1] a[0]\n      9 blocks super 1.2 [2of2] [UU]\n";
        let report = seen(unread);
        assert_eq!((report.status, report.value), (Status::Unknown, None), "{}", report.text);
        assert!(report.text.contains("md3"), "{}", report.text);
        assert_eq!(seen(&format!("{unread}{TWO}")).status, Status::Critical);
        let resync = format!("{unread}md1 : active raid1 b[1] a[0]\n      9 blocks [2/2] [UU]\n      resync = 5.0%\n");
        assert_eq!(seen(&resync).status, Status::Warning);
        assert_eq!(seen("md4 : active raid0 b[1] a[0]\n      9 blocks super 1.2 512k chunks\n").status, Status::Ok);
    }

    #[test]
    fn a_host_without_arrays_is_not_configured_and_malformed_lines_cost_only_themselves() {
        for table in ["", "Personalities : \nunused devices: <none>\n", "nonsense [1/2]\n   [x/y]\n"] {
            assert_eq!(seen(table).cause, Some(UnknownCause::NotConfigured), "{table:?}");
        }
        assert_eq!(arrays(&format!("\0\n[9/1]\n{TWO}   [/] [1/]\n")).len(), 2);
    }
}
