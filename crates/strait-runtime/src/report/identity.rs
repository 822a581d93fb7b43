//! Whom a workload acts as, and which secrets are within its reach: with evidence, and never with a
//! secret's value.
//!
//! Looked at are the names of variables (of their values only whether they are the path of a file that
//! exists), the files that programs keep credentials in, open descriptors and mounts. Read are token
//! files, of which the claims are told that say for whom and until when ([`super::jwt`]), and open files
//! that may be keys, of which nothing but that they are is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::jwt;
use crate::inspect::Process;

/// Whom a workload acts as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The effective users, by name where the workload's own `/etc/passwd` has one.
    pub users: Vec<String>,
    /// The account of its token, if it has one that says so.
    pub account: Option<String>,
    /// What it can act with, each with where that was seen.
    pub evidence: Vec<Evidence>,
    /// How many of its processes did not let this be read.
    pub unreadable: usize,
}

/// Something that a workload can act with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// Its name or path, as the workload sees it.
    pub what: String,
    /// How it was seen.
    pub seen: String,
    /// What a token says of itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<Token>,
}

/// What a JWT says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Whom it is for.
    pub audience: Vec<String>,
    /// Who acts with it.
    pub subject: Option<String>,
    /// Who gave it.
    pub issuer: Option<String>,
    /// Until when, in seconds since 1970; none for one that never expires.
    pub expires: Option<i64>,
    /// Whether that is past.
    pub expired: Option<bool>,
}

/// What evidence is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A token of a service account.
    ServiceAccountToken,
    /// A file with a cloud's credentials.
    CloudCredentials,
    /// A variable that names a cloud's endpoint for credentials.
    MetadataVariable,
    /// A variable whose name says that it holds a secret.
    SecretVariable,
    /// A file of secrets that an orchestrator mounted.
    MountedSecret,
    /// Credentials for registries.
    DockerConfig,
    /// The socket of a container engine, which is as good as root.
    EngineSocket,
    /// An agent that signs with somebody's keys.
    SshAgent,
    /// A private key of SSH.
    SshKey,
    /// Credentials for a Kubernetes cluster.
    Kubeconfig,
    /// An open file with a private key.
    PrivateKey,
    /// A Kerberos keytab or cache.
    Keytab,
    /// Keys in the kernel's keyrings of the user.
    Keyring,
}

impl EvidenceKind {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            EvidenceKind::ServiceAccountToken => "service-account-token",
            EvidenceKind::CloudCredentials => "cloud-credentials",
            EvidenceKind::MetadataVariable => "metadata-variable",
            EvidenceKind::SecretVariable => "secret-variable",
            EvidenceKind::MountedSecret => "mounted-secret",
            EvidenceKind::DockerConfig => "docker-config",
            EvidenceKind::EngineSocket => "engine-socket",
            EvidenceKind::SshAgent => "ssh-agent",
            EvidenceKind::SshKey => "ssh-key",
            EvidenceKind::Kubeconfig => "kubeconfig",
            EvidenceKind::PrivateKey => "private-key",
            EvidenceKind::Keytab => "keytab",
            EvidenceKind::Keyring => "keyring",
        }
    }

    /// How much it adds to the risk of who has it.
    pub(super) const fn weight(self) -> u32 {
        match self {
            EvidenceKind::EngineSocket => 20,
            EvidenceKind::ServiceAccountToken
            | EvidenceKind::CloudCredentials
            | EvidenceKind::Kubeconfig => 12,
            EvidenceKind::PrivateKey | EvidenceKind::SshKey | EvidenceKind::Keytab => 10,
            EvidenceKind::SecretVariable
            | EvidenceKind::MountedSecret
            | EvidenceKind::DockerConfig
            | EvidenceKind::SshAgent => 7,
            EvidenceKind::MetadataVariable | EvidenceKind::Keyring => 3,
        }
    }
}

use EvidenceKind::{
    CloudCredentials, DockerConfig, EngineSocket, Keyring, Keytab, Kubeconfig, MetadataVariable,
    MountedSecret, PrivateKey, SecretVariable, ServiceAccountToken, SshAgent, SshKey,
};

