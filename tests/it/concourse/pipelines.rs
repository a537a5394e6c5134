//! The project's pipelines and tasks, checked against Concourse's own keys; unknown keys are errors.
//!
//! Source: concourse `atc/config.go`, `atc/steps.go`, `atc/task.go` (8.2); `fly validate-pipeline` does not read task
//! files, this does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

const PIPELINE: &[&str] =
    &["groups", "var_sources", "resources", "resource_types", "prototypes", "jobs", "display"];
const RESOURCE_TYPE: &[&str] =
    &["name", "type", "source", "defaults", "privileged", "check_every", "tags", "params"];
const RESOURCE: &[&str] = &[
    "name",
    "old_name",
    "public",
    "webhook_token",
    "type",
    "source",
    "check_every",
    "check_timeout",
    "tags",
    "version",
    "icon",
    "expose_build_created_by",
];
const JOB: &[&str] = &[
    "name",
    "old_name",
    "public",
    "disable_manual_trigger",
    "serial",
    "interruptible",
    "serial_groups",
    "max_in_flight",
    "build_log_retention",
    "build_logs_to_retain",
    "on_success",
    "on_failure",
    "on_abort",
    "on_error",
    "ensure",
    "plan",
];
/// Keys that every step may have besides its own.
const ANY_STEP: &[&str] =
    &["across", "timeout", "attempts", "tags", "on_success", "on_failure", "on_abort", "on_error", "ensure"];
const STEPS: &[(&str, &[&str])] = &[
    ("get", &["resource", "passed", "version", "params", "trigger"]),
    ("put", &["resource", "params", "inputs", "get_params", "no_get", "expose_build_created_by"]),
    (
        "task",
        &[
            "file",
            "config",
            "image",
            "privileged",
            "hermetic",
            "vars",
            "container_limits",
            "params",
            "input_mapping",
            "output_mapping",
        ],
    ),
    ("in_parallel", &[]),
    ("do", &[]),
    ("try", &[]),
    ("load_var", &["file", "format", "reveal"]),
    ("set_pipeline", &["file", "vars", "var_files", "team", "instance_vars"]),
];
const TASK: &[&str] = &[
    "platform",
    "image_resource",
    "rootfs_uri",
    "inputs",
    "outputs",
    "caches",
    "params",
    "run",
    "container_limits",
];
const BASE_TYPES: &[&str] =
    &["git", "time", "registry-image", "s3", "semver", "pool", "mock", "github-release"];
