//! `farol-agent inventory`.

use std::fmt::Write as _;

use farol_protocol::inventory::{Inventory, Published};

use super::{InventoryArgs, print, print_json};
use crate::{
    Error,
    config::{Config, Settings},
    inventory::Looker,
    state::StateDir,
};

/// Looks at the host and prints what would be sent.
pub(super) async fn show(state: &StateDir, args: InventoryArgs) -> Result<(), Error> {
    let config = Config::load(state.root(), args.config.as_deref(), Settings::default())?;
    let looked = Looker::default().look(config.docker_socket).await;
    let (_, inventory) = looked.map_err(|error| Error::Answer(format!("the inventory could not be taken: {error}")))?;
    if args.json {
        return print_json(&inventory);
    }
    print(&text(&inventory))
}

fn text(inventory: &Inventory) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<15} {value}");
    };
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    row("name", &known(&inventory.name));
    row("system", &format!("{}, kernel {}", known(&inventory.os), known(&inventory.kernel)));
    row("virtualisation", &known(&inventory.virtualisation));
    row("machine", &format!("{} {}", known(&inventory.dmi.vendor), known(&inventory.dmi.product)));
    row("machine uuid", &known(&inventory.dmi.uuid));
    for interface in &inventory.interfaces {
        let addresses: Vec<String> =
            interface.addresses.iter().map(|address| format!("{}/{}", address.address, address.prefix)).collect();
        row("interface", &format!("{} {} {}", interface.name, known(&interface.mac), addresses.join(" ")));
    }
    for gateway in &inventory.gateways {
        row("gateway", &gateway.to_string());
    }
    for port in &inventory.ports {
        let process = port.process.as_deref().unwrap_or("-");
        let address = std::net::SocketAddr::new(port.address, port.port);
        row("port", &format!("{} {address} {process}", port.transport.as_str()));
    }
    for unit in &inventory.units {
        row("unit", &format!("{} {}", unit.name, unit.state));
    }
    match &inventory.containers {
        None => row("containers", "no engine answers this user"),
        Some(containers) => {
            for container in containers {
                let ports: Vec<String> = container.published.iter().map(published).collect();
                let image = container.image.as_deref().unwrap_or("-");
                row("container", &format!("{} {image} {} {}", container.name, container.state, ports.join(" ")));
            }
        }
    }
    for mount in &inventory.mounts {
        row("mount", &format!("{} {} on {}", mount.device, mount.kind, mount.mount));
    }
    if !inventory.truncated.is_empty() {
        row("cut", &inventory.truncated.join(", "));
    }
    text
}

fn published(port: &Published) -> String {
    let address = port.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
    format!("{address}:{}->{}/{}", port.port, port.inside, port.transport.as_str())
}
