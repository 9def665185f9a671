//! What a hello's list of unfinished actions says about the order under way.

use farol_protocol::{ActionId, Timestamp, action::ReasonCode, frame::Hello};

use super::{results, session::Connection};
use crate::{
    action::{Event, State},
    error::Result,
    store::steps::{Request, Step},
};

/// An order that the host lists runs there: it is accepted, whether or not that
/// was heard. One that the host had accepted and does not list has ended, and
/// its result comes before anything else; it is answered here, to be settled
/// when something else comes first.
///
/// So is one that was sent before the host was started anew: what is on its
/// disk may be a snapshot from before the order, in which its journal looks
/// the same.
pub(super) async fn after_hello(connection: &Connection, hello: &Hello, rebooted: bool) -> Result<Option<ActionId>> {
    let app = &connection.app;
    let Some(row) = app.store.under_way(connection.host.key).await? else { return Ok(None) };
    let listed = hello.unfinished.contains(&row.id);
    match row.state {
        State::Sent if listed => {
            let step = Step { journal: Some(hello.journal), ..Step::new(Event::Accept, &connection.host.name) };
            let stepped = app.store.step(Request::of(row.id, step, Timestamp::now())).await?;
            results::announce(app, stepped.row());
            Ok(None)
        }
        State::Sent if rebooted => Ok(Some(row.id)),
        State::Accepted if !listed => Ok(Some(row.id)),
        _ => Ok(None),
    }
}

/// Ends an order of which the host knows nothing any more. It may have had its
/// effect, so it is not sent again.
pub(super) async fn settle(connection: &Connection, id: ActionId) -> Result<()> {
    let app = &connection.app;
    let row = app.store.action(id).await?;
    if !matches!(row.state, State::Sent | State::Accepted) {
        return Ok(());
    }
    tracing::warn!(action_id = %id, "the host neither runs this action nor has its result");
    results::lose(app, &row, &connection.host, ReasonCode::JournalChanged).await?;
    app.wake.dispatch.look_at(connection.host.key);
    Ok(())
}
