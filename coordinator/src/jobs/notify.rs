//! Delivers the outbox: channels side by side, each in its own order.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use farol_protocol::Timestamp;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Shared},
    error::Result,
    integrations::{Connection, Kind as System, Secret, Tls},
    notify::{Channel, Kind, MAX_ATTEMPTS, Mail, Outgoing, SendError, Told, alertmanager, plan, retry_after, send},
    store::outbox::{Delivery, Due},
    text::{Message, Notice},
};

/// Channels that are served at a time.
const AT_ONCE: usize = 32;
/// Messages of a channel that are looked at, the oldest first.
const LOOK: i64 = 200;
/// Longest time without a look.
const EVERY: Duration = Duration::from_secs(10);
/// What a delivery that has begun gets to end when everything stops.
const GRACE: Duration = Duration::from_secs(5);
/// So often a server that limits is asked again as soon as it says.
const PATIENT: u32 = 5;
/// How often old links are forgotten.
const FORGET: Duration = Duration::from_secs(3600);

pub(super) async fn run(app: App, stop: CancellationToken) {
    let mut job = Job { app: app.clone(), flights: JoinSet::new(), busy: HashMap::new() };
    let (mut forgotten, mut again) = (Instant::now(), HashMap::new());
    loop {
        let wait = match job.pass().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(job = "notify", "a pass failed, the next one tries again: {error}");
                Duration::from_secs(1)
            }
        };
        job.fire_again(&mut again);
        if forgotten.elapsed() >= FORGET {
            forgotten = Instant::now();
            if let Err(error) = app.store.forget_links(Timestamp::now()).await {
                tracing::warn!(job = "notify", "old links were not forgotten: {error}");
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = app.wake.mail.notified() => {}
            Some(ended) = job.flights.join_next_with_id() => job.landed(ended),
            () = sleep(wait) => {}
        }
    }
    // What may have arrived is sent again under the same id.
    let _late = tokio::time::timeout(GRACE, async { while job.flights.join_next().await.is_some() {} }).await;
}

/// Beats until the stop.
pub(super) async fn heartbeat(app: App, stop: CancellationToken) {
    let Some(to) = &app.config.heartbeat_url else { return };
    let mut tick = tokio::time::interval(to.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        app.heartbeat.beat(&app, &to.url).await;
    }
}

struct Job {
    app: App,
    flights: JoinSet<()>,
    /// Channels that are being served.
    busy: HashMap<Id, Channel>,
}

impl Job {
    /// Sets out whatever can go. Answers when to look again at the latest.
    async fn pass(&mut self) -> Result<Duration> {
        let store = &self.app.store;
        let paused: HashMap<String, Timestamp> = store
            .channel_states()
            .await?
            .into_iter()
            .filter_map(|state| Some((state.channel, Timestamp::from_ms(state.paused_ms?))))
            .collect();
        let mut plan = plan(&store.waiting_messages(LOOK).await?, &paused, Timestamp::now());
        if plan.settles() {
            store.settle_messages(&plan.cancelled, &plan.promoted).await?;
            plan = crate::notify::plan(&store.waiting_messages(LOOK).await?, &paused, Timestamp::now());
        }
        let busy: HashSet<Channel> = self.busy.values().cloned().collect();
        for (channel, ids) in plan.queues {
            if self.busy.len() >= AT_ONCE {
                break;
            }
            if !busy.contains(&channel) {
                let flight = self.flights.spawn(serve(self.app.clone(), ids));
                self.busy.insert(flight.id(), channel);
            }
        }
        let next = plan.next.map_or(EVERY, |at| {
            Duration::from_millis(u64::try_from(at.since(Timestamp::now())).unwrap_or(0).saturating_add(1))
        });
        Ok(next.min(EVERY).min(self.resend_every()))
    }

    fn landed(&mut self, ended: std::result::Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(job = "notify", "a delivery ended badly: {error}");
                error.id()
            }
        };
        self.busy.remove(&id);
    }

    fn alertmanagers(&self) -> Vec<Arc<Connection>> {
        let all = self.app.integrations.all();
        all.into_iter().filter(|there| there.kind == System::Alertmanager).collect()
    }

    fn resend_every(&self) -> Duration {
        self.alertmanagers().iter().map(|there| alertmanager::resend(there)).min().unwrap_or(EVERY)
    }

    /// Alerts that still fire are sent again in time.
    fn fire_again(&mut self, last: &mut HashMap<String, Instant>) {
        for connection in self.alertmanagers() {
            let due = last.get(&connection.name).is_none_or(|at| at.elapsed() >= alertmanager::resend(&connection));
            let channel = Channel { name: format!("resend:{}", connection.name), recipient: String::new() };
            if due && !self.busy.values().any(|busy| *busy == channel) {
                last.insert(connection.name.clone(), Instant::now());
                let flight = self.flights.spawn(fire(self.app.clone(), connection));
                self.busy.insert(flight.id(), channel);
            }
        }
    }
}

