//! Whether something listens on a local port, by Linux's tables of sockets.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader},
};

use farol_protocol::Status;
pub(super) use farol_protocol::report::{PortProbe, PortProtocol};

use super::{Probing, Seen, text::Text};

pub(super) async fn run(probing: Probing, probe: &PortProbe) -> Seen {
    if !cfg!(target_os = "linux") {
        return probing.not_configured(Text::PortNotHere, &[]);
    }
    let wanted = probe.clone();
    match probing.blocking(Text::WhatPorts, move || look(&wanted)).await {
        Ok(found) => judge(probing, probe, &found),
        Err(seen) => seen,
    }
}

/// What was found on the port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    sockets: usize,
    owner: Owner,
}

/// Whether the wanted process has one of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Nobody asked, or it has.
    Fine,
    Another,
    /// This agent may not look into the processes of that name.
    Hidden,
}

fn look(probe: &PortProbe) -> io::Result<Found> {
    let mut inodes = BTreeSet::new();
    let mut sockets = 0;
    let mut tables = 0;
    for table in match probe.protocol {
        PortProtocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        PortProtocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    } {
        let file = match fs::File::open(table) {
            Ok(file) => file,
            // IPv6 may be off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        tables += 1;
        for line in BufReader::new(file).lines() {
            if let Some(inode) = listening(&line?, probe.protocol, probe.port) {
                sockets += 1;
                inodes.insert(inode);
            }
        }
    }
    if tables == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "/proc/net has no table of sockets"));
    }
    let owner = match &probe.process {
        Some(name) if sockets > 0 => owner(name, &inodes)?,
        _ => Owner::Fine,
    };
    Ok(Found { sockets, owner })
}

/// The inode of a socket that waits on `port`, if this line of the table is one.
fn listening(line: &str, protocol: PortProtocol, port: u16) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let (_, local_port) = columns.next()?.rsplit_once(':')?;
    let state = columns.nth(1)?;
    // 0A listens; a datagram socket without a peer is 07.
    let waits = match protocol {
        PortProtocol::Tcp => state == "0A",
        PortProtocol::Udp => state == "07",
    };
    if !waits || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    columns.nth(5)?.parse().ok()
}

/// Looks only into processes of that name: the rest would cost far more.
fn owner(name: &str, inodes: &BTreeSet<u64>) -> io::Result<Owner> {
    let wanted = super::process::comm(name);
    let mut hidden = false;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
            || !fs::read(path.join("comm")).is_ok_and(|comm| comm.trim_ascii_end() == wanted)
        {
            continue;
        }
        let files = match fs::read_dir(path.join("fd")) {
            Ok(files) => files,
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => {
                hidden = true;
                continue;
            }
        };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                return Ok(Owner::Fine);
            }
        }
    }
    Ok(if hidden { Owner::Hidden } else { Owner::Another })
}

fn judge(probing: Probing, probe: &PortProbe, found: &Found) -> Seen {
    let (status, text) = match (found.sockets, found.owner) {
        (0, _) => (Status::Critical, Text::PortClosed),
        (_, Owner::Fine) => (Status::Ok, Text::PortOpen),
        (_, Owner::Another) => (Status::Critical, Text::PortOther),
        (_, Owner::Hidden) => (Status::Unknown, Text::PortHidden),
    };
    let protocol = match probe.protocol {
        PortProtocol::Tcp => "TCP",
        PortProtocol::Udp => "UDP",
    };
    let values = [
        ("port", &*probe.port.to_string()),
        ("protocol", protocol),
        ("process", probe.process.as_deref().unwrap_or_default()),
    ];
    probing.counted(status, found.sockets, text, &values)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::probing, *};

    #[test]
    fn only_sockets_that_wait_on_the_port_count() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0 100 0 0 10 0";
        assert_eq!(listening(line, PortProtocol::Tcp, 8080), Some(31415));
        assert_eq!(listening(line, PortProtocol::Tcp, 8081), None);
        assert_eq!(listening(line, PortProtocol::Udp, 8080), None);
        assert_eq!(listening(&line.replace(" 0A ", " 01 "), PortProtocol::Tcp, 8080), None, "a connection");
        let six =
            "  1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1";
        assert_eq!(listening(six, PortProtocol::Tcp, 22), Some(7));
        let udp = " 97: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 99 2 0 0";
        assert_eq!(listening(udp, PortProtocol::Udp, 53), Some(99));
        for malformed in ["", "sl local_address rem_address st", "0: nonsense", "0: :zz x 0A", "0: 0:0016 0:0 0A"] {
            assert_eq!(listening(malformed, PortProtocol::Tcp, 22), None, "{malformed:?}");
        }
    }

    #[tokio::test]
    async fn a_port_is_seen_with_who_has_it_until_it_closes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let probe = |process: Option<&str>| PortProbe {
            port,
            protocol: PortProtocol::Tcp,
            process: process.map(str::to_owned),
        };
        let own = fs::read_to_string("/proc/self/comm").expect("told");
        for process in [None, Some(own.trim())] {
            let seen = run(probing(), &probe(process)).await;
            assert_eq!((seen.status, seen.value), (Status::Ok, Some(1.0)), "{}", seen.text);
        }
        let other = run(probing(), &probe(Some("no-such-process"))).await;
        assert_eq!(other.status, Status::Critical, "{}", other.text);
        assert_eq!(
            run(probing(), &PortProbe { protocol: PortProtocol::Udp, ..probe(None) }).await.status,
            Status::Critical
        );
        drop(listener);
        let seen = run(probing(), &probe(None)).await;
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(0.0)), "{}", seen.text);
    }

    #[test]
    fn who_may_not_be_looked_at_is_unknown() {
        let probe = PortProbe { port: 22, protocol: PortProtocol::Tcp, process: Some("sshd".to_owned()) };
        let seen = judge(probing(), &probe, &Found { sockets: 2, owner: Owner::Hidden });
        assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
    }
}
