//! What a host or a check showed over time.

use std::time::Duration;

use farol_protocol::Timestamp;
use serde_json::Value;

use super::{HistoryCommand, client::Client, lists, output};
use crate::{error::Result, history::floor};

/// Columns of the line of blocks.
const WIDTH: i64 = 72;
/// Rows of the table.
const ROWS: i64 = 24;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Does what the command says.
///
/// # Errors
/// It could not be done.
pub(super) async fn run(command: HistoryCommand) -> Result<()> {
    match command {
        HistoryCommand::Metrics { name, to } => {
            let items = Client::new(&to)?.all(&["hosts", &name, "metrics"], &[]).await?;
            lists::show(
                &to,
                items,
                &[
                    ("METRIC", |metric| lists::text(metric, "name")),
                    ("UNIT", |metric| lists::text(metric, "unit")),
                    ("FIRST", |metric| lists::time(metric, "first_at")),
                    ("LAST", |metric| lists::time(metric, "last_at")),
                ],
            )
        }
        HistoryCommand::Series { name, metric, since, step, to } => {
            let from = ago(since);
            let query = [("metric", metric.as_str()), ("from", &from), ("step", &step)];
            let series: Value = Client::new(&to)?.get(&["hosts", &name, "series"], &query).await?;
            if to.json { output::json(&series) } else { show(&series) }
        }
        HistoryCommand::Reports { name, check, limit, to } => {
            let limit = limit.to_string();
            let query = [("check", check.as_str()), ("limit", &limit)];
            let page: Value = Client::new(&to)?.get(&["hosts", &name, "reports"], &query).await?;
            if to.json {
                return output::json(&page);
            }
            let row = |report: &Value| {
                let value = report["value"].as_f64().map_or_else(|| "-".to_owned(), number);
                let unit = report["unit"].as_str().filter(|_| report["value"].is_number()).unwrap_or("");
                vec![
                    lists::time(report, "observed_at"),
                    lists::text(report, "status"),
                    format!("{value} {unit}").trim_end().to_owned(),
                    lists::text(report, "text"),
                ]
            };
            let rows = page["items"].as_array().into_iter().flatten().map(row).collect();
            output::table(&["AT", "STATUS", "VALUE", "TEXT"], rows)
        }
        HistoryCommand::History { name, check, since, to } => {
            let from = ago(since);
            let query = [("check", check.as_str()), ("from", &from)];
            let history: Value = Client::new(&to)?.get(&["hosts", &name, "history"], &query).await?;
            if to.json {
                return output::json(&history);
            }
            let row = |span: &Value| {
                let until = if span["until"].is_null() { "now".to_owned() } else { lists::time(span, "until") };
                let reports = span["reports"].as_u64().unwrap_or(0).to_string();
                vec![lists::text(span, "status"), lists::time(span, "from"), until, reports]
            };
            let rows = history["spans"].as_array().into_iter().flatten().map(row).collect();
            output::table(&["STATUS", "FROM", "UNTIL", "REPORTS"], rows)
        }
    }
}

fn ago(since: Duration) -> String {
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Timestamp::now().plus_ms(-ms).to_string()
}

/// Points of an answer: when, lowest, mean, highest, how many.
type Points = Vec<(i64, f64, f64, f64, u64)>;

/// What lies within a part of a time: lowest, mean, highest, how many.
type Part = Option<(f64, f64, f64, u64)>;

