//! What this host is made of: addresses, ports, services, containers, mounts
//! and what it runs on. Everything is only read, by whoever the agent runs as;
//! what that user may not read is absent.

mod machine;
mod proc;
pub(crate) mod watch;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::inventory::{Address, Dmi, Interface, Inventory, Mount, Port, Transport, UnitItem};
use sysinfo::{Disks, Networks, System};
use tokio::{
    task::{JoinError, spawn_blocking},
    time::timeout,
};

use self::proc::Listening;
use crate::effect::{Bus, list_containers};

/// Most of one table that is read. Linux puts listening sockets first.
const MOST_BYTES: u64 = 1 << 20;
/// Most sockets whose process is looked for.
const MOST_SOCKETS: usize = 1024;
/// How long the engine and the service manager may take.
const WAIT: Duration = Duration::from_secs(5);

/// Looks at the host; remembers what does not change and whose sockets are.
#[derive(Debug, Default)]
pub(crate) struct Looker {
    fixed: Option<Fixed>,
    owners: HashMap<u64, Option<String>>,
}

/// What stays until the next boot.
#[derive(Debug, Clone)]
struct Fixed {
    os: Option<String>,
    kernel: Option<String>,
    machine: Option<String>,
    virtualisation: Option<String>,
    dmi: Dmi,
}

impl Fixed {
    fn read() -> Self {
        let dmi = machine::dmi();
        Self {
            os: System::long_os_version().ok(),
            kernel: System::kernel_version().ok(),
            machine: crate::trust::machine().and_then(|machine| machine.id),
            virtualisation: machine::virtualisation(&machine::traces(), &dmi),
            dmi,
        }
    }
}

impl Looker {
    /// Looks once. What does not answer in time is absent.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn look(mut self, docker_socket: PathBuf) -> Result<(Self, Inventory), JoinError> {
        let (units, containers) = (units(), timeout(WAIT, list_containers(&docker_socket)));
        let (units, containers) = (units.await, containers.await.ok().flatten());
        let read = spawn_blocking(move || {
            let inventory = self.read();
            (self, inventory)
        });
        let (looker, mut inventory) = read.await?;
        inventory.units = units;
        inventory.containers = containers;
        inventory.settle();
        Ok((looker, inventory))
    }

    fn read(&mut self) -> Inventory {
        let fixed = self.fixed.get_or_insert_with(Fixed::read).clone();
        let (mut ports, cut) = self.ports();
        ports.sort_unstable();
        Inventory {
            name: System::host_name().ok(),
            os: fixed.os,
            kernel: fixed.kernel,
            machine: fixed.machine,
            virtualisation: fixed.virtualisation,
            dmi: fixed.dmi,
            interfaces: interfaces(),
            gateways: gateways(),
            ports,
            mounts: mounts(),
            truncated: if cut { vec!["ports".to_owned()] } else { Vec::new() },
            ..Inventory::default()
        }
    }

    /// Listening ports and whether there are more.
    fn ports(&mut self) -> (Vec<Port>, bool) {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let ephemeral = proc::port_range(&range);
        let mut sockets: Vec<Listening> = Vec::new();
        for (table, transport) in
            [("tcp", Transport::Tcp), ("tcp6", Transport::Tcp), ("udp", Transport::Udp), ("udp6", Transport::Udp)]
        {
            lines(&Path::new("/proc/net").join(table), |line| {
                sockets.extend(proc::listening(line, transport, ephemeral).filter(|_| sockets.len() < MOST_SOCKETS));
            });
        }
        let cut = sockets.len() == MOST_SOCKETS;
        // The walk over all processes is what costs: only news is worth it.
        self.owners.retain(|inode, _| sockets.iter().any(|socket| socket.inode == *inode));
        let mut wanted: Vec<u64> =
            sockets.iter().map(|socket| socket.inode).filter(|inode| !self.owners.contains_key(inode)).collect();
        if !wanted.is_empty() {
            let found = owners(&mut wanted.clone());
            self.owners.extend(wanted.drain(..).map(|inode| (inode, found.get(&inode).cloned())));
        }
        let port = |socket: Listening| Port {
            transport: socket.transport,
            port: socket.port,
            address: socket.address,
            process: self.owners.get(&socket.inode).cloned().flatten(),
        };
        (sockets.into_iter().map(port).collect(), cut)
    }
}

