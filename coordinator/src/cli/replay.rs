//! `farol replay`: what another registry would have found.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farol_protocol::{CheckId, Timestamp, registry::Registry};
use serde_json::json;

use super::{Data, admin::open, output};
use crate::{
    config,
    correlate::{Dependencies, Needs, Rules},
    error::{Error, Result},
    jobs::registry::{hosts, parse},
    replay::{Difference, Episode, Recorded, Replay, compare},
    store::{
        Cursor, Store,
        bulk::Committed,
        findings::{FindingRow, Which},
        hosts::HostKey,
        serde_word,
    },
};

/// Reports read at once.
const PAGE: i64 = 20_000;
/// How often a terminal is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// What to replay.
#[derive(Debug, clap::Args)]
pub struct ReplayFlags {
    /// How far back
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    pub since: Duration,
    /// Another registry than the configured one
    #[arg(long, value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// Replay the reports recorded in this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "save"])]
    pub file: Option<PathBuf>,
    /// Record the reports in this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn run(data: &Data, flags: &ReplayFlags) -> Result<()> {
    if let Some(file) = &flags.file {
        // A recorded file needs no data folder, only a registry.
        let path = match &flags.registry {
            Some(path) => path.clone(),
            None => super::admin::configuration(data)?.registry,
        };
        return from_file(&path, file, flags.json);
    }
    let (config, store) = open(data).await?;
    let path = flags.registry.as_ref().unwrap_or(&config.registry);
    let result = from_store(&store, path, flags).await;
    store.close().await;
    result
}

async fn from_store(store: &Store, registry: &Path, flags: &ReplayFlags) -> Result<()> {
    let keys = hosts(store).await?;
    let registry = parse(registry, &config::read(registry)?)?;
    let rules = Rules::new(&registry, &keys);
    let names: BTreeMap<HostKey, String> = store.host_names().await?.into_iter().collect();
    let back_ms = i64::try_from(flags.since.as_millis()).unwrap_or(i64::MAX / 2);
    let since = Timestamp::now().plus_ms(-back_ms);
    let (mut cursor, last) = store.reports_since(since).await?;
    let mut save = flags.save.as_deref().map(Recorder::create).transpose()?;
    let mut replay = Replay::new(&rules, names.clone(), stated(&registry, &keys));
    let mut progress = Progress::new(last - cursor);
    loop {
        let page = store.reports_after(cursor, PAGE).await?;
        let Some(newest) = page.last().map(|report| report.id) else { break };
        cursor = newest;
        for committed in page {
            if let (Some(save), Some(host)) = (&mut save, names.get(&committed.host)) {
                save.write(host, &committed)?;
            }
            replay.take(committed);
        }
        progress.tell(replay.reports);
    }
    if let Some(save) = save {
        save.end()?;
    }
    let (reports, messages) = (replay.reports, replay.messages);
    let was = found(store, &names, since).await?;
    let difference = compare(replay.end(), was, since);
    if flags.json {
        return output::json(&json!({"reports": reports, "messages": messages, "difference": difference}));
    }
    print(reports, &difference)
}

/// What the registry says of what needs what.
fn stated(registry: &Registry, keys: &HashMap<String, HostKey>) -> Dependencies {
    let needs = registry.hosts.iter().filter_map(|host| {
        let all = host.parent.iter().chain(&host.depends_on).filter_map(|name| keys.get(name).copied()).collect();
        Some((*keys.get(&host.name)?, Needs { all, any: Vec::new() }))
    });
    Dependencies::new(needs)
}

/// What was found since then, and what was open then.
async fn found(store: &Store, names: &BTreeMap<HostKey, String>, since: Timestamp) -> Result<Vec<Episode>> {
    let mut found = Vec::new();
    let mut from = Cursor { ms: i64::MAX, id: String::new() };
    loop {
        let page = store.findings(Which::All, &from, 1000).await?;
        for row in page.items {
            if row.opened_at() >= since || row.resolved_at().is_none_or(|end| end >= since) {
                found.extend(episode(&row, names)?);
            }
        }
        match page.next_cursor {
            Some(next) => from = Cursor::parse(&next)?,
            None => return Ok(found),
        }
    }
}

/// None for a host that is gone.
fn episode(row: &FindingRow, names: &BTreeMap<HostKey, String>) -> Result<Option<Episode>> {
    let Some(host) = names.get(&row.host()) else { return Ok(None) };
    let check: CheckId =
        row.check_id.parse().map_err(|_| Error::Corrupt { what: "check id", value: row.check_id.clone() })?;
    Ok(Some(Episode {
        host: host.clone(),
        check,
        severity: serde_word("severity", &row.severity)?,
        opened_at: row.opened_at(),
        resolved_at: row.resolved_at(),
        told: row.told_at().is_some(),
    }))
}

