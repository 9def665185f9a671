//! ICMP echo, by the datagram sockets that Linux gives to ordinary users.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use farol_protocol::Status;
pub(super) use farol_protocol::report::PingProbe;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{UdpSocket, lookup_host},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Probing, Seen, crossed,
    text::{Text, io_words},
};

/// From one request to the next.
const BETWEEN: Duration = Duration::from_millis(PingProbe::BETWEEN_MS);
/// What libraries say where a name server has said that there is no such name;
/// anything else says only that this host could not find out.
const NO_SUCH_NAME: [&str; 5] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided",
];
const ROUTES: &str = "/proc/net/route";
const ROUTES6: &str = "/proc/net/ipv6_route";
/// What a request carries: a number that the answer repeats, after this.
const PAYLOAD: &[u8; 8] = b"farol-v1";

pub(super) async fn run(probing: Probing, probe: &PingProbe) -> Seen {
    let deadline = Instant::now() + probing.limit;
    let least = probe.least_timeout_ms();
    if probing.limit < Duration::from_millis(least) {
        let (total, least) = (probe.count.to_string(), least.to_string());
        return probing.not_configured(Text::PingLimit, &[("total", &total), ("least", &least)]);
    }
    let (address, target) = match (&probe.address, probe.gateway) {
        (Some(name), false) => {
            let Ok(found) = timeout_at(deadline, lookup_host((name.as_str(), 0))).await else {
                return probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]);
            };
            match found.map(|mut found| found.next()) {
                Ok(Some(address)) => (address, name.clone()),
                Ok(None) => return unresolved(probing, name, None),
                Err(error) => return unresolved(probing, name, Some(&error)),
            }
        }
        (None, true) => match gateway() {
            Ok(Some(address)) => (address, probing.say(Text::WhatGateway, &[("address", &address.ip().to_string())])),
            Ok(None) => return probing.critical(Text::PingNoGateway, &[]),
            Err(error) => {
                let what = probing.say(Text::WhatRoutes, &[]);
                return probing.unknown(Text::NotReadable, &[("what", &what), ("why", &error.to_string())]);
            }
        },
        _ => return probing.not_configured(Text::PingTarget, &[]),
    };
    let socket = match open(address).await {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied) => {
            return probing.not_configured(Text::PingDenied, &[]);
        }
        Err(error) => return probing.unreachable(&target, &error),
    };
    match echo(&socket, address.is_ipv4(), probe.count.clamp(1, 20), deadline).await {
        Ok(times) => judge(probing, probe, &target, &times),
        Err(error) => probing.unreachable(&target, &error),
    }
}

/// No such name is the target's fault; a resolver that does not answer is not.
fn unresolved(probing: Probing, name: &str, error: Option<&io::Error>) -> Seen {
    let (status, why) = match error {
        Some(error) if !NO_SUCH_NAME.iter().any(|said| error.to_string().contains(said)) => {
            (Status::Unknown, io_words(probing.language, error))
        }
        _ => (Status::Critical, probing.say(Text::NoName, &[])),
    };
    probing.without_value(status, Text::Unreachable, &[("target", name), ("why", &why)])
}

async fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match address {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Sends each request in its turn and takes answers, in any order, until all
/// came or `deadline` passed; none where one did not come.
async fn echo(socket: &UdpSocket, v4: bool, count: u32, deadline: Instant) -> io::Result<Vec<Option<Duration>>> {
    let start = Instant::now();
    let mut sent: Vec<Instant> = Vec::new();
    let mut times: Vec<Option<Duration>> = vec![None; usize::try_from(count).unwrap_or_default()];
    let mut buffer = [0; 256];
    while times.contains(&None) {
        let more = sent.len() < times.len();
        let sequence = u16::try_from(sent.len()).unwrap_or_default();
        let next = if more { (start + BETWEEN * u32::from(sequence)).min(deadline) } else { deadline };
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                let answered = sequence_of(&buffer[..received?], v4).map(usize::from);
                if let Some((n, began)) = answered.and_then(|n| Some((n, sent.get(n)?))) {
                    times[n].get_or_insert(began.elapsed());
                }
            }
            () = sleep_until(next) => {
                if next >= deadline {
                    break;
                }
                sent.push(Instant::now());
                socket.send(&request(v4, sequence)).await?;
            }
        }
    }
    Ok(times)
}

/// The kernel fills in the identifier and the checksum.
fn request(v4: bool, sequence: u16) -> Vec<u8> {
    let kind = if v4 { 8 } else { 128 };
    let [high, low] = sequence.to_be_bytes();
    [&[kind, 0, 0, 0, 0, 0, high, low][..], PAYLOAD].concat()
}

