//! The examples that hand an image over through a store in a bucket: their commands run with a bucket and a registry.

use std::path::Path;

use serde_json::Value;
use testkit::bucket::{ACCESS_KEY, BUCKET, BucketServer, Kind, SECRET_KEY};
use testkit::lab::Lab;
use testkit::registry::{PASSWORD, Registry, USER};

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A room with files, a bucket and a registry.
struct Site {
    lab: Lab,
    bucket: BucketServer,
    registry: Registry,
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new("/bin/sh").tree(&["d config", "f config/settings.yml 'a: 1'", "d bin"]);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imgrelay"), lab.path("bin/imgrelay")).unwrap();
        Self { lab, bucket: BucketServer::start(Kind::Rclone), registry: Registry::with().htpasswd().start() }
    }

    /// Runs a command line, with the registry's password only where it is given.
    fn run(&self, line: &str, variables: &[(&str, &str)], with_password: bool) {
        let script = line.replace("registry.example.com", self.registry.host());
        let path = format!("{}:/usr/bin:/bin", self.lab.path("bin").display());
        let mut command = self.lab.command(&["-euc", &script]).env("PATH", path);
        let url = self.bucket.url();
        let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        for (name, value) in keys.iter().chain(&[("AWS_ENDPOINT_URL_S3", url.as_str())]).chain(variables) {
            command = command.env(name, value.replace("registry.example.com", self.registry.host()));
        }
        if with_password {
            command = command.env("IMGRELAY_REGISTRY_USERNAME", USER);
            command = command.env("IMGRELAY_REGISTRY_PASSWORD", PASSWORD);
        }
        let _ = command.run().succeeds();
    }

    fn tags(&self, repository: &str) -> Vec<String> {
        self.registry.storage().assert_sound();
        self.registry.storage().tags(repository).into_keys().filter(|tag| !tag.contains("imgpkg")).collect()
    }
}

#[test]
fn the_gitlab_example_hands_over_through_a_bucket() {
    let site = Site::new();
    let file: Value = serde_saphyr::from_str(&read("examples/gitlab/bucket.yml")).unwrap();
    let script = |job: &str| file[job]["script"][0].as_str().unwrap().to_owned();
    let variables = [
        ("BUCKET", BUCKET),
        ("CI_REGISTRY_IMAGE", "registry.example.com/team/app"),
        ("CI_COMMIT_SHORT_SHA", "1234abcd"),
    ];
    site.run(&script("build"), &variables, false);
    assert_eq!(site.registry.requests(), [], "the job that builds contacts no registry");
    let report = String::from_utf8(site.lab.read("image.env")).unwrap();
    let digest = report.lines().find_map(|line| line.strip_prefix("IMGRELAY_DIGEST=")).unwrap();
    let variables = [&variables[..], &[("IMGRELAY_DIGEST", digest)]].concat();
    site.run(&script("push"), &variables, true);
    assert_eq!(site.tags("team/app"), ["1234abcd"]);
}

#[test]
fn the_tekton_example_hands_over_between_runs() {
    let site = Site::new();
    let text = read("examples/tekton/between-runs.yml");
    let tasks: Vec<Value> =
        text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
    let line = |task: &Value, params: &[(&str, &str)]| {
        let words = task["spec"]["steps"][0]["args"].as_array().unwrap().iter();
        let mut line =
            format!("imgrelay {}", words.map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" "));
        let names =
            task["spec"]["params"].as_array().unwrap().iter().map(|param| param["name"].as_str().unwrap());
        for name in names.filter(|name| *name != "ENDPOINT") {
            let value = params.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            line = line.replace(&format!("$(params.{name})"), value.unwrap_or_else(|| panic!("no `{name}`")));
        }
        let line = line.replace("$(results.DIGEST.path)", "digest");
        assert!(!line.contains("$("), "{line}");
        line
    };
    let store = format!("s3://{BUCKET}/team/app:candidate");
    site.run(&line(&tasks[0], &[("FILES", "config"), ("STORE", &store)]), &[], false);
    let digest = String::from_utf8(site.lab.read("digest")).unwrap();
    let params =
        [("STORE", store.as_str()), ("DIGEST", &digest), ("REPOSITORY", "registry.example.com/team/app")];
    site.run(&line(&tasks[1], &params), &[], true);
    assert_eq!(site.tags("team/app"), ["candidate"]);
}

#[test]
fn the_github_example_hands_over_through_a_bucket() {
    let site = Site::new();
    let file: Value = serde_saphyr::from_str(&read("examples/github/bucket.yml")).unwrap();
    let steps = |job: &str| file["jobs"][job]["steps"].as_array().unwrap().clone();
    let with = steps("build")[1]["with"].clone();
    let input = |name: &str| with[name].as_str().unwrap().replace("${{ github.sha }}", "1234abcd");
    let (to_store, files) = (input("to-store"), input("files"));
    let variables = [
        ("INPUT_COMMAND", "push"),
        ("INPUT_FILES", files.as_str()),
        ("INPUT_TO-STORE", to_store.as_str()),
        ("GITHUB_OUTPUT", "output"),
    ];
    assert_eq!(with.as_object().unwrap().len(), 3);
    site.lab.write("output", "");
    // A shell passes no variable with a dash on.
    let set: Vec<String> = variables.iter().map(|(name, value)| format!("'{name}={value}'")).collect();
    site.run(&format!("env GITHUB_WORKSPACE=$PWD {} imgrelay github", set.join(" ")), &[], false);
    let output = String::from_utf8(site.lab.read("output")).unwrap();
    // `digest<<MARK`, and the value on the next line.
    let mut lines = output.lines().skip_while(|line| !line.starts_with("digest<<"));
    let digest = lines.nth(1).unwrap_or_else(|| panic!("{output}"));
    let args = steps("push")[0]["with"]["args"].as_str().unwrap().to_owned();
    let args = args.replace("${{ github.sha }}", "1234abcd").replace("ghcr.io", "registry.example.com");
    let args = args.replace("${{ needs.build.outputs.digest }}", digest);
    assert!(!args.contains("${{"), "{args}");
    site.run(&format!("imgrelay {args}"), &[], true);
    assert_eq!(site.tags("example/app"), ["1234abcd"]);
}
