//! What a source may use of the machine that reads it.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What sources may use of this machine's files, rights and network. The default allows the least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourcePolicy {
    /// `file://` sources lie below one of these directories.
    pub file_roots: Vec<PathBuf>,
    /// Whether `Identity::Ambient` is allowed.
    pub ambient: bool,
    /// Exceptions from what the address guard refuses.
    pub allowed_networks: Vec<IpNet>,
    /// Switches the address guard off.
    pub allow_all_networks: bool,
}

impl SourcePolicy {
    /// Everything is allowed: for a user's own command line, which has no rights but the user's.
    pub fn unrestricted() -> Self {
        Self {
            file_roots: vec![PathBuf::from("/")],
            ambient: true,
            allowed_networks: Vec::new(),
            allow_all_networks: true,
        }
    }

    /// Whether a connection to `address` is allowed. Refused are addresses that mean this machine or its link, above all the
    /// metadata services of clouds: a node must not be a proxy to them.
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6 clothes reaches the same host.
        let address = address.to_canonical();
        self.allow_all_networks
            || !is_local(address)
            || self.allowed_networks.iter().any(|network| network.contains(&address))
    }
}

/// Metadata services outside the link-local ranges: AWS over IPv6, Alibaba Cloud, Oracle's classic one.
const METADATA: [&str; 3] = ["fd00:ec2::254", "100.100.100.200", "192.0.0.192"];

fn is_local(address: IpAddr) -> bool {
    if METADATA.iter().any(|known| known.parse() == Ok(address)) {
        return true;
    }
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            // ::a.b.c.d (deprecated) and 64:ff9b::a.b.c.d (NAT64) carry an IPv4 address that a translator would reach.
            let embeds_v4 = segments[..6] == [0; 6] || segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || (embeds_v4 && is_local(IpAddr::V4((u32::from(segments[6]) << 16 | u32::from(segments[7])).into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(policy: &SourcePolicy, address: &str) -> bool {
        policy.allows(address.parse().unwrap())
    }

    #[test]
    fn refuses_addresses_that_mean_this_machine_or_its_link() {
        let policy = SourcePolicy::default();
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(!allowed(&policy, address), "{address}");
        }
        for address in
            ["10.0.0.1", "192.168.1.1", "100.64.0.1", "93.184.216.34", "2001:db8::1", "fd12::1", "64:ff9b::a00:1"]
        {
            assert!(allowed(&policy, address), "{address}");
        }
    }

    #[test]
    fn exceptions_are_exact() {
        let policy = SourcePolicy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
        assert!(allowed(&policy, "127.0.0.1"));
        assert!(allowed(&policy, "::ffff:127.0.0.1"));
        assert!(!allowed(&policy, "169.254.169.254"));
        assert!(allowed(&SourcePolicy::unrestricted(), "169.254.169.254"));
    }
}
