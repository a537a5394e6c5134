//! The GitHub action as the runner runs it: the image with its mounts, the files that the runner reads, the log that it
//! parses.
//!
//! The runner is implemented here from its documentation and source (`ContainerActionHandler`, `FileCommandManager`,
//! `ActionCommand`), without code of the program.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use testkit::container::ToolImage;
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::registry::{PASSWORD, Registry, USER};
use testkit::scratch::Scratch;
use testkit::tools::{run, tool};
use testkit::tree;

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgrelay");

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `action.yml` of a container action, nothing else allowed in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are there to be checked by their type")]
struct Action {
    name: String,
    description: String,
    author: String,
    branding: BTreeMap<String, String>,
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Output>,
    runs: Runs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    description: String,
    required: bool,
    default: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    description: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    using: String,
    image: String,
    entrypoint: String,
    args: Vec<String>,
}

fn action() -> Action {
    let text = std::fs::read_to_string(package().join("action.yml")).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("action.yml: {error}"))
}

/// The runner of one job: its folders on the host, and the image of the action.
struct Runner {
    action: Action,
    image: Option<ToolImage>,
    scratch: Scratch,
    steps: std::cell::Cell<u32>,
}

/// The result of a step.
#[derive(Debug)]
struct Step {
    code: Option<i32>,
    log: String,
    outputs: BTreeMap<String, String>,
    summary: String,
    artifacts: String,
    /// The runner's commands in the log, in order.
    commands: Vec<String>,
}

const FOLDERS: [(&str, &str); 5] = [
    ("workspace", "/github/workspace"),
    ("home", "/github/home"),
    ("workflow", "/github/workflow"),
    ("commands", "/github/file_commands"),
    ("temp", "/github/runner_temp"),
];

impl Runner {
    /// A runner that starts containers.
    fn with_containers() -> Self {
        let image = ToolImage::of(Path::new(PROGRAM), &action().runs.entrypoint);
        Self { image: Some(image), ..Self::without_containers() }
    }

    /// A runner that starts the program without a container: faster, and enough for tests of text.
    fn without_containers() -> Self {
        let scratch = Scratch::new("runner");
        for (folder, _) in FOLDERS {
            tree::make(&scratch.join(folder), &[] as &[&str]);
        }
        Self { action: action(), image: None, scratch, steps: 0.into() }
    }

    fn workspace(&self) -> PathBuf {
        self.scratch.join("workspace")
    }

    /// Returns the path of a host's folder inside the action's container.
    fn seen(&self, folder: &str) -> String {
        let (name, inside) = FOLDERS.iter().find(|(name, _)| *name == folder).unwrap();
        if self.image.is_some() {
            (*inside).to_owned()
        } else {
            self.scratch.join(name).display().to_string()
        }
    }

    /// Rewrites a variable as the runner does: a whole value that is a mounted folder, or lies below one.
    fn translated(&self, value: &str) -> String {
        for (name, _) in FOLDERS {
            let host = self.scratch.join(name).display().to_string();
            if let Some(rest) =
                value.strip_prefix(&host).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            {
                return format!("{}{rest}", self.seen(name));
            }
        }
        value.to_owned()
    }

    fn step(&self, with: &[(&str, &str)], env: &[(&str, &str)]) -> Step {
        for (name, _) in with {
            assert!(self.action.inputs.contains_key(*name), "action.yml has no input `{name}`");
        }
        let number = self.steps.replace(self.steps.get() + 1);
        let files = ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS", "GITHUB_ENV"];
        let file = |name: &str| self.scratch.join("commands").join(format!("{name}_{number}"));
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for name in files {
            std::fs::write(file(name), "").unwrap();
            variables.insert(name.to_owned(), file(name).display().to_string());
        }
        for (name, value) in [("GITHUB_ACTIONS", "true"), ("CI", "true"), ("GITHUB_REPOSITORY", "octo/demo")]
        {
            variables.insert(name.to_owned(), value.to_owned());
        }
        for (name, folder) in [("GITHUB_WORKSPACE", "workspace"), ("RUNNER_TEMP", "temp"), ("HOME", "home")] {
            variables.insert(name.to_owned(), self.scratch.join(folder).display().to_string());
        }
        for (name, input) in &self.action.inputs {
            let given = with.iter().find(|(given, _)| given == name).map(|(_, value)| (*value).to_owned());
            let value = given.or_else(|| input.default.clone()).unwrap_or_default();
            variables.insert(format!("INPUT_{}", name.replace(' ', "_").to_uppercase()), value);
        }
        variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        for value in variables.values_mut() {
            *value = self.translated(value);
        }
        let mut command = self.command(&variables);
        let ran = run(&mut command);
        let log = format!("{}{}", ran.stdout, ran.stderr);
        let commands = log.split(['\n', '\r']).filter(|line| is_command(line)).map(str::to_owned).collect();
        let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
        assert_eq!(read("GITHUB_ENV"), "", "no variable was asked for");
        let outputs = file_command(&read("GITHUB_OUTPUT"));
        for name in outputs.keys() {
            assert!(self.action.outputs.contains_key(name), "action.yml has no output `{name}`");
        }
        Step {
            code: ran.code,
            log,
            outputs,
            summary: read("GITHUB_STEP_SUMMARY"),
            artifacts: read("GITHUB_ARTIFACTS"),
            commands,
        }
    }