/// Keys of this project's own type, in addition to those of `registry-image`.
const OUR_SOURCE: &[&str] = &[
    "repository",
    "insecure",
    "tag",
    "tag_regex",
    "created_at_sort",
    "variant",
    "semver_constraint",
    "pre_releases",
    "pre_release_prefixes",
    "username",
    "password",
    "registry_mirror",
    "ca_certs",
    "platform",
    "label_regex",
    "annotation_regex",
    "verify_key",
    "debug",
    "aws_region",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_role_arn",
    "aws_role_arns",
    "aws_account_id",
    "azure_acr",
    "azure_client_id",
    "azure_tenant_id",
    "azure_environment",
];
/// Keys of the type with a store instead of a repository.
const STORE_SOURCE: &[&str] = &[
    "store",
    "tag",
    "tag_regex",
    "variant",
    "semver_constraint",
    "pre_releases",
    "pre_release_prefixes",
    "keep",
    "server_side_encryption",
    "sse_kms_key_id",
    "endpoint",
    "anonymous",
    "insecure",
    "ca_certs",
    "platform",
    "verify_key",
    "debug",
    "aws_region",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_role_arn",
    "aws_role_arns",
];
const OUR_GET: &[&str] = &["format", "skip_download", "platform", "referrers", "verify_key"];
const OUR_PUT: &[&str] = &[
    "image",
    "platforms_required",
    "files",
    "kind",
    "labels",
    "annotations",
    "exclude",
    "compression",
    "layers",
    "base",
    "size_limit",
    "platform",
    "media_types",
    "symlinks",
    "preserve_permissions",
    "version",
    "bump_aliases",
    "additional_tags",
    "tag_prefix",
    "expected_digest",
    "referrers",
    "verify_key",
    "username",
    "password",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(text: &str) -> Value {
    // `((var))` is a text to Concourse, but inside a flow map a colon after it would need quotes.
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Collects the errors of one pipeline.
struct Check {
    problems: Vec<String>,
    types: BTreeSet<String>,
    ours: BTreeSet<String>,
    jobs: BTreeSet<String>,
    resources: BTreeSet<String>,
}

fn names(value: &Value, key: &str) -> BTreeSet<String> {
    let items = value[key].as_array().into_iter().flatten();
    items.filter_map(|item| item["name"].as_str()).map(str::to_owned).collect()
}

impl Check {
    fn pipeline(text: &str) -> Vec<String> {
        let value = yaml(text);
        let our_types = ["imgrelay"].map(str::to_owned);
        let is_ours = |resource: &&Value| {
            resource["type"].as_str().is_some_and(|kind| our_types.contains(&kind.to_owned()))
        };
        let resources = value["resources"].as_array().cloned().unwrap_or_default();
        let mut check = Self {
            problems: Vec::new(),
            types: names(&value, "resource_types"),
            ours: resources
                .iter()
                .filter(is_ours)
                .filter_map(|r| r["name"].as_str())
                .map(str::to_owned)
                .collect(),
            jobs: names(&value, "jobs"),
            resources: names(&value, "resources"),
        };
        check.keys("the pipeline", &value, PIPELINE, &[]);
        for kind in value["resource_types"].as_array().into_iter().flatten() {
            check.keys("a resource type", kind, RESOURCE_TYPE, &["name", "type"]);
        }
        for resource in &resources {
            check.resource(resource);
        }
        for job in value["jobs"].as_array().into_iter().flatten() {
            check.keys("a job", job, JOB, &["name", "plan"]);
            let mut artifacts = BTreeSet::new();
            for step in job["plan"].as_array().into_iter().flatten() {
                check.step(step, &mut artifacts);
            }
        }
        check.problems
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn keys(&mut self, what: &str, value: &Value, known: &[&str], needed: &[&str]) {
        let Some(object) = value.as_object() else {
            return self.problem(format!("{what} is no map: {value}"));
        };
        let name = object.get("name").and_then(Value::as_str).unwrap_or("");
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problem(format!("{what} `{name}` has unknown key `{key}`"));
        }
        for key in needed.iter().filter(|key| !object.contains_key(**key)) {
            self.problem(format!("{what} `{name}` has no `{key}`"));
        }
    }

    fn resource(&mut self, resource: &Value) {
        self.keys("a resource", resource, RESOURCE, &["name", "type", "source"]);
        let kind = resource["type"].as_str().unwrap_or_default();
        if !BASE_TYPES.contains(&kind) && !self.types.contains(kind) {
            self.problem(format!("resource type `{kind}` is not there"));
        }
        if self.ours.contains(resource["name"].as_str().unwrap_or_default()) {
            match resource["source"].get("store") {
                Some(_) => self.keys("source", &resource["source"], STORE_SOURCE, &["store"]),
                None => self.keys("source", &resource["source"], OUR_SOURCE, &["repository"]),
            }
        }
    }

    fn step(&mut self, step: &Value, artifacts: &mut BTreeSet<String>) {
        let Some(object) = step.as_object() else { return self.problem(format!("a step is no map: {step}")) };
        let found: Vec<_> = STEPS.iter().filter(|(kind, _)| object.contains_key(*kind)).collect();
        let [(kind, keys)] = found.as_slice() else {
            return self.problem(format!("a step has to be exactly one of the known kinds: {step}"));
        };
        let known: Vec<&str> = ANY_STEP.iter().chain(*keys).copied().chain([*kind]).collect();
        self.keys(&format!("{kind} step"), step, &known, &[]);
        for hook in ["on_success", "on_failure", "on_abort", "on_error", "ensure"] {
            if let Some(inner) = object.get(hook) {
                self.step(inner, artifacts);
            }
        }
        let name = object[*kind].as_str().unwrap_or_default().to_owned();
        match *kind {
            "get" | "put" => self.uses_resource(object, kind, &name, artifacts),
            "task" => self.task_step(object, &name, artifacts),
            "load_var" | "set_pipeline" => self.path(&object["file"], artifacts),
            "try" => self.step(&object["try"], artifacts),
            _ => {
                let inner = &object[*kind];
                let steps = inner.as_array().or_else(|| inner["steps"].as_array());
                for inner in steps.into_iter().flatten() {
                    self.step(inner, artifacts);
                }
            }
        }
    }

    fn uses_resource(
        &mut self,
        step: &Map<String, Value>,
        kind: &str,
        name: &str,
        artifacts: &mut BTreeSet<String>,
    ) {
        let resource = step.get("resource").and_then(Value::as_str).unwrap_or(name).to_owned();
        if !self.resources.contains(&resource) {
            self.problem(format!("{kind} of unknown resource `{resource}`"));
        }
        for job in step.get("passed").and_then(Value::as_array).into_iter().flatten() {
            if !self.jobs.contains(job.as_str().unwrap_or_default()) {
                self.problem(format!("`passed` of `{name}` names unknown job {job}"));
            }
        }
        if let (true, Some(params)) = (self.ours.contains(&resource), step.get("params")) {
            self.keys(
                &format!("params of {kind}"),
                params,
                if kind == "get" { OUR_GET } else { OUR_PUT },
                &[],
            );
            for key in ["image", "additional_tags", "expected_digest"] {
                // One path, or a list of them.
                let value = params.get(key).cloned().unwrap_or(Value::Null);
                let paths = value.as_array().cloned().unwrap_or_else(|| vec![value]);
                let is_path = |path: &&Value| path.as_str().is_some_and(|path| !path.starts_with("sha256:"));
                for path in paths.iter().filter(is_path) {
                    self.path(path, artifacts);
                }
            }
        }
        if let (true, Some(params)) = (self.ours.contains(&resource), step.get("get_params")) {
            self.keys("get_params", params, OUR_GET, &[]);
        }
        artifacts.insert(name.to_owned());
    }

    /// The first part of a path is an artifact that an earlier step made.
    fn path(&mut self, path: &Value, artifacts: &BTreeSet<String>) {
        let path = path.as_str().unwrap_or_default();
        if !artifacts.contains(path.split('/').next().unwrap_or_default()) {
            self.problem(format!("`{path}` begins with no artifact of an earlier step"));
        }
    }

    fn task_step(&mut self, step: &Map<String, Value>, name: &str, artifacts: &mut BTreeSet<String>) {
        let config = match (step.get("file").and_then(Value::as_str), step.get("config")) {
            (Some(file), None) => {
                self.path(&Value::from(file), artifacts);
                // The artifact holds this project, so the file has to be here.
                let inside = file.split_once('/').map(|(_, inside)| inside).unwrap_or_default();
                match std::fs::read_to_string(package().join(inside)) {
                    Ok(text) => yaml(&text),
                    Err(error) => return self.problem(format!("task `{name}`: `{file}`: {error}")),
                }
            }
            (None, Some(config)) => config.clone(),
            _ => return self.problem(format!("task `{name}` needs `file` or `config`, and not both")),
        };
        self.problems
            .extend(task_problems(&config).into_iter().map(|problem| format!("task `{name}`: {problem}")));
        for input in config["inputs"].as_array().into_iter().flatten() {
            let wanted = input["name"].as_str().unwrap_or_default();
            let mapped = step.get("input_mapping").and_then(|map| map[wanted].as_str()).unwrap_or(wanted);
            if !artifacts.contains(mapped) && input["optional"] != true {
                self.problem(format!("task `{name}` has no input `{mapped}`"));
            }
        }
        for param in step.get("params").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
            if config["params"].get(param).is_none() {
                self.problem(format!("task `{name}` has no param `{param}`"));
            }
        }
        for output in config["outputs"].as_array().into_iter().flatten() {
            let name = output["name"].as_str().unwrap_or_default();
            let mapped = step.get("output_mapping").and_then(|map| map[name].as_str()).unwrap_or(name);
            artifacts.insert(mapped.to_owned());
        }
    }
}

/// Returns the errors of a task's configuration.
fn task_problems(task: &Value) -> Vec<String> {
    let mut check = Check {
        problems: Vec::new(),
        types: BTreeSet::new(),
        ours: BTreeSet::new(),
        jobs: BTreeSet::new(),
        resources: BTreeSet::new(),
    };
    check.keys("the task", task, TASK, &["platform", "run"]);
    if let Some(image) = task.get("image_resource") {
        check.keys(
            "image_resource",
            image,
            &["name", "type", "source", "params", "version", "tags"],
            &["type"],
        );
    }
    for (list, known) in [
        ("inputs", &["name", "path", "optional"][..]),
        ("outputs", &["name", "path"]),
        ("caches", &["path", "ttl"]),
    ] {
        for item in task[list].as_array().into_iter().flatten() {
            check.keys(list, item, known, if list == "caches" { &["path"] } else { &["name"] });
        }
    }
    check.keys("run", &task["run"], &["path", "args", "dir", "user"], &[]);
    check.problems
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(package().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    files
}

#[test]
fn every_pipeline_and_task_of_the_project_is_valid_for_concourse() {
    let pipelines = [files("examples/concourse"), vec![package().join("ci/pipeline.yml")]].concat();
    assert_eq!(pipelines.len(), 9);
    for path in pipelines {
        let problems = Check::pipeline(&std::fs::read_to_string(&path).unwrap());
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
    let tasks = [files("ci/tasks"), vec![package().join("task.yml")]].concat();
    assert_eq!(tasks.len(), 3);
    for path in tasks {
        let task = yaml(&std::fs::read_to_string(&path).unwrap());
        assert_eq!(task_problems(&task), Vec::<String>::new(), "{}", path.display());
        let script = task["run"]["path"].as_str().unwrap().strip_prefix("imgrelay/");
        assert!(script.is_none_or(|script| package().join(script).exists()), "{}", path.display());
    }
}

#[test]
fn the_pipeline_check_refuses_what_concourse_refuses() {
    let with_step = |step: &str| {
        format!(
            "resources: [{{name: src, type: git, source: {{uri: u}}}}, {{name: app, type: imgrelay, source: {{repository: a}}}}]\n\
             resource_types: [{{name: imgrelay, type: registry-image}}]\n\
             jobs: [{{name: j, plan: [{{get: src}}, {step}]}}]\n"
        )
    };
    assert_eq!(Check::pipeline(&with_step("{put: app, params: {image: src/a.tar}}")), Vec::<String>::new());
    for (pipeline, expected) in [
        ("job: []".to_owned(), "unknown key `job`"),
        ("resources: [{name: a, type: git, source: {}, sourc: {}}]".to_owned(), "unknown key `sourc`"),
        (
            "resources: [{name: a, type: docker, source: {}}]".to_owned(),
            "resource type `docker` is not there",
        ),
        (with_step("{gett: src}"), "exactly one of the known kinds"),
        (with_step("{get: src, put: app}"), "exactly one of the known kinds"),
        (with_step("{get: other}"), "unknown resource `other`"),
        (with_step("{get: src, passed: [x]}"), "unknown job"),
        (with_step("{put: app, params: {imag: src/a}}"), "unknown key `imag`"),
        (with_step("{put: app, params: {image: other/a}}"), "no artifact of an earlier step"),
        (with_step("{put: app, params: {image: [src/a, other/a]}}"), "no artifact of an earlier step"),
        (with_step("{get: app, params: {formt: oci}}"), "unknown key `formt`"),
        (with_step("{task: t}"), "needs `file` or `config`"),
        (with_step("{task: t, file: src/none.yml}"), "none.yml"),
        (with_step("{task: t, file: src/task.yml, params: {FILE: a}}"), "has no param `FILE`"),
        (
            with_step("{task: t, config: {platform: linux, run: {path: a}, inputs: [{name: b}]}}"),
            "has no input `b`",
        ),
        (
            with_step("{task: t, config: {platform: linux, run: {path: a}, privileged: true}}"),
            "unknown key `privileged`",
        ),
        (with_step("{task: t, config: {run: {path: a}}}"), "has no `platform`"),
    ] {
        let problems = Check::pipeline(&pipeline);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn the_task_file_has_every_param_of_the_program_and_no_other() {
    let task = yaml(&std::fs::read_to_string(package().join("task.yml")).unwrap());
    let in_file: Vec<&str> = task["params"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut known: Vec<String> =
        imgrelay::front::concourse::task::params().map(|param| param.variable()).collect();
    known.sort_unstable();
    assert_eq!(in_file, known);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for the developer who runs the tests")]
fn docs_concourse_has_valid_pipelines_and_every_task_param() {
    let path = package().join("docs/concourse.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let pipelines: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    // The others are single steps.
    let (pipelines, steps): (Vec<&str>, Vec<&str>) =
        pipelines.into_iter().partition(|text| text.contains("jobs:"));
    assert_eq!(pipelines.len(), 1);
    for step in steps {
        let mut pipeline = yaml(pipelines[0]);
        pipeline["jobs"][0]["plan"] = yaml(step);
        pipeline["resources"][0]["name"] = "app-source".into();
        pipeline["resources"][0]["type"] = "imgrelay".into();
        pipeline["resources"][0]["source"] = serde_json::json!({"repository": "a"});
        let problems = Check::pipeline(&pipeline.to_string());
        assert_eq!(problems, Vec::<String>::new(), "{step}");
    }
    for pipeline in pipelines {
        assert_eq!(Check::pipeline(pipeline), Vec::<String>::new(), "{pipeline}");
    }
    let (begin, end) = ("<!-- params: begin -->\n", "<!-- params: end -->");
    let mut table = String::from("\n| param | meaning |\n|---|---|\n");
    for param in imgrelay::front::concourse::task::params() {
        writeln!(table, "| `{}` | {} |", param.variable(), param.meaning()).unwrap();
    }
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}{table}\n{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert_eq!(page, expected, "docs/concourse.md is not current; run with UPDATE_DOCS=1");
    // The keys of source and params in the checks are those of the page.
    for key in OUR_SOURCE.iter().chain(STORE_SOURCE).chain(OUR_GET).chain(OUR_PUT) {
        assert!(page.contains(&format!("`{key}`")), "docs/concourse.md does not know `{key}`");
    }
}

/// Returns the variables that Concourse sets for a task of an example: those of `task.yml`, then the step's own.
fn variables(step: &Value) -> Vec<(String, String)> {
    let file = yaml(&std::fs::read_to_string(package().join("task.yml")).unwrap());
    let of_file = step["file"].is_string().then(|| file["params"].clone());
    let params = [of_file, Some(step["params"].clone()), Some(step["config"]["params"].clone())];
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let params = params.iter().flatten().filter_map(Value::as_object).flatten();
    params.map(|(name, value)| (name.clone(), text(value))).collect()
}

#[test]
fn the_signed_example_runs_and_its_put_refuses_an_unsigned_image() {
    use testkit::registry::{PASSWORD, Registry, USER};
    let text = std::fs::read_to_string(package().join("examples/concourse/signed.yml")).unwrap();
    let pipeline = yaml(&text);
    let plan = pipeline["jobs"][0]["plan"].as_array().unwrap();
    let lab = crate::lab::lab().tree(&["d src", "d src/config", "f src/config/a 'a'", "d image", "d put"]);
    let registry = Registry::with().htpasswd().start();
    let key = |name: &str| std::fs::read_to_string(package().join("tests/keys").join(name)).unwrap();
    let values = [
        ("((registry_username))", USER.to_owned()),
        ("((registry_password))", PASSWORD.to_owned()),
        ("((sign_pub))", key("p256.pub")),
        ("((sign_key))", key("p256.key")),
        ("((sign_key_password))", String::new()),
    ];
    let value = |text: &str| {
        let text = text.replace("registry.example.com", registry.host());
        values.iter().fold(text, |text, (name, value)| text.replace(name, value))
    };
    let put = || {
        let mut source = pipeline["resources"][2]["source"].clone();
        for member in source.as_object_mut().unwrap().values_mut() {
            *member = value(member.as_str().unwrap()).into();
        }
        std::fs::create_dir_all(lab.path("put/image")).unwrap();
        std::fs::copy(lab.path("image/image.tar"), lab.path("put/image/image.tar")).unwrap();
        let request = serde_json::json!({"source": source, "params": plan[3]["params"]});
        crate::concourse::step(&lab, "out", &request)
    };
    let run = |step: &Value, words: &[&str]| {
        let mut command = lab.command(words);
        for (name, text) in variables(step) {
            command = command.env(&name, value(&text));
        }
        command.run().succeeds()
    };
    let _ = run(&plan[1], &["task"]);
    let _ = put().fails(3, &["has no signature"]);
    assert!(registry.storage().repositories().is_empty());
    let args: Vec<&str> = plan[2]["config"]["run"]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let _ = run(&plan[2], &args);
    let digest = String::from_utf8(lab.read("image/digest")).unwrap();
    assert_eq!(put().succeeds().json()["version"]["digest"], digest.as_str());
    let tags = registry.storage().tags("team/app");
    assert!(tags.contains_key(&format!("{}.sig", digest.replace(':', "-"))), "{tags:?}");
    assert_eq!(tags["latest"], digest);
}