/// Which request an answer answers; none where it answers none of ours.
fn sequence_of(bytes: &[u8], v4: bool) -> Option<u16> {
    let kind = if v4 { 0 } else { 129 };
    let [high, low] = *bytes.get(6..8)? else { return None };
    (bytes[0] == kind && bytes.get(8..) == Some(PAYLOAD)).then(|| u16::from_be_bytes([high, low]))
}

#[expect(clippy::cast_precision_loss, reason = "at most twenty")]
fn judge(probing: Probing, probe: &PingProbe, target: &str, times: &[Option<Duration>]) -> Seen {
    let mut answered: Vec<Duration> = times.iter().copied().flatten().collect();
    answered.sort_unstable();
    let loss = (times.len() - answered.len()) as f64 / times.len().max(1) as f64 * 100.0;
    let (lost, total) = (probing.number(loss.round()), times.len().to_string());
    let Some(median) = answered.get(answered.len() / 2) else {
        return probing.critical(Text::PingNone, &[("target", target), ("total", &total)]);
    };
    let ms = (median.as_secs_f64() * 1e5).round() / 100.0;
    let texts = [Text::PingOk, Text::PingSlow];
    let seen = probing.judged(&probe.limits, ms, "ms", texts, &[("target", target), ("loss", &lost)]);
    let by_loss = probe.loss.judge(loss);
    if by_loss == Status::Ok || seen.status == Status::Critical {
        return seen;
    }
    let limit = crossed(&probe.loss, loss).map(|limit| probing.number(limit)).unwrap_or_default();
    let values = [("target", target), ("loss", &*lost), ("limit", &*limit), ("value", &*probing.number(ms))];
    Seen { status: by_loss, text: probing.say(Text::PingLoss, &values), ..seen }
}

/// The default gateway with the lowest metric; IPv4 goes first.
fn gateway() -> io::Result<Option<SocketAddr>> {
    let v4 = gateway4(&fs::read_to_string(ROUTES)?).map(|ip| SocketAddr::new(ip.into(), 0));
    if v4.is_some() {
        return Ok(v4);
    }
    let table = match fs::read_to_string(ROUTES6) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        table => table?,
    };
    Ok(gateway6(&table).map(|(ip, interface)| {
        let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok();
        let scope = index.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        SocketAddrV6::new(ip, 0, 0, scope).into()
    }))
}

/// `RTF_GATEWAY`, and that the route is up.
const VIA_GATEWAY: u32 = 0x3;

fn gateway4(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "00000000", gateway, flags, _, _, metric, "00000000", ..] = words[..] else { return None };
        let via = u32::from_str_radix(flags, 16).ok()? & VIA_GATEWAY == VIA_GATEWAY;
        let address = u32::from_str_radix(gateway, 16).ok()?;
        Some((metric.parse::<u32>().ok()?, Ipv4Addr::from(address.to_ne_bytes()))).filter(|_| via)
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, address)| address)
}

