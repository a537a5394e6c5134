//! The Tekton Tasks and StepActions: their files fit Tekton's rules, and their steps run as Tekton's entrypoint runs
//! them.
//!
//! Structs without other fields replace the CRDs' schemas; the rules of Tekton's admission webhooks, of Artifact Hub
//! and of Tekton Chains are implemented here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use testkit::container::ToolImage;
use testkit::registry::{PASSWORD, Registry, USER};
use testkit::scratch::Scratch;
use testkit::tools::run;
use testkit::tree;

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgrelay");
const TASKS: [&str; 5] = ["imgrelay", "imgrelay-build", "imgrelay-index", "imgrelay-push", "imgrelay-verify"];
const STEP_ACTIONS: [&str; 2] = ["imgrelay-build", "imgrelay-push"];
/// Most bytes of a container's termination message, which has the results.
const TERMINATION_MESSAGE: usize = 4096;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskSpec {
    description: String,
    params: Vec<Param>,
    results: Vec<ResultSpec>,
    workspaces: Vec<Workspace>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StepActionSpec {
    description: String,
    params: Vec<Param>,
    results: Vec<ResultSpec>,
    image: String,
    working_dir: String,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<Variable>,
    security_context: SecurityContext,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Param {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    description: String,
    default: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultSpec {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    description: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Workspace {
    name: String,
    description: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    read_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Step {
    name: String,
    image: String,
    working_dir: String,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<Variable>,
    compute_resources: Option<Value>,
    security_context: SecurityContext,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecurityContext {
    run_as_non_root: bool,
    run_as_user: u32,
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    capabilities: BTreeMap<String, Vec<String>>,
    seccomp_profile: BTreeMap<String, String>,
}

/// A Task of one step, or a StepAction as such a Task: what they have in common.
#[derive(Clone, Debug)]
struct Unit {
    path: String,
    document: Document<()>,
    description: String,
    params: Vec<Param>,
    results: Vec<ResultSpec>,
    workspaces: Vec<Workspace>,
    step: Step,
    is_action: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tekton")
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn without_spec<S>(document: &Document<S>) -> Document<()> {
    Document {
        api_version: document.api_version.clone(),
        kind: document.kind.clone(),
        metadata: document.metadata.clone(),
        spec: (),
    }
}

fn task(name: &str) -> Unit {
    let path = format!("task/{name}/{name}.yaml");
    let document: Document<TaskSpec> = parse(&folder().join(&path));
    let head = without_spec(&document);
    let mut spec = document.spec;
    assert_eq!(spec.steps.len(), 1, "{path}");
    let step = spec.steps.remove(0);
    let (params, results, workspaces) = (spec.params, spec.results, spec.workspaces);
    let description = spec.description;
    Unit { path, document: head, description, params, results, workspaces, step, is_action: false }
}

fn step_action(name: &str) -> Unit {
    let path = format!("stepaction/{name}/{name}.yaml");
    let document: Document<StepActionSpec> = parse(&folder().join(&path));
    let head = without_spec(&document);
    let spec = document.spec;
    let step = Step {
        name: "step".into(),
        image: spec.image,
        working_dir: spec.working_dir,
        command: spec.command,
        args: spec.args,
        env: spec.env,
        compute_resources: None,
        security_context: spec.security_context,
    };
    Unit {
        path,
        document: head,
        description: spec.description,
        params: spec.params,
        results: spec.results,
        workspaces: Vec::new(),
        step,
        is_action: true,
    }
}

fn units() -> Vec<Unit> {
    TASKS.into_iter().map(task).chain(STEP_ACTIONS.into_iter().map(step_action)).collect()
}

/// Returns every `$(…)` of a text.
fn references(text: &str) -> Vec<String> {
    let parts = text.split("$(").skip(1).filter_map(|rest| rest.split_once(')'));
    parts.map(|(name, _)| name.to_owned()).collect()
}

impl Unit {
    /// Returns every text of the step in which Tekton replaces references.
    fn texts(&self) -> Vec<&str> {
        let step = &self.step;
        let env = step.env.iter().map(|variable| variable.value.as_str());
        let words = step.command.iter().chain(&step.args).chain([&step.working_dir, &step.image]);
        words.map(String::as_str).chain(env).collect()
    }

    /// Returns what Tekton would refuse, or would not replace.
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut used = BTreeSet::new();
        let result_start = if self.is_action { "step.results." } else { "results." };
        for text in self.texts() {
            for reference in references(text) {
                let declared = if let Some(name) = reference.strip_prefix("params.") {
                    let is_list = name.ends_with("[*]");
                    let name = name.trim_end_matches("[*]");
                    used.insert(format!("params.{name}"));
                    if is_list && text != format!("$({reference})") {
                        found.push(format!("`{text}`: a list has to stand alone"));
                    }
                    let kind = if is_list { "array" } else { "string" };
                    self.params.iter().any(|param| param.name == name && param.kind == kind)
                } else if let Some(name) = reference.strip_prefix("workspaces.") {
                    let name = name.trim_end_matches(".path");
                    used.insert(format!("workspaces.{name}"));
                    self.workspaces.iter().any(|workspace| workspace.name == name)
                } else if let Some(name) = reference.strip_prefix(result_start) {
                    let name = name.trim_end_matches(".path");
                    used.insert(format!("results.{name}"));
                    self.results.iter().any(|result| result.name == name)
                } else {
                    false
                };
                if !declared {
                    found.push(format!("`{text}`: `{reference}` is not declared"));
                }
            }
        }
        let params = self.params.iter().map(|param| format!("params.{}", param.name));
        let results = self.results.iter().map(|result| format!("results.{}", result.name));
        let workspaces = self.workspaces.iter().map(|workspace| format!("workspaces.{}", workspace.name));
        for declared in params.chain(results).chain(workspaces).filter(|declared| !used.contains(declared)) {
            found.push(format!("`{declared}` is declared and not used"));
        }
        found
    }
}

/// Tells whether a name is a DNS label (RFC 1123), which names of steps and objects have to be.
fn is_dns_label(name: &str) -> bool {
    let inner = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

#[test]
fn the_files_keep_the_rules_of_tekton_and_of_the_hub() {
    for unit in units() {
        let Unit { path, document, step, .. } = &unit;
        assert_eq!(unit.problems(), Vec::<String>::new(), "{path}");
        let (api, minimum) =
            if unit.is_action { ("tekton.dev/v1beta1", "0.60.0") } else { ("tekton.dev/v1", "0.56.0") };
        assert_eq!(document.api_version, api, "{path}");
        assert_eq!(document.kind, if unit.is_action { "StepAction" } else { "Task" }, "{path}");
        let file = Path::new(path);
        assert_eq!(file.file_stem().unwrap().to_str(), Some(document.metadata.name.as_str()), "{path}");
        assert!(is_dns_label(&document.metadata.name) && is_dns_label(&step.name), "{path}");
        // Artifact Hub compares it with the git tag.
        let version = document.metadata.labels.get("app.kubernetes.io/version").map(String::as_str);
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")), "{path}");
        let annotations = &document.metadata.annotations;
        assert_eq!(annotations["tekton.dev/pipelines.minVersion"], minimum, "{path}");
        for key in
            ["tekton.dev/categories", "tekton.dev/tags", "tekton.dev/displayName", "tekton.dev/platforms"]
        {
            assert!(!annotations[key].is_empty(), "{path}: {key}");
        }
        assert_eq!(step.image, concat!("ghcr.io/example/imgrelay:", env!("CARGO_PKG_VERSION")), "{path}");
        assert_eq!(
            step.command,
            ["/usr/local/bin/imgrelay"],
            "{path}: without it the controller asks the registry"
        );
        let expected = SecurityContext {
            run_as_non_root: true,
            run_as_user: 65532,
            allow_privilege_escalation: false,
            read_only_root_filesystem: true,
            capabilities: [("drop".to_owned(), vec!["ALL".to_owned()])].into(),
            seccomp_profile: [("type".to_owned(), "RuntimeDefault".to_owned())].into(),
        };
        assert_eq!(step.security_context, expected, "{path}");
        let resources =
            (!unit.is_action).then(|| step.compute_resources.as_ref().unwrap()["requests"].is_object());
        assert_ne!(resources, Some(false), "{path}");
        let described =
            [&unit.description].into_iter().chain(unit.params.iter().map(|param| &param.description));
        let described = described.chain(unit.results.iter().map(|result| &result.description));
        let described = described.chain(unit.workspaces.iter().map(|workspace| &workspace.description));
        assert!(described.into_iter().all(|text| text.len() > 10), "{path}");
        assert!(unit.results.iter().all(|result| result.kind == "string"), "{path}");
        let writable = unit.workspaces.iter().filter(|workspace| !workspace.read_only).count();
        assert!(writable <= 1, "{path}");
        for name in unit.workspaces.iter().filter(|workspace| workspace.name != "source") {
            assert!(name.optional && name.read_only, "{path}: {}", name.name);
        }
        // Params with the same name in other letters are refused.
        let names: BTreeSet<_> = unit.params.iter().map(|param| param.name.to_lowercase()).collect();
        assert_eq!(names.len(), unit.params.len(), "{path}");
        let readme = std::fs::read_to_string(folder().join(path).with_file_name("README.md")).unwrap();
        let results = unit.results.iter().map(|result| &result.name);
        for name in unit.params.iter().map(|param| &param.name).chain(results) {
            assert!(readme.contains(&format!("| `{name}` |")), "{path}: README.md lacks `{name}`");
        }
    }
}

#[test]
fn a_wrong_tekton_variable_reference_is_found() {
    let mut unit = task("imgrelay-push");
    unit.step.args.push("--x=$(params.NOPE)".into());
    unit.step.args.push("--y=$(params.EXTRA_ARGS[*])".into());
    unit.step.args.push("$(step.results.IMAGE_URL.path)".into());
    unit.step.env.retain(|variable| variable.name != "DOCKER_CONFIG");
    let found = unit.problems();
    for expected in [
        "`params.NOPE` is not declared",
        "a list has to stand alone",
        "`step.results.IMAGE_URL.path` is not declared",
        "`workspaces.dockerconfig` is declared and not used",
    ] {
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    for (name, good) in [("a-1", true), ("A", false), ("-a", false), ("", false), ("a_b", false)] {
        assert_eq!(is_dns_label(name), good, "{name}");
    }
    let text =
        "apiVersion: tekton.dev/v1beta1\nkind: StepAction\nmetadata: {name: x}\nspec: {workspaces: []}\n";
    assert!(serde_saphyr::from_str::<Document<StepActionSpec>>(text).is_err());
}

#[test]
fn only_pushed_images_have_results_that_chains_signs() {
    let hint = |name: &str| {
        ["IMAGE_URL", "IMAGE_DIGEST", "ARTIFACT_URI", "ARTIFACT_DIGEST", "ARTIFACT_OUTPUTS"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
            || name == "IMAGES"
    };
    for unit in units() {
        let hints: Vec<_> =
            unit.results.iter().map(|result| result.name.as_str()).filter(|name| hint(name)).collect();
        let expected: &[&str] = match unit.document.metadata.name.as_str() {
            "imgrelay-build" | "imgrelay-verify" => &[],
            _ => &["IMAGE_URL", "IMAGE_DIGEST"],
        };
        assert_eq!(hints, expected, "{}", unit.path);
    }
}

#[test]
fn the_samples_fit_the_tasks_they_use() {
    let mut seen = 0;
    for unit in units() {
        let samples = folder().join(&unit.path).with_file_name("samples");
        for file in
            std::fs::read_dir(&samples).unwrap_or_else(|error| panic!("{}: {error}", samples.display()))
        {
            let path = file.unwrap().path();
            let sample: Value = parse(&path);
            let shown = path.strip_prefix(folder()).unwrap().display().to_string();
            seen += uses(&sample, &shown);
        }
    }
    assert!(seen >= 6, "{seen} uses");
}

/// Checks every use of a Task or StepAction in a sample; returns how many there are.
fn uses(sample: &Value, shown: &str) -> usize {
    let spec = &sample["spec"];
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().unwrap_or(&empty).clone();
    let mut found = 0;
    let mut known: BTreeMap<String, Unit> = BTreeMap::new();
    let tasks = list(&spec["pipelineSpec"]["tasks"]);
    let of_run = spec["taskRef"].is_object().then(|| spec.clone());
    for user in tasks.iter().chain(&list(&spec["steps"])).chain(&of_run) {
        let unit = match (user["taskRef"]["name"].as_str(), user["ref"]["name"].as_str()) {
            (Some(name), None) => task(name),
            (None, Some(name)) => step_action(name),
            other => panic!("{shown}: {other:?}"),
        };
        found += 1;
        let mut missing: BTreeSet<_> = unit
            .params
            .iter()
            .filter(|param| param.default.is_none())
            .map(|param| param.name.clone())
            .collect();
        for param in list(&user["params"]) {
            let name = param["name"].as_str().unwrap();
            let declared = unit.params.iter().find(|param| param.name == name);
            let declared = declared.unwrap_or_else(|| panic!("{shown}: no param `{name}` in {}", unit.path));
            assert_eq!(param["value"].is_array(), declared.kind == "array", "{shown}: {name}");
            missing.remove(name);
            let texts = list(&param["value"]).into_iter().chain([param["value"].clone()]);
            let texts: Vec<String> = texts.filter_map(|text| text.as_str().map(str::to_owned)).collect();
            for reference in texts.iter().flat_map(|text| references(text)) {
                if let [kind, earlier, "results", result] = reference.split('.').collect::<Vec<_>>()[..] {
                    assert!(kind == "tasks" || kind == "steps", "{shown}: {reference}");
                    assert!(
                        known[earlier].results.iter().any(|known| known.name == result),
                        "{shown}: {reference}"
                    );
                }
            }
        }
        assert_eq!(missing, BTreeSet::new(), "{shown}: params of {}", unit.path);
        let bound: Vec<_> =
            list(&user["workspaces"]).iter().map(|w| w["name"].as_str().unwrap().to_owned()).collect();
        for workspace in &unit.workspaces {
            assert!(
                workspace.optional || bound.contains(&workspace.name),
                "{shown}: workspace `{}`",
                workspace.name
            );
        }
        for name in bound {
            assert!(
                unit.workspaces.iter().any(|workspace| workspace.name == name),
                "{shown}: workspace `{name}`"
            );
        }
        known.insert(user["name"].as_str().unwrap_or_default().to_owned(), unit);
    }
    for result in list(&spec["results"]).iter().chain(&list(&spec["pipelineSpec"]["results"])) {
        let reference = references(result["value"].as_str().unwrap()).remove(0);
        let parts: Vec<_> = reference.split('.').collect();
        assert!(known[parts[1]].results.iter().any(|known| known.name == parts[3]), "{shown}: {reference}");
    }
    found
}

/// A pod in which steps run one after the other.
struct Pod<'a> {
    image: &'a ToolImage,
    scratch: Scratch,
    user: u32,
    group: u32,
}

/// The result of a step.
struct Ended {
    code: Option<i32>,
    log: String,
    results: BTreeMap<String, String>,
}

impl<'a> Pod<'a> {
    fn new(image: &'a ToolImage, user: u32, group: u32) -> Self {
        let scratch = Scratch::new("pod");
        for name in ["source", "home", "creds/.docker", "dockerconfig", "sslcertdir"] {
            std::fs::create_dir_all(scratch.join(name)).unwrap();
            // An emptyDir, or a volume with `fsGroup`.
            std::fs::set_permissions(scratch.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        Self { image, scratch, user, group }
    }

    /// Writes a file as a mounted Secret or ConfigMap has it: a link through `..data`.
    fn mounted(&self, workspace: &str, name: &str, content: &str) {
        let folder = self.scratch.join(workspace);
        let real = folder.join("..2026_01_01_00_00_00.1");
        std::fs::create_dir_all(&real).unwrap();
        std::fs::write(real.join(name), content).unwrap();
        let _ = std::os::unix::fs::symlink("..2026_01_01_00_00_00.1", folder.join("..data"));
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }

    /// Runs the step of a Task or StepAction with these params; `bound` are the bound optional workspaces.
    fn run(&self, unit: &Unit, params: &[(&str, &str)], bound: &[&str]) -> Ended {
        let results = Scratch::new("results");
        std::fs::set_permissions(results.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let results_at = if unit.is_action { "/tekton/steps/step-x/results" } else { "/tekton/results" };
        let workspace = |name: &str| match name {
            "source" => "/workspace/source".to_owned(),
            name if bound.contains(&name) => format!("/workspace/{name}"),
            _ => String::new(),
        };
        for (name, _) in params {
            assert!(unit.params.iter().any(|param| param.name == *name), "{}: no param `{name}`", unit.path);
        }
        let value = |param: &Param| -> String {
            let given =
                params.iter().find(|(name, _)| *name == param.name).map(|(_, value)| (*value).to_owned());
            given.unwrap_or_else(|| match (param.name.strip_suffix("-path"), &param.default) {
                (Some(name), _) => workspace(name),
                (None, Some(default)) => default.as_str().unwrap_or_default().to_owned(),
                (None, None) => panic!("{}: param `{}` is required", unit.path, param.name),
            })
        };
        let fill = |text: &str| -> Vec<String> {
            let mut text = text.to_owned();
            for param in &unit.params {
                if text == format!("$(params.{}[*])", param.name) {
                    return value(param).lines().map(str::to_owned).collect();
                }
                text = text.replace(&format!("$(params.{})", param.name), &value(param));
            }
            for name in &unit.workspaces {
                text = text.replace(&format!("$(workspaces.{}.path)", name.name), &workspace(&name.name));
            }
            for result in &unit.results {
                let start = if unit.is_action { "step.results" } else { "results" };
                let path = format!("{results_at}/{}", result.name);
                text = text.replace(&format!("$({start}.{}.path)", result.name), &path);
            }
            vec![text]
        };
        let one = |text: &str| fill(text).concat();
        // Restricted Pod Security, as the step asks for it.
        let mut options =
            ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all"].map(str::to_owned).to_vec();
        options.push("--security-opt=no-new-privileges".into());
        options.push(format!("--user={}:{}", self.user, self.group));
        options.push(format!("--workdir={}", one(&unit.step.working_dir)));
        options.push(format!("--entrypoint={}", unit.step.command[0]));
        let mut mount = |from: &Path, to: &str, mode: &str| {
            options.push(format!("--volume={}:{to}:{mode}", from.display()));
        };
        let source = unit.workspaces.iter().find(|workspace| workspace.name == "source");
        let mode = if source.is_some_and(|workspace| workspace.read_only) { "ro" } else { "rw" };
        mount(&self.scratch.join("source"), "/workspace/source", mode);
        for name in bound {
            mount(&self.scratch.join(name), &format!("/workspace/{name}"), "ro");
        }
        mount(&self.scratch.join("home"), "/tekton/home", "rw");
        mount(&self.scratch.join("creds"), "/tekton/creds", "rw");
        mount(results.path(), results_at, "rw");
        for variable in &unit.step.env {
            options.push(format!("--env={}={}", variable.name, one(&variable.value)));
        }
        let words: Vec<String> = unit.step.args.iter().flat_map(|text| fill(text)).collect();
        let ran = run(&mut self.image.run(&options, &words));
        let results = std::fs::read_dir(results.path()).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(unit.results.iter().any(|result| result.name == name), "{}: result `{name}`", unit.path);
            (name, std::fs::read_to_string(path).unwrap())
        });
        Ended { code: ran.code, results: results.collect(), log: format!("{}{}", ran.stdout, ran.stderr) }
    }
}

impl Ended {
    #[track_caller]
    fn succeeds(self, names: &[&str]) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        assert_eq!(self.results.keys().collect::<Vec<_>>(), names, "{}", self.log);
        for (name, value) in &self.results {
            assert_eq!(value.trim(), value, "result {name} is handed on as it is");
            assert!(!value.is_empty(), "{name}");
        }
        let message = self.termination_message();
        assert!(message.len() < TERMINATION_MESSAGE, "{} bytes: {message}", message.len());
        self
    }

    #[track_caller]
    fn fails(self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{}", self.log);
        assert!(self.log.contains(text), "{}", self.log);
        // Tekton reads the results of a failed step too.
        assert_eq!(self.results, BTreeMap::new(), "{}", self.log);
    }

    /// Returns what Tekton's entrypoint writes for the results: a list of entries, with the step's start among them.
    fn termination_message(&self) -> String {
        let entry = |(name, value): (&String, &String)| json!({"key": name, "value": value, "type": 1});
        let mut entries: Vec<Value> = self.results.iter().map(entry).collect();
        entries.push(json!({"key": "StartedAt", "value": "2026-01-01T00:00:00.000Z", "type": 3}));
        serde_json::to_string(&entries).unwrap()
    }
}

/// What Tekton Chains signs for `IMAGE_URL` and `IMAGE_DIGEST`, or why it drops them.
fn chains_subject(results: &BTreeMap<String, String>) -> Result<String, &'static str> {
    let (url, digest) = (results["IMAGE_URL"].trim(), results["IMAGE_DIGEST"].trim());
    if url.contains('@') || url.contains("://") || url.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("not a tag reference");
    }
    let hex = digest.strip_prefix("sha256:").ok_or("not sha256")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("not a digest");
    }
    let name = match url.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => url,
    };
    Ok(format!("{name}@{digest}"))
}

#[test]
fn tasks_and_step_actions_build_and_push_unprivileged() {
    let image = ToolImage::of(Path::new(PROGRAM), "/usr/local/bin/imgrelay");
    let registry = Registry::with().tls().htpasswd().start();
    let credentials =
        std::fs::read_to_string(registry.docker_config(USER, PASSWORD).join("config.json")).unwrap();
    let ca = std::fs::read_to_string(registry.ca_path()).unwrap();
    // The catalog's user, and one as OpenShift chooses it: any, without a name, in group 0.
    for (user, group, units) in [
        (65532, 65532, [task("imgrelay-build"), task("imgrelay-push")]),
        (61234, 0, [step_action("imgrelay-build"), step_action("imgrelay-push")]),
    ] {
        let [build, push] = units;
        let pod = Pod::new(&image, user, group);
        tree::make(&pod.scratch.join("source/config"), &["f a 644 'x'", "f b,c 600 'y'"]);
        let readable = pod.scratch.join("source/config/b,c");
        std::fs::set_permissions(readable, std::fs::Permissions::from_mode(0o644)).unwrap();
        let name = format!("{}/team/app-{user}", registry.host());
        let params =
            [("FILES", "config"), ("IMAGE", &format!("{name}:v1")), ("EXTRA_ARGS", "--annotation=a=b,c")];
        let built = pod.run(&build, &params, &[]).succeeds(&["LAYOUT_DIGEST", "LAYOUT_PATH"]);
        assert_eq!(built.results["LAYOUT_PATH"], "image.tar");
        println!("{}: {}", build.path, built.termination_message());
        let digest = &built.results["LAYOUT_DIGEST"];

        // Without a certificate or credentials nothing is pushed, and there is no result.
        let to = |image: &str, more: &[(&'static str, &str)]| {
            let params = [("IMAGE", image), ("TAR", "image.tar")].into_iter();
            params.chain(more.iter().copied()).map(|(k, v)| (k, v.to_owned())).collect::<Vec<_>>()
        };
        let pushed = |params: &[(&str, String)], bound: &[&str]| {
            let params: Vec<_> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
            pod.run(&push, &params, bound)
        };
        pushed(&to(&name, &[]), &[]).fails(1, "--registry-ca-cert-path");
        pod.mounted("sslcertdir", "service-ca.crt", &ca);
        pushed(&to(&name, &[]), &["sslcertdir"]).fails(1, "no credentials for");
        pod.mounted("dockerconfig", ".dockerconfigjson", &credentials);
        let both = ["dockerconfig", "sslcertdir"];
        let wrong = format!("sha256:{}", "1".repeat(64));
        pushed(&to(&name, &[("EXPECTED_DIGEST", &wrong)]), &both).fails(3, digest);
        assert!(!registry.storage().tags(&format!("team/app-{user}")).contains_key("v1"));

        let more = [("EXPECTED_DIGEST", digest.as_str()), ("TAGS", "latest,v1.2")];
        let done = pushed(&to(&name, &more), &both).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
        println!("{}: {}", push.path, done.termination_message());
        assert_eq!(done.results["IMAGE_DIGEST"], *digest);
        assert_eq!(done.results["IMAGE_URL"], format!("{name}:v1"));
        assert_eq!(done.results["IMAGE_REF"], format!("{name}@{digest}"));
        assert_eq!(chains_subject(&done.results), Ok(format!("{name}@{digest}")));
        for tag in ["v1", "latest", "v1.2"] {
            assert_eq!(registry.storage().tags(&format!("team/app-{user}"))[tag], *digest);
        }
        registry.storage().assert_sound();
        // If the key did not sign the tar's image, nothing is pushed; if it did, the signature arrives too.
        let repository = format!("team/signed-{user}");
        let name = format!("{}/{repository}", registry.host());
        let keyed = |name: &str, pem: &str| pushed(&to(name, &[("VERIFY_KEY", pem)]), &both);
        keyed(&name, &test_key("p256.pub")).fails(3, "has no signature");
        sign(&pod.scratch.join("source/image.tar"), &name);
        keyed(&name, &test_key("ed25519.pub")).fails(3, "it was made with another key");
        let _ = keyed(&name, &test_key("p256.pub")).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
        let signature = format!("{}.sig", digest.replace(':', "-"));
        assert!(registry.storage().tags(&repository).contains_key(&signature));
    }
}

/// Returns the text of a key of the tests.
fn test_key(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
}

/// Signs the image of a tar for a name.
fn sign(tar: &Path, identity: &str) {
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/p256.key");
    let mut sign = std::process::Command::new(PROGRAM);
    sign.args(["sign", "--tar"]).arg(tar).arg("--key").arg(key).args(["--identity", identity]);
    let _ = run(&mut sign).success();
}

#[test]
fn credentials_of_the_service_account_and_the_longest_names_work() {
    let image = ToolImage::of(Path::new(PROGRAM), "/usr/local/bin/imgrelay");
    let registry = Registry::with().htpasswd().start();
    let credentials = registry.docker_config(USER, PASSWORD).join("config.json");
    let pod = Pod::new(&image, 65532, 0);
    std::fs::copy(credentials, pod.scratch.join("creds/.docker/config.json")).unwrap();
    tree::make(&pod.scratch.join("source/config"), &["f a 644 'x'"]);
    // The longest that registries accept: 255 characters of name, 128 of tag.
    let part = "r".repeat(255 - registry.host().len() - 1);
    let (name, tag) = (format!("{}/{part}", registry.host()), "t".repeat(128));
    let unit = task("imgrelay");
    let params = [("FILES", "config"), ("IMAGE", &*format!("{name}:{tag}"))];
    let done = pod.run(&unit, &params, &[]).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
    assert_eq!(done.results["IMAGE_URL"], format!("{name}:{tag}"));
    let size = done.termination_message().len();
    println!("longest termination message: {size} bytes");
    assert!((900..2000).contains(&size), "{size}");
    let both = [("FILES", "config"), ("IMAGE", &*name), ("BUNDLE", &*name)];
    pod.run(&unit, &both, &[]).fails(2, "exclude each other");
    pod.run(&unit, &[("FILES", "config"), ("IMAGE", &name), ("TLSVERIFY", "maybe")], &[])
        .fails(2, "`--tls-verify` cannot be `maybe`");
}

#[test]
fn an_app_image_is_built_and_pushed_and_too_long_a_path_is_refused() {
    let image = ToolImage::of(Path::new(PROGRAM), "/usr/local/bin/imgrelay");
    let registry = Registry::start();
    let pod = Pod::new(&image, 61234, 0);
    tree::make(&pod.scratch.join("source/app"), &["f main.py 644 'print(1)'"]);
    let name = format!("{}/team/source", registry.host());
    for build in [task("imgrelay-build"), step_action("imgrelay-build")] {
        let params = [("FILES", "app"), ("SOURCE", &*format!("{name}:v1")), ("TAR", "app.tar")];
        let built = pod.run(&build, &params, &[]).succeeds(&["LAYOUT_DIGEST", "LAYOUT_PATH"]);
        let params =
            [("IMAGE", &*name), ("TAR", "app.tar"), ("EXPECTED_DIGEST", &*built.results["LAYOUT_DIGEST"])];
        let pushed = pod.run(&task("imgrelay-push"), &params, &[]).succeeds(&[
            "IMAGE_DIGEST",
            "IMAGE_REF",
            "IMAGE_URL",
        ]);
        assert_eq!(pushed.results["IMAGE_URL"], format!("{name}:v1"));
        let params = [("FILES", "app"), ("SOURCE", &*name)];
        let at_once =
            pod.run(&task("imgrelay"), &params, &[]).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
        assert_eq!(at_once.results["IMAGE_DIGEST"], built.results["LAYOUT_DIGEST"], "the same source image");
        let both = [("FILES", "app"), ("SOURCE", &*name), ("BUNDLE", &*name)];
        pod.run(&build, &both, &[]).fails(2, "exclude each other");
        let long = format!("{}a.tar", "d/".repeat(1500));
        let params = [("FILES", "app"), ("TAR", &*long)];
        pod.run(&build, &params, &[]).fails(2, "the path of the tar has 3007 bytes as JSON");
    }
    // The longest accepted result leaves room for everything that Tekton adds.
    let folder = "d/".repeat(1495);
    std::fs::create_dir_all(pod.scratch.join("source").join(&folder)).unwrap();
    let mut open = pod.scratch.join("source");
    for _ in 0..1495 {
        open = open.join("d");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let params = [("FILES", "app"), ("TAR", &*format!("{folder}a.tar"))];
    let built = pod.run(&task("imgrelay-build"), &params, &[]).succeeds(&["LAYOUT_DIGEST", "LAYOUT_PATH"]);
    let size = built.termination_message().len();
    assert!((3000..4096).contains(&size), "{size}");
}

#[test]
fn a_verified_tar_has_its_digest_as_result_and_a_damaged_one_fails() {
    let image = ToolImage::of(Path::new(PROGRAM), "/usr/local/bin/imgrelay");
    let pod = Pod::new(&image, 65532, 65532);
    tree::make(&pod.scratch.join("source/config"), &["f a 644 'x'"]);
    let built = pod.run(&task("imgrelay-build"), &[("FILES", "config")], &[]);
    let built = built.succeeds(&["LAYOUT_DIGEST", "LAYOUT_PATH"]);
    let verify = task("imgrelay-verify");
    let done = pod.run(&verify, &[], &[]).succeeds(&["LAYOUT_DIGEST"]);
    assert_eq!(done.results["LAYOUT_DIGEST"], built.results["LAYOUT_DIGEST"]);
    let other = format!("sha256:{}", "0".repeat(64));
    pod.run(&verify, &[("EXPECTED_DIGEST", &*other)], &[]).fails(3, "expected `sha256:0000");
    let tar = pod.scratch.join("source/image.tar");
    pod.run(&verify, &[("VERIFY_KEY", &*test_key("p256.pub"))], &[]).fails(3, "has no signature");
    sign(&tar, "reg.example/app");
    pod.run(&verify, &[("VERIFY_KEY", &*test_key("rsa.pub"))], &[]).fails(3, "made with another key");
    let _ = pod.run(&verify, &[("VERIFY_KEY", &*test_key("p256.pub"))], &[]).succeeds(&["LAYOUT_DIGEST"]);
    let mut bytes = std::fs::read(&tar).unwrap();
    let layer = bytes.windows(2).position(|two| two == [0x1f, 0x8b]).unwrap();
    bytes[layer + 20] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    pod.run(&verify, &[], &[]).fails(3, "is damaged");
}

#[test]
fn tars_of_two_platforms_become_one_image() {
    let image = ToolImage::of(Path::new(PROGRAM), "/usr/local/bin/imgrelay");
    let registry = Registry::start();
    let pod = Pod::new(&image, 65532, 65532);
    tree::make(&pod.scratch.join("source/config"), &["f a 644 'x'"]);
    let name = format!("{}/team/app", registry.host());
    let build = task("imgrelay-build");
    for architecture in ["amd64", "arm64"] {
        let (platform, tar) = (format!("linux/{architecture}"), format!("image-{architecture}.tar"));
        let params = [("FILES", "config"), ("PLATFORM", &*platform), ("TAR", &*tar)];
        let _ = pod.run(&build, &params, &[]).succeeds(&["LAYOUT_DIGEST", "LAYOUT_PATH"]);
    }
    let index = task("imgrelay-index");
    let to = format!("{name}:v1");
    let both = [("IMAGE", &*to), ("TARS", "image-amd64.tar\nimage-arm64.tar")];
    let done = pod.run(&index, &both, &[]).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
    let tags = registry.storage().tags("team/app");
    assert_eq!((tags.len(), &tags["v1"]), (1, &done.results["IMAGE_DIGEST"]));
    registry.storage().assert_sound();
    // A pattern finds the same tars, and a platform that is missing is noticed.
    let expected = ("EXPECTED_DIGEST", &*done.results["IMAGE_DIGEST"]);
    let pattern = [("IMAGE", &*to), ("TARS", "image-*.tar"), expected, ("TAGS", "v2")];
    let _ = pod.run(&index, &pattern, &[]).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
    let missing = [("IMAGE", &*to), ("TARS", "image-*.tar"), ("PLATFORMS", "linux/amd64,linux/s390x")];
    pod.run(&index, &missing, &[]).fails(1, "no image for `linux/s390x`");
    // With a key each tar has to be signed.
    let (pem, signed) = (test_key("p256.pub"), format!("{}/signed:v1", registry.host()));
    let keyed = [("IMAGE", &*signed), ("TARS", "image-*.tar"), ("VERIFY_KEY", &*pem)];
    for architecture in ["amd64", "arm64"] {
        pod.run(&index, &keyed, &[]).fails(3, "has no signature");
        sign(&pod.scratch.join(format!("source/image-{architecture}.tar")), &name);
    }
    let _ = pod.run(&index, &keyed, &[]).succeeds(&["IMAGE_DIGEST", "IMAGE_REF", "IMAGE_URL"]);
}

#[test]
fn chains_drops_what_is_not_a_tag_reference() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let subject = |url: &str| {
        chains_subject(
            &[("IMAGE_URL", url), ("IMAGE_DIGEST", &digest)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        )
    };
    assert_eq!(subject("r.test:5000/a:v1"), Ok(format!("r.test:5000/a@{digest}")));
    assert_eq!(subject("r.test:5000/a"), Ok(format!("r.test:5000/a@{digest}")));
    assert!(subject(&format!("r.test/a@{digest}")).is_err());
    assert!(subject("docker://r.test/a:v1").is_err());
}
