//! The commands of the README do what it says.

use std::process::Command;

use granary_e2e::exec;
use granary_e2e::images::GranaryImage;
use granary_e2e::install;
use granary_e2e::paths::checkout;

use crate::docs::blocks;
use crate::lab::{Space, lab};

#[test]
#[ignore = "needs the cluster"]
fn the_readme_s_commands_work() {
    let readme = std::fs::read_to_string(checkout().join("README.md")).unwrap();
    let commands: Vec<String> =
        blocks(&readme, "sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    for command in commands {
        match command.split_whitespace().next().unwrap() {
            // The first is run by whoever runs the second, which runs this.
            "e2e/demo" | "e2e/test" => assert!(checkout().join(&command).is_file(), "{command}"),
            "helm" => helm(&command),
            "granary" => granary(&command),
            other => panic!("no test runs '{other}' of the README"),
        }
    }
}

/// Runs the line as it stands, with the values that this cluster needs.
fn helm(line: &str) {
    let mut helm = lab().cluster.helm();
    helm.current_dir(checkout()).args(line.split_whitespace().skip(1));
    install::cluster_values(&mut helm, &lab().cluster);
    exec::output(&mut helm).unwrap();
    lab().kubectl.rollout(install::NAMESPACE, "daemonset/granary-node", crate::lab::PATIENCE).unwrap();
}

/// Runs the line with this test's bucket and directories, reads through the mount, and ends it as Ctrl-C does.
fn granary(line: &str) {
    let space = Space::new("readme");
    space.put(&[("prefix/a.txt", "through the mount")]);
    let dir = tempfile::tempdir().unwrap();
    let (mount, cache) = (dir.path().join("mnt"), dir.path().join("cache"));
    std::fs::create_dir(&mount).unwrap();
    let line = line
        .replace("s3://bucket/", &space.uri())
        .replace(" /mnt ", &format!(" {} ", mount.display()))
        .replace("/var/cache/granary", &cache.to_string_lossy())
        .replace("100Gi", "1Gi");
    let program = GranaryImage::build(lab().cluster.paths()).unwrap().program("granary");
    let reader = granary_e2e::s3::READER;
    let mut child = Command::new(program)
        .args(line.split_whitespace().skip(1))
        .env("AWS_ACCESS_KEY_ID", reader.access_key)
        .env("AWS_SECRET_ACCESS_KEY", reader.secret_key)
        .env("AWS_ENDPOINT_URL", lab().s3.endpoint())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    let read = loop {
        match std::fs::read_to_string(mount.join("a.txt")) {
            Ok(text) => break text,
            Err(error) if begun.elapsed() > crate::lab::PATIENCE => break format!("{error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    };
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(read, "through the mount");
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 0, "it has to unmount when it ends");
}
