//! Waiting on state instead of sleeping.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, or says what was waited for.
///
/// # Errors
/// Nothing was found within `limit`, or looking failed at the last try.
pub async fn wait_until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if begun.elapsed() > limit {
            match last {
                Some(error) => return Err(error.context(format!("waited {limit:?} for: {what}"))),
                None => bail!("waited {limit:?} for: {what}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
