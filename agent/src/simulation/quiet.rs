//! Waits until SQLite's threads, and all others, have nothing to do.

use std::{cell::RefCell, collections::HashMap, fs::File, os::unix::fs::FileExt as _, thread::yield_now};

/// Number of the system call in which an idle thread waits.
#[cfg(target_arch = "x86_64")]
const FUTEX: &[u8] = b"202 ";
#[cfg(not(target_arch = "x86_64"))]
const FUTEX: &[u8] = b"98 ";

thread_local! {
    static THREADS: RefCell<HashMap<String, Option<File>>> = RefCell::default();
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

fn look(threads: &mut HashMap<String, Option<File>>) -> bool {
    // The simulation is the first thread; every other one works for it. A new
    // one has no name yet, so names tell nothing.
    let own = std::process::id().to_string();
    let Ok(list) = std::fs::read_dir("/proc/self/task") else { return true };
    let mut alive = Vec::with_capacity(threads.len());
    for entry in list.flatten() {
        let Ok(id) = entry.file_name().into_string() else { continue };
        if id == own {
            continue;
        }
        if !threads.contains_key(&id) {
            let file = File::open(format!("/proc/self/task/{id}/syscall")).ok();
            threads.insert(id.clone(), file);
        }
        alive.push(id);
    }
    if alive.len() < threads.len() {
        threads.retain(|id, _| alive.contains(id));
    }
    let mut state = [0; 64];
    threads.values().flatten().all(|file| match file.read_at(&mut state, 0) {
        Ok(length) => state[..length].starts_with(FUTEX),
        // It is gone.
        Err(_) => true,
    })
}