    fn command(&self, variables: &BTreeMap<String, String>) -> std::process::Command {
        let runs = &self.action.runs;
        let Some(image) = &self.image else {
            let mut command = std::process::Command::new(PROGRAM);
            command.args(&runs.args).env_clear().envs(variables).current_dir(self.workspace());
            return command;
        };
        let mut options = vec!["--workdir".to_owned(), "/github/workspace".to_owned()];
        options.extend(["--entrypoint".to_owned(), runs.entrypoint.clone()]);
        for (name, inside) in FOLDERS {
            options.extend(["-v".to_owned(), format!("{}:{inside}", self.scratch.join(name).display())]);
        }
        // The values are passed in podman's environment, so that no shell splits them.
        options.extend(variables.keys().flat_map(|name| ["-e".to_owned(), name.clone()]));
        let mut command = image.run(&options, &runs.args);
        // podman itself reads HOME and TMPDIR, so these are set for the container only.
        let own = ["HOME"];
        command.envs(variables.iter().filter(|(name, _)| !own.contains(&name.as_str())));
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let home = format!("HOME={}", variables["HOME"]);
        let words = words.into_iter().map(|word| if word == "HOME" { home.clone().into() } else { word });
        let mut whole = std::process::Command::new(command.get_program());
        whole.args(words).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        whole
    }
}

impl Step {
    #[track_caller]
    fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        self
    }

    /// Checks that the step failed with one annotation that has all of these texts.
    #[track_caller]
    fn fails(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.log);
        let errors: Vec<_> = self.commands.iter().filter(|line| line.starts_with("::error")).collect();
        assert_eq!(errors.len(), 1, "{}", self.log);
        for text in texts {
            assert!(errors[0].contains(text), "expected `{text}`: {}", self.log);
        }
        assert_eq!((self.outputs.len(), self.summary.as_str()), (0, ""), "{}", self.log);
        self
    }
}

/// Tells whether the runner reads a line of the log as a command.
fn is_command(line: &str) -> bool {
    let trimmed = line.trim_start();
    let new = trimmed.strip_prefix("::").is_some_and(|rest| rest.contains("::"));
    new || line.find("##[").is_some_and(|at| line[at..].contains(']'))
}

/// Reads a file of `name=value` and `name<<delimiter` records; panics where the runner fails the step.
fn file_command(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    assert!(text.is_empty() || text.ends_with('\n'), "a record has no end: {text:?}");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        match (equals, heredoc) {
            (_, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                let (name, delimiter) = (&line[..at], &line[at + 2..]);
                assert!(!name.is_empty() && !delimiter.is_empty(), "invalid format: {line:?}");
                let mut value = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == delimiter => break,
                        Some(line) => value.push(line),
                        None => panic!("matching delimiter not found: {delimiter:?}"),
                    }
                }
                found.insert(name.to_owned(), value.join("\n"));
            }
            (Some(at), _) => {
                found.insert(line[..at].to_owned(), line[at + 1..].to_owned());
            }
            _ => panic!("invalid format: {line:?}"),
        }
    }
    found
}

/// Changes the owner of a folder and its contents to the user of the jobs, if this is root.
fn give_to_runner(folder: &Path) -> u32 {
    let owner = std::fs::metadata(folder).unwrap().uid();
    if owner != 0 {
        return owner;
    }
    let _ = run(tool("chown").args(["-R", "1001:1001"]).arg(folder)).success();
    1001
}

