//! The kernel's tables as text. Each function takes what it can from a text;
//! a line that is not as expected costs that line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use farol_protocol::inventory::{Mount, Transport};

/// A socket that takes connections or datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) transport: Transport,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) inode: u64,
}

/// One line of `/proc/net/tcp`, `udp` and their kin for IPv6. None for its
/// head, for sockets that do not listen and for lines that are malformed.
///
/// `ephemeral` is the range of ports the system gives to clients: a datagram
/// socket in it is somebody's question, not a service.
pub(super) fn listening(line: &str, transport: Transport, ephemeral: (u16, u16)) -> Option<Listening> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let mut words = line.split_ascii_whitespace();
    let (address, port) = endpoint(words.nth(1)?)?;
    let (_, peer_port) = endpoint(words.next()?)?;
    let state = words.next()?;
    let inode = words.nth(5)?.parse().ok()?;
    let listens = match transport {
        Transport::Udp => state == UNCONNECTED && peer_port == 0 && !(ephemeral.0..=ephemeral.1).contains(&port),
        _ => state == LISTEN,
    };
    (listens && port > 0).then_some(Listening { transport, address, port, inode })
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    Some((native_address(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// The kernel prints each word of an address as a number of this machine.
fn native_address(text: &str) -> Option<IpAddr> {
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(text)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(text.get(index * 8..index * 8 + 8)?)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// `/proc/sys/net/ipv4/ip_local_port_range`; Linux's own default where it is
/// not readable.
pub(super) fn port_range(text: &str) -> (u16, u16) {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => (first, last),
        _ => (32768, 60999),
    }
}

/// Default gateways of `/proc/net/route`.
pub(super) fn gateways_v4(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        let flags = u32::from_str_radix(words.next()?, 16).ok()?;
        let mask = words.nth(3)?;
        let default = destination == "00000000" && mask == "00000000" && is_gateway(flags);
        default.then(|| native_address(gateway)).flatten().filter(IpAddr::is_ipv4)
    })
}

/// Default gateways of `/proc/net/ipv6_route`. Link-local ones are left out:
/// they say nothing beyond their own cable.
pub(super) fn gateways_v6(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, bits, _, _, gateway, _, _, _, flags, _] = words[..] else { return None };
        let zero = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit == b'0');
        let default = zero(destination) && zero(bits) && is_gateway(u32::from_str_radix(flags, 16).ok()?);
        let address = (gateway.len() == 32).then(|| u128::from_str_radix(gateway, 16).ok()).flatten()?;
        let address = Ipv6Addr::from(address);
        (default && !address.is_unspecified() && !address.is_unicast_link_local()).then_some(IpAddr::V6(address))
    })
}

/// Up, and by way of another machine.
const fn is_gateway(flags: u32) -> bool {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    flags & UP != 0 && flags & GATEWAY != 0 && flags & REJECT == 0
}

/// One line of `/proc/self/mounts`; none for file systems that store nothing
/// and for the layers of containers.
pub(super) fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split_ascii_whitespace();
    let (device, mount, kind) = (words.next()?, words.next()?, words.next()?);
    // Without its options there is no line.
    words.next()?;
    if is_pseudo(kind) || (kind == "overlay" && mount != "/") {
        return None;
    }
    Some(Mount { mount: unescape(mount), device: unescape(device), kind: kind.to_owned() })
}

fn is_pseudo(kind: &str) -> bool {
    const PSEUDO: [&str; 34] = [
        "autofs",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fdescfs",
        "fusectl",
        "hugetlbfs",
        "linprocfs",
        "mqueue",
        "nsfs",
        "pipefs",
        "proc",
        "procfs",
        "pstore",
        "ramfs",
        "rootfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sockfs",
        "squashfs",
        "sysfs",
        "tmpfs",
        "tracefs",
        "fuse.lxcfs",
    ];
    PSEUDO.contains(&kind) || kind.starts_with("fuse.gvfs") || kind == "fuse.portal"
}

