//! Runs the resource's image as a Concourse worker does, with plain runc and without Concourse.
//!
//! Modelled on Concourse's containerd backend: a user namespace of its own in which container root is the highest host
//! id, the capabilities of an unprivileged step, an init bind-mounted at `/tmp/gdn-init`, working directory `/`, no
//! `HOME` except the one that runc sets, standard input closed after the JSON, the step's volume and `/scratch`
//! bind-mounted, and the worker's certificates read-only over `/etc/ssl/certs`. Not modelled: the seccomp profile, init
//! as process 1.

use crate::readers::gnu_untar;
use crate::scratch::Scratch;
use crate::tools::{run, tool};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The host's user id of the container's root.
const MAXIMUM: u32 = 4_294_967_294;
/// Capabilities of an unprivileged step.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A step's container in preparation.
#[derive(Debug)]
#[must_use = "nothing runs before `run` or `start`"]
pub struct Step {
    scratch: Scratch,
    words: Vec<String>,
    environment: Vec<String>,
    volume: Option<(PathBuf, &'static str)>,
    certificates: Option<PathBuf>,
    id: String,
}

/// A step that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Returns the JSON on standard output; panics with all output unless the exit code is 0.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: `{}`", self.stdout))
    }
}

/// A running step.
#[derive(Debug)]
pub struct Running {
    step: Step,
    child: Child,
}

impl Step {
    /// Unpacks an image with the tag `1` and prepares `check`, `in` or `out` in it.
    #[track_caller]
    pub fn new(image: &Path, name: &str) -> Self {
        let scratch = Scratch::new("concourse");
        let layout = scratch.join("layout");
        gnu_untar(image, &layout);
        let mut source = layout.into_os_string();
        source.push(":1");
        let bundle = scratch.join("bundle");
        let _ = run(tool("umoci").args(["unpack", "--image"]).arg(source).arg(&bundle)).success();
        Self::prepared(scratch, vec![format!("/opt/resource/{name}")])
    }