/// Variables whose value is the path of something. Of others the value is never looked at.
const PATH_VARIABLES: &[(&str, EvidenceKind)] = &[
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ServiceAccountToken),
    ("AWS_SHARED_CREDENTIALS_FILE", CloudCredentials),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", ServiceAccountToken),
    ("AZURE_CLIENT_CERTIFICATE_PATH", PrivateKey),
    ("AZURE_FEDERATED_TOKEN_FILE", ServiceAccountToken),
    ("GOOGLE_APPLICATION_CREDENTIALS", CloudCredentials),
    ("KRB5CCNAME", Keytab),
    ("KRB5_KTNAME", Keytab),
    ("KUBECONFIG", Kubeconfig),
    ("SSH_AUTH_SOCK", SshAgent),
    ("VAULT_TOKEN_FILE", MountedSecret),
];

/// Variables by which a cloud tells where credentials are handed out.
const METADATA_VARIABLES: &[&str] = &[
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ROLE_ARN",
    "AZURE_CLIENT_ID",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "GCE_METADATA_HOST",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
];

/// Words of names that say that a variable holds a secret.
const SECRET_WORDS: &[&str] = &[
    "ACCESSKEY",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PAT",
    "PRIVATEKEY",
    "PWD",
    "SECRET",
    "SECRETS",
    "TOKEN",
    "TOKENS",
];
/// Pairs of words that do.
const SECRET_PAIRS: &[(&str, &str)] = &[
    ("ACCESS", "KEY"),
    ("API", "KEY"),
    ("AUTH", "KEY"),
    ("CONNECTION", "STRING"),
    ("DATABASE", "URL"),
    ("ENCRYPTION", "KEY"),
    ("IDENTITY", "HEADER"),
    ("PRIVATE", "KEY"),
    ("SIGNING", "KEY"),
];

/// Files that programs keep credentials in, below the home of a user.
const HOME_FILES: &[(&str, EvidenceKind)] = &[
    (".aws/credentials", CloudCredentials),
    (".azure/msal_token_cache.json", CloudCredentials),
    (".config/gcloud/application_default_credentials.json", CloudCredentials),
    (".config/gcloud/credentials.db", CloudCredentials),
    (".docker/config.json", DockerConfig),
    (".kube/config", Kubeconfig),
    (".ssh/id_ecdsa", SshKey),
    (".ssh/id_ed25519", SshKey),
    (".ssh/id_rsa", SshKey),
    (".vault-token", MountedSecret),
];

/// Files in fixed places.
const FILES: &[(&str, EvidenceKind)] = &[
    ("/etc/krb5.keytab", Keytab),
    ("/run/containerd/containerd.sock", EngineSocket),
    ("/run/crio/crio.sock", EngineSocket),
    ("/run/docker.sock", EngineSocket),
    ("/run/podman/podman.sock", EngineSocket),
    ("/var/run/docker.sock", EngineSocket),
    ("/var/run/secrets/azure/tokens/azure-identity-token", ServiceAccountToken),
    ("/var/run/secrets/eks.amazonaws.com/serviceaccount/token", ServiceAccountToken),
    ("/var/run/secrets/kubernetes.io/serviceaccount/token", ServiceAccountToken),
];

/// How much of a file is read to see what it is.
const MOST: u64 = 64 * 1024;

/// Whom these processes act as, at `now` in seconds since 1970.
pub(crate) fn identity(processes: &[Process], now: i64) -> Identity {
    let mut found = Found::default();
    let mut identity = Identity::default();
    let mut users: BTreeSet<String> = BTreeSet::new();
    for process in processes {
        let view = View { pid: process.pid.as_raw_pid(), user: process.user, now };
        users.insert(view.user_name());
        if !view.look(&mut found) {
            identity.unreadable += 1;
        }
    }
    identity.users = users.into_iter().collect();
    identity.evidence = found.0.into_values().collect();
    let tokens = identity.evidence.iter().filter_map(|evidence| evidence.token.as_ref());
    identity.account = tokens.filter_map(|token| token.subject.clone()).next();
    identity
}

/// Evidence by kind and name, each once.
#[derive(Default)]
struct Found(BTreeMap<(EvidenceKind, String), Evidence>);

impl Found {
    fn add(&mut self, kind: EvidenceKind, what: &str, seen: &str, token: Option<Token>) {
        self.0.entry((kind, what.to_owned())).or_insert_with(|| Evidence {
            kind,
            what: what.to_owned(),
            seen: seen.to_owned(),
            token,
        });
    }
}

/// A process, and the machine as it sees it.
struct View {
    pid: i32,
    user: u32,
    now: i64,
}