#[test]
fn the_action_builds_in_one_job_and_pushes_the_same_digest_in_another() {
    let registry = Registry::with().htpasswd().start();
    let runner = Runner::with_containers();
    tree::make(&runner.workspace(), &["d dist", "f dist/index.html '<p>'", "d out"]);
    let owner = give_to_runner(&runner.workspace());
    let name = format!("{}/team/app", registry.host());
    let out = runner.workspace().join("out");
    let build = runner.step(
        &[
            ("command", "build"),
            ("files", "dist"),
            ("tar", &out.join("image.tar").display().to_string()),
            ("image", &format!("{name}:v1")),
            ("tags", "v1.2\n"),
            ("labels", "a=1,2\nb=3"),
        ],
        &[],
    );
    let build = build.succeeds();
    println!("build: {:?}\n{}\n{}", build.outputs, build.summary, build.log);
    assert_eq!(build.outputs["path"], "out/image.tar");
    assert_eq!(build.outputs["tags"], "v1\nv1.2");
    assert!(!build.outputs.contains_key("image") && !build.outputs.contains_key("ref"));
    assert_eq!(std::fs::metadata(out.join("image.tar")).unwrap().uid(), owner);
    assert_eq!(build.commands, Vec::<String>::new());
    let digest = &build.outputs["digest"];
    assert!(build.summary.contains("### imgrelay: image built"), "{}", build.summary);
    registry.forget_requests();

    let wrong = format!("sha256:{}", "0".repeat(64));
    let verify = |more: &[(&str, &str)]| {
        runner.step(&[&[("command", "verify"), ("tar", "out/image.tar")], more].concat(), &[])
    };
    let verified = verify(&[("expected-digest", digest)]).succeeds();
    assert_eq!((&verified.outputs["digest"], verified.outputs["path"].as_str()), (digest, "out/image.tar"));
    assert!(verified.summary.contains("### imgrelay: image verified"), "{}", verified.summary);
    let _ = verify(&[("expected-digest", &wrong)]).fails(3, &[&wrong, digest]);
    let _ = verify(&[("labels", "a=b")]).fails(2, &["input `labels` cannot be used with `command: verify`"]);
    assert_eq!(registry.requests(), []);

    // An image with another digest than the approved one is not pushed, and no request is sent.
    let push = |more: &[(&str, &str)]| {
        let inputs = [("command", "push"), ("tar", "out"), ("image", &name), ("tags", "latest")];
        runner.step(&[&inputs, more].concat(), &[])
    };
    let account = [("username", USER), ("password", PASSWORD)];
    let _ = push(&[&account[..], &[("expected-digest", &wrong)]].concat()).fails(3, &[&wrong, digest]);
    assert_eq!(registry.requests(), []);

    let push = push(&[&account[..], &[("expected-digest", digest), ("declare-artifact", "true")]].concat());
    let push = push.succeeds();
    println!("push: {:?}\n{}\n{}", push.outputs, push.summary, push.log);
    assert_eq!(push.outputs["digest"], *digest);
    assert_eq!(push.outputs["image"], name);
    assert_eq!(push.outputs["ref"], format!("{name}@{digest}"));
    assert_eq!(push.outputs["tags"], "v1\nv1.2\nlatest");
    let refs: Vec<String> = serde_json::from_str(&push.outputs["refs"]).unwrap();
    assert_eq!(refs, ["v1", "v1.2", "latest"].map(|tag| format!("{name}:{tag}")));
    assert_eq!(push.artifacts, format!("oci://{name}@{digest}\n"));
    assert!(push.summary.contains(&format!("docker pull {name}@{digest}")), "{}", push.summary);
    assert_eq!(push.commands, [format!("::add-mask::{PASSWORD}")]);
    assert!(push.log.starts_with("::add-mask::"), "{}", push.log);
    registry.storage().assert_sound();
    for tag in ["v1", "v1.2", "latest"] {
        assert_eq!(registry.storage().tags("team/app")[tag], *digest);
    }
    assert_eq!(std::fs::read_dir(runner.scratch.join("home")).unwrap().count(), 0, "the home of later steps");
}

#[test]
fn the_action_puts_files_on_a_base_of_the_workspace() {
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["d out", "f out/srv 755 '#!/bin/sh'", "d base"]);
    let lab = crate::lab::lab();
    let _ = crate::run::base(&lab);
    let base = runner.workspace().join("base/image.tar");
    std::fs::copy(lab.path("base.tar"), &base).unwrap();
    let base = base.display().to_string();
    let inputs = [
        ("command", "build"),
        ("files", "out/srv:/bin/srv"),
        ("base-tar", &*base),
        ("entrypoint", "/bin/srv"),
        ("volumes", "/data\n/cache"),
        ("stop-signal", "SIGINT"),
        ("user", "web"),
    ];
    let built = runner.step(&inputs, &[]).succeeds();
    let tar = std::fs::read(runner.workspace().join("image.tar")).unwrap();
    let made = crate::run::Made::of(tar, built.outputs["digest"].clone());
    assert_eq!(made.layer(1), ["-rwxr-xr-x 0/0 usr/bin/srv"]);
    let config = &made.config["config"];
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}, "/cache": {}}));
    assert_eq!((&config["StopSignal"], &config["User"]), (&"SIGINT".into(), &"33:34".into()));
    let outside = [("command", "build"), ("files", "out/srv:/srv"), ("base-tar", "/tmp/base.tar")];
    let _ = runner.step(&outside, &[]).fails(2, &["input `base-tar`: `/tmp/base.tar` is outside"]);
    let unread = [&inputs[..4], &[("read-base", "false")]].concat();
    let _ = runner.step(&unread, &[]).fails(1, &["which is a link in many bases", "input `read-base`"]);
}

