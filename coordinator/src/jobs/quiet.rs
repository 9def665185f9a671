//! Tells the correlator what keeps problems quiet: at the start and whenever
//! that changes. It is worked out anew from the present time every second, so
//! a clock that jumps is noticed like anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use farol_protocol::{
    Language, Timestamp,
    registry::{Registry, Target},
    system::SystemProbe,
};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Input},
    correlate::{Matcher, Quiet, QuietKind},
    error::{Error, Result},
    events::Noun,
    quiet::{Backup, InForce, Place},
    store::quiet::{Maintenance, Silence},
    text::QuietReason,
    topology::{GuestFact, IntegrationFacts, Said, gather::Gathered, hosts_by_guest},
    watched::Watched,
};

const EVERY: Duration = Duration::from_secs(1);
/// For how long is known which hosts guests are, while the same are saved.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// The hosts of guests, by integration and number.
type Hosts = BTreeMap<(String, u32), String>;

pub(super) async fn run(app: App, stop: CancellationToken) {
    let mut job = Job::default();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.quiet.wake.notified() => {}
            _ = tick.tick() => {}
        }
        match job.pass(&app, Timestamp::now()).await {
            Ok(None) => {}
            // A correlator that cannot write takes nothing in until it can.
            Ok(Some(set)) => tokio::select! {
                sent = app.correlator.send(Input::Quiet(set)) => if sent.is_err() { return },
                () = stop.cancelled() => return,
            },
            Err(error) => {
                tracing::warn!(job = "quiet", "what is kept quiet stays as it was, the next pass looks again: {error}");
            }
        }
    }
}

/// What is kept quiet as the coordinator starts, before any report is looked at.
pub(super) async fn at_start(app: &App, now: Timestamp) -> Result<Vec<Quiet>> {
    if let Some(saved) = app.store.saved_backups().await? {
        app.quiet.backups.take_up(saved, now);
    }
    Ok(Job::default().pass(app, now).await?.unwrap_or_default())
}

#[derive(Default)]
struct Job {
    /// What the correlator was told last; none before the first time.
    told: Option<Vec<Quiet>>,
    guests: Option<Known>,
}

/// Which hosts guests are, as of a moment.
struct Known {
    at: Instant,
    saved: BTreeSet<(String, u32)>,
    watched: Arc<Watched>,
    hosts: Hosts,
}

impl Job {
    /// What is in force at `now`, if that is not what the correlator knows.
    async fn pass(&mut self, app: &App, now: Timestamp) -> Result<Option<Vec<Quiet>>> {
        let (silences, maintenance) = (app.store.silences_in_force(now).await?, app.store.maintenance_enabled().await?);
        let backups = app.quiet.backups.running(now);
        let hosts = self.hosts(app, &backups, now).await?;
        let places =
            if silences.len() + maintenance.len() + hosts.len() == 0 { Vec::new() } else { app.store.places().await? };
        let watched = app.watched();
        let given = Given { silences: &silences, maintenance: &maintenance, backups: &backups, hosts: &hosts };
        let present = in_force(&given, &places, &watched.registry, now);
        let set: Vec<Quiet> = present.iter().map(|one| one.quiet.clone()).collect();
        let before = app.quiet.put(present);
        if self.told.as_ref() == Some(&set) {
            return Ok(None);
        }
        tell(app, &before.into_iter().map(|one| one.quiet).collect::<Vec<_>>(), &set);
        self.told = Some(set.clone());
        Ok(Some(set))
    }

    /// The hosts of the guests that are being saved.
    async fn hosts(&mut self, app: &App, backups: &[Backup], now: Timestamp) -> Result<Hosts> {
        if backups.is_empty() {
            self.guests = None;
            return Ok(Hosts::new());
        }
        let saved: BTreeSet<_> = backups.iter().map(|backup| (backup.integration.clone(), backup.vmid)).collect();
        let watched = app.watched();
        let is_good = |known: &&Known| {
            known.saved == saved && known.at.elapsed() < KNOWN_FOR && Arc::ptr_eq(&known.watched, &watched)
        };
        if let Some(known) = self.guests.as_ref().filter(is_good) {
            return Ok(known.hosts.clone());
        }
        let mut gathered = Gathered::read(app, now).await?;
        add_guests(&mut gathered.said, backups, now);
        let hosts = tokio::task::spawn_blocking(move || hosts_by_guest(&gathered.input()))
            .await
            .map_err(|error| Error::Refused(format!("which hosts are being saved was not found out: {error}")))?;
        self.guests = Some(Known { at: Instant::now(), saved, watched, hosts: hosts.clone() });
        Ok(hosts)
    }
}

