//! `farol ca`: the authority in the data folder, beside a running coordinator
//! that takes over what changes within a second.

use farol_pki::{Authority, CertificateInfo, Overview};
use farol_protocol::Timestamp;
use serde::Serialize;
use time::OffsetDateTime;

use super::{Data, admin, output};
use crate::{
    auth::Operator,
    error::{Error, Result},
    store::{Store, hosts::Enrolment},
};

/// What `farol ca rotate` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    /// A new issuing authority below the present root.
    Issuing,
    /// A new root beside the present one.
    Root,
    /// The old root goes.
    Finish {
        /// Although hosts do not know the new one.
        force: bool,
    },
}

#[derive(Serialize)]
struct Status {
    roots: Vec<Certificate>,
    issuing: Certificate,
    server: Certificate,
    hosts: Vec<Host>,
    next: String,
}

#[derive(Serialize)]
struct Certificate {
    name: String,
    fingerprint: String,
    key_id: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl From<CertificateInfo> for Certificate {
    fn from(info: CertificateInfo) -> Self {
        Self {
            name: info.name,
            fingerprint: info.fingerprint,
            key_id: info.key_id,
            not_before: info.not_before.into(),
            not_after: info.not_after.into(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct Host {
    name: String,
    certificate_ends: Option<Timestamp>,
    /// Whether its certificate comes from the present issuing authority.
    present_issuer: bool,
    /// Whether it trusts the newest root.
    knows_newest_root: bool,
    /// Whether it trusts exactly the present roots.
    knows_all_roots: bool,
    refused: Option<String>,
}

/// Shows the authority, which hosts follow it, and what to do next.
pub(super) async fn status(data: &Data, json: bool) -> Result<()> {
    let (config, store) = admin::open(data).await?;
    let authority = Authority::open_or_create(&config.data_dir.join("pki"), OffsetDateTime::now_utc())?;
    let hosts = hosts(&store, &authority).await?;
    store.close().await;
    let overview = authority.overview()?;
    let next = advice(&overview, &hosts, OffsetDateTime::now_utc());
    if json {
        return output::json(&Status {
            roots: overview.roots.into_iter().map(Certificate::from).collect(),
            issuing: overview.issuing.into(),
            server: overview.server.into(),
            hosts,
            next,
        });
    }
    let row = |what: &str, info: &CertificateInfo| {
        vec![what.to_owned(), Timestamp::from(info.not_after).to_string(), info.name.clone(), info.fingerprint.clone()]
    };
    let mut rows: Vec<Vec<String>> = overview
        .roots
        .iter()
        .enumerate()
        .map(|(n, root)| row(if n == 0 { "root" } else { "old root" }, root))
        .collect();
    rows.push(row("issuing", &overview.issuing));
    rows.push(row("coordinator", &overview.server));
    output::table(&["CERTIFICATE", "ENDS", "FILE", "FINGERPRINT"], rows)?;
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows = hosts
        .iter()
        .map(|host| {
            vec![
                host.name.clone(),
                host.certificate_ends.map(|end| end.to_string()).unwrap_or_default(),
                yes(host.present_issuer),
                yes(host.knows_newest_root),
                host.refused.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::line("")?;
    output::table(&["HOST", "CERTIFICATE ENDS", "NEW ISSUER", "NEW ROOT", "REFUSED"], rows)?;
    output::line(&format!("\n{next}"))
}

/// Changes the authority.
pub(super) async fn rotate(data: &Data, what: Rotation) -> Result<()> {
    let (config, store) = admin::open(data).await?;
    let (dir, now) = (config.data_dir.join("pki"), OffsetDateTime::now_utc());
    let by = Operator::local_administrator();
    let (verb, said) = match what {
        Rotation::Issuing => {
            let authority = Authority::rotate_issuing(&dir, now)?;
            ("authority.issuing_rotated", format!("new certificates come from {}", authority.issuer_id()))
        }
        Rotation::Root => {
            let authority = Authority::announce_root(&dir, now)?;
            ("authority.root_announced", format!("{} is announced beside the old root", authority.root_fingerprint()))
        }
        Rotation::Finish { force } => {
            let authority = Authority::open_or_create(&dir, now)?;
            let hosts = hosts(&store, &authority).await?;
            let unaware: Vec<&str> =
                hosts.iter().filter(|host| !host.knows_newest_root).map(|host| host.name.as_str()).collect();
            if !unaware.is_empty() && !force && authority.root_ids().len() > 1 {
                return Err(Error::Refused(format!(
                    "these hosts do not know the new root yet: {}; wait until they have connected, revoke those that \
                     are gone, or add --force and they will ask for it by themselves when they come back",
                    unaware.join(", ")
                )));
            }
            let authority = Authority::finish_root(&dir, now)?;
            ("authority.root_retired", format!("{} is the only root now", authority.root_fingerprint()))
        }
    };
    store.record_authority(&by, verb, &said, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!("{said}; a running coordinator takes it over within a second. See: farol ca status"))
}

async fn hosts(store: &Store, authority: &Authority) -> Result<Vec<Host>> {
    let (roots, issuer) = (authority.root_ids(), authority.issuer_id());
    let trust = store.trust().await?;
    let enrolled = store.hosts().await?.into_iter().filter(|host| host.enrolment == Enrolment::Enrolled);
    Ok(enrolled
        .map(|host| {
            let row = trust.get(&host.key).cloned().unwrap_or_default();
            let known = row.roots.unwrap_or_default();
            Host {
                name: host.name,
                certificate_ends: host.cert_not_after,
                present_issuer: row.issuer.as_deref() == Some(&issuer),
                knows_newest_root: roots.first().is_some_and(|newest| known.contains(newest)),
                knows_all_roots: known.len() == roots.len() && roots.iter().all(|root| known.contains(root)),
                refused: row.refused,
            }
        })
        .collect())
}

/// One sentence for whoever asks what to do.
fn advice(overview: &Overview, hosts: &[Host], now: OffsetDateTime) -> String {
    let count = |wanted: &dyn Fn(&Host) -> bool| hosts.iter().filter(|host| wanted(host)).count();
    if overview.roots.len() > 1 {
        let unaware = count(&|host| !host.knows_newest_root);
        return if unaware == 0 {
            "Next: every host knows the new root; finish with: farol ca rotate --finish".to_owned()
        } else {
            format!(
                "Next: {unaware} of {} hosts do not know the new root yet; each learns it while it is connected. \
                 Then finish with: farol ca rotate --finish",
                hosts.len()
            )
        };
    }
    let old_root =
        overview.roots.first().is_some_and(|root| now >= root.not_before + (root.not_after - root.not_before) * 2 / 3);
    if old_root {
        return "Next: the root is past two thirds of its life; announce another with: farol ca rotate --root"
            .to_owned();
    }
    match count(&|host| !host.present_issuer || !host.knows_all_roots) {
        0 => "Nothing to do: certificates and the issuing authority are renewed by themselves.".to_owned(),
        behind => format!(
            "Nothing to do: {behind} of {} hosts get a certificate of the present authority while they are connected.",
            hosts.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn host(knows_newest_root: bool) -> Host {
        Host {
            name: "vm112".to_owned(),
            certificate_ends: None,
            present_issuer: true,
            knows_newest_root,
            knows_all_roots: knows_newest_root,
            refused: None,
        }
    }

    #[test]
    fn the_status_says_what_comes_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = OffsetDateTime::now_utc();
        let one = Authority::open_or_create(folder.path(), now).and_then(|it| it.overview()).expect("made");
        assert!(advice(&one, &[host(true)], now).starts_with("Nothing to do"));
        assert!(advice(&one, &[], now + Duration::days(366 * 14)).contains("farol ca rotate --root"));
        let two = Authority::announce_root(folder.path(), now).and_then(|it| it.overview()).expect("announced");
        assert!(advice(&two, &[host(true), host(false)], now).contains("1 of 2 hosts do not know"));
        assert!(advice(&two, &[host(true)], now).contains("finish with: farol ca rotate --finish"));
    }
}