/// Names of the processes that hold these sockets, as far as they can be seen.
/// Where several do, the oldest counts.
fn owners(wanted: &mut Vec<u64>) -> HashMap<u64, String> {
    let mut found = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut ids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    for id in ids {
        if wanted.is_empty() {
            break;
        }
        let process = PathBuf::from(format!("/proc/{id}"));
        for link in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Some(inode) = fs::read_link(link.path()).ok().and_then(|target| inode(target.to_str()?)) else {
                continue;
            };
            if let Some(place) = wanted.iter().position(|socket| *socket == inode)
                && let Ok(name) = fs::read_to_string(process.join("comm"))
            {
                wanted.swap_remove(place);
                found.insert(inode, name.trim().to_owned());
            }
        }
    }
    found
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Gives each line of a table to `take`, without holding the table.
fn lines(path: &Path, mut take: impl FnMut(&str)) {
    let Ok(file) = File::open(path) else { return };
    let mut reader = BufReader::new(file.take(MOST_BYTES));
    let mut line = Vec::new();
    while let Ok(length) = reader.read_until(b'\n', &mut line) {
        if length == 0 {
            return;
        }
        take(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

fn interfaces() -> Vec<Interface> {
    let Ok(mut networks) = Networks::new() else { return Vec::new() };
    networks.refresh(true);
    let interface = |(name, data): (&std::ffi::OsString, &sysinfo::NetworkData)| {
        let addresses: Vec<Address> = data
            .ip_networks()
            .iter()
            .filter(|network| is_reachable(network.addr))
            .map(|network| Address { address: network.addr, prefix: network.prefix })
            .collect();
        let mac = Some(data.mac_address()).filter(|mac| !mac.is_unspecified()).map(|mac| mac.to_string());
        (!addresses.is_empty()).then(|| Interface { name: name.to_string_lossy().into_owned(), mac, addresses })
    };
    networks.iter().filter_map(interface).collect()
}

/// Whether others could mean this machine by it.
const fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified(),
    }
}

fn gateways() -> Vec<IpAddr> {
    let mut found = Vec::new();
    if let Ok(text) = fs::read_to_string("/proc/net/route") {
        found.extend(proc::gateways_v4(&text));
    }
    if let Ok(text) = fs::read_to_string("/proc/net/ipv6_route") {
        found.extend(proc::gateways_v6(&text));
    }
    found
}

fn mounts() -> Vec<Mount> {
    let mut found = Vec::new();
    let table = Path::new("/proc/self/mounts");
    if table.exists() {
        lines(table, |line| found.extend(proc::mount(line)));
    } else if let Ok(disks) = Disks::new() {
        found.extend(disks.iter().map(|disk| Mount {
            mount: disk.mount_point().to_string_lossy().into_owned(),
            device: disk.name().to_string_lossy().into_owned(),
            kind: disk.file_system().to_string_lossy().into_owned(),
        }));
    }
    found
}

/// Services that are active or failed, those of people's sessions left out.
async fn units() -> Vec<UnitItem> {
    let listed = timeout(WAIT, async {
        let bus = Bus::connect().await?;
        bus.services().await.ok()
    });
    let services = listed.await.ok().flatten().unwrap_or_default();
    let own = |name: &str| !name.starts_with("user@") && !name.starts_with("user-runtime-dir@");
    let services = services.into_iter().filter(|(name, _)| own(name));
    services.map(|(name, state)| UnitItem { name, state }).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_port_that_this_process_opens_is_seen_with_its_name_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        // A client's socket, which is no service.
        let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let (looker, inventory) = Looker::default().look("/nonexistent/docker.sock".into()).await.expect("no panic");
        let port = inventory.ports.iter().find(|port| port.port == address.port()).expect("seen");
        assert_eq!((port.transport, port.address), (Transport::Tcp, address.ip()));
        let own = fs::read_to_string("/proc/self/comm").expect("readable");
        assert_eq!(port.process.as_deref(), Some(own.trim()));
        let client = client.local_addr().expect("an address").port();
        assert!(!inventory.ports.iter().any(|port| port.transport == Transport::Udp && port.port == client));
        assert_eq!(inventory.containers, None, "there is no engine");
        assert!(inventory.kernel.is_some() && inventory.name.is_some(), "{inventory:?}");

        drop(listener);
        let (_, inventory) = looker.look("/nonexistent/docker.sock".into()).await.expect("no panic");
        assert!(!inventory.ports.iter().any(|port| port.port == address.port() && port.address == address.ip()));
    }

    #[test]
    fn a_link_to_a_socket_names_its_number() {
        assert_eq!(inode("socket:[1062]"), Some(1062));
        for link in ["pipe:[1]", "socket:[x]", "socket:[1", "/dev/null"] {
            assert_eq!(inode(link), None, "{link}");
        }
    }
}