/// Guests that no integration told of yet have their number at least.
fn add_guests(said: &mut Vec<Said>, backups: &[Backup], now: Timestamp) {
    for backup in backups {
        let is_told = said.iter().any(|said| {
            said.is_fresh
                && said.integration == backup.integration
                && said.facts.guests.iter().any(|guest| guest.vmid == backup.vmid)
        });
        if !is_told {
            let guest = GuestFact { node: backup.node.clone(), vmid: backup.vmid, ..GuestFact::default() };
            let facts =
                IntegrationFacts { host: backup.of.clone(), guests: vec![guest], ..IntegrationFacts::default() };
            said.push(Said { integration: backup.integration.clone(), at: now, is_fresh: true, facts });
        }
    }
}

/// All that may keep something quiet.
struct Given<'a> {
    silences: &'a [Silence],
    maintenance: &'a [Maintenance],
    backups: &'a [Backup],
    hosts: &'a Hosts,
}

/// What is in force at `now`, by id.
fn in_force(given: &Given<'_>, places: &[Place], registry: &Registry, now: Timestamp) -> Vec<InForce> {
    let language = registry.language;
    let silences = given.silences.iter().filter(|silence| silence.in_force(now)).map(|silence| InForce {
        quiet: Quiet {
            id: format!("silence/{}", silence.id),
            kind: QuietKind::Silence,
            matcher: silence.scope.matcher(places),
            until: Some(silence.until),
        },
        since: silence.created_at,
        why: QuietReason::Silence { by: &silence.created_by, until: silence.until, comment: &silence.comment }
            .in_words(language),
    });
    let maintenance = given.maintenance.iter().filter_map(|maintenance| {
        let span = maintenance.window()?.in_force(now)?;
        Some(InForce {
            quiet: Quiet {
                id: format!("maintenance/{}", maintenance.id),
                kind: QuietKind::Maintenance,
                matcher: maintenance.plan.scope.matcher(places),
                until: Some(span.to),
            },
            since: span.from,
            why: QuietReason::Maintenance { name: &maintenance.plan.name, until: span.to }.in_words(language),
        })
    });
    let backups = given.backups.iter().filter_map(|backup| {
        let host = given.hosts.get(&(backup.integration.clone(), backup.vmid))?;
        let is_asked_about = tells_of_backups(registry, host) || *host == backup.node;
        let place = places.iter().find(|place| place.name == *host).filter(|_| !is_asked_about)?;
        Some(saved(backup, place, language))
    });
    let mut all: Vec<InForce> = silences.chain(maintenance).chain(backups).collect();
    all.sort_by(|a, b| a.quiet.id.cmp(&b.quiet.id));
    all
}

fn saved(backup: &Backup, place: &Place, language: Language) -> InForce {
    let Backup { integration, node, vmid, since, .. } = backup;
    InForce {
        quiet: Quiet {
            id: format!("backup/{integration}/{vmid}"),
            kind: QuietKind::Backup,
            matcher: Matcher { hosts: Some(vec![place.key]), ..Matcher::default() },
            // When it will be done nobody knows.
            until: None,
        },
        since: *since,
        why: QuietReason::Backup { host: &place.name, vmid: *vmid, node, since: *since }.in_words(language),
    }
}

/// Whether a check of a hypervisor reports on this host: what it says, a
/// backup that failed above all, is told whatever is being saved.
fn tells_of_backups(registry: &Registry, host: &str) -> bool {
    let mut scenarios = registry.scenarios.iter();
    scenarios.any(|scenario| {
        let is_about = scenario.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|name| name == host));
        let mut checks = scenario.checks.iter();
        is_about
            && checks.any(|check| match &check.target {
                Target::System(spec) => matches!(spec.probe, SystemProbe::Proxmox(_)),
                _ => false,
            })
    })
}

