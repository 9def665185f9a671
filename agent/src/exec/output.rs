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
    time::{Instant, sleep_until},
};

use super::feed::Chunks;

/// How many bytes of an output are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of its start.
    pub head: usize,
    /// Of its end.
    pub tail: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head: 32 * 1024, tail: 32 * 1024 }
    }
}

/// A stream being read.
pub(super) struct Capture {
    kept: Arc<Mutex<Kept>>,
    ended: watch::Receiver<bool>,
    reader: JoinHandle<()>,
}

/// Reads `stream` until it ends or the capture is taken. Who watches gets
/// `chunks` of it meanwhile.
pub(super) fn capture(
    stream: Option<impl AsyncRead + Unpin + Send + 'static>,
    bounds: Bounds,
    mut chunks: Option<Chunks>,
) -> Capture {
    let kept = Arc::new(Mutex::new(Kept::new(bounds)));
    let (end, ended) = watch::channel(false);
    let sink = Arc::clone(&kept);
    let reader = tokio::spawn(async move {
        if let Some(mut stream) = stream {
            let mut buffer = vec![0; 8 * 1024];
            // A read error ends the stream as its end does.
            while let Ok(length @ 1..) = read(&mut stream, &mut buffer, &mut chunks).await {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..length]);
                if let Some(chunks) = &mut chunks {
                    chunks.push(&buffer[..length]);
                    chunks.flush(Instant::now());
                }
            }
        }
        end.send_replace(true);
    });
    Capture { kept, ended, reader }
}

/// Reads once; sends the chunk that becomes due meanwhile.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    chunks: &mut Option<Chunks>,
) -> std::io::Result<usize> {
    loop {
        let due = chunks.as_ref().and_then(|chunks| chunks.due(Instant::now()));
        tokio::select! {
            biased;
            length = stream.read(buffer) => return length,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some(chunks) = chunks {
                    chunks.flush(Instant::now());
                }
            }
        }
    }
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = Kept::new(kept.bounds);
        std::mem::replace(&mut *kept, empty).into_text()
    }
}

struct Kept {
    bounds: Bounds,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Kept {
    const fn new(bounds: Bounds) -> Self {
        Self { bounds, head: Vec::new(), tail: VecDeque::new(), cut: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.bounds.head - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.bounds.tail);
        self.tail.drain(..excess);
        self.cut += excess as u64;
    }

    fn into_text(self) -> (String, bool) {
        let tail = Vec::from(self.tail);
        if self.cut == 0 {
            let whole = [self.head, tail].concat();
            return (String::from_utf8_lossy(&whole).into_owned(), false);
        }
        if self.head.is_empty() {
            // Only the end was wanted: it begins with a whole line.
            let from = tail.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            return (String::from_utf8_lossy(&tail[from..]).into_owned(), true);
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

    const HALF: usize = 32 * 1024;

    fn whole() -> Kept {
        Kept::new(Bounds::default())
    }

    #[test]
    fn output_up_to_the_bound_is_whole_and_one_byte_more_is_cut() {
        let mut kept = whole();
        kept.push(&vec![b'a'; HALF]);
        kept.push(&vec![b'b'; HALF]);
        let (text, cut) = kept.into_text();
        assert_eq!((text.len(), cut), (2 * HALF, false));

        let mut kept = whole();
        kept.push(&vec![b'a'; 2 * HALF + 1]);
        let (text, cut) = kept.into_text();
        assert!(cut && text.contains("[… 1 bytes …]"));
    }

    #[test]
    fn an_end_alone_begins_with_a_whole_line() {
        let mut kept = Kept::new(Bounds { head: 0, tail: 8 });
        kept.push(b"first\nsecond\nend\n");
        assert_eq!(kept.into_text(), ("end\n".to_owned(), true));
    }

    #[test]
    fn a_character_split_between_two_reads_stays_whole() {
        let mut kept = whole();
        let bytes = "é".as_bytes();
        kept.push(&bytes[..1]);
        kept.push(&bytes[1..]);
        assert_eq!(kept.into_text().0, "é");
    }
}
