//! `farol daily`: what the summary of the day would say now.

use serde_json::Value;

use super::{Connection, client::Client, output};
use crate::{error::Result, text::plain};

/// Longest line.
const WIDEST: usize = 1000;

/// Shows the summary and the review of the logs.
pub(super) async fn show(to: &Connection) -> Result<()> {
    let document: Value = Client::new(to)?.get(&["agents", "daily"], &[]).await?;
    if to.json {
        return output::json(&document);
    }
    let part = |field: &str| clean(document[field].as_str().unwrap_or_default());
    output::line(&format!("{}\n\n{}", part("summary"), part("log_review")))
}

/// What hosts and people wrote must not steer a terminal.
fn clean(text: &str) -> String {
    text.lines().map(|line| plain(line, WIDEST)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_nothing_in_them_steers_a_terminal() {
        assert_eq!(clean("Open: 1\n- vm112\u{1b}[2J: x"), "Open: 1\n- vm112 [2J: x");
    }
}