#[test]
fn the_action_pushes_a_signed_tar_with_its_signature_and_no_other() {
    let registry = Registry::start();
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["d dist", "f dist/a 'x'"]);
    let name = format!("{}/team/app", registry.host());
    let key = |name: &str| package().join("tests/keys").join(name);
    let pem = std::fs::read_to_string(key("p256.pub")).unwrap();
    let inputs = [("command", "build"), ("files", "dist"), ("image", &*format!("{name}:v1"))];
    let digest = runner.step(&inputs, &[]).succeeds().outputs["digest"].clone();
    let push = |pem: &str| runner.step(&[("command", "push"), ("image", &name), ("verify-key", pem)], &[]);
    let _ = push(&pem).fails(3, &["has no signature"]);
    assert_eq!(registry.requests(), []);
    let mut sign = std::process::Command::new(PROGRAM);
    sign.args(["sign", "--tar"]).arg(runner.workspace().join("image.tar")).arg("--key").arg(key("p256.key"));
    let _ = run(&mut sign).success();
    let other = std::fs::read_to_string(key("ed25519.pub")).unwrap();
    let _ = push(&other).fails(3, &["it was made with another key"]);
    assert_eq!(push(&pem).succeeds().outputs["digest"], digest);
    let signature = format!("{}.sig", digest.replace(':', "-"));
    assert!(registry.storage().tags("team/app").contains_key(&signature));
    let from_file = runner.workspace().join("keys.pem");
    std::fs::copy(key("p256.pub"), from_file).unwrap();
    let _ = push("keys.pem").succeeds();
    let verify = |pem: &str| runner.step(&[("command", "verify"), ("verify-key", pem)], &[]);
    assert_eq!(verify(&pem).succeeds().outputs["digest"], digest);
    let _ = verify(&other).fails(3, &["it was made with another key"]);
    // An index takes its images from tars that have to be signed too.
    let to = [("command", "index"), ("tars", "image.tar"), ("image", &*format!("{name}:all"))];
    let index = |pem: &str| runner.step(&[&to[..], &[("verify-key", pem)]].concat(), &[]);
    let _ = index(&other).fails(3, &["it was made with another key"]);
    assert!(!registry.storage().tags("team/app").contains_key("all"));
    let _ = index(&pem).succeeds();
}

#[test]
fn the_action_packs_and_pushes_a_bundle_in_one_step() {
    let registry = Registry::start();
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["d b", "d b/.imgpkg", "f b/a 'x'"]);
    std::fs::write(
        runner.workspace().join("b/.imgpkg/images.yml"),
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n",
    )
    .unwrap();
    let name = format!("{}/bundles/app", registry.host());
    let step = runner.step(
        &[("command", "push"), ("files", "b"), ("image", &name), ("tags", "v1,v2"), ("summary", "False")],
        &[("IMGRELAY_LOCK_OUTPUT", "lock.yml"), ("RUNNER_DEBUG", "1")],
    );
    let step = step.succeeds();
    assert_eq!(step.outputs["tags"], "v1\nv2");
    assert_eq!(step.summary, "");
    assert!(step.log.contains("debug: "), "{}", step.log);
    let lock = std::fs::read_to_string(runner.workspace().join("lock.yml")).unwrap();
    assert!(lock.contains(&step.outputs["ref"]), "{lock}");
    assert!(!registry.storage().tags("bundles/app").contains_key("latest"));
}

#[test]
fn the_action_builds_an_app_image_and_pushes_it() {
    let registry = Registry::start();
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["d app", "f app/main.py 'print(1)'", "f app/run 755 '#!/bin/sh'"]);
    let name = format!("{}/apps/source", registry.host());
    let built = runner
        .step(&[("command", "build"), ("files", "app"), ("kind", "source"), ("tar", "app.tar")], &[])
        .succeeds();
    let push = [("command", "push"), ("image", &*name), ("tar", "app.tar"), ("tags", "v1")];
    let pushed = runner.step(&push, &[]).succeeds();
    assert_eq!(pushed.outputs["digest"], built.outputs["digest"]);
    let at_once =
        [("command", "push"), ("files", "app"), ("kind", "source"), ("image", &*name), ("tags", "v2")];
    let at_once = runner.step(&at_once, &[]).succeeds();
    assert_eq!(at_once.outputs["digest"], built.outputs["digest"]);
    let tags = registry.storage().tags("apps/source");
    assert_eq!((&tags["v1"], &tags["v2"]), (&built.outputs["digest"], &built.outputs["digest"]));
    registry.storage().assert_sound();
    // As kpack would unpack it.
    let manifest = registry.storage().manifest("apps/source", "v1").unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    runner
        .step(&[("command", "build"), ("files", "app"), ("kind", "sauce")], &[])
        .fails(2, &["input `kind` is `sauce`"]);
}