fn show(series: &Value) -> Result<()> {
    let points: Points = serde_json::from_value(series["points"].clone()).unwrap_or_default();
    let time = |field: &str| series[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let (from, to) = (time("from").map_or(0, Timestamp::as_ms), time("to").map_or(0, Timestamp::as_ms));
    output::line(&format!(
        "{} of {} in {}, {} to {}, points of {}",
        lists::text(series, "metric"),
        lists::text(series, "host"),
        lists::text(series, "unit"),
        lists::time(series, "from"),
        lists::time(series, "to"),
        lists::text(series, "step"),
    ))?;
    output::line(&blocks(&points, from, to))?;
    output::table(&["FROM", "MIN", "MEAN", "MAX", "VALUES"], rows(&points, from, to))?;
    let gaps = series["gaps"].as_array().cloned().unwrap_or_default();
    if gaps.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let row = |gap: &Value| vec![lists::time(gap, "from"), lists::time(gap, "to")];
    output::table(&["NO VALUES FROM", "TO"], gaps.iter().map(row).collect())
}

/// Points within parts of a time and when these begin.
#[expect(clippy::cast_precision_loss, reason = "counts of readings are far below 2^52")]
fn parts(points: &Points, from: i64, to: i64, most: i64) -> Vec<(i64, Part)> {
    let length = ((to - from) + most - 1) / most.max(1);
    // No part is shorter than a minute, nor than half a point.
    let length = floor(length + 59_999, 60_000).max(60_000);
    let mut parts: Vec<(i64, Part)> =
        (0..).map(|part| from + part * length).take_while(|at| *at < to).map(|at| (at, None)).collect();
    for (at, min, mean, max, count) in points {
        let place = usize::try_from((at - from).div_euclid(length)).unwrap_or(usize::MAX);
        let Some((_, part)) = parts.get_mut(place) else { continue };
        *part = Some(match *part {
            None => (*min, *mean, *max, *count),
            Some((low, middle, high, known)) => {
                let all = known + count;
                let middle = middle + (mean - middle) * (*count as f64 / all.max(1) as f64);
                (low.min(*min), middle, high.max(*max), all)
            }
        });
    }
    parts
}

/// One line: the higher the block, the higher the mean; blank where there is none.
fn blocks(points: &Points, from: i64, to: i64) -> String {
    let means: Vec<Option<f64>> =
        parts(points, from, to, WIDTH).into_iter().map(|(_, part)| part.map(|(_, mean, ..)| mean)).collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place from 0 to 7")]
    let block = |mean: f64| {
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        BLOCKS[((share * 7.0).round() as usize).min(7)]
    };
    means.into_iter().map(|mean| mean.map_or(' ', block)).collect()
}

fn rows(points: &Points, from: i64, to: i64) -> Vec<Vec<String>> {
    let row = |(at, part): (i64, Part)| {
        let text = Timestamp::from_ms(at).to_string();
        let at = format!("{}Z", text.split('.').next().unwrap_or(&text).replace('T', " "));
        match part {
            None => vec![at, "-".to_owned(), "-".to_owned(), "-".to_owned(), "0".to_owned()],
            Some((min, mean, max, count)) => vec![at, number(min), number(mean), number(max), count.to_string()],
        }
    };
    parts(points, from, to, ROWS).into_iter().map(row).collect()
}

/// A number with at most two digits after the point.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_line_is_blank_where_there_are_no_values() {
        let points: Points = [(0, 1.0), (1, 8.0), (5, 1.0)].map(|(at, mean)| (at * MINUTE, mean, mean, mean, 1)).into();
        assert_eq!(blocks(&points, 0, 7 * MINUTE), "▁█   ▁ ");
        assert_eq!(blocks(&Points::new(), 0, 3 * MINUTE), "   ");
    }

    #[test]
    fn a_table_has_few_rows_and_says_where_there_is_nothing() {
        let points: Points =
            (0..1440).filter(|n| !(120..180).contains(n)).map(|n| (n * MINUTE, 1.0, 2.0, 3.25, 6)).collect();
        let rows = rows(&points, 0, 1440 * MINUTE);
        assert_eq!(rows.len(), 24);
        assert_eq!(rows[0], ["1970-01-01 00:00:00Z", "1", "2", "3.25", "360"]);
        assert_eq!(rows[2], ["1970-01-01 02:00:00Z", "-", "-", "-", "0"]);
    }
}