fn gateway6(table: &str) -> Option<(Ipv6Addr, String)> {
    let routes = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [to, "00", _, _, gateway, metric, _, _, flags, interface] = words[..] else { return None };
        let via = u32::from_str_radix(flags, 16).ok()? & VIA_GATEWAY == VIA_GATEWAY;
        let address = u128::from_str_radix(gateway, 16).ok()?;
        let safe = !interface.contains('/') && !interface.starts_with('.');
        let metric = u32::from_str_radix(metric, 16).ok()?;
        (via && safe && to.bytes().all(|byte| byte == b'0'))
            .then(|| (metric, Ipv6Addr::from(address), interface.to_owned()))
    });
    routes.min_by_key(|(metric, ..)| *metric).map(|(_, address, interface)| (address, interface))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use farol_protocol::report::{Limits, UnknownCause};

    use super::{super::tests::probing, *};

    fn probe(address: &str) -> PingProbe {
        let loss = Limits { warning: Some(30.0), ..Limits::default() };
        let limits = Limits { critical: Some(100.0), ..Limits::default() };
        PingProbe { address: Some(address.to_owned()), gateway: false, count: 3, limits, loss }
    }

    /// Needs `net.ipv4.ping_group_range` to take in the user, which few build
    /// machines lack; where it does not, the probe must say so.
    #[tokio::test]
    async fn an_address_of_this_host_answers_or_the_right_is_asked_for() {
        let mut addresses = vec!["127.0.0.1"];
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            addresses.push("::1");
        }
        for address in addresses {
            let seen = run(probing(), &probe(address)).await;
            if open((address.parse::<IpAddr>().expect("valid"), 0).into()).await.is_ok() {
                assert_eq!((seen.status, seen.unit.as_deref()), (Status::Ok, Some("ms")), "{}", seen.text);
            } else {
                assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
                assert!(seen.text.contains("ping_group_range"), "{}", seen.text);
            }
        }
    }

    #[test]
    fn the_median_counts_and_what_was_lost_is_judged_by_itself() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let seen = judge(probing(), &probe("a"), "a", &[ms(900), ms(10), ms(12)]);
        assert_eq!((seen.status, seen.value), (Status::Ok, Some(12.0)), "{}", seen.text);
        let seen = judge(probing(), &probe("a"), "a", &[None, ms(10), ms(12)]);
        assert_eq!((seen.status, seen.value), (Status::Warning, Some(12.0)), "{}", seen.text);
        assert!(seen.text.contains("33%"), "{}", seen.text);
        assert_eq!(judge(probing(), &probe("a"), "a", &[None, None, ms(120)]).status, Status::Critical);
        let none = judge(probing(), &probe("a"), "a", &[None, None, None]);
        assert_eq!((none.status, none.value), (Status::Critical, None), "{}", none.text);
    }

    #[test]
    fn only_the_answer_to_the_request_counts() {
        let mut bytes = request(true, 7);
        assert_eq!(sequence_of(&bytes, true), None, "the request itself, on loopback");
        bytes[0] = 0;
        bytes[4] = 99;
        assert_eq!((sequence_of(&bytes, true), sequence_of(&bytes, false)), (Some(7), None));
        assert_eq!((sequence_of(&bytes[..9], true), sequence_of(&[], true)), (None, None));
    }

    #[test]
    fn the_default_gateway_has_the_lowest_metric_and_malformed_routes_cost_only_themselves() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth1\t00000000\t0202000A\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\nnonsense\neth0\t00000000\tzz\t0003\t0\t0\t1\t00000000\n";
        if cfg!(target_endian = "little") {
            assert_eq!(gateway4(table), Some(Ipv4Addr::new(10, 0, 2, 1)));
        }
        assert_eq!(gateway4(""), None);
        let six = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                   fe800000000000000000000000000001 00000400 00000001 00000000 00450003 eth0\n\
                   fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\nx\n";
        assert_eq!(gateway6(six), Some(("fe80::1".parse().expect("valid"), "eth0".to_owned())));
    }

    /// UDP stands for ICMP: what answers turns a request into its answer.
    #[tokio::test]
    async fn a_slow_target_loses_nothing_and_answers_count_in_any_order() {
        let target = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.connect(target.local_addr().expect("bound")).await.expect("connected");
        let answering = async {
            let mut all = Vec::new();
            for _ in 0..3 {
                let mut buffer = [0; 256];
                let (length, from) = target.recv_from(&mut buffer).await.expect("a request");
                buffer[0] = 0;
                all.push((buffer[..length].to_vec(), from));
            }
            // Only once all were asked, the last first, and one of them twice.
            for (bytes, from) in all.iter().rev().chain(&all[..1]) {
                target.send_to(bytes, from).await.expect("sent");
            }
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let (times, ()) = tokio::join!(echo(&socket, true, 3, deadline), answering);
        let times: Vec<Duration> = times.expect("told").into_iter().flatten().collect();
        assert!(times.len() == 3 && times[0] > times[1] && times[1] > times[2], "{times:?}");
    }

    #[tokio::test]
    async fn a_silent_target_is_given_up_at_the_time_limit() {
        let target = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.connect(target.local_addr().expect("bound")).await.expect("connected");
        let deadline = Instant::now() + Duration::from_millis(300);
        assert_eq!(echo(&socket, true, 2, deadline).await.expect("told"), [None, None]);
    }

    #[tokio::test]
    async fn a_time_limit_too_short_for_the_requests_is_not_configured() {
        let short = Probing { limit: Duration::from_millis(1_099), ..probing() };
        let seen = run(short, &probe("127.0.0.1")).await;
        assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)), "{}", seen.text);
        assert!(seen.text.contains("1100 ms"), "{}", seen.text);
    }

    #[test]
    fn a_name_that_does_not_exist_is_critical_and_a_resolver_that_fails_is_unknown() {
        let failed = |why: &str| io::Error::other(format!("failed to lookup address information: {why}"));
        for why in NO_SUCH_NAME {
            assert_eq!(unresolved(probing(), "a", Some(&failed(why))).status, Status::Critical, "{why}");
        }
        for why in ["Temporary failure in name resolution", "Try again", "Memory allocation failure"] {
            let seen = unresolved(probing(), "a", Some(&failed(why)));
            assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
            assert!(seen.text.contains(why), "{}", seen.text);
        }
        assert_eq!(unresolved(probing(), "a", None).status, Status::Critical);
    }

    #[tokio::test]
    async fn a_check_without_a_target_is_not_configured() {
        let none = PingProbe { address: None, ..probe("a") };
        assert_eq!(run(probing(), &none).await.cause, Some(UnknownCause::NotConfigured));
    }
}
