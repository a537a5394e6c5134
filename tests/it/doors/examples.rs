//! The example files of CI systems: the systems' own schemas check their format, and the tests run their commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::lab::Lab;
use testkit::registry::{PASSWORD, Registry, USER};
use testkit::tools::{checker, run};

const REGISTRY: &str = "registry.example.com";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn workflows() -> Vec<PathBuf> {
    let files = std::fs::read_dir(example("examples/github")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files
}

/// Runs `check-jsonschema` with one of its built-in schemas.
fn fits(schema: &str, files: &[PathBuf]) -> Result<(), String> {
    let mut command = checker("check-jsonschema");
    command.args(["--builtin-schema", schema]);
    if schema == "vendor.gitlab-ci" {
        command.args(["--data-transform", "gitlab-ci"]);
    }
    let ran = run(command.args(files));
    if ran.code == Some(0) { Ok(()) } else { Err(format!("{}{}", ran.stdout, ran.stderr)) }
}

#[test]
fn every_file_fits_the_schema_of_its_system() {
    let mut cases = vec![
        ("vendor.github-actions", vec![example("action.yml")]),
        (
            "vendor.gitlab-ci",
            ["bucket.yml", "gitlab-ci.yml", "multi-platform.yml", "signed.yml", "size-gate.yml"]
                .map(|name| example("examples/gitlab").join(name))
                .into(),
        ),
        ("vendor.circle-ci", vec![example("examples/circleci/config.yml")]),
        ("vendor.buildkite", vec![example("examples/buildkite/pipeline.yml")]),
        ("vendor.drone-ci", vec![example("examples/drone/drone.yml")]),
    ];
    cases.push(("vendor.github-workflows", workflows()));
    let lab = crate::lab::lab();
    for (schema, files) in cases {
        fits(schema, &files).unwrap_or_else(|message| panic!("{schema}: {message}"));
        // The schema refuses a wrong file.
        let wrong = lab.write("wrong.yml", "steps: 7\nruns: 7\njobs: 7\nstages: 7\nversion: []\nkind: 7\n");
        assert!(fits(schema, &[wrong]).is_err(), "{schema} does not object");
    }
}

#[test]
fn the_action_and_its_examples_pass_the_security_lint() {
    let zizmor = |files: &[PathBuf]| {
        let mut command = checker("zizmor");
        command.args(["--offline", "--no-progress", "--persona=pedantic", "--no-config"]).args(files);
        run(&mut command)
    };
    let mut files = workflows();
    files.push(example("action.yml"));
    let ran = zizmor(&files);
    assert!(ran.code == Some(0) && ran.stdout.contains("No findings"), "{}{}", ran.stdout, ran.stderr);
    let lab = crate::lab::lab();
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let injected = text.replace("    steps:\n", "    steps:\n      - run: echo ${{ github.head_ref }}\n");
    assert_ne!(injected, text);
    let ran = zizmor(&[lab.write("injected.yml", injected)]);
    assert!(ran.code != Some(0) && ran.stdout.contains("template-injection"), "{}{}", ran.stdout, ran.stderr);
}

/// One job: variables, then commands in one shell.
struct Job {
    environment: Vec<(String, String)>,
    commands: Vec<String>,
}

fn parse(name: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(example(name)).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn job(commands: Vec<String>) -> Job {
    Job { environment: Vec::new(), commands }
}

/// Runs jobs one after the other in one folder; returns the last one's standard output.
fn run_jobs(jobs: Vec<Job>, variables: &[(&str, &str)], programs: &[(&str, &str)]) -> String {
    let registry = Registry::with().htpasswd().start();
    let lab = Lab::new("/bin/sh").tree(&["d config", "f config/settings.yml 'a: 1'", "d bin", "d store"]);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imgrelay"), lab.path("bin/imgrelay")).unwrap();
    for (name, script) in programs {
        let path = lab.write(format!("bin/{name}").as_str(), format!("#!/bin/sh\nset -eu\n{script}\n"));
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut last = String::new();
    let count = jobs.len();
    for (index, job) in jobs.into_iter().enumerate() {
        let script = format!("set -eu\n{}\n", job.commands.join("\n")).replace(REGISTRY, registry.host());
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", lab.path("bin").display());
        let mut command = lab.command(&["-c", &script]).env("PATH", path);
        for (name, value) in variables {
            command = command.env(name, value.replace(REGISTRY, registry.host()));
        }
        // A dotenv report of an earlier job is the environment of a later one.
        let report = std::fs::read_to_string(lab.path("image.env")).unwrap_or_default();
        for (name, value) in report.lines().filter_map(|line| line.split_once('=')) {
            command = command.env(name, value);
        }
        let secrets = [("IMGRELAY_REGISTRY_USERNAME", USER), ("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)];
        for (name, value) in &job.environment {
            command = command.env(name, value);
        }
        if index + 1 == count && job.environment.is_empty() {
            for (name, value) in secrets {
                command = command.env(name, value);
            }
        }
        let output = command.run().succeeds();
        if index + 1 < count {
            assert_eq!(registry.requests(), [], "job {index} has no credentials and needs none");
        }
        last = output.stdout.clone();
    }
    let tags = registry.storage().tags("team/app");
    assert!(tags.contains_key("1234abcd"), "{tags:?}");
    registry.storage().assert_sound();
    last.replace(registry.host(), REGISTRY)
}

fn pushed(line: &str) {
    let digest = line.trim().strip_prefix("registry.example.com/team/app@sha256:");
    assert_eq!(digest.map(str::len), Some(64), "{line}");
}

/// Reads a job of a GitLab file; its variables get the values that GitLab gives them.
fn gitlab_job(file: &Value, name: &str) -> Job {
    let commands = texts(&file[name]["script"]);
    let given = BTreeMap::from([("$CI_REGISTRY_USER", USER), ("$CI_REGISTRY_PASSWORD", PASSWORD)]);
    let variables = file[name]["variables"].as_object().cloned().unwrap_or_default();
    let variables = variables.iter().map(|(name, value)| {
        let value = value.as_str().unwrap();
        (name.clone(), (*given.get(value).unwrap_or(&value)).to_owned())
    });
    Job { environment: variables.collect(), commands }
}

#[test]
fn the_gitlab_example_builds_and_pushes() {
    let file = parse("examples/gitlab/gitlab-ci.yml");
    assert_eq!(file["build"]["artifacts"]["reports"]["dotenv"], "image.env");
    assert_eq!(file["default"]["image"]["entrypoint"], serde_json::json!([""]), "GitLab runs its own shell");
    let variables =
        [("CI_REGISTRY_IMAGE", "registry.example.com/team/app"), ("CI_COMMIT_SHORT_SHA", "1234abcd")];
    pushed(&run_jobs(vec![gitlab_job(&file, "build"), gitlab_job(&file, "push")], &variables, &[]));
}

#[test]
fn the_signed_gitlab_example_builds_signs_and_pushes_what_it_verified() {
    let file = parse("examples/gitlab/signed.yml");
    let key = |name: &str| std::fs::read_to_string(example("tests/keys").join(name)).unwrap();
    let (private, public) = (key("p256.key"), key("p256.pub"));
    let jobs = || ["build", "sign", "push"].map(|name| gitlab_job(&file, name));
    let variables = [
        ("CI_REGISTRY_IMAGE", "registry.example.com/team/app"),
        ("CI_COMMIT_SHORT_SHA", "1234abcd"),
        ("SIGN_KEY", &*private),
        ("SIGN_PUB", &*public),
    ];
    pushed(&run_jobs(jobs().into(), &variables, &[]));
    // Without the job that signs nothing is pushed.
    let [build, _, push] = jobs();
    let unsigned = std::panic::catch_unwind(|| run_jobs(vec![build, push], &variables, &[]));
    let said = unsigned.unwrap_err();
    let said = said.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.contains("has no signature"), "{said}");
}

#[test]
fn the_multi_platform_gitlab_example_joins_what_buildkit_built_and_pushes_it() {
    let file = parse("examples/gitlab/multi-platform.yml");
    let matrix = texts(&file["build"]["parallel"]["matrix"][0]["ARCHITECTURE"]);
    assert_eq!(matrix, ["amd64", "arm64"]);
    let mut jobs = Vec::new();
    for architecture in matrix {
        let environment = vec![("ARCHITECTURE".to_owned(), architecture)];
        jobs.push(Job { environment, commands: texts(&file["build"]["script"]) });
    }
    jobs.push(job(texts(&file["index"]["script"])));
    jobs.push(gitlab_job(&file, "push"));
    // BuildKit's tars for each platform replace its builds.
    let tars = example("tests/it/copy/buildkit");
    let buildctl = format!("cp {}/$ARCHITECTURE.tar image-$ARCHITECTURE.tar", tars.display());
    let variables =
        [("CI_REGISTRY_IMAGE", "registry.example.com/team/app"), ("CI_COMMIT_SHORT_SHA", "1234abcd")];
    pushed(&run_jobs(jobs, &variables, &[("buildctl-daemonless.sh", &buildctl)]));
}

#[test]
fn the_circleci_example_builds_and_pushes() {
    let file = parse("examples/circleci/config.yml");
    let commands = |name: &str| {
        let steps = file["jobs"][name]["steps"].as_array().unwrap();
        let runs = steps.iter().filter_map(|step| step["run"]["command"].as_str());
        job(runs.map(str::to_owned).collect())
    };
    let variables = [("CIRCLE_SHA1", "1234abcd")];
    pushed(&run_jobs(vec![commands("build"), commands("push")], &variables, &[]));
    assert_eq!(file["commands"]["install"]["steps"][0]["run"]["name"], "Install imgrelay");
}

#[test]
fn the_buildkite_example_builds_and_pushes() {
    let file = parse("examples/buildkite/pipeline.yml");
    let steps = file["steps"].as_array().unwrap();
    let jobs =
        steps.iter().filter(|step| step["commands"].is_array()).map(|step| job(texts(&step["commands"])));
    let agent = "case \"$1 $2\" in
        'artifact upload') cp \"$3\" store/; rm \"$3\";;
        'artifact download') cp \"store/$3\" \"$4\";;
        'meta-data set') printf %s \"$4\" >\"store/$3\";;
        'meta-data get') cat \"store/$3\";;
        *) exit 9;;
    esac";
    let variables = [("BUILDKITE_COMMIT", "1234abcd")];
    pushed(&run_jobs(jobs.collect(), &variables, &[("buildkite-agent", agent)]));
}