async fn fire(app: App, connection: Arc<Connection>) {
    let rows = match app.store.firing(&format!("integration:{}", connection.name)).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(job = "notify", "firing alerts could not be read: {error}");
            return;
        }
    };
    let firing: Vec<(Told, String)> =
        rows.into_iter().filter_map(|(text, told)| Some((serde_json::from_str(&told).ok()?, text))).collect();
    if firing.is_empty() {
        return;
    }
    let now = Timestamp::now();
    let frame = Outgoing::test(app.language(), now);
    let sent = alertmanager::again(app.integrations.clients(), &connection, &firing, &frame, now).await;
    if let Err(error) = sent {
        tracing::warn!(integration = connection.name, "alerts that still fire were not sent again: {error}");
    }
}

/// Sends messages of one channel in order, until one has to wait.
async fn serve(app: App, ids: Vec<String>) {
    for id in ids {
        if app.stop.is_cancelled() {
            return;
        }
        match one(&app, &id).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(job = "notify", "how a delivery went was not written, it may come twice: {error}");
                // Not at once again: the store has trouble.
                sleep(Duration::from_secs(1)).await;
                return;
            }
        }
    }
}

/// Sends one message. Answers whether the next may follow.
async fn one(app: &Shared, id: &str) -> Result<bool> {
    let Some(due) = app.store.due_message(id).await? else { return Ok(true) };
    let sent = match disabled(app, &due.channel).await? {
        Some(why) => Err(SendError::Permanent(why)),
        None => deliver(app, &due).await,
    };
    let now = Timestamp::now();
    let attempt = u32::try_from(due.attempts).unwrap_or(u32::MAX).saturating_add(1);
    let back_off = retry_after(attempt, fastrand::f64());
    let delivery = match sent {
        Ok(provider_id) => Delivery::Sent { provider_id },
        Err(SendError::Permanent(error)) => Delivery::Dead { error },
        Err(SendError::Gone(error)) => {
            app.store.disable_channel(&due.channel, &error, now).await?;
            Delivery::Dead { error }
        }
        Err(SendError::Transient(error) | SendError::Limited(error, _)) if attempt >= MAX_ATTEMPTS => {
            Delivery::Dead { error }
        }
        Err(SendError::Limited(error, wait)) => {
            app.store.pause_channel(&due.channel, now.plus(wait)).await?;
            // A server that always says `1` is asked less and less often all the same.
            let at = if attempt > PATIENT { wait.max(back_off) } else { wait };
            Delivery::Later { at: now.plus(at), error }
        }
        Err(SendError::Transient(error)) => Delivery::Later { at: now.plus(back_off), error },
    };
    match &delivery {
        Delivery::Sent { .. } => tracing::info!(notification = id, channel = due.channel, "a message was sent"),
        Delivery::Later { at, error } => {
            tracing::warn!(notification = id, channel = due.channel, "a message waits until {at}: {error}");
        }
        Delivery::Dead { error } => {
            tracing::error!(
                notification = id,
                channel = due.channel,
                "a message cannot be delivered; `farol notifications resend {id}` tries again: {error}"
            );
        }
    }
    app.metrics.notification(kind_of(app, &due.channel), &delivery);
    app.store.delivered(id, &delivery, now).await?;
    Ok(!matches!(delivery, Delivery::Later { .. }))
}

/// Why a channel is off, if it is.
async fn disabled(app: &Shared, channel: &str) -> Result<Option<String>> {
    let states = app.store.channel_states().await?;
    let state = states.into_iter().find(|state| state.channel == channel);
    Ok(state.and_then(|state| {
        let since = Timestamp::from_ms(state.disabled_ms?);
        let why = state.reason.unwrap_or_default();
        Some(Notice::Disabled { since, why: &why }.in_words(app.language()))
    }))
}

/// For the label of a metric: there are few of them.
fn kind_of(app: &Shared, channel: &str) -> &'static str {
    match channel.strip_prefix("integration:") {
        Some(name) => app.integrations.get(name).map_or("missing", |there| there.kind.as_str()),
        None if channel == "email" => "email",
        None => "ntfy",
    }
}

