//! `farol audit`: the record, its verification, and bundles to take along.

use std::{
    fs::File,
    io::{BufReader, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Subcommand;
use farol_protocol::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Connection, Data,
    admin::open,
    client::Client,
    lists::{show, text, time},
    output,
};
use crate::{
    auth::Operator,
    error::{Error, Result},
    record::{
        Place, RecordKey, Verdict,
        bundle::{self, Range, export, settled},
        verify,
    },
    store::seal::Sealer,
    text::plain,
};

const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Commands on the record.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List who did what, the newest first
    List {
        /// Only what they did
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,
        /// Only what begins so, such as action. or action.approval
        #[arg(long, value_name = "VERB")]
        verb: Option<String>,
        /// Only on this kind of thing, or on one thing: host, host:vm112
        #[arg(long, value_name = "KIND[:ID]")]
        object: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Print where the chain ends; keep it elsewhere, and `verify --against` it later
    Head {
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Say whether the record is as it was written, and name what is not
    Verify {
        /// A bundle of `farol audit export` instead of the database
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// A head that was kept elsewhere; several times for several
        #[arg(long, value_name = "SEQ:HASH", value_parser = place)]
        against: Vec<Place>,
        /// The key that has to have signed a bundle, as a message with a head names it
        #[arg(long, value_name = "ed25519:…", requires = "bundle")]
        key: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Write the record into a file that verifies anywhere
    Export {
        /// The file; it must not be there
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Only entries from here on, such as 2026-11-21 or 2026-11-21T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: Option<Timestamp>,
        /// Only entries before this
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<Timestamp>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Go on sealing behind what was changed from outside, with an entry that says so
    Resume {
        /// What happened, and what you found out
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

fn place(text: &str) -> std::result::Result<Place, String> {
    text.parse()
}

/// A time, or a day's beginning in UTC.
fn moment(text: &str) -> std::result::Result<Timestamp, String> {
    let day = format!("{text}T00:00:00Z");
    text.parse().or_else(|_| day.parse()).map_err(|_| "write 2026-11-21 or 2026-11-21T12:00:00Z".to_owned())
}

pub(super) async fn run(command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::List { actor, verb, object, limit, to } => {
            list(&to, [("actor", actor), ("verb", verb), ("object", object)], limit).await
        }
        AuditCommand::Head { to } => head(&to).await,
        AuditCommand::Verify { bundle: Some(file), against, key, json, .. } => {
            let mut progress = Progress::new();
            let verdict = of_file(&file, &against, key.as_deref(), |entries| progress.tell(entries, None))?;
            drop(progress);
            print(&verdict, json)
        }
        AuditCommand::Verify { bundle: None, against, json, data, .. } => {
            let (config, store) = open(&data).await?;
            let key = RecordKey::open_or_create(&config.data_dir)?;
            let mut progress = Progress::new();
            let tell = |at: crate::record::verify::Progress| progress.tell(at.done, Some(at.of));
            let verdict = verify(&store, Some(&key), &against, tell).await;
            drop(progress);
            store.close().await;
            print(&verdict?, json)
        }
        AuditCommand::Export { to, from, until, json, data } => write(&data, &to, Range { from, until }, json).await,
        AuditCommand::Resume { comment, data } => {
            let (config, store) = open(&data).await?;
            let sealer = Sealer::new(RecordKey::open_or_create(&config.data_dir)?);
            let by = Operator::local_administrator();
            let resumed = store.resume_record(&by, &sealer, &plain(&comment, 1000), Timestamp::now()).await;
            store.close().await;
            output::line(&format!("The record goes on behind {}", resumed?))
        }
    }
}

async fn list(to: &Connection, wanted: [(&str, Option<String>); 3], limit: u16) -> Result<()> {
    let limit = limit.to_string();
    let mut query: Vec<(&str, &str)> =
        wanted.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    query.push(("limit", &limit));
    let page: Value = Client::new(to)?.get(&["audit"], &query).await?;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    show(
        to,
        items,
        &[
            ("LINK", |entry| entry["seq"].as_i64().map_or_else(|| "-".to_owned(), |seq| seq.to_string())),
            ("AT", |entry| time(entry, "at")),
            ("WHO", |entry| text(entry, "actor")),
            ("WHAT", |entry| text(entry, "verb")),
            ("TO", |entry| format!("{} {}", text(entry, "object_kind"), text(entry, "object_id"))),
            ("DETAIL", |entry| text(entry, "detail")),
        ],
    )
}

async fn head(to: &Connection) -> Result<()> {
    let head: Value = Client::new(to)?.get(&["audit", "head"], &[]).await?;
    if to.json {
        return output::json(&head);
    }
    // The head alone, so that a script can keep it.
    output::line(&text(&head, "head"))
}

fn of_file(file: &Path, against: &[Place], key: Option<&str>, tell: impl FnMut(u64)) -> Result<Verdict> {
    let opened = File::open(file).map_err(|source| Error::Unreadable { path: file.to_owned(), source })?;
    bundle::verify(BufReader::new(opened), against, key, tell)
}

/// What came of it; whatever is wrong ends the command with an error.
fn print(verdict: &Verdict, json: bool) -> Result<()> {
    if json {
        output::json(verdict)?;
    } else {
        output::line(&words(verdict))?;
    }
    if verdict.ok {
        return Ok(());
    }
    Err(Error::Refused(format!("the record is not as it was written: {} faults", verdict.fault_count)))
}

fn words(verdict: &Verdict) -> String {
    let Verdict { entries, links, unsealed, actions, decisions, signatures, artifacts, .. } = verdict;
    let mut lines = vec![
        format!("Entries   {entries}, {links} links, {unsealed} not sealed yet"),
        format!("Compared  {actions} actions, {decisions} decisions, {signatures} signatures, {artifacts} artifacts"),
        format!("Head      {}", verdict.head.as_deref().unwrap_or("-")),
        format!("Key       {}", verdict.public_key.as_deref().map_or_else(|| "-".to_owned(), |key| plain(key, 80))),
    ];
    for anchor in &verdict.anchors {
        lines.push(format!(
            "Against   {} ({}): {}",
            anchor.head,
            anchor.from,
            if anchor.ok { "fits" } else { "does not fit" }
        ));
    }
    lines.extend(verdict.notes.iter().map(|note| format!("NOTE      {}", plain(&note.text, 600))));
    lines.extend(verdict.faults.iter().map(|fault| format!("FAULT     {}: {}", fault.code, plain(&fault.text, 600))));
    let more = verdict.fault_count.saturating_sub(verdict.faults.len() as u64);
    if more > 0 {
        lines.push(format!("FAULT     and {more} more"));
    }
    if verdict.ok {
        lines.push("The record is as it was written.".to_owned());
    }
    lines.join("\n")
}

async fn write(data: &Data, file: &Path, range: Range, json: bool) -> Result<()> {
    let (config, store) = open(data).await?;
    let key = RecordKey::open_or_create(&config.data_dir)?;
    let sealer = Arc::new(Sealer::new(RecordKey::open_or_create(&config.data_dir)?));
    let now = Timestamp::now();
    let settled = settled(&store, Some(&sealer), now).await;
    store.stop_sealing(&sealer).await?;
    if let Err(error) = settled {
        // What is broken is to be looked at elsewhere too.
        eprintln!("farol: what is not sealed goes along as it is: {error}");
    }
    let failed = |what| move |source| Error::File { what, path: file.to_owned(), source };
    let mut options = File::options();
    let mut out = options.write(true).create_new(true).mode(0o600).open(file).map_err(failed("create"))?;
    let (to, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    let take = async {
        while let Some(piece) = pieces.recv().await {
            out.write_all(&piece).map_err(failed("write"))?;
        }
        out.sync_all().map_err(failed("write"))
    };
    let (exported, written) = tokio::join!(export(&store, &key, range, now, to), take);
    store.close().await;
    let exported = match (exported, written) {
        (Ok(exported), Ok(())) => exported,
        (Err(error), _) | (_, Err(error)) => {
            // What is there is no bundle, and the first failure is the one worth telling.
            let _removed = std::fs::remove_file(file);
            return Err(error);
        }
    };
    if json {
        return output::json(&exported);
    }
    output::line(&format!(
        "{} holds {} entries, {} actions and {} artifacts up to {}. Verify it with: farol audit verify --bundle {} --key {}",
        file.display(),
        exported.entries,
        exported.actions,
        exported.artifacts,
        exported.head,
        file.display(),
        exported.public_key
    ))
}

/// How far it is, for those who watch.
struct Progress {
    told: Instant,
    is_watched: bool,
}

impl Progress {
    fn new() -> Self {
        Self { told: Instant::now(), is_watched: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, done: u64, of: Option<u64>) {
        if self.is_watched && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            // Nobody is hurt when the terminal is gone.
            let _gone = write!(std::io::stderr(), "\r{done}{of} entries");
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