/// The kernel writes a space as `\040`.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 8).ok());
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: (u16, u16) = (32768, 60999);

    fn addresses(list: impl Iterator<Item = IpAddr>) -> Vec<String> {
        list.map(|address| address.to_string()).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_and_a_malformed_line_costs_itself() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1062 1 0000000034bdcb30 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000
   2: 0000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100
   3: 0A0A0A70:01BB 0A0A0A05:C001 01 00000000:00000000 00:00000000 00000000     0        0 2044 1 0 100
   4: ZZZZZZZZ:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1 0 100
   5: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 2048 1 0000000034bdcb30 100 0 0 10 0";
        let found: Vec<Listening> = text.lines().filter_map(|line| listening(line, Transport::Tcp, RANGE)).collect();
        let shown: Vec<String> =
            found.iter().map(|port| format!("{}:{} {}", port.address, port.port, port.inode)).collect();
        assert_eq!(shown, ["127.0.0.1:8080 1062", "0.0.0.0:443 2048"]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_of_ipv6_are_read_and_mapped_ones_are_ipv4() {
        let line = |address: &str| {
            format!("   0: {address}:0035 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 99 1 0")
        };
        for (address, shown) in [
            ("00000000000000000000000000000000", "::"),
            ("00000000000000000000000001000000", "::1"),
            ("B80D0120000000000000000001000000", "2001:db8::1"),
            ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ] {
            let port = listening(&line(address), Transport::Tcp, RANGE).expect("listens");
            assert_eq!((port.address.to_string().as_str(), port.port), (shown, 53));
        }
    }

    #[test]
    fn a_datagram_socket_is_a_service_unless_it_is_a_clients_or_has_a_peer() {
        let line =
            |local: &str, peer: &str| format!("  69: {local} {peer} 07 00000000:00000000 00:00000000 0 0 0 31 2 0 0");
        let listens = |local: &str, peer: &str| listening(&line(local, peer), Transport::Udp, RANGE).is_some();
        assert!(listens("00000000:0035", "00000000:0000"));
        assert!(!listens("00000000:0035", "0A0A0A05:0035"), "connected");
        assert!(!listens("00000000:9C40", "00000000:0000"), "a client's port");
        assert!(!listens("00000000:0000", "00000000:0000"), "no port");
    }

    #[test]
    fn the_range_of_client_ports_is_read_or_the_default() {
        assert_eq!(port_range("1024\t65000\n"), (1024, 65000));
        for text in ["", "9", "a b", "9 8", "-1 70000"] {
            assert_eq!(port_range(text), RANGE, "{text}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn default_gateways_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010A0A0A\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t00000000\t01
eth2\t00000000\t010B0A0A\t0002\t0\t0\t0\t00000000\t0\t0\t0
eth3\t00000A0A\t020A0A0A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
";
        assert_eq!(addresses(gateways_v4(text)), ["10.10.10.1"]);
        assert_eq!(addresses(gateways_v4("")), [""; 0]);

        let zero = "00000000000000000000000000000000";
        let text = format!(
            "fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0
{zero} 00 {zero} 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo
{zero} 00 cut
"
        );
        assert_eq!(addresses(gateways_v6(&text)), ["fd00::1"]);
    }

    #[test]
    fn mounts_are_read_without_pseudo_file_systems_and_without_options() {
        let text = r"proc /proc proc rw,relatime 0 0
/dev/vda / ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
overlay /var/lib/docker/overlay2/a/merged overlay rw,lowerdir=/x 0 0
10.0.0.5:/export /srv/my\040files nfs4 rw,addr=10.0.0.5 0 0
//nas/share /mnt/nas cifs rw,username=ana,password=secret 0 0
/dev/sdb1 /cut
rpool/data /rpool zfs rw 0 0";
        let mounts: Vec<Mount> = text.lines().filter_map(mount).collect();
        let shown: Vec<String> = mounts.iter().map(|m| format!("{} {} {}", m.device, m.mount, m.kind)).collect();
        assert_eq!(
            shown,
            [
                "/dev/vda / ext4",
                "10.0.0.5:/export /srv/my files nfs4",
                "//nas/share /mnt/nas cifs",
                "rpool/data /rpool zfs"
            ]
        );
        assert_eq!(unescape(r"a\04"), r"a\04");
        assert_eq!(unescape(r"a\999b\134"), r"a\999b\");
    }
}
