//! Waits until SQLite's threads, and all others, have nothing to do.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    thread::yield_now,
};

/// Number of the system call in which an idle thread waits.
#[cfg(target_arch = "x86_64")]
const FUTEX: &[u8] = b"202 ";
#[cfg(not(target_arch = "x86_64"))]
const FUTEX: &[u8] = b"98 ";

/// Its link count tells how many threads there are, at a fraction of the cost of a list.
const LIST: &str = "/proc/self/task";

thread_local! {
    static THREADS: RefCell<Threads> = RefCell::default();
}

#[derive(Default)]
struct Threads {
    files: HashMap<String, Option<File>>,
    /// Links when they were listed; 0 asks for a new list.
    links: u64,
}

/// Returns when each of them waits for work.
pub fn wait() {
    THREADS.with_borrow_mut(|threads| {
        // Twice: one look at many threads is not one moment.
        let mut quiet = 0;
        while quiet < 2 {
            quiet = if look(threads) { quiet + 1 } else { 0 };
            if quiet == 0 {
                yield_now();
            }
        }
    });
}

fn look(threads: &mut Threads) -> bool {
    let Ok(list) = std::fs::metadata(LIST) else { return true };
    if list.nlink() != threads.links {
        threads.links = list.nlink();
        relist(&mut threads.files);
    }
    let mut state = [0; 64];
    for file in threads.files.values().flatten() {
        match file.read_at(&mut state, 0) {
            Ok(length) if state[..length].starts_with(FUTEX) => {}
            Ok(_) => return false,
            // It is gone, and another may have come instead.
            Err(_) => {
                threads.links = 0;
                return false;
            }
        }
    }
    true
}

fn relist(files: &mut HashMap<String, Option<File>>) {
    // The simulation is the first thread; every other one works for it. A new
    // one has no name yet, so names tell nothing.
    let own = std::process::id().to_string();
    let Ok(list) = std::fs::read_dir(LIST) else { return };
    let mut alive = Vec::with_capacity(files.len());
    for entry in list.flatten() {
        let Ok(id) = entry.file_name().into_string() else { continue };
        if id == own {
            continue;
        }
        if !files.contains_key(&id) {
            let file = File::open(format!("{LIST}/{id}/syscall")).ok();
            files.insert(id.clone(), file);
        }
        alive.push(id);
    }
    files.retain(|id, _| alive.contains(id));
}
