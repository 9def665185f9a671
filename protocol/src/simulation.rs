//! The clock that a simulation puts in the place of this machine's. Present
//! only where the compiler is given `--cfg farol_simulation`.

use std::cell::Cell;

thread_local! {
    static CLOCK: Cell<Option<fn() -> i64>> = const { Cell::new(None) };
}

/// From now on this thread's time is what `clock` says, in ms since the Unix
/// epoch.
pub fn set_clock(clock: fn() -> i64) {
    CLOCK.set(Some(clock));
}

pub(crate) fn now_ms() -> Option<i64> {
    CLOCK.get().map(|clock| clock())
}