#[test]
fn the_drone_example_builds_and_pushes() {
    let file = parse("examples/drone/drone.yml");
    let jobs = file["steps"].as_array().unwrap().iter().map(|step| job(texts(&step["commands"])));
    pushed(&run_jobs(jobs.collect(), &[("DRONE_COMMIT_SHA", "1234abcd")], &[]));
}

#[test]
fn the_commands_of_the_jenkins_example_build_and_push() {
    let text = std::fs::read_to_string(example("examples/jenkins/Jenkinsfile")).unwrap();
    let commands = text.lines().filter_map(|line| line.trim().strip_prefix("sh '")?.strip_suffix('\''));
    let jobs: Vec<Job> = commands.map(|command| job(vec![command.to_owned()])).collect();
    assert_eq!(jobs.len(), 2);
    let variables = [("BUILD_NUMBER", "1234abcd"), ("REGISTRY_USR", USER), ("REGISTRY_PSW", PASSWORD)];
    pushed(&run_jobs(jobs, &variables, &[]));
}

#[test]
fn every_example_names_the_current_version() {
    let mut open = vec![example("examples"), example("docs")];
    let version = env!("CARGO_PKG_VERSION");
    let mut found = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for start in ["ghcr.io/example/imgrelay:", "releases/download/v", "example/imgrelay@v"] {
            for rest in text.split(start).skip(1) {
                found += 1;
                assert!(
                    rest.starts_with(version),
                    "{}: `{start}` is not followed by {version}",
                    path.display()
                );
            }
        }
    }
    assert!(found >= 5, "{found}");
}