/// Tells whoever watches what began and what ended.
fn tell(app: &App, before: &[Quiet], present: &[Quiet]) {
    let ids = |set: &[Quiet]| -> BTreeSet<String> { set.iter().map(|quiet| quiet.id.clone()).collect() };
    let (before, present) = (ids(before), ids(present));
    for id in present.difference(&before) {
        tracing::info!(quiet.id = id, "problems that it covers are kept quiet from now on");
        app.events.publish(Noun::Quiet, id, "in_force");
    }
    for id in before.difference(&present) {
        tracing::info!(quiet.id = id, "problems that it covered are kept quiet no more");
        app.events.publish(Noun::Quiet, id, "over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        quiet::{Scope, Window},
        store::{hosts::HostKey, quiet::Plan},
    };

    const REGISTRY: &str = "version: 1
language: en
hosts: [{name: pve, site: lab}, {name: vm112, site: lab, vmid: 112}, {name: vm104, site: lab, vmid: 104}]
sites: [{id: lab, name: Lab}]
scenarios:
  - id: cluster
    title: Cluster
    persona: A1
    severity: high
    hosts: [pve]
    checks: [{name: tasks, probe: {proxmox: {integration: casa, look: tasks}}}]
  - id: one
    title: One
    persona: A1
    severity: high
    hosts: [vm104]
    checks: [{name: backup, probe: {proxmox: {integration: casa, look: backups, guests: [104]}}}]
";

    fn registry() -> Registry {
        Registry::parse(REGISTRY, &|_| None).expect("a registry")
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(1_700_000_000_000 + minutes * 60_000)
    }

    fn places() -> Vec<Place> {
        let place = |(key, name): (i64, &str)| Place {
            key: HostKey(key),
            id: format!("id-{name}"),
            name: name.to_owned(),
            site: Some("lab".to_owned()),
        };
        [(1, "pve"), (2, "vm112"), (3, "vm104")].map(place).into()
    }

    fn ids(given: &Given<'_>, now: Timestamp) -> Vec<String> {
        in_force(given, &places(), &registry(), now).into_iter().map(|one| one.quiet.id).collect()
    }

    const NOTHING: Given<'static> = Given { silences: &[], maintenance: &[], backups: &[], hosts: &Hosts::new() };

    #[test]
    fn a_silence_and_a_window_are_in_force_for_exactly_their_time() {
        let silence = Silence {
            id: "1".to_owned(),
            scope: Scope { hosts: vec!["id-vm112".to_owned()], ..Scope::default() },
            finding_id: None,
            comment: "disk".to_owned(),
            created_at: at(0),
            created_by: "ana".to_owned(),
            until: at(10),
            ended_at: None,
            ended_by: None,
        };
        // at(0) is 2023-11-14T22:13:20Z.
        let window = Window::parse("2023-11-14T19:18:20", "America/Sao_Paulo", 10 * Duration::from_secs(60), None);
        let maintenance = Maintenance {
            id: "2".to_owned(),
            plan: Plan {
                name: "patches".to_owned(),
                scope: Scope { sites: vec!["lab".to_owned()], ..Scope::default() },
                window: window.expect("a window"),
                enabled: true,
                comment: String::new(),
            },
            created_at: at(0),
            created_by: "ana".to_owned(),
            updated_at: at(0),
            updated_by: "ana".to_owned(),
            ended_at: None,
            ended_by: None,
        };
        let given = Given { silences: &[silence], maintenance: &[maintenance], ..NOTHING };
        let silence = "silence/1".to_owned();
        let maintenance = "maintenance/2".to_owned();
        assert_eq!(ids(&given, at(4)), [silence.as_str()]);
        assert_eq!(ids(&given, at(5)), [maintenance.as_str(), silence.as_str()]);
        assert_eq!(ids(&given, at(10)), [maintenance]);
        assert_eq!(ids(&given, at(15)), [""; 0]);
        let present = in_force(&given, &places(), &registry(), at(5));
        assert_eq!((present[0].quiet.until, present[1].quiet.until), (Some(at(15)), Some(at(10))));
        assert_eq!(present[0].quiet.matcher.hosts, Some(vec![HostKey(1), HostKey(2), HostKey(3)]));
        assert_eq!(present[1].quiet.matcher.hosts, Some(vec![HostKey(2)]));
        assert!(present[1].why.contains("ana") && present[1].why.contains("disk"), "{}", present[1].why);
    }

    #[test]
    fn a_backup_keeps_its_guest_quiet_and_neither_its_node_nor_whom_checks_of_backups_are_about() {
        let backup = |vmid: u32, node: &str| Backup {
            integration: "casa".to_owned(),
            of: Some("pve".to_owned()),
            node: node.to_owned(),
            vmid,
            since: at(0),
        };
        let backups = [backup(104, "a"), backup(112, "a"), backup(113, "a"), backup(200, "a"), backup(201, "vm112")];
        let names = [(104, "vm104"), (112, "vm112"), (113, "pve"), (201, "vm112")];
        let hosts = names.map(|(vmid, name)| (("casa".to_owned(), vmid), name.to_owned())).into();
        let given = Given { backups: &backups, hosts: &hosts, ..NOTHING };
        assert_eq!(ids(&given, at(1)), ["backup/casa/112"]);
        let present = in_force(&given, &places(), &registry(), at(1));
        assert_eq!(
            (present[0].quiet.until, present[0].quiet.matcher.hosts.as_deref()),
            (None, Some(&[HostKey(2)][..]))
        );
    }

    #[test]
    fn a_guest_that_nobody_told_of_is_found_by_its_number_in_the_registry() {
        let backup = Backup { integration: "casa".to_owned(), of: None, node: "a".to_owned(), vmid: 112, since: at(0) };
        let mut said = Vec::new();
        add_guests(&mut said, std::slice::from_ref(&backup), at(0));
        add_guests(&mut said, std::slice::from_ref(&backup), at(0));
        assert_eq!(said.len(), 1, "once");
        let hosts =
            vec![crate::topology::KnownHost { name: "vm112".to_owned(), vmid: Some(112), ..Default::default() }];
        let found = hosts_by_guest(&crate::topology::Input { hosts, said, corrections: Vec::new() });
        assert_eq!(found, [(("casa".to_owned(), 112), "vm112".to_owned())].into());
    }
}
