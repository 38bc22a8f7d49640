//! Certificates: one root, and one certificate for each party.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustix::fs::{Mode, chmod};
use serde_json::json;

use super::layout::{ADDRESS, KUBERNETES_SERVICE, Node, api_url};
use crate::paths::write_atomically;

/// The directory of certificates, keys and kubeconfigs.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

/// Who a certificate is for: the user and its groups, as Kubernetes reads them from the subject.
struct Party {
    file: String,
    user: String,
    group: Option<&'static str>,
    serving: Vec<SanType>,
    kubeconfig: bool,
}

impl Pki {
    /// Names the directory; nothing is written.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The root certificate.
    pub fn ca(&self) -> PathBuf {
        self.cert("ca")
    }

    /// The certificate of a party.
    pub fn cert(&self, party: &str) -> PathBuf {
        self.dir.join(format!("{party}.crt"))
    }

    /// The private key of a party.
    pub fn key(&self, party: &str) -> PathBuf {
        self.dir.join(format!("{party}.key"))
    }

    /// What tokens of service accounts are checked with.
    pub fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("service-accounts.pub")
    }

    /// The kubeconfig of a party.
    pub fn kubeconfig(&self, party: &str) -> PathBuf {
        self.dir.join(format!("{party}.kubeconfig"))
    }

    /// Makes everything, unless it is there.
    pub fn ensure(&self, nodes: &[Node]) -> Result<()> {
        let complete = self.dir.join("complete");
        if complete.exists() {
            return Ok(());
        }
        self.create(nodes).context("making the cluster's certificates")?;
        // Written last: a killed run's half of a PKI is made anew.
        write_atomically(&complete, "")
    }

    fn create(&self, nodes: &[Node]) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        chmod(&self.dir, Mode::RWXU)?;
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "granary-e2e");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
        write_atomically(&self.ca(), issuer.pem())?;
        let accounts = KeyPair::generate()?;
        write_atomically(&self.key("service-accounts"), accounts.serialize_pem())?;
        write_atomically(&self.service_account_public_key(), accounts.public_key_pem())?;
        for party in parties(nodes)? {
            let key = KeyPair::generate()?;
            let certificate = party.params().signed_by(&key, &issuer)?;
            write_atomically(&self.cert(&party.file), certificate.pem())?;
            write_atomically(&self.key(&party.file), key.serialize_pem())?;
            if party.kubeconfig {
                let text = serde_json::to_string_pretty(&self.kubeconfig_of(&party))?;
                write_atomically(&self.kubeconfig(&party.file), text)?;
            }
        }
        Ok(())
    }

    /// Kubeconfigs are YAML, of which JSON is a part.
    fn kubeconfig_of(&self, party: &Party) -> serde_json::Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "granary-e2e",
            "clusters": [{"name": "granary-e2e", "cluster": {"server": api_url(), "certificate-authority": self.ca()}}],
            "users": [{"name": party.file, "user": {
                "client-certificate": self.cert(&party.file),
                "client-key": self.key(&party.file),
            }}],
            "contexts": [{"name": "granary-e2e", "context": {"cluster": "granary-e2e", "user": party.file}}],
        })
    }
}

impl Party {
    fn client(file: &str, user: &str, group: Option<&'static str>) -> Self {
        Self { file: file.into(), user: user.into(), group, serving: Vec::new(), kubeconfig: true }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, self.user.as_str());
        if let Some(group) = self.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.serving.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names = self.serving.clone();
        }
        params
    }
}

fn parties(nodes: &[Node]) -> Result<Vec<Party>> {
    let name = |name: &str| -> Result<SanType> { Ok(SanType::DnsName(name.try_into()?)) };
    let mut api_names = vec![
        SanType::IpAddress(IpAddr::V4(ADDRESS)),
        SanType::IpAddress(IpAddr::V4(KUBERNETES_SERVICE)),
        name("localhost")?,
    ];
    for suffix in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
        api_names.push(name(&format!("kubernetes{suffix}"))?);
    }
    let mut all = vec![
        Party { serving: api_names, kubeconfig: false, ..Party::client("apiserver", "kube-apiserver", None) },
        Party {
            kubeconfig: false,
            ..Party::client("kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters"))
        },
        Party::client("admin", "granary-e2e-admin", Some("system:masters")),
        Party::client("controller-manager", "system:kube-controller-manager", None),
        Party::client("scheduler", "system:kube-scheduler", None),
        Party::client("kube-proxy", "system:kube-proxy", None),
    ];
    for node in nodes {
        let serving = vec![name(&node.name)?, SanType::IpAddress(IpAddr::V4(ADDRESS))];
        let user = format!("system:node:{}", node.name);
        all.push(Party { serving, ..Party::client(&node.name, &user, Some("system:nodes")) });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::paths::Paths;

    fn is_certificate(path: &Path) -> bool {
        std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("-----BEGIN CERTIFICATE-----"))
    }

    fn made() -> (tempfile::TempDir, Pki) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { cache: dir.path().join("c"), state: dir.path().join("s") };
        let pki = Pki::at(dir.path().join("pki"));
        pki.ensure(&[Node::first(&paths)]).unwrap();
        (dir, pki)
    }

    #[test]
    fn every_party_has_what_its_process_reads() {
        let (_dir, pki) = made();
        for party in ["apiserver", "kubelet-client", "admin", "controller-manager", "scheduler", "kube-proxy", "node1"]
        {
            assert!(is_certificate(&pki.cert(party)), "{party}");
            assert!(std::fs::read_to_string(pki.key(party)).unwrap().contains("PRIVATE KEY"), "{party}");
        }
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(pki.kubeconfig("node1")).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://10.88.0.1:6443");
    }

    #[test]
    fn a_second_call_keeps_the_root_and_a_half_made_one_is_replaced() {
        let (dir, pki) = made();
        let root = || std::fs::read(pki.ca()).unwrap();
        let first = root();
        let paths = Paths { cache: dir.path().join("c"), state: dir.path().join("s") };
        pki.ensure(&[Node::first(&paths)]).unwrap();
        assert_eq!(root(), first);
        std::fs::remove_file(dir.path().join("pki/complete")).unwrap();
        pki.ensure(&[Node::first(&paths)]).unwrap();
        assert_ne!(root(), first);
    }

    #[test]
    fn node_certificates_name_the_group_that_the_node_authorizer_wants() {
        let paths = Paths { cache: "/c".into(), state: "/s".into() };
        let all = parties(&[Node::first(&paths)]).unwrap();
        let node = all.iter().find(|party| party.file == "node1").unwrap();
        assert_eq!((node.user.as_str(), node.group), ("system:node:node1", Some("system:nodes")));
    }
}
