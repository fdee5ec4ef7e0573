//! What Kubernetes would start, by Docker: containers with the names, the configuration, the secrets and the rights that
//! the manifests give to pods. That they come together is what nobody sees from the files.

use crate::engine::run;
use crate::files::PASSWORD;
use crate::support::{secs, wait_until};
use crate::up::{NIGHTJAR, Up};
use crate::yaml;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Taken down when dropped, whatever happened.
struct Pods<'a> {
    up: &'a Up,
    folder: tempfile::TempDir,
    /// Of the network; each container's begins with it.
    name: String,
    /// Of all pods, without their numbers.
    host: String,
}

impl Pods<'_> {
    /// Starts one, with its name in the network and nothing that another one has.
    fn start(&self, number: usize) {
        let set = yaml("deploy/kubernetes/statefulset.yaml");
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let folder = self.folder.path();
        let mut docker = self.up.engine.docker();
        docker.args(["run", "-d", "--read-only", "--cap-drop", "ALL", "--network", &self.name]);
        docker.args(["--name", &self.pod(number), "--network-alias", &self.host.replace('#', &number.to_string())]);
        let variable = container["env"][0]["name"].as_str().unwrap();
        docker.args(["-e", &format!("{variable}=nightjar-{number}")]);
        for mount in container["volumeMounts"].as_vec().unwrap() {
            let (name, path) = (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
            if name != "data" {
                docker.args(["-v", &format!("{}:{path}:ro", folder.join(name).display())]);
            }
        }
        docker.arg(NIGHTJAR).args(crate::texts(&container["args"]));
        run(&mut docker);
    }

    fn pod(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// What a probe would be answered: the first line.
    fn probe(&self, number: usize, path: &str) -> String {
        let ask = format!("exec 3<>/dev/tcp/127.0.0.1/9883; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3");
        let output = self.up.engine.docker().args(["exec", &self.pod(number), "bash", "-c", &ask]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        for number in 0..3 {
            if std::thread::panicking() {
                let log = self.up.engine.docker().args(["logs", "--tail", "20", &self.pod(number)]).output();
                eprintln!("{}", log.map(|log| String::from_utf8_lossy(&log.stderr).into_owned()).unwrap_or_default());
            }
            let _ = self.up.engine.docker().args(["rm", "-f", "-v", &self.pod(number)]).output();
        }
        let _ = self.up.engine.docker().args(["network", "rm", &self.name]).output();
    }
}

pub(crate) fn pods_come_together(up: &Up) {
    let set = yaml("deploy/kubernetes/statefulset.yaml");
    let service = set["spec"]["serviceName"].as_str().unwrap();
    let (name, host) = (format!("{}-pods", up.project), format!("nightjar-#.{service}"));
    let pods = Pods { up, folder: tempfile::tempdir().unwrap(), name, host };
    let folder = pods.folder.path();
    let config = yaml("deploy/kubernetes/configmap.yaml");
    write(&folder.join("config/nightjar.toml"), config["data"]["nightjar.toml"].as_str().unwrap());
    write(&folder.join("secrets/admin-token"), "not a secret, but long enough");
    write(&folder.join("secrets/passwords"), &format!("{PASSWORD}\n"));
    let mut certificates = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    certificates.args(["cert", "dev"]).arg(folder.join("cluster"));
    (0..3).for_each(|number| {
        certificates.args(["--node", &pods.host.replace('#', &number.to_string())]);
    });
    run(&mut certificates);
    fs::remove_file(folder.join("cluster/cluster-ca.key")).unwrap();
    // What a group may read there everybody may here.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder));

    run(up.engine.docker().args(["network", "create", &pods.name]));
    pods.start(0);
    // Alone it has started, and is not ready.
    wait_until("the startup probe is content", secs(60), || pods.probe(0, "/livez").contains(" 200 "));
    assert!(pods.probe(0, "/readyz").contains(" 503 "), "ready without the others");
    (1..3).for_each(|number| pods.start(number));
    let ready = |number| pods.probe(number, "/readyz").contains(" 200 ");
    wait_until("all are ready", secs(60), || (0..3).all(ready));
    let mut status = up.engine.docker();
    status.args(["exec", &pods.pod(2), "nightjar", "ctl", "--json", "cluster", "status"]);
    let status: serde_json::Value = serde_json::from_str(&run(&mut status)).unwrap();
    let names = status["nodes"].as_array().unwrap().iter().filter(|node| node["up"] == true);
    let mut names: Vec<_> = names.map(|node| node["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["nightjar-0", "nightjar-1", "nightjar-2"]);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
