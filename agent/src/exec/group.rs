//! Process groups: identity across restarts, and an end for all members.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a group may take to vanish after SIGKILL.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(5);

/// A process group, with what is needed to know it again after a restart of
/// the agent: numbers alone are reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number, the process id of its leader.
    pub pgid: i32,
    /// When its leader started, in clock ticks since boot; 0 where unknown.
    pub start: i64,
    /// Session of the agent that began it; 0 where unknown.
    pub session: i32,
    /// Boot of the machine; empty where unknown.
    pub boot_id: String,
}

impl Group {
    /// The group that the freshly spawned, not yet reaped process `pid` leads.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        if !cfg!(unix) {
            return None;
        }
        let pgid = i32::try_from(pid).ok()?;
        let (start, session) = platform::identity(pgid).unwrap_or_default();
        Some(Self { pgid, start, session, boot_id: platform::boot_id().unwrap_or_default() })
    }

    /// Whether members of this very group still run.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        platform::is_alive(self)
    }

    /// SIGTERM, `grace`, SIGKILL; whether the group is gone in the end. A
    /// group of another boot or with another leader is left alone.
    pub async fn terminate(&self, grace: Duration) -> bool {
        if !grace.is_zero() {
            if !self.is_alive() {
                return true;
            }
            platform::signal(self, false);
            if self.gone_within(grace).await {
                return true;
            }
        }
        if self.is_alive() {
            platform::signal(self, true);
        }
        self.gone_within(KILL_WAIT).await
    }

    async fn gone_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut pause = Duration::from_millis(5);
        while self.is_alive() {
            if Instant::now() >= until {
                return false;
            }
            // The kernel has no event for the end of a group.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        true
    }
}

#[cfg(unix)]
fn kill(pgid: i32, hard: bool) {
    use rustix::process::{Pid, Signal, kill_process_group};

    let signal = if hard { Signal::KILL } else { Signal::TERM };
    if let Some(pid) = Pid::from_raw(pgid)
        && let Err(error) = kill_process_group(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(pgid, "could not signal a process group: {error}");
    }
}

/// Groups of the simulation's record.
#[cfg(farol_simulation)]
mod platform {
    use super::Group;
    use crate::simulation::current;

    pub(super) fn boot_id() -> Option<String> {
        None
    }

    pub(super) fn identity(_pid: i32) -> Option<(i64, i32)> {
        None
    }

    pub(super) fn signal(group: &Group, hard: bool) {
        if let (Some(node), Ok(number)) = (current(), usize::try_from(group.pgid)) {
            node.world.effects.signal(number, hard);
        }
    }

    pub(super) fn is_alive(group: &Group) -> bool {
        match (current(), usize::try_from(group.pgid)) {
            (Some(node), Ok(number)) => node.world.effects.is_alive(number),
            _ => false,
        }
    }
}

#[cfg(all(target_os = "linux", not(farol_simulation)))]
mod platform {
    use std::fs;

    use super::Group;

    pub(super) fn boot_id() -> Option<String> {
        Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
    }

    pub(super) fn identity(pid: i32) -> Option<(i64, i32)> {
        let stat = Stat::of(pid)?;
        Some((stat.start, stat.session))
    }

    pub(super) fn signal(group: &Group, hard: bool) {
        super::kill(group.pgid, hard);
    }

    /// A group number stays taken while any member lives, so a living leader
    /// with another start time proves that the number was reused. Without a
    /// leader, members count if they are in the session the group began in.
    pub(super) fn is_alive(group: &Group) -> bool {
        if boot_id().as_deref() != Some(group.boot_id.as_str()) {
            return false;
        }
        if let Some(leader) = Stat::of(group.pgid)
            && leader.pgrp == group.pgid
        {
            if leader.start != group.start {
                return false;
            }
            if leader.runs() {
                return true;
            }
        }
        let Ok(processes) = fs::read_dir("/proc") else {
            return false;
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Stat::of)
            .any(|member| member.pgrp == group.pgid && member.session == group.session && member.runs())
    }

    pub(super) struct Stat {
        pub(super) state: char,
        pub(super) pgrp: i32,
        pub(super) session: i32,
        pub(super) start: i64,
    }

    impl Stat {
        pub(super) fn of(pid: i32) -> Option<Self> {
            Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        }

        /// The name in parentheses may hold anything, parentheses included.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
            Some(Self {
                state: fields.first()?.chars().next()?,
                pgrp: fields.get(2)?.parse().ok()?,
                session: fields.get(3)?.parse().ok()?,
                start: fields.get(19)?.parse().ok()?,
            })
        }

        /// A zombie does nothing any more; who reaps it is not our matter.
        pub(super) const fn runs(&self) -> bool {
            !matches!(self.state, 'Z' | 'X' | 'x')
        }
    }
}

/// Without /proc a group of an earlier life of the agent cannot be told from
/// a stranger with the same number, so only groups of this life are touched.
#[cfg(all(unix, not(any(target_os = "linux", farol_simulation))))]
mod platform {
    use super::Group;

    /// Marks groups of this process.
    pub(super) fn boot_id() -> Option<String> {
        Some(format!("pid-{}", std::process::id()))
    }

    pub(super) fn identity(_pid: i32) -> Option<(i64, i32)> {
        None
    }

    pub(super) fn signal(group: &Group, hard: bool) {
        super::kill(group.pgid, hard);
    }

    pub(super) fn is_alive(group: &Group) -> bool {
        boot_id().as_deref() == Some(group.boot_id.as_str())
            && rustix::process::Pid::from_raw(group.pgid)
                .is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
    }
}

/// No process groups: only the program itself can be ended.
#[cfg(not(unix))]
mod platform {
    use super::Group;

    pub(super) fn boot_id() -> Option<String> {
        None
    }

    pub(super) fn identity(_pid: i32) -> Option<(i64, i32)> {
        None
    }

    pub(super) fn signal(_group: &Group, _hard: bool) {}

    pub(super) fn is_alive(_group: &Group) -> bool {
        false
    }
}

/// Whether the process runs, zombies excluded.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn runs(pid: i32) -> bool {
    platform::Stat::of(pid).is_some_and(|stat| stat.runs())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = platform::Stat::parse(&format!("7 (a) b (c) S {}", fields.join(" "))).expect("valid");
        assert_eq!((stat.state, stat.pgrp, stat.session, stat.start), ('S', 5, 6, 22));
        assert!(platform::Stat::parse("7 (cut").is_none());
    }

    #[test]
    fn a_group_is_known_by_its_start_time_and_boot_too() {
        let own = Group::of(std::process::id()).expect("this process");
        // The test runner may not lead its group; take the leader's.
        let pgid = rustix::process::getpgrp().as_raw_nonzero().get();
        let group = Group { pgid, ..Group::of(u32::try_from(pgid).expect("positive")).expect("its leader") };
        assert!(group.is_alive());
        assert!(!Group { start: group.start + 1, ..group.clone() }.is_alive() || group.start == 0);
        assert!(!Group { boot_id: "another".to_owned(), ..group }.is_alive());
        assert!(own.start > 0);
    }
}
