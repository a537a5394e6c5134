//! `verify`: recomputes every digest, size and `diff_id` of a tar or folder, and reports every difference in one run.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::args::VerifyArgs;
use super::resolve::{self, Source};
use super::stores::{about_version, expect_oci, open_depot_image, open_to_inspect};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::flag::Flag;
use crate::front::judgement;
use crate::front::keys;
use crate::front::main_image::{choose_one, only_root};
use crate::front::outcome::{Document, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::{system, text};
use crate::transfer;
use crate::transfer::signatures::Trust;
use crate::transfer::verify::{Advice, VerifyReport, verify};

/// Warnings of one kind that are printed.
const WARNED: usize = 10;
/// Problems named in the failure's text; all of them are in the JSON.
const SHOWN: usize = 100;

pub(in crate::front) fn run(context: &Context<'_>, args: &VerifyArgs) -> Result<Outcome, Failure> {
    let options = resolve::verify(args)?;
    let keys = keys::public_keys(Flag::KEY, &options.keys, context.env)?;
    let mut version = None;
    let mut store = match &options.source {
        Source::OciTar(path) => expect_oci(open_to_inspect(context, path)?, path)?,
        Source::Tar(path) | Source::Lock(path) => open_to_inspect(context, path)?,
        Source::Store(reference) => {
            let opened = open_depot_image(reference)?;
            version = opened.version;
            opened.store
        }
        Source::Bundle(_) | Source::Image(_) => {
            return Err(Failure::misuse("only a tar or folder can be verified"));
        }
    };
    if let Some(selector) = &options.select {
        let root = selector.find(&store)?.clone();
        store.keep_only(root);
    }
    let report = reporter::watch(&context.ui, Wording::Fetched, |observer| {
        Ok::<_, Failure>(verify(&store, system::threads(), observer))
    })?;
    warn(context, &report.warnings);
    let mut failure = None;
    if options.expected_digest.is_some() {
        let root = only_root(&report.path, store.roots()).map_err(|failure| failure.hint(choose_one()))?;
        let checked =
            transfer::check_expected(options.expected_digest.as_ref(), &root.image.descriptor.digest);
        failure = checked.err().map(Failure::from);
    }
    if !report.is_sound() {
        let found = report.problems.len();
        let problems = if found == 1 { "1 problem".to_owned() } else { format!("{found} problems") };
        failure =
            Some(Failure::difference(format!("`{}` is damaged: {problems} found", report.path)).hint(
                if version.is_some() { "push the image again" } else { "make or fetch the file again" },
            ));
        failure = failure.map(|failure| match &version {
            Some(version) => about_version(failure, version),
            None => failure,
        });
    }
    let mut json = serde_json::to_value(&report)
        .map_err(|error| Failure::refused(format!("cannot write the report as JSON: {error}")))?;
    let mut text = summary(&report);
    if failure.is_none() && !keys.is_empty() {
        let trust = Trust { keys, identity: options.identity, require: options.require };
        let judged = judgement::of_store(&store, &trust)?;
        text.push_str(&judgement::lines(&judged));
        json["signatures"] = judgement::json(&judged);
        failure = judgement::failure(&judged);
    }
    Ok(Outcome::Document(Document { text, json, failure }))
}

/// Prints the first warnings of each kind, and how many more there are.
fn warn(context: &Context<'_>, warnings: &[Advice]) {
    let mut of_kind: HashMap<_, usize> = HashMap::new();
    for warning in warnings {
        let count = of_kind.entry(std::mem::discriminant(warning)).or_default();
        *count += 1;
        if *count <= WARNED {
            context.ui.warning(&warning.to_string());
        }
    }
    let more: usize = of_kind.values().map(|count| count.saturating_sub(WARNED)).sum();
    if more > 0 {
        context.ui.warning(&format!("… and {more} more warnings like these; `--json` has all of them"));
    }
}

fn summary(report: &VerifyReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        writeln!(out, "{}", text::escaped(&text)).expect("writing to a String cannot fail");
    };
    for problem in report.problems.iter().take(SHOWN) {
        line(problem.to_string());
    }
    if report.problems.len() > SHOWN {
        line(format!("… and {} more; `--json` lists all of them", report.problems.len() - SHOWN));
    }
    for root in &report.roots {
        let names =
            if root.names.is_empty() { String::new() } else { format!(" ({})", root.names.join(", ")) };
        let state = if report.is_sound() { "verified" } else { "damaged" };
        line(format!("{}@{}{names}: {state}", report.path, root.digest));
    }
    out
}
