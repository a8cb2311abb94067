//! kube-apiserver over an etcd, with TLS, RBAC and client certificates.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::binaries::Binary;
use crate::certificates::{Authority, write_secret};
use crate::component::{Component, Home, Ready, Setup};
use crate::ports::Port;

/// One API server. Without a controller manager behind it nothing is garbage collected and namespaces never finish
/// deleting, so a test takes a fresh one.
#[derive(Debug)]
pub struct ApiServer {
    component: Component,
    authority: Authority,
    admin: PathBuf,
}

/// A group that may do everything, without RBAC being asked.
const MASTERS: &str = "system:masters";
/// Longer than any test.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

// === impl ApiServer ===

impl ApiServer {
    /// Starts one over the etcd at `etcd_url`. `flags` are added to the testbed's own, as in `--watch-cache=false`.
    pub async fn start(home: &Home, etcd_url: &str, flags: &[String]) -> Result<Self> {
        let authority = Authority::new("tidings-testbed").context("create the certificate authority")?;
        let mut admin = PathBuf::new();
        let component = Component::start(Binary::KubeApiserver, home, |folder| {
            let port = Port::reserve()?;
            admin = folder.join("kubeconfig");
            write_kubeconfig(&admin, port.number(), &authority, "tidings-admin", Some(MASTERS))?;
            let mut arguments = arguments(folder, &authority, port.number(), etcd_url)?;
            arguments.extend_from_slice(flags);
            Ok(Setup {
                program: None,
                arguments,
                ports: vec![port],
                ready: Ready::Api { kubeconfig: admin.clone() },
            })
        });
        let component = component.await.context("start the API server")?;
        Ok(Self { component, authority, admin })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        url(self.port(0))
    }

    /// A kubeconfig file of somebody who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// Writes a kubeconfig file for `user`, who has no rights but those RBAC gives to that name, to `group` and to
    /// everybody (`system:authenticated`).
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.kubeconfig_named(user);
        write_kubeconfig(&path, self.port(0), &self.authority, user, group)?;
        Ok(path)
    }

    /// Writes a kubeconfig file with a token of the service account, as its pods have one: for its name and its groups.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(client(&self.admin).await?, namespace);
        let spec =
            TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let status = answer.with_context(|| format!("get a token of {namespace}/{account}"))?.status;
        let token = status.context("an answer without a token")?.token;
        let path = self.kubeconfig_named(&format!("{namespace}-{account}"));
        let (server, authority) = (self.port(0), &self.authority);
        write_secret(&path, &kubeconfig(server, authority, account, &json!({ "token": token })))?;
        Ok(path)
    }

    fn kubeconfig_named(&self, user: &str) -> PathBuf {
        let simple: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.folder().join(format!("kubeconfig-{simple}"))
    }
}

impl Deref for ApiServer {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.component
    }
}

impl DerefMut for ApiServer {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.component
    }
}

/// A client that acts as `kubeconfig` says, bound to the present runtime: make one per test.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let describe = || format!("use kubeconfig {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(describe)?;
    let config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(describe)?;
    Client::try_from(config).with_context(describe)
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn arguments(folder: &Path, authority: &Authority, port: u16, etcd_url: &str) -> Result<Vec<String>> {
    let file = |name: &str| folder.join(name);
    fs::write(file("ca.crt"), authority.certificate())?;
    authority.server()?.write(&file("tls.crt"), &file("tls.key"))?;
    let tokens = KeyPair::generate()?;
    write_secret(&file("service-account.key"), &tokens.serialize_pem())?;
    fs::write(file("service-account.pub"), tokens.public_key_pem())?;

    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let file_flag = |name: &str, value: &str| format!("--{name}={}", file(value).display());
    Ok(vec![
        flag("etcd-servers", etcd_url),
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        flag("secure-port", &port.to_string()),
        flag("authorization-mode", "RBAC"),
        file_flag("client-ca-file", "ca.crt"),
        file_flag("tls-cert-file", "tls.crt"),
        file_flag("tls-private-key-file", "tls.key"),
        file_flag("service-account-key-file", "service-account.pub"),
        file_flag("service-account-signing-key-file", "service-account.key"),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-cluster-ip-range", "10.0.0.0/24"),
        // Without a controller manager nobody makes the ServiceAccounts that it would insist on.
        flag("disable-admission-plugins", "ServiceAccount"),
    ])
}

fn write_kubeconfig(
    path: &Path,
    port: u16,
    authority: &Authority,
    user: &str,
    group: Option<&str>,
) -> Result<()> {
    let identity =
        authority.client(user, group).with_context(|| format!("create a certificate for {user}"))?;
    let credentials = json!({
        "client-certificate-data": base64(&identity.certificate),
        "client-key-data": base64(&identity.key),
    });
    write_secret(path, &kubeconfig(port, authority, user, &credentials))
}

/// The text of a kubeconfig file of `user`.
fn kubeconfig(port: u16, authority: &Authority, user: &str, credentials: &Value) -> String {
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": user } }],
        "clusters": [{ "name": "testbed", "cluster": {
            "server": url(port),
            "certificate-authority-data": base64(authority.certificate()),
        } }],
        "users": [{ "name": user, "user": credentials }],
    });
    format!("{config:#}\n")
}

/// Serializes as base64.
fn base64(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
