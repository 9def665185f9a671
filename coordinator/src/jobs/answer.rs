//! A6 answers what people ask in threads: a reply that ends in a question mark
//! wants an answer, any other reply none. It speaks; it never acts.

use farol_protocol::{Timestamp, registry::Persona};

use crate::{
    app::App,
    error::Result,
    events::Noun,
    store::{daily::Question, inbox::Note},
};

/// Questions that are older than this nobody waits for any more, in ms.
const OLDEST: i64 = 86_400_000;
const AT_ONCE: i64 = 20;

pub(super) async fn pass(app: App) -> Result<()> {
    for question in app.store.questions(Timestamp::now().plus_ms(-OLDEST), AT_ONCE).await? {
        let answered = tokio::select! {
            answered = answer(&app, &question) => answered,
            // It is asked again at the next start.
            () = app.stop.cancelled() => return Ok(()),
        };
        if let Err(error) = answered {
            tracing::warn!(thread = question.thread_id, "a question got no answer, the next pass tries again: {error}");
        }
    }
    Ok(())
}

async fn answer(app: &App, question: &Question) -> Result<()> {
    let advice = app.chat(&question.body, None, Some(&question.thread_id)).await?;
    let note = Note {
        author: Persona::A6.as_str().to_owned(),
        by_person: false,
        kind: "chat",
        body: advice.body(),
        effect_key: format!("answer/{}", question.id),
    };
    if app.store.say(&question.thread_id, &note, Timestamp::now()).await? {
        app.events.publish(Noun::Thread, &question.thread_id, "answer");
    }
    Ok(())
}
