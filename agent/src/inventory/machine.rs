//! What kind of machine this is: firmware and virtualisation.

use std::{fs, path::Path};

use farol_protocol::inventory::Dmi;

/// Traces that kinds of virtualisation leave, as texts that were read.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// `/run/systemd/container`, which the container's manager writes.
    pub(super) container: Option<String>,
    /// Whether `/.dockerenv` is there.
    pub(super) docker: bool,
    /// Whether `/run/.containerenv` is there.
    pub(super) podman: bool,
    /// `/sys/hypervisor/type`.
    pub(super) hypervisor: Option<String>,
    /// Whether the processor says that it is a guest's; none where it says nothing.
    pub(super) guest: Option<bool>,
}

/// Reads the firmware's words; a placeholder is no word.
pub(super) fn dmi() -> Dmi {
    let folder = Path::new("/sys/class/dmi/id");
    let read = |name: &str| text(&folder.join(name));
    Dmi {
        uuid: read("product_uuid").map(|uuid| uuid.to_ascii_lowercase()).filter(|uuid| is_uuid(uuid)),
        vendor: read("sys_vendor"),
        product: read("product_name"),
    }
}

/// Looks for traces.
pub(super) fn traces() -> Traces {
    let guest = fs::read_to_string("/proc/cpuinfo").ok().and_then(|cpus| {
        let flags = cpus.lines().find(|line| line.starts_with("flags"))?;
        Some(flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
    });
    Traces {
        container: text(Path::new("/run/systemd/container")),
        docker: Path::new("/.dockerenv").exists(),
        podman: Path::new("/run/.containerenv").exists(),
        hypervisor: text(Path::new("/sys/hypervisor/type")),
        guest,
    }
}

/// The name of what the host runs on, in the words of `systemd-detect-virt`;
/// none where nothing tells.
pub(super) fn virtualisation(traces: &Traces, dmi: &Dmi) -> Option<String> {
    const BY_FIRMWARE: [(&str, &str); 14] = [
        ("kvm", "kvm"),
        ("openstack", "kvm"),
        ("amazon ec2", "amazon"),
        ("google compute engine", "google"),
        ("qemu", "kvm"),
        ("proxmox", "kvm"),
        ("vmware", "vmware"),
        ("innotek", "oracle"),
        ("virtualbox", "oracle"),
        ("virtual machine", "microsoft"),
        ("parallels", "parallels"),
        ("bhyve", "bhyve"),
        ("bochs", "bochs"),
        ("xen", "xen"),
    ];
    if let Some(container) = &traces.container {
        return Some(container.to_ascii_lowercase());
    }
    if traces.docker {
        return Some("docker".to_owned());
    }
    if traces.podman {
        return Some("podman".to_owned());
    }
    if let Some(hypervisor) = &traces.hypervisor {
        return Some(hypervisor.to_ascii_lowercase());
    }
    let words = [&dmi.vendor, &dmi.product].into_iter().flatten().map(|text| text.to_ascii_lowercase());
    let words: Vec<String> = words.collect();
    let known = BY_FIRMWARE.iter().find(|(trace, _)| words.iter().any(|word| word.contains(trace)));
    if let Some((_, name)) = known {
        return Some((*name).to_owned());
    }
    match traces.guest {
        Some(true) => Some("vm-other".to_owned()),
        Some(false) => Some("none".to_owned()),
        None => None,
    }
}

fn text(path: &Path) -> Option<String> {
    const PLACEHOLDERS: [&str; 5] =
        ["to be filled by o.e.m.", "default string", "not specified", "system product name", "system manufacturer"];
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty() && !PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str())).then_some(text)
}

/// All digits the same are what firmware without an identity says.
fn is_uuid(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    digits.len() == 32 && digits.iter().all(char::is_ascii_hexdigit) && digits.iter().any(|digit| *digit != digits[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmi(vendor: &str, product: &str) -> Dmi {
        Dmi { uuid: None, vendor: Some(vendor.to_owned()), product: Some(product.to_owned()) }
    }

    #[test]
    fn a_machine_is_told_by_its_traces() {
        let none = Traces::default();
        let guest = |guest| Traces { guest: Some(guest), ..Traces::default() };
        for (traces, dmi, name) in [
            (&none, dmi("QEMU", "Standard PC (i440FX + PIIX, 1996)"), Some("kvm")),
            (&none, dmi("VMware, Inc.", "VMware Virtual Platform"), Some("vmware")),
            (&none, dmi("innotek GmbH", "VirtualBox"), Some("oracle")),
            (&none, dmi("Microsoft Corporation", "Virtual Machine"), Some("microsoft")),
            (&guest(false), dmi("Microsoft Corporation", "Surface"), Some("none")),
            (&guest(false), dmi("Dell Inc.", "PowerEdge R740"), Some("none")),
            (&guest(true), dmi("Somebody", "Something"), Some("vm-other")),
            (&none, dmi("Dell Inc.", "PowerEdge R740"), None),
            (&Traces { container: Some("LXC".to_owned()), ..guest(true) }, dmi("QEMU", "x"), Some("lxc")),
            (&Traces { docker: true, ..guest(true) }, dmi("QEMU", "x"), Some("docker")),
            (&Traces { hypervisor: Some("xen".to_owned()), ..guest(true) }, dmi("x", "HVM domU"), Some("xen")),
        ] {
            assert_eq!(virtualisation(traces, &dmi).as_deref(), name, "{traces:?} {dmi:?}");
        }
    }

    #[test]
    fn firmware_without_an_identity_has_none() {
        assert!(is_uuid("2c2a6a3e-1f0d-4a8c-9a51-0d6f4a2b7c11"));
        for text in ["", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "2c2a6a3e"] {
            assert!(!is_uuid(text), "{text}");
        }
    }
}
