//! Runs seeds of the simulation; see `docs/adr/0011-simulation.md`. Without
//! `--cfg farol_simulation`, which `cargo xtask simulate` sets, this is empty.

#[cfg(farol_simulation)]
mod check;
#[cfg(farol_simulation)]
mod run;
#[cfg(farol_simulation)]
mod script;
#[cfg(farol_simulation)]
mod seed;
#[cfg(farol_simulation)]
mod site;

#[cfg(farol_simulation)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(farol_simulation))]
fn main() {}