#[test]
fn no_external_text_becomes_a_workflow_command() {
    let hostile = "::error title=pwned::x ##[error]y";
    // A file name in an error message.
    let runner = Runner::without_containers();
    let folder = runner.workspace().join("dist");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join(format!("a\n{hostile}\r::add-mask::a"))).unwrap();
    let inputs = [("command", "build"), ("files", "dist")];
    let step = runner.step(&inputs, &[]).fails(1, &["pwned"]);
    assert_eq!(step.commands.len(), 1, "{}", step.log);
    // A file name in the result on standard output, in outputs and in the summary.
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["f a 'x'"]);
    let tar = "::warning::w ##[error]y";
    let inputs = [("command", "build"), ("files", "a"), ("tar", tar)];
    let step = runner.step(&inputs, &[]).succeeds();
    assert_eq!(step.commands, Vec::<String>::new(), "{}", step.log);
    assert_eq!(step.outputs["path"], tar);
    assert!(!step.summary.contains("##["), "{}", step.summary);
    // A label or file name that contains a delimiter cannot end a record of the outputs.
    let tar = "image<<EOF";
    let step = runner.step(&[("command", "build"), ("files", "a"), ("tar", tar)], &[]).succeeds();
    assert_eq!(step.outputs["path"], tar);
    // A registry's response.
    let body = serde_json::json!({"errors": [{"code": "DENIED", "message": format!("no\n{hostile}")}]});
    let denied = Fault::Response(403, Vec::new(), body.to_string());
    let registry = FaultRegistry::start(Access::Open, vec![on("POST", Thing::Uploads, denied).always()]);
    let image = format!("{}/app:v1", registry.host());
    let inputs = [("command", "push"), ("files", "a"), ("image", &image)];
    let step = runner.step(&inputs, &[("IMGRELAY_DEBUG", "true")]).fails(1, &["pwned"]);
    assert_eq!(step.commands.len(), 1, "{}", step.log);
}

#[test]
fn failures_explain_the_container_of_the_action() {
    let runner = Runner::without_containers();
    tree::make(&runner.workspace(), &["f a 'x'"]);
    let registry = Registry::with().htpasswd().start();
    let image = format!("{}/app", registry.host());
    let step = |more: &[(&str, &str)]| {
        runner.step(&[&[("command", "push"), ("image", image.as_str())][..], more].concat(), &[])
    };
    let _ = step(&[("tar", "/tmp/image.tar")])
        .fails(2, &["outside the folders that a container action can read"]);
    let _ = step(&[("files", "a")])
        .fails(1, &["set the inputs `username` and `password`", "docker/login-action"]);
    let _ = step(&[("files", "a"), ("username", "x")]).fails(2, &["input `username`", "input `password`"]);
    let _ = step(&[("files", "a"), ("tls-verify", "no")]).fails(2, &["input `tls-verify` is `no`"]);
    let upper = runner.step(&[("command", "push"), ("files", "a"), ("image", "ghcr.io/Octo/App:v1")], &[]);
    let _ = upper.fails(2, &["input `image`", "names are lower case: `ghcr.io/octo/app:v1`"]);
    let helper = format!(r#"{{"credHelpers": {{"{}": "ecr-login"}}}}"#, registry.host());
    let folder = runner.scratch.join("temp/docker");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.json"), helper).unwrap();
    let with_config =
        |inputs: &[(&str, &str)]| runner.step(inputs, &[("DOCKER_CONFIG", &folder.display().to_string())]);
    let inputs = [("command", "push"), ("image", image.as_str()), ("files", "a")];
    let _ = with_config(&inputs).fails(2, &["credential helpers are programs of the runner"]);
    // A login file below the runner's temporary folder is found.
    std::fs::copy(registry.docker_config(USER, PASSWORD).join("config.json"), folder.join("config.json"))
        .unwrap();
    let _ = with_config(&inputs).succeeds();
    let output = crate::lab::lab().run(&["github", "build"]).ends_with(2);
    assert!(output.stdout.starts_with("::error title=imgrelay::`github` takes no arguments, found `build`"));
}

#[test]
fn action_yml_lists_every_input_and_output() {
    let action = action();
    assert_eq!(action.runs.using, "docker");
    let image = concat!("docker://ghcr.io/example/imgrelay:", env!("CARGO_PKG_VERSION"), "-shell");
    assert_eq!(action.runs.image, image);
    assert_eq!(
        (action.runs.entrypoint.as_str(), action.runs.args.as_slice()),
        ("/usr/local/bin/imgrelay", &["github".to_owned()][..])
    );
    let mut read = std::fs::read_to_string(package().join("src/front/github/inputs.rs")).unwrap();
    read += &std::fs::read_to_string(package().join("src/front/push_flags.rs")).unwrap();
    let page = std::fs::read_to_string(package().join("docs/github-actions.md")).unwrap();
    for (name, input) in &action.inputs {
        assert!(read.contains(&format!("\"{name}\"")), "the program does not read input `{name}`");
        assert!(page.contains(&format!("| `{name}` |")), "docs/github-actions.md lacks input `{name}`");
        assert!(!input.description.is_empty() && (input.required == (name == "command")), "{name}");
    }
    let written = std::fs::read_to_string(package().join("src/front/result_file.rs")).unwrap();
    for (name, output) in &action.outputs {
        assert!(written.contains(&format!("(\"{name}\",")), "the program does not write output `{name}`");
        assert!(page.contains(&format!("| `{name}` |")), "docs/github-actions.md lacks output `{name}`");
        assert!(!output.description.is_empty(), "{name}");
    }
}

/// Replaces the expressions of a text; panics at one without a value.
fn evaluated(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").unwrap_or_else(|| panic!("`{text}` has no end"));
        let value = values.get(expression.trim());
        out += value.unwrap_or_else(|| panic!("`{}` has no value: {values:?}", expression.trim()));
        out += rest;
    }
    out
}