async fn deliver(app: &Shared, due: &Due) -> std::result::Result<Option<String>, SendError> {
    let (now, language) = (Timestamp::now(), app.language());
    if due.channel == "email" {
        return mail(app, due, now).await.map(|()| None);
    }
    let connection = match due.channel.strip_prefix("integration:") {
        None => Some(Arc::new(of_environment(app))),
        Some(name) => app.integrations.get(name),
    };
    let Some(connection) = connection else {
        let name = due.channel.strip_prefix("integration:").unwrap_or_default();
        return Err(SendError::Transient(Notice::NoIntegration { name }.in_words(language)));
    };
    let told = due.document.as_deref().and_then(|text| serde_json::from_str::<Told>(text).ok());
    let Some(told) = told else {
        return Err(SendError::Permanent("the message was written by another version and cannot be read".to_owned()));
    };
    let kind = Kind::of(&due.what);
    let is_problem = kind == Kind::Problem;
    let message = Outgoing {
        id: due.id.clone(),
        kind,
        told,
        problem: due
            .problem_document
            .as_deref()
            .filter(|_| !is_problem)
            .and_then(|text| serde_json::from_str(text).ok()),
        problem_provider_id: due.problem_provider_id.clone().filter(|_| !is_problem),
        finding_id: due.finding_id.clone(),
        body: due.body.clone(),
        // An alert is sent again and again, and a link is for one person.
        ack_url: if connection.kind == System::Alertmanager { None } else { ack_url(app, due, now).await? },
        escalated: escalated(due),
        language,
    };
    let _turn = app.integrations.turn(Some(&connection.name), connection.kind.at_once()).await;
    send::through(app.integrations.clients(), &connection, &due.recipient, &message, now).await
}

/// The ntfy server of the environment, as if it was an integration.
fn of_environment(app: &Shared) -> Connection {
    let ntfy = &app.config.ntfy;
    Connection {
        id: "ntfy".to_owned(),
        name: "ntfy".to_owned(),
        kind: System::Ntfy,
        site: None,
        endpoints: vec![ntfy.url.clone()],
        tls: Tls::Verify,
        user: None,
        secret: ntfy.token.clone().map(Secret::new),
        is_locked: false,
        tags: Vec::new(),
        options: BTreeMap::new(),
    }
}

fn escalated(due: &Due) -> Option<Duration> {
    u64::try_from(due.after_ms).ok().filter(|ms| *ms > 0 && due.what == "problem").map(Duration::from_millis)
}

async fn mail(app: &Shared, due: &Due, now: Timestamp) -> std::result::Result<(), SendError> {
    let language = app.language();
    let Some(mailer) = &app.mailer else {
        return Err(SendError::Transient(Notice::NoMailServer.in_words(language)));
    };
    let mut message = match escalated(due) {
        Some(after) => format!("{} {}", Notice::Escalated { after }.in_words(language), due.body),
        None => due.body.clone(),
    };
    if let Some(url) = ack_url(app, due, now).await? {
        message.push_str("\n\n");
        message.push_str(&Notice::AcknowledgeLink { url: &url }.in_words(language));
    }
    // One of before this was kept apart holds all of its text.
    let body = match &due.document {
        None => due.body.clone(),
        Some(told) => {
            let fingerprint = serde_json::from_str::<Told>(told).map(|told| told.fingerprint).unwrap_or_default();
            Message::MailBody { message: &message, advice: None, finding: &fingerprint, url: None }.in_words(language)
        }
    };
    let mail = Mail {
        to: due.recipient.clone(),
        subject: due.subject.clone(),
        body,
        message_id: due.message_id.clone(),
        in_reply_to: due.in_reply_to.clone(),
    };
    mailer.send(&mail).await
}

/// A link to acknowledge by, where people can reach the API and somebody still
/// has to.
async fn ack_url(app: &Shared, due: &Due, now: Timestamp) -> std::result::Result<Option<String>, SendError> {
    let Some(base) = &app.config.public_url else { return Ok(None) };
    if due.finding_state != "open" || Kind::of(&due.what) == Kind::Recovery {
        return Ok(None);
    }
    // Of an earlier try at the same message too: which of them arrived is not known.
    let token = app.store.new_link(&due.finding_id, &due.channel, &due.recipient, now).await;
    let token = token.map_err(|error| SendError::Transient(error.to_string()))?;
    Ok(Some(format!("{base}/n/{token}")))
}
