//! What the tests share: the running cluster, a namespace that goes when the test ends, and the manifests of users.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use granary_e2e::cluster::Cluster;
use granary_e2e::kube::Kubectl;
use granary_e2e::paths::Paths;
use granary_e2e::s3::{Bucket, Keys, READER, S3};

/// How long anything may take on a busy machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The cluster and what runs beside it.
pub struct Lab {
    pub kubectl: Kubectl,
    pub cluster: Cluster,
    pub s3: S3,
    bucket: Bucket,
    runtime: tokio::runtime::Runtime,
}

/// The lab of this process.
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let paths = Paths::from_env().unwrap();
        let cluster = Cluster::running(&paths).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let s3 = S3::start(&paths).unwrap();
        let bucket = s3.bucket(BUCKET).unwrap();
        Lab { kubectl: cluster.kubectl(), s3, bucket, cluster, runtime }
    })
}

impl Lab {
    /// Waits for a future; the tests themselves are plain functions.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// The bucket of all tests; each has a prefix of its own in it.
const BUCKET: &str = "cluster-tests";

/// A namespace, and a prefix of the same name in the tests' bucket; both go when it is dropped.
pub struct Space {
    pub name: String,
}

impl Space {
    /// Makes both, and the Secret `s3-read` with keys that work.
    pub fn new(name: &str) -> Self {
        let name = format!("{name}-{:x}", rand::random::<u32>());
        let space = Self { name };
        space.apply_raw(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", space.name));
        space.secret("s3-read", READER);
        space
    }

    /// The prefix as a source of a Dataset; it ends in '/'.
    pub fn uri(&self) -> String {
        format!("s3://{BUCKET}/{}/", self.name)
    }

    /// Puts objects below the prefix.
    pub fn put(&self, objects: &[(&str, &str)]) {
        for (key, content) in objects {
            self.put_bytes(key, content.as_bytes().to_vec());
        }
    }

    /// Puts one object below the prefix.
    pub fn put_bytes(&self, key: &str, content: Vec<u8>) {
        lab().wait(lab().bucket.put(&format!("{}/{key}", self.name), content)).unwrap();
    }

    /// Deletes an object below the prefix.
    pub fn remove(&self, key: &str) {
        lab().wait(lab().bucket.delete(&format!("{}/{key}", self.name))).unwrap();
    }

    /// Makes or changes a Secret with AWS keys.
    pub fn secret(&self, name: &str, keys: Keys) {
        self.secret_with(name, &[("AWS_ACCESS_KEY_ID", keys.access_key), ("AWS_SECRET_ACCESS_KEY", keys.secret_key)]);
    }

    /// Makes or changes a Secret with any keys.
    pub fn secret_with(&self, name: &str, entries: &[(&str, &str)]) {
        let data: String = entries.iter().map(|(key, value)| format!("  {key}: {value}\n")).collect();
        self.apply_raw(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {}}}\nstringData:\n{data}",
            self.name
        ));
    }

    /// A Dataset of the whole prefix.
    pub fn dataset(&self, name: &str) {
        self.dataset_with(name, &self.uri(), "");
    }

    /// A Dataset of `uri`; `more` are further lines of its spec.
    pub fn dataset_with(&self, name: &str, uri: &str, more: &str) {
        let credentials = "  credentials: {secretRef: {name: s3-read}}\n";
        self.apply_raw(&self.dataset_yaml(name, uri, &format!("{credentials}{more}")));
    }

    /// The manifest of a Dataset of `uri` at the lab's endpoint, with these lines after its sources.
    pub fn dataset_yaml(&self, name: &str, uri: &str, spec: &str) -> String {
        let endpoint = lab().s3.endpoint();
        format!(
            "apiVersion: granary.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  \
             sources:\n  - uri: {uri}\n    s3: {{endpoint: \"{endpoint}\"}}\n{spec}",
            self.name
        )
    }

    /// Applies a manifest that has to be accepted.
    pub fn apply_raw(&self, yaml: &str) {
        lab().kubectl.apply(yaml).unwrap();
    }

    /// `kubectl -n <namespace> ...`.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        lab().kubectl.run([&["-n", self.name.as_str()], arguments].concat())
    }

    /// One value of an object by JSONPath, or "" where there is none.
    pub fn value(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "--ignore-not-found", "-o", &format!("jsonpath={{{path}}}")]).unwrap()
    }

    /// Waits for `Ready`.
    pub fn ready(&self, dataset: &str) {
        lab().kubectl.wait(&self.name, &format!("dataset/{dataset}"), "condition=Ready", PATIENCE).unwrap();
    }

    /// Waits until a condition of an object has this reason, and returns its message.
    pub fn reason(&self, object: &str, condition: &str, reason: &str) -> String {
        let path = |field: &str| format!(".status.conditions[?(@.type==\"{condition}\")].{field}");
        let wanted = format!("jsonpath={{{}}}={reason}", path("reason"));
        lab().kubectl.wait(&self.name, object, &wanted, PATIENCE).unwrap();
        self.value(object, &path("message"))
    }

    /// Waits for an event about an object whose message holds `text`, and returns the message.
    pub fn event(&self, kind: &str, name: &str, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
            let messages = self.kubectl(&[
                "get",
                "events",
                "--field-selector",
                &selector,
                "-o",
                "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
            ]);
            let messages = messages.unwrap();
            if let Some(message) = messages.lines().find(|line| line.contains(text)) {
                return message.to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "no event about {kind} {name} says '{text}', only:\n{messages}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Runs a shell in a pod with the claim mounted at /data, to its end, and returns what it printed.
    pub fn run(&self, pod: &str, claim: &str, script: &str) -> Result<String> {
        self.start(pod, &claim_volume(claim), script);
        self.log_of(pod)
    }

    /// Starts a pod that runs a shell script with `volume` at /data.
    pub fn start(&self, pod: &str, volume: &str, script: &str) {
        self.start_as(pod, "default", volume, script);
    }

    /// The same under a service account.
    pub fn start_as(&self, pod: &str, account: &str, volume: &str, script: &str) {
        let script = serde_json::to_string(script).unwrap();
        self.apply_raw(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {}}}\nspec:\n  restartPolicy: Never\n  \
             serviceAccountName: {account}\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    \
             image: {}\n    imagePullPolicy: Never\n    command: [sh, -c, {script}]\n    \
             volumeMounts: [{{name: data, mountPath: /data}}]\n  volumes:\n  - name: data\n    {volume}\n",
            self.name,
            granary_e2e::images::BUSYBOX
        ));
    }

    /// Waits for a pod's good end and returns what it printed.
    pub fn log_of(&self, pod: &str) -> Result<String> {
        let object = format!("pod/{pod}");
        let waited = lab().kubectl.wait(&self.name, &object, "jsonpath={.status.phase}=Succeeded", PATIENCE);
        let log = lab().kubectl.logs(&self.name, pod);
        match (waited, log) {
            (Ok(()), log) => log,
            (Err(error), log) => bail!("{error:#}\nlog: {}", log.unwrap_or_default()),
        }
    }

    /// Waits until a pod runs.
    pub fn running(&self, pod: &str) {
        lab().kubectl.wait(&self.name, &format!("pod/{pod}"), "jsonpath={.status.phase}=Running", PATIENCE).unwrap();
    }

    /// Runs a command in a running pod; the output of a failed one is the error.
    pub fn exec(&self, pod: &str, script: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// Deletes an object and waits until it is gone.
    pub fn delete(&self, object: &str) {
        self.kubectl(&["delete", object, "--timeout=120s"]).unwrap();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let gone = lab().kubectl.run(["delete", "namespace", &self.name, "--timeout=120s"]).map(drop);
        let gone = gone.and_then(|()| lab().wait(lab().bucket.delete_below(&format!("{}/", self.name))));
        if let Err(error) = gone.with_context(|| format!("removing {}", self.name)) {
            // A panic while another one unwinds would hide that one.
            if std::thread::panicking() {
                eprintln!("{error:#}");
            } else {
                panic!("{error:#}");
            }
        }
    }
}

/// A volume of a claim, as YAML flow below `- name: data`.
pub fn claim_volume(claim: &str) -> String {
    format!("persistentVolumeClaim: {{claimName: {claim}}}")
}

/// The manifest of a claim of the default class for a dataset.
pub fn claim_yaml(namespace: &str, name: &str, dataset: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
         annotations: {{granary.dev/dataset: {dataset}}}\nspec:\n  storageClassName: granary\n  \
         accessModes: [ReadOnlyMany]\n  resources: {{requests: {{storage: 1Mi}}}}\n"
    )
}

/// Waits until something holds; the panic of a timeout says what.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