impl View {
    /// Looks at everything; whether it could.
    fn look(&self, found: &mut Found) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid));
        let home = environment.as_deref().ok().and_then(|text| self.environment(text, found));
        for (path, kind) in FILES {
            self.file(*kind, path, "in its place", found);
        }
        for (file, kind) in HOME_FILES {
            if let Some(home) = &home {
                self.file(*kind, &format!("{home}/{file}"), "in its home", found);
            }
        }
        self.mounts(found);
        self.descriptors(found);
        self.keyring(found);
        environment.is_ok()
    }

    /// The names of variables; returns the home.
    fn environment(&self, text: &[u8], found: &mut Found) -> Option<String> {
        let mut home = None;
        for entry in text.split(|&byte| byte == 0) {
            let Ok(entry) = std::str::from_utf8(entry) else { continue };
            let Some((name, value)) = entry.split_once('=') else { continue };
            if value.is_empty() || !is_name(name) {
                continue;
            }
            let path = value.strip_prefix("FILE:").unwrap_or(value);
            if name == "HOME" && path.starts_with('/') {
                home = Some(path.trim_end_matches('/').to_owned());
            } else if let Some((_, kind)) = PATH_VARIABLES.iter().find(|(known, _)| *known == name)
            {
                // A value that is no file's path may be anything, and is not told.
                if !self.file(*kind, path, &format!("by ${name}"), found) {
                    found.add(*kind, &format!("${name}"), "in its environment", None);
                }
            } else if name == "DOCKER_CONFIG" {
                self.file(DockerConfig, &format!("{path}/config.json"), "by $DOCKER_CONFIG", found);
            } else if METADATA_VARIABLES.contains(&name) {
                found.add(MetadataVariable, &format!("${name}"), "in its environment", None);
            } else if names_secret(name) {
                found.add(SecretVariable, &format!("${name}"), "in its environment", None);
            }
        }
        home
    }

    /// A file that is there and that the process may read.
    fn file(&self, kind: EvidenceKind, path: &str, seen: &str, found: &mut Found) -> bool {
        if !path.starts_with('/') || path.contains("/../") {
            return false;
        }
        let real = format!("/proc/{}/root{path}", self.pid);
        let Ok(metadata) = fs::metadata(&real) else { return false };
        if metadata.is_dir() || !self.may_read(&metadata) {
            return false;
        }
        let token = match kind {
            ServiceAccountToken | MountedSecret if metadata.is_file() => {
                beginning(&real).and_then(|text| jwt::claims(&text, self.now))
            }
            _ => None,
        };
        found.add(kind, path, seen, token);
        true
    }

    /// By the file's mode alone: groups besides the first and access lists are not looked at.
    fn may_read(&self, metadata: &fs::Metadata) -> bool {
        self.user == 0
            || metadata.mode() & 0o004 != 0
            || metadata.uid() == self.user && metadata.mode() & 0o400 != 0
            || metadata.mode() & 0o040 != 0
    }

    /// Secrets that an orchestrator mounted: what is below the places that they use.
    fn mounts(&self, found: &mut Found) {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)) else { return };
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| is_secret_mount(point)) {
            let folder = format!("/proc/{}/root{point}", self.pid);
            let Ok(metadata) = fs::metadata(&folder) else { continue };
            if metadata.is_file() {
                self.file(MountedSecret, point, "mounted", found);
                continue;
            }
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten().take(64) {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Kubernetes keeps versions in hidden folders; ca.crt and namespace are no secrets.
                if name.starts_with('.') || ["ca.crt", "namespace"].contains(&name.as_str()) {
                    continue;
                }
                let is_token = name == "token" || point.contains("serviceaccount");
                let kind = if is_token { ServiceAccountToken } else { MountedSecret };
                self.file(kind, &format!("{point}/{name}"), "mounted", found);
            }
        }
    }

    /// Open files that are keys, keytabs or credentials, and sockets of engines.
    fn descriptors(&self, found: &mut Found) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let Some(target) = target.to_str().filter(|target| target.starts_with('/')) else {
                continue;
            };
            let shown = target.strip_suffix(" (deleted)").unwrap_or(target);
            let name = shown.rsplit('/').next().unwrap_or(shown);
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            let kind = match extension {
                Some("keytab") => Some(Keytab),
                Some("p12" | "pfx" | "jks" | "p8") => Some(PrivateKey),
                Some("pem" | "key" | "crt") => {
                    is_private_key(&descriptor.path()).then_some(PrivateKey)
                }
                _ if HOME_FILES.iter().any(|(file, _)| shown.ends_with(&format!("/{file}"))) => {
                    HOME_FILES
                        .iter()
                        .find(|(file, _)| shown.ends_with(&format!("/{file}")))
                        .map(|(_, kind)| *kind)
                }
                _ if name.starts_with("ssh_host_") && extension.is_none() => Some(SshKey),
                _ => None,
            };
            if let Some(kind) = kind {
                found.add(kind, shown, "open", None);
            }
        }
    }

    /// Whether the user has more keys than the keyrings that everybody has (keyrings(7)).
    fn keyring(&self, found: &mut Found) {
        let Ok(text) = fs::read_to_string("/proc/key-users") else { return };
        for line in text.lines() {
            let Some((user, rest)) = line.split_once(':') else { continue };
            if user.trim().parse() != Ok(self.user) {
                continue;
            }
            let instantiated = rest.split_whitespace().nth(1).and_then(|keys| keys.split_once('/'));
            let count: u32 = instantiated.and_then(|(_, keys)| keys.parse().ok()).unwrap_or(0);
            if count > EVERYBODYS {
                let what = format!("user {} has {} keys", self.user, count - EVERYBODYS);
                found.add(Keyring, &what, "in /proc/key-users", None);
            }
        }
    }

    /// The user, by name where the process's own machine has one.
    fn user_name(&self) -> String {
        let passwd = fs::read_to_string(format!("/proc/{}/root/etc/passwd", self.pid));
        let name = passwd.ok().and_then(|text| {
            text.lines().find_map(|line| {
                let mut fields = line.split(':');
                let (name, _, user) = (fields.next()?, fields.next()?, fields.next()?);
                (user.parse() == Ok(self.user)).then(|| name.to_owned())
            })
        });
        name.unwrap_or_else(|| self.user.to_string())
    }
}

