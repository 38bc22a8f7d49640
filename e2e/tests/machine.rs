//! The cluster without Granary: what all other tests stand on. Needs a running one (`cluster up`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use granary_e2e::cluster::Cluster;
use granary_e2e::images::BUSYBOX;
use granary_e2e::kube::{client, wait_for};
use granary_e2e::paths::Paths;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

const LIMIT: Duration = Duration::from_secs(60);

/// A namespace that goes when the test ends, also when it fails.
struct Namespace<'a>(&'a Cluster, &'static str);

impl<'a> Namespace<'a> {
    fn new(cluster: &'a Cluster, name: &'static str) -> Self {
        cluster.kubectl().run(["create", "namespace", name]).unwrap();
        Self(cluster, name)
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl().run(["delete", "namespace", self.1, "--timeout=60s"]) {
            eprintln!("the namespace {} is left: {error:#}", self.1);
        }
    }
}

fn manifests() -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: server, labels: {{app: server}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: {BUSYBOX}
    args: [-c, "mkdir /tmp/w && echo served > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"]
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: server}}
spec:
  selector: {{app: server}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: reader}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: reader
    image: {BUSYBOX}
    args:
    - -c
    - |
      nslookup nowhere.invalid | grep NXDOMAIN
      # Debian's static busybox crashes at wget's own -T.
      until timeout 2 wget -q -O - http://server.e2e-machine.svc.cluster.local; do sleep 0.2; done
      echo "memory limit"; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true
    resources: {{limits: {{memory: 64Mi}}}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cluster up"]
async fn pods_run_and_reach_services_by_name_as_does_the_node() {
    let cluster = Cluster::running(&Paths::from_env().unwrap()).unwrap();
    let namespace = Namespace::new(&cluster, "e2e-machine");
    let kubectl = cluster.kubectl();
    let yaml = manifests().replace("metadata: {name: ", "metadata: {namespace: e2e-machine, name: ");
    kubectl.apply(&yaml).unwrap();

    let pods: Api<Pod> = Api::namespaced(client(&cluster.kubeconfig()).await.unwrap(), namespace.1);
    let phase = |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()?.phase.clone());
    let ended = |pod: Option<&Pod>| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
    wait_for(&pods, "reader", "has ended", LIMIT, ended).await.unwrap();
    let said = kubectl.logs(namespace.1, "reader").unwrap();
    assert!(said.contains("NXDOMAIN") && said.contains("served\n"), "{said}");
    assert!(said.contains("67108864"), "{said}");

    let address =
        kubectl.run(["get", "service", "server", "-n", namespace.1, "--output", "jsonpath={.spec.clusterIP}"]).unwrap();
    // The reader got its answer through the same rules, so they are in place.
    let mut stream = TcpStream::connect((address.as_str(), 80)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("served\n"), "{answer}");

    let inside = kubectl.run(["exec", "-n", namespace.1, "server", "--", "cat", "/tmp/w/index.html"]).unwrap();
    assert_eq!(inside, "served");
}
