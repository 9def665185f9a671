//! A whole Farol for tests, demonstration and measurement: real processes over
//! real TLS on loopback, with stand-ins only for what cannot be had.

pub mod api;
pub mod application;
pub mod browser;
pub mod captor;
pub mod dns;
pub mod engine;
pub mod matrix;
pub mod ntfy;
pub mod ollama;
pub mod opnsense;
pub mod peer;
pub mod pfsense;
pub mod process;
pub mod product;
pub mod proxmox;
pub mod proxy;
pub mod receiver;
pub mod service;
pub mod signed;
pub mod signer;
pub mod site;
pub mod smtp;
pub mod standin;
pub mod totp;
pub mod traefik;
pub mod wait;
pub mod wazuh;

pub use api::Api;
pub use browser::Browser;
pub use proxy::Proxy;
pub use site::{Agent, Site};
pub use wait::wait_until;