fn from_file(registry: &Path, file: &Path, as_json: bool) -> Result<()> {
    let unreadable = |source| Error::Unreadable { path: file.to_owned(), source };
    let registry = parse(registry, &config::read(registry)?)?;
    let mut recorded = Vec::new();
    for (n, line) in (1..).zip(BufReader::new(File::open(file).map_err(unreadable)?).lines()) {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let entry: Recorded = serde_json::from_str(&line).map_err(|error| {
            Error::Refused(format!("line {n} of {} is not a recorded report: {error}", file.display()))
        })?;
        recorded.push(entry);
    }
    let mut keys: HashMap<String, HostKey> = HashMap::new();
    for entry in &recorded {
        let next = HostKey(i64::try_from(keys.len()).unwrap_or(i64::MAX) + 1);
        keys.entry(entry.host.clone()).or_insert(next);
    }
    for host in &registry.hosts {
        let next = HostKey(i64::try_from(keys.len()).unwrap_or(i64::MAX) + 1);
        keys.entry(host.name.clone()).or_insert(next);
    }
    let rules = Rules::new(&registry, &keys);
    let names = keys.iter().map(|(name, key)| (*key, name.clone())).collect();
    let mut replay = Replay::new(&rules, names, stated(&registry, &keys));
    for (id, entry) in (1..).zip(recorded) {
        let Some(host) = keys.get(&entry.host) else { continue };
        replay.take(Committed { id, host: *host, report: entry.report });
    }
    let (reports, messages) = (replay.reports, replay.messages);
    let difference = compare(replay.end(), Vec::new(), Timestamp::from_ms(0));
    if as_json {
        return output::json(&json!({"reports": reports, "messages": messages, "difference": difference}));
    }
    print(reports, &difference)
}

fn print(reports: u64, difference: &Difference) -> Result<()> {
    let mut rows = Vec::new();
    let mut row = |what: &str, episode: &Episode, note: String| {
        rows.push(vec![
            what.to_owned(),
            episode.opened_at.to_string(),
            episode.resolved_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            episode.host.clone(),
            episode.check.to_string(),
            episode.severity.as_str().to_owned(),
            if episode.told { "yes" } else { "no" }.to_owned(),
            note,
        ]);
    };
    for episode in &difference.opened {
        row("opens", episode, String::new());
    }
    for episode in &difference.vanished {
        row("vanishes", episode, String::new());
    }
    for changed in &difference.changed {
        let mut notes = Vec::new();
        if changed.was.severity != changed.would_be.severity {
            notes.push(format!("was {}", changed.was.severity.as_str()));
        }
        if changed.was.told != changed.would_be.told {
            notes.push(if changed.was.told { "was told" } else { "was not told" }.to_owned());
        }
        row("changes", &changed.would_be, notes.join(", "));
    }
    if !rows.is_empty() {
        output::table(&["", "FROM", "TO", "HOST", "CHECK", "SEVERITY", "TOLD", "NOTE"], rows)?;
    }
    output::line(&format!(
        "{reports} reports: {} would open, {} would vanish, {} would change, {} stay the same",
        difference.opened.len(),
        difference.vanished.len(),
        difference.changed.len(),
        difference.same
    ))
}

/// Writes reports down.
struct Recorder {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Recorder {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path)
            .map_err(|error| Error::Refused(format!("cannot make {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, host: &str, committed: &Committed) -> Result<()> {
        let recorded = Recorded { host: host.to_owned(), report: committed.report.clone() };
        let text = serde_json::to_string(&recorded)
            .map_err(|error| Error::Refused(format!("cannot write a report down: {error}")))?;
        writeln!(self.file, "{text}").map_err(|error| self.failed(&error))
    }

    fn end(mut self) -> Result<()> {
        self.file.flush().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::Refused(format!("cannot write {}: {error}", self.path.display()))
    }
}

/// How far it is, for those who watch.
struct Progress {
    of: i64,
    told: Instant,
    is_watched: bool,
}

impl Progress {
    fn new(of: i64) -> Self {
        Self { of, told: Instant::now(), is_watched: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, reports: u64) {
        if self.is_watched && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            // Nobody is hurt when the terminal is gone.
            let _gone = write!(std::io::stderr(), "\r{reports} of about {} reports", self.of);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_watched {
            let _gone = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