/// The keyrings that a user has without doing anything: the user's and the session's.
const EVERYBODYS: u32 = 2;

/// Whether a text is the name of a variable, and not something that was put in its place.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether the name of a variable says that it holds a secret.
fn names_secret(name: &str) -> bool {
    if ["PWD", "OLDPWD"].contains(&name) {
        return false;
    }
    let upper = name.to_ascii_uppercase();
    // The file or place of a secret is no secret.
    let words: Vec<&str> = upper.split('_').collect();
    let place = ["FILE", "PATH", "DIR", "TTL", "NAME", "URI", "EXPIRY", "TYPE"];
    if words.last().is_some_and(|last| place.contains(last)) {
        return false;
    }
    words.iter().any(|word| SECRET_WORDS.contains(word))
        || words.windows(2).any(|pair| SECRET_PAIRS.contains(&(pair[0], pair[1])))
}

/// Whether a mount point is one where orchestrators put secrets.
fn is_secret_mount(point: &str) -> bool {
    let places = [
        "/run/secrets",
        "/var/run/secrets",
        "/etc/secrets",
        "/vault/secrets",
        "/mnt/secrets-store",
    ];
    places.iter().any(|place| {
        point.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether an open file says that it is a private key (RFC 7468, and OpenSSH's own form).
fn is_private_key(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && beginning(path).is_some_and(|text| text.contains("PRIVATE KEY-----"))
}

/// The beginning of a file, as text.
fn beginning(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "DB_PASSWORD",
            "STRIPE_API_KEY",
            "GITHUB_TOKEN",
            "aws_secret_access_key",
            "DATABASE_URL",
            "IDENTITY_HEADER",
            "JWT_SIGNING_KEY",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in [
            "PWD",
            "OLDPWD",
            "PATH",
            "KEYBOARD",
            "TOKEN_PATH",
            "SSH_ASKPASS",
            "MONKEY",
            "PASSWORD_FILE",
            "TOKENIZER",
        ] {
            assert!(!names_secret(name), "{name}");
        }
        assert!(!is_name("hunter2 is the word") && !is_name("") | is_name("A_1"));
    }

    #[test]
    fn places_of_secrets_are_told_from_others() {
        assert!(is_secret_mount("/run/secrets") && is_secret_mount("/run/secrets/db"));
        assert!(!is_secret_mount("/run/secretsauce") && !is_secret_mount("/"));
    }
}