    /// Prepares a command in a root file system that a step fetched, as in a task with that `image`.
    #[track_caller]
    pub fn in_rootfs(rootfs: &Path, words: &[&str]) -> Self {
        let scratch = Scratch::new("concourse");
        std::fs::create_dir(scratch.join("bundle")).expect("the folder is ours");
        let mut copy = tool("cp");
        // With owners and attributes.
        let _ = run(copy.arg("-a").arg(rootfs).arg(scratch.join("bundle/rootfs"))).success();
        Self::prepared(scratch, words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn prepared(scratch: Scratch, words: Vec<String>) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("testkit-{}-{number}", std::process::id());
        Self { scratch, words, environment: Vec::new(), volume: None, certificates: None, id }
    }

    /// Mounts a folder of the host as the step's volume; files that the step writes stay there.
    pub fn volume(mut self, folder: &Path, at: &'static str) -> Self {
        self.words.push(at.to_owned());
        self.volume = Some((folder.to_owned(), at));
        self
    }

    /// Mounts a folder with certificates as the worker does.
    pub fn certificates(mut self, folder: &Path) -> Self {
        self.certificates = Some(folder.to_owned());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(self, request: &Value) -> Ended {
        self.start(request).wait()
    }

    /// Starts with a request on standard input, which is closed then.
    #[track_caller]
    pub fn start(self, request: &Value) -> Running {
        self.prepare();
        let mut command = self.runc();
        command.args(["run", "--bundle"]).arg(self.scratch.join("bundle")).arg(&self.id);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("runc starts");
        let mut input = child.stdin.take().expect("standard input is a pipe");
        input.write_all(request.to_string().as_bytes()).expect("the request is taken");
        drop(input);
        Running { step: self, child }
    }

    fn runc(&self) -> Command {
        let mut command = tool("runc");
        command.arg("--root").arg(self.scratch.join("runc"));
        command
    }

    fn prepare(&self) {
        let bundle = self.scratch.join("bundle");
        let mut mounts = standard_mounts();
        let mut bind = |from: PathBuf, to: &str, mode: &str| {
            mounts
                .push(json!({"destination": to, "type": "bind", "source": from, "options": ["bind", mode]}));
        };
        std::fs::copy("/bin/true", self.scratch.join("init")).expect("there is a program to stand for init");
        bind(self.scratch.join("init"), "/tmp/gdn-init", "ro");
        let hosts = self.scratch.write("hosts", "127.0.0.1 localhost registry.test\n");
        bind(hosts, "/etc/hosts", "ro");
        bind(self.scratch.write("resolv.conf", ""), "/etc/resolv.conf", "ro");
        // An empty folder of this step, for large temporary files.
        std::fs::create_dir(self.scratch.join("scratch")).expect("the folder is ours");
        bind(self.scratch.join("scratch"), "/scratch", "rw");
        lchown(self.scratch.join("scratch"), Some(MAXIMUM), Some(MAXIMUM)).expect("tests run as root");
        if let Some(folder) = &self.certificates {
            bind(folder.clone(), "/etc/ssl/certs", "ro");
        }
        if let Some((folder, at)) = &self.volume {
            bind(folder.clone(), at, "rw");
            give(folder, 0, MAXIMUM);
        }
        give(&bundle.join("rootfs"), 0, MAXIMUM);
        // The namespace's root must be able to reach its files.
        for folder in [self.scratch.path().to_owned(), bundle.clone()] {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("the folder is ours");
        }
        std::fs::write(bundle.join("config.json"), self.config(&mounts).to_string()).expect("writable");
    }

    fn config(&self, mounts: &[Value]) -> Value {
        let capabilities: Vec<String> = CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let environment: Vec<&String> = std::iter::once(&path).chain(&self.environment).collect();
        let ids = json!([
            {"containerID": 0, "hostID": MAXIMUM, "size": 1},
            {"containerID": 1, "hostID": 1, "size": MAXIMUM - 1},
        ]);
        let namespaces: Vec<Value> =
            ["pid", "ipc", "uts", "mount", "user"].iter().map(|kind| json!({"type": kind})).collect();
        json!({
            "ociVersion": "1.0.2",
            "hostname": "step",
            "root": {"path": "rootfs", "readonly": false},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": self.words,
                "env": environment,
                "cwd": "/",
                "capabilities":
                    {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "mounts": mounts,
            "linux": {
                "namespaces": namespaces,
                "uidMappings": ids,
                "gidMappings": ids,
                "resources": {"devices": [{"allow": true, "access": "rwm"}]},
            },
        })
    }
}

fn standard_mounts() -> Vec<Value> {
    [
        ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/shm", "tmpfs", "shm", vec!["nosuid", "noexec", "nodev", "mode=1777"]),
        ("/sys", "none", "/sys", vec!["rbind", "nosuid", "noexec", "nodev", "ro"]),
    ]
    .into_iter()
    .map(|(to, kind, from, options)| {
        json!({"destination": to, "type": kind, "source": from, "options": options})
    })
    .collect()
}

/// Changes owner and group of the files below a folder from one id to another.
fn give(folder: &Path, from: u32, to: u32) {
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().expect("nothing goes away meanwhile");
        let change = |id: u32| if id == from { to } else { id };
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("tests run as root");
            open.extend(entries.map(|entry| entry.expect("readable").path()));
        }
        // Setting the same owner again would also remove file capabilities.
        if metadata.uid() != from && metadata.gid() != from {
            continue;
        }
        lchown(&path, Some(change(metadata.uid())), Some(change(metadata.gid()))).expect("tests run as root");
        if !metadata.is_symlink() {
            // Changing the owner removes setuid bits.
            let mode = metadata.mode() & 0o7777;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("tests run as root");
        }
    }
}

impl Running {
    /// Sends SIGTERM, as Concourse does for an abort or a time-out.
    pub fn terminate(&self) {
        let _ = run(self.step.runc().arg("kill").arg(&self.step.id).arg("TERM")).success();
    }

    /// Waits for the end; gives the volume back to root.
    #[track_caller]
    pub fn wait(self) -> Ended {
        let output = self.child.wait_with_output().expect("runc ends");
        let _ = run(self.step.runc().args(["delete", "--force"]).arg(&self.step.id));
        if let Some((folder, _)) = &self.step.volume {
            give(folder, MAXIMUM, 0);
        }
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