/// Returns the variables of a job, once for each row of its matrix.
fn matrix(job: &Value) -> Vec<BTreeMap<String, String>> {
    let Some(rows) = job["strategy"]["matrix"]["include"].as_array() else { return vec![BTreeMap::new()] };
    let row = |row: &Value| {
        let cells = row.as_object().unwrap().iter();
        cells.map(|(name, value)| (format!("matrix.{name}"), value.as_str().unwrap().to_owned())).collect()
    };
    rows.iter().map(row).collect()
}

/// Artifacts, each a folder with one file, as GitHub's own actions upload and download them.
struct Artifacts(Scratch);

impl Artifacts {
    fn upload(&self, file: &Path, name: &str) {
        let folder = self.0.join(name);
        std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("artifact `{name}`: {error}"));
        let _ = std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }

    /// One artifact is extracted into the folder itself; several that match a pattern each get a folder.
    fn download(&self, with: &BTreeMap<String, String>, folder: &Path) {
        let copy = |name: &str, to: &Path| {
            std::fs::create_dir_all(to).unwrap();
            for file in std::fs::read_dir(self.0.join(name)).unwrap() {
                let file = file.unwrap();
                let _ = std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        };
        if let Some(name) = with.get("name") {
            return copy(name, folder);
        }
        let start = with["pattern"].strip_suffix('*').expect("a pattern that ends with `*`");
        let names = std::fs::read_dir(self.0.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in names.filter(|name| name.starts_with(start)) {
            copy(&name, &folder.join(&name));
        }
    }
}

/// Runs the jobs of a workflow one after the other, each on a runner of its own; returns the attested subjects.
///
/// Steps with `run` find a `make` first that replaces the user's build.
fn run_workflow(text: &str, sources: &[&str], registry: &Registry) -> Vec<String> {
    let workflow: Value = serde_saphyr::from_str(text).unwrap();
    let artifacts = Artifacts(Scratch::new("artifacts"));
    let mut attested = Vec::new();
    let of_github = [("ref_name", "v1"), ("sha", "1234abcd"), ("actor", USER), ("token", PASSWORD)];
    let values = of_github.map(|(name, value)| (format!("github.{name}"), value.to_owned()));
    let mut values = BTreeMap::from(values);
    for (name, file) in [("secrets.SIGN_KEY", "p256.key"), ("vars.SIGN_PUB", "p256.pub")] {
        let text = std::fs::read_to_string(package().join("tests/keys").join(file)).unwrap();
        values.insert(name.to_owned(), text);
    }
    values.insert("secrets.COSIGN_PASSWORD".to_owned(), String::new());
    // Jobs are in the order of their needs.
    let jobs = ordered(workflow["jobs"].as_object().unwrap());
    let runs = jobs.into_iter().flat_map(|(job, text)| {
        matrix(text).into_iter().map(move |row| (job, text, row)).collect::<Vec<_>>()
    });
    for (job, description, row) in runs {
        let runner = Runner::without_containers();
        let mut of_job = values.clone();
        of_job.extend(row);
        for step in description["steps"].as_array().unwrap() {
            if let Some(script) = step["run"].as_str() {
                user_step(&runner, script);
                continue;
            }
            let uses = step["uses"].as_str().unwrap();
            let with: BTreeMap<String, String> = step["with"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| {
                    (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                })
                .map(|(name, value)| (name, evaluated(&value, &of_job).replace("ghcr.io", registry.host())))
                .collect();
            match uses.split('@').next().unwrap() {
                "actions/checkout" => tree::make(&runner.workspace(), sources),
                "actions/upload-artifact" => {
                    artifacts.upload(&runner.workspace().join(&with["path"]), &with["name"]);
                }
                "actions/download-artifact" => {
                    artifacts.download(&with, &runner.workspace().join(&with["path"]));
                }
                "actions/attest" => {
                    attested.push(format!("{}@{}", with["subject-name"], with["subject-digest"]));
                }
                "example/imgrelay" => {
                    let with: Vec<_> =
                        with.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    let ran = runner.step(&with, &[]).succeeds();
                    let id = step["id"].as_str().unwrap_or("none");
                    let outputs = ran.outputs.into_iter();
                    of_job.extend(outputs.map(|(name, value)| (format!("steps.{id}.outputs.{name}"), value)));
                }
                "docker://ghcr.io/example/imgrelay:0.1.0" => {
                    let env = step["env"].as_object().into_iter().flatten();
                    let env = env.map(|(name, value)| (name, evaluated(value.as_str().unwrap(), &of_job)));
                    let mut command = std::process::Command::new(PROGRAM);
                    command.args(with["args"].split(' ')).env_clear().envs(env);
                    let _ = run(command.current_dir(runner.workspace())).success();
                }
                other => panic!("{job}: this test cannot run `{other}`"),
            }
        }
        for (name, value) in description["outputs"].as_object().into_iter().flatten() {
            let value = evaluated(value.as_str().unwrap(), &of_job);
            values.insert(format!("needs.{job}.outputs.{name}"), value);
        }
    }
    attested
}

/// Returns the jobs, each after those that it needs.
fn ordered(jobs: &serde_json::Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut done: Vec<(&str, &Value)> = Vec::new();
    while done.len() < jobs.len() {
        let ready =
            |job: &Value| job["needs"].as_str().is_none_or(|needed| done.iter().any(|d| d.0 == needed));
        let next = jobs.iter().find(|(name, job)| !done.iter().any(|d| d.0 == name.as_str()) && ready(job));
        let (name, job) = next.unwrap_or_else(|| panic!("a job needs one that is not there: {jobs:?}"));
        done.push((name.as_str(), job));
    }
    done
}

/// Replaces the user's builds: `make` copies `config`, the others write prepared files.
const BUILDS: [(&str, &str); 4] = [
    ("make", "mkdir -p \"$1\"\ncp config/* \"$1\""),
    (
        "go",
        "while [ \"$1\" != -o ]; do shift; done\nmkdir -p \"${2%/*}\"\nprintf x >\"$2\"\nchmod 755 \"$2\"",
    ),
    ("npm", "mkdir -p node_modules/a dist\necho a >node_modules/a/a.js\necho m >dist/main.js"),
    (
        "mvn",
        "mkdir -p target/libs target/classes\necho l >target/libs/a.jar\necho m >target/classes/Main.class",
    ),
];

/// Runs the script of a step, with [`BUILDS`] instead of the tools that it calls.
fn user_step(runner: &Runner, script: &str) {
    let bin = runner.scratch.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for (name, script) in BUILDS {
        let program = bin.join(name);
        std::fs::write(&program, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut command = tool("sh");
    command.args(["-ec", script]).env("PATH", path).current_dir(runner.workspace());
    let _ = run(&mut command).success();
}

#[test]
fn the_example_workflows_run_as_they_are_written() {
    let read = |name: &str| std::fs::read_to_string(package().join("examples/github").join(name)).unwrap();
    let registry = Registry::with().htpasswd().start();
    let lock = "apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock";
    let lock = format!("f config/.imgpkg/images.yml '{lock}'");
    let bundle = ["d config", "f config/a.yml 'a: 1'", "d config/.imgpkg", &lock];
    assert_eq!(run_workflow(&read("build-and-push.yml"), &bundle, &registry), Vec::<String>::new());
    assert!(registry.storage().tags("example/app-bundle").contains_key("v1"));
    let attested = run_workflow(&read("build-approve-push.yml"), &bundle[..2], &registry);
    let tags = registry.storage().tags("example/app");
    assert_eq!((&tags["1234abcd"], tags.len()), (&tags["latest"], 2), "{tags:?}");
    // Except for Docker Hub, the name is used as it is: with the registry, without a tag.
    assert_eq!(attested, [format!("{}/example/app@{}", registry.host(), tags["latest"])]);
    registry.storage().assert_sound();
}

#[test]
fn the_workflows_of_images_that_run_put_each_place_into_a_layer() {
    let read = |name: &str| std::fs::read_to_string(package().join("examples/github").join(name)).unwrap();
    let registry = Registry::with().htpasswd().start();
    let lab = crate::lab::lab();
    let _ = crate::run::base(&lab);
    for base in ["node:22", "jre:21"] {
        let to = format!("{}/example/{base}", registry.host());
        let run = lab.command(&["copy", "--tar", "base.tar", "--to-repo", &to]);
        let run = run.env("IMGRELAY_REGISTRY_USERNAME", USER).env("IMGRELAY_REGISTRY_PASSWORD", PASSWORD);
        let _ = run.run().succeeds();
    }
    let config = |repository: &str| {
        let manifest = registry.storage().manifest(repository, "v1").unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let digest = manifest["config"]["digest"].as_str().unwrap();
        let account = format!("{USER}:{PASSWORD}");
        let url = format!("{}/v2/{repository}/blobs/{digest}", registry.url());
        let ran = run(tool("curl").args(["--silent", "--fail", "--user", &account, &url])).success();
        let config: Value = serde_json::from_str(&ran.stdout).unwrap();
        (manifest["layers"].as_array().unwrap().len(), config["config"].clone())
    };
    let _ = run_workflow(&read("node-app.yml"), &["d src"], &registry);
    let (layers, node) = config("example/node-app");
    assert_eq!((layers, &node["Entrypoint"]), (3, &serde_json::json!(["node", "/app/dist/main.js"])));
    assert_eq!((&node["User"], &node["WorkingDir"]), (&"65532".into(), &"/app".into()));
    let _ = run_workflow(&read("java-app.yml"), &["d src"], &registry);
    let (layers, java) = config("example/java-app");
    assert_eq!((layers, &java["Entrypoint"][0]), (3, &"java".into()));
    let _ = run_workflow(&read("static-binary.yml"), &["d src"], &registry);
    let index = registry.storage().manifest("example/srv", "v1").unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    registry.storage().assert_sound();
}

#[test]
fn the_signed_workflow_pushes_what_its_key_signed() {
    let text = std::fs::read_to_string(package().join("examples/github/signed.yml")).unwrap();
    let registry = Registry::with().htpasswd().start();
    let _ = run_workflow(&text, &["d config", "f config/a.yml 'a: 1'"], &registry);
    let tags = registry.storage().tags("example/app");
    let digest = &tags["latest"];
    assert_eq!(&tags["1234abcd"], digest);
    assert!(tags.contains_key(&format!("{}.sig", digest.replace(':', "-"))), "{tags:?}");
    registry.storage().assert_sound();
}

#[test]
fn the_multi_platform_workflow_joins_the_images_of_two_runners() {
    let text = std::fs::read_to_string(package().join("examples/github/multi-platform.yml")).unwrap();
    let registry = Registry::with().htpasswd().start();
    let attested = run_workflow(&text, &["d config", "f config/a.yml 'a: 1'"], &registry);
    let tags = registry.storage().tags("example/app");
    assert_eq!((&tags["1234abcd"], tags.len()), (&tags["latest"], 2), "{tags:?}");
    assert_eq!(attested, [format!("{}/example/app@{}", registry.host(), tags["latest"])]);
    let index: Value =
        serde_json::from_slice(&registry.storage().manifest("example/app", "latest").unwrap()).unwrap();
    let platforms: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| &child["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    registry.storage().assert_sound();
}

#[test]
fn the_action_joins_tars_into_a_tar_or_a_registry() {
    let registry = Registry::start();
    let runner = Runner::without_containers();
    tree::make(
        &runner.workspace(),
        &["d dist", "f dist/a 'x'", "d images", "d images/amd64", "d images/arm64"],
    );
    let name = format!("{}/team/app", registry.host());
    for architecture in ["amd64", "arm64"] {
        let (tar, platform) = (format!("images/{architecture}/image.tar"), format!("linux/{architecture}"));
        let inputs = [("command", "build"), ("files", "dist"), ("tar", &*tar), ("platform", &*platform)];
        let _ = runner.step(&inputs, &[]).succeeds();
    }
    let tars = ("tars", "images/*/image.tar");
    let to_tar = runner.step(&[("command", "index"), tars, ("tar", "all.tar"), ("tags", "")], &[]).succeeds();
    assert_eq!(to_tar.outputs["path"], "all.tar");
    assert_eq!(to_tar.outputs["platforms"], "linux/amd64\nlinux/arm64");
    assert!(to_tar.summary.contains("| Platforms | <code>linux/amd64</code>, <code>linux/arm64</code> |"));
    let one_by_one = ("tars", "images/arm64/image.tar\nimages/amd64/image.tar");
    let digest = ("expected-digest", &*to_tar.outputs["digest"]);
    let push = [("command", "index"), one_by_one, ("image", &*name), ("tags", "v1,v2"), digest];
    let pushed = runner.step(&push, &[]).succeeds();
    assert_eq!(pushed.outputs["digest"], to_tar.outputs["digest"]);
    let tags = registry.storage().tags("team/app");
    assert_eq!((&tags["v1"], &tags["v2"]), (&pushed.outputs["digest"], &pushed.outputs["digest"]));
    let missing = [("command", "index"), tars, ("image", &*name), ("require-platform", "linux/s390x")];
    let _ = runner.step(&missing, &[]).fails(1, &["no image for `linux/s390x`"]);
    let none = [("command", "index"), ("tars", "dist/*.tar"), ("image", &*name)];
    let _ = runner.step(&none, &[]).fails(2, &["input `tars`: `dist/*.tar` finds no file"]);
}

#[test]
fn the_action_harness_refuses_what_the_runner_refuses() {
    for text in ["a\n", "a<<E\nb\n", "<<E\nE\n", "a=b"] {
        let found = std::panic::catch_unwind(|| file_command(text));
        assert!(found.is_err(), "{text:?}: {found:?}");
    }
    let found = file_command("a=b=c\n\nd<<E\n1\n\n2\nE\ne=<<x\n");
    let expected = [("a", "b=c"), ("d", "1\n\n2"), ("e", "<<x")];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for (line, expected) in [
        (" ::error::x", true),
        ("::error title=a::x", true),
        ("a ##[error]x", true),
        ("a ::error::x", false),
        (": :error::x", false),
        ("# #[error]x", false),
    ] {
        assert_eq!(is_command(line), expected, "{line}");
    }
}
