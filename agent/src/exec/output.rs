//! Captures an output stream within bounds while it keeps draining, so that a
//! talkative program neither fills memory nor blocks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    task::JoinHandle,
};

/// How much of the start is kept, and how much of the end.
const HALF: usize = 32 * 1024;

/// A stream being read.
pub(super) struct Capture {
    kept: Arc<Mutex<Kept>>,
    ended: watch::Receiver<bool>,
    reader: JoinHandle<()>,
}

/// Reads `stream` until it ends or the capture is taken.
pub(super) fn capture(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Capture {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (end, ended) = watch::channel(false);
    let sink = Arc::clone(&kept);
    let reader = tokio::spawn(async move {
        if let Some(mut stream) = stream {
            let mut buffer = vec![0; 8 * 1024];
            // A read error ends the stream as its end does.
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..length]);
            }
        }
        end.send_replace(true);
    });
    Capture { kept, ended, reader }
}

impl Capture {
    /// Waits for the end of the stream.
    pub(super) async fn ended(&self) {
        // An error means that the reader is gone, which is an end as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// What was kept so far, and whether something was cut. Reading stops.
    pub(super) fn take(self) -> (String, bool) {
        self.reader.abort();
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.into_text()
    }
}

#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HALF - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..excess);
        self.cut += excess as u64;
    }

    fn into_text(self) -> (String, bool) {
        let tail = Vec::from(self.tail);
        if self.cut == 0 {
            let whole = [self.head, tail].concat();
            return (String::from_utf8_lossy(&whole).into_owned(), false);
        }
        let text = format!(
            "{}\n[… {} bytes …]\n{}",
            String::from_utf8_lossy(&self.head),
            self.cut,
            String::from_utf8_lossy(&tail)
        );
        (text, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_up_to_the_bound_is_whole_and_one_byte_more_is_cut() {
        let mut kept = Kept::default();
        kept.push(&vec![b'a'; HALF]);
        kept.push(&vec![b'b'; HALF]);
        let (text, cut) = kept.into_text();
        assert_eq!((text.len(), cut), (2 * HALF, false));

        let mut kept = Kept::default();
        kept.push(&vec![b'a'; 2 * HALF + 1]);
        let (text, cut) = kept.into_text();
        assert!(cut && text.contains("[… 1 bytes …]"));
    }

    #[test]
    fn a_character_split_between_two_reads_stays_whole() {
        let mut kept = Kept::default();
        let bytes = "é".as_bytes();
        kept.push(&bytes[..1]);
        kept.push(&bytes[1..]);
        assert_eq!(kept.into_text().0, "é");
    }
}
