//! Certificates that follow one another, and what tells this machine from a
//! copy of its disk.

use farol_pki::{KnownClock, Update, files::write_private, renewal_config, sha256_hex, verify_update};
use farol_protocol::{
    RENEW_PATH, Timestamp,
    frame::{Machine, RenewAnswer, RenewRequest, encode},
};
use hyper::StatusCode;
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::{
    Error,
    endpoint::Endpoint,
    enrol::{post, told},
    state::{Identity, StateDir},
    tls::{self, CONNECT_WAIT},
};

/// Verifies an update and puts it in the place of the present certificate and
/// roots. `now` is the coordinator's clock. Gives the certificate's end.
///
/// A crash at any point leaves a pair that works: the host trusts more for a
/// moment, never less, and either certificate is for its key.
pub(crate) fn install(
    state: &StateDir,
    identity: &mut Identity,
    cert: &str,
    ca: &str,
    cross: &str,
    now: Timestamp,
) -> Result<Timestamp, Error> {
    let at = OffsetDateTime::from_unix_timestamp(now.as_ms() / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let update = Update { cert, ca, cross };
    let accepted = verify_update(&identity.key, identity.enrolment.host_id.as_str(), &identity.ca, &update, at)?;
    if ca != identity.ca {
        let both = format!("{}\n{ca}", identity.ca.trim_end());
        write_private(&state.ca(), both.as_bytes())?;
    }
    write_private(&state.cert(), cert.as_bytes())?;
    cert.clone_into(&mut identity.cert);
    if ca != identity.ca {
        write_private(&state.ca(), ca.as_bytes())?;
        ca.clone_into(&mut identity.ca);
    }
    Ok(accepted.not_after.into())
}

/// Asks for a certificate without showing one: the request's signature proves
/// the key. `clock` is what is known of the coordinator's.
pub(crate) async fn renew(
    endpoint: &Endpoint,
    ca_pem: &str,
    clock: Option<KnownClock>,
    request: RenewRequest,
) -> Result<RenewAnswer, Error> {
    let address = endpoint.authority();
    let stream = tls::connect(endpoint, renewal_config(ca_pem, clock)?).await?;
    let exchange = post(&address, TokioIo::new(stream), RENEW_PATH, encode(&request));
    let (status, body) = timeout(CONNECT_WAIT, exchange).await.map_err(|_| Error::Slow {
        address: address.clone(),
        operation: "the renewal",
        seconds: CONNECT_WAIT.as_secs(),
    })??;
    if status != StatusCode::OK {
        let (code, detail) = told(status, &body);
        return Err(Error::NotRenewed { code, detail });
    }
    serde_json::from_slice(&body).map_err(|error| Error::Answer(format!("it is not a renewal: {error}")))
}

/// What tells this machine from a copy of its disk; none of it where the
/// system says nothing.
#[cfg(not(farol_simulation))]
pub(crate) fn machine() -> Option<Machine> {
    let id = first(MACHINE_IDS).map(|id| sha256_hex(id.as_bytes()));
    let boot = first(&["/proc/sys/kernel/random/boot_id"]);
    (id.is_some() || boot.is_some()).then_some(Machine { id, boot })
}

/// Which simulated machine this is, and since when it runs.
#[cfg(farol_simulation)]
pub(crate) fn machine() -> Option<Machine> {
    let node = crate::simulation::current()?;
    Some(Machine { id: Some(format!("{:->36}", node.name)), boot: Some(node.boot()) })
}

/// FreeBSD keeps `kern.hostuuid` in the last of them.
const MACHINE_IDS: &[&str] = &["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"];

fn first(paths: &[&str]) -> Option<String> {
    paths
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty() && text != "uninitialized")
}
