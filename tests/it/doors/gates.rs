//! The examples that compare an image with the one before: each system's own lines, with an image that stayed as it was
//! and with one that grew.

use std::path::Path;

use serde_json::Value;
use testkit::lab::Lab;
use testkit::registry::Registry;

use crate::lab::lab;

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Returns the commands of each system's gate, without the program, and the file that is the new image there.
fn gates(host: &str) -> Vec<(&'static str, &'static str, Vec<Vec<String>>)> {
    let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let github = example("github/size-gate.yml");
    let github = github["jobs"]["gate"]["steps"].as_array().unwrap().iter();
    let github = github.filter(|step| step["uses"].as_str().unwrap().starts_with("docker://"));
    let github = github.map(|step| split(&step["with"]["args"].as_str().unwrap().replace("ghcr.io", host)));
    let gitlab = example("gitlab/size-gate.yml");
    let gitlab = words(&gitlab["gate"]["script"]).into_iter().map(|line| {
        let line = line.replace('"', "").replace("$CI_REGISTRY_IMAGE", &format!("{host}/example/app"));
        split(line.strip_prefix("imgrelay ").expect("a line of it"))
    });
    let concourse = example("concourse/size-gate.yml");
    let plan = concourse["jobs"][0]["plan"].as_array().unwrap();
    let task = plan.iter().find(|step| step["task"] == "gate").unwrap();
    assert_eq!(task["config"]["run"]["path"], "imgrelay");
    let tekton = example("tekton/size-gate.yaml");
    let tekton = tekton["spec"]["steps"].as_array().unwrap().iter().map(|step| {
        let given = |word: &String| {
            let word = word.replace("$(params.IMAGE)", &format!("{host}/example/app:latest"));
            word.replace("$(params.TAR)", "image.tar").replace("$(workspaces.source.path)", "source")
        };
        words(&step["args"]).iter().map(given).collect()
    });
    vec![
        ("GitHub", "image/image.tar", github.collect()),
        ("GitLab", "image.tar", gitlab.collect()),
        ("Concourse", "built/image.tar", vec![words(&task["config"]["run"]["args"])]),
        ("Tekton", "source/image.tar", tekton.collect()),
    ]
}

/// Runs commands until one fails; returns the exit code of the last one and what it said.
fn run(lab: &Lab, commands: &[Vec<String>]) -> (i32, String) {
    let mut last = (0, String::new());
    for command in commands {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = lab.run(&command);
        last = (output.code.unwrap(), format!("{}{}", output.stdout, output.stderr));
        if last.0 != 0 {
            break;
        }
    }
    last
}

#[test]
fn the_size_gate_of_every_system_stops_an_image_that_grew() {
    let (lab, registry) = (lab().tree(&["f config/a random:20000:1"]), Registry::start());
    let name = format!("{}/example/app", registry.host());
    let pack = |tar: &str| {
        let _ = lab.run(&["push", "-q", "-i", &name, "-f", "config", "--to-oci-tar", tar]).succeeds();
        lab.read(tar)
    };
    let old = pack("old.tar");
    let _ = lab.run(&["copy", "-q", "--tar", "old.tar", "--to-repo", &name]).succeeds();
    lab.write("old/image.tar", &old);
    lab.write("config/b", "a note\n");
    let small = pack("small.tar");
    lab.write("config/fat", testkit::random::Random::new(2).bytes(9000));
    let fat = pack("fat.tar");
    for (system, place, commands) in gates(registry.host()) {
        lab.write(place, &small);
        let (code, said) = run(&lab, &commands);
        assert!(code == 0 && said.contains("+ file /b"), "{system}: {code} {said}");
        lab.write(place, &fat);
        let (code, said) = run(&lab, &commands);
        assert!(code == 3 && said.contains("grew by"), "{system}: {code} {said}");
    }
}
