//! `verify`: recomputes every digest, size and `diff_id` of a tar or folder, and reports every difference in one run;
//! with keys it judges signatures, also those of an image in a registry.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::args::VerifyArgs;
use super::open_source::{Depth, OpenedSource};
use super::resolve::{self, Source, VerifyOptions};
use super::stores::{about_version, expect_oci, open_depot_image, open_store, open_to_inspect};
use super::without::needed;
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::judgement;
use crate::front::keys;
use crate::front::main_image::{choose_one, only_root};
use crate::front::outcome::{Document, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::{system, text};
use crate::sign::PublicKey;
use crate::transfer::signatures::{Trust, judge};
use crate::transfer::verify::{Advice, VerifyReport, verify};
use crate::transfer::{self, Attached};

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
            let opened = open_depot_image(context, reference, &options.registry)?;
            version = opened.version;
            opened.store
        }
        Source::Bundle(_) | Source::Image(_) => return in_registry(context, options, keys),
    };
    if let Some(selector) = &options.select {
        let root = selector.find(&store)?.clone();
        store.keep_only(root);
    }
    let against = options.against.iter().map(|path| open_store(context, path));
    store.complete_from(against.collect::<Result<_, _>>()?);
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
    if !report.needs.is_empty() && failure.is_none() {
        let message = format!("`{}` needs {}", report.path, needed(&report.needs));
        failure = Some(
            Failure::difference(message)
                .hint(message!("name what has them with ", Flag::AGAINST.with("FILE"))),
        );
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

/// Judges the signatures of an image in a registry; its blobs are not read.
fn in_registry(
    context: &Context<'_>,
    options: VerifyOptions,
    keys: Vec<PublicKey>,
) -> Result<Outcome, Failure> {
    let opened = OpenedSource::open(context, &options.source, &options.registry, true)?;
    let attached = judgement::attached(Attached::default(), Some(&Trust::of(Vec::new())));
    let depth = Depth { thick: false, inflate: false, attached, bundles_as_images: true };
    let trust = Trust { keys, identity: options.identity, require: options.require };
    let (judged, digest) = opened.with(|locator| {
        reporter::watch(&context.ui, Wording::Fetched, |observer| {
            let collection = opened.gather(locator, depth, &options.registry, observer)?;
            let digest = opened.main_member(&collection, locator, false)?.descriptor.digest.clone();
            transfer::check_expected(options.expected_digest.as_ref(), &digest)?;
            Ok::<_, Failure>((judge(locator, &collection, &trust)?, digest))
        })
    })?;
    let place = judged.first().map(|judgement| judgement.place.clone()).unwrap_or_default();
    let failure = judgement::failure(&judged);
    let mut text = judgement::lines(&judged);
    if failure.is_none() {
        writeln!(text, "{}@{digest}: verified", text::escaped(&place))
            .expect("writing to a String cannot fail");
    }
    let json = json!({ "place": place, "digest": digest, "signatures": judgement::json(&judged) });
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
        let state = match (report.is_sound(), report.needs.is_empty()) {
            (true, true) => "verified",
            (true, false) => "incomplete",
            (false, _) => "damaged",
        };
        line(format!("{}@{}{names}: {state}", report.path, root.digest));
    }
    out
}
