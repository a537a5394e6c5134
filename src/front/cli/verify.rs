//! `verify`: recomputes every digest, size and `diff_id` of a tar or folder, and reports every difference in one run;
//! with keys it verifies signatures, also those of an image in a registry.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::args::VerifyArgs;
use super::open_source::{Depth, OpenedSource};
use super::resolve::{self, Source, VerifyOptions};
use super::stores::{
    about_version, complete, expect_oci, open_depot_image, open_to_inspect, open_url_to_inspect,
};
use super::without::needed;
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::main_image::{choose_one, only_root};
use crate::front::outcome::{ImageOutcome, Outcome, ReportedPlace, TextDocument};
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::front::verification;
use crate::front::{system, text};
use crate::sign::PublicKey;
use crate::transfer::signatures::{Trust, verify_signatures};
use crate::transfer::verify::{Advice, VerifyReport, verify};
use crate::transfer::{self, Attached, DocumentKind};

/// Most warnings of one kind that are printed.
const WARNED: usize = 10;
/// The page that says what each program reads.
const READERS_PAGE: &str = "docs/formats/layout-tar.md";
/// Problems named in the failure's text; all of them are in the JSON.
const SHOWN: usize = 100;

pub(in crate::front) fn run(context: &Context<'_>, args: &VerifyArgs) -> Result<Outcome, Failure> {
    let options = resolve::verify(args, context.env)?;
    let keys = keys::public_keys(Flag::KEY, &options.keys, context.env)?;
    let to = match &options.source {
        Source::Tar(path) | Source::OciTar(path) => Some(path.as_path()),
        Source::WebTar(_) | Source::Store(_) | Source::Bundle(_) | Source::Image(_) | Source::Lock(_) => None,
    };
    result_file::report(&options.results, to, || verified(context, &options, keys))
}

fn verified(
    context: &Context<'_>,
    options: &VerifyOptions,
    keys: Vec<PublicKey>,
) -> Result<TextDocument, Failure> {
    let mut version = None;
    let mut place = ReportedPlace::Store;
    let mut store = match &options.source {
        Source::Store(reference) => {
            let opened = open_depot_image(context, reference, &options.registry)?;
            version = opened.version;
            opened.store
        }
        Source::WebTar(url) => open_url_to_inspect(context, url, &options.registry)?,
        Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => {
            place = ReportedPlace::Tar(path.clone());
            let opened = open_to_inspect(context, path)?;
            match &options.source {
                Source::OciTar(_) => expect_oci(opened, path)?,
                _ => opened,
            }
        }
        Source::Bundle(_) | Source::Image(_) => return in_registry(context, options, keys),
    };
    let expected = options.expected_digest.as_ref();
    if let Some(selector) = transfer::selector_for(&store, options.select.as_ref(), expected) {
        let root = selector.find(&store)?;
        store.keep_only(root);
    }
    complete(context, &mut store, &options.against, &options.registry)?;
    let report = reporter::watch(&context.ui, Wording::Fetched, |observer| {
        verify(&store, system::threads(), observer)
    })?;
    warn(context, &report);
    let mut failure = None;
    if expected.is_some() {
        let root = only_root(&store).map_err(|failure| failure.hint(choose_one()))?;
        let checked = transfer::check_expected(expected, &root.image.descriptor.digest);
        failure = checked.err().map(Failure::from);
    }
    if !report.needs.is_empty() && failure.is_none() {
        let message = format!("`{}` needs {}", report.path, needed(&report.needs));
        failure = Some(
            Failure::difference(message)
                .hint(message!("name what has them with ", Flag::AGAINST.with("WHAT"))),
        );
    }
    if !report.is_sound() {
        let found = text::counted(report.problems.len() as u64, "problem");
        let damaged = Failure::difference(format!("`{}` is damaged: {found} found", report.path));
        failure = Some(match &version {
            Some(version) => about_version(damaged.hint("push the image again"), version),
            None => damaged.hint("make or fetch the file again"),
        });
    }
    let mut json = serde_json::to_value(&report)
        .map_err(|error| Failure::refused(format!("cannot write the report as JSON: {error}")))?;
    let mut text = summary(&report);
    if failure.is_none() && !keys.is_empty() {
        let (identity, require) = (options.identity.clone(), options.require.clone());
        let verifications = verification::of_store(&store, &Trust { keys, identity, require })?;
        text.push_str(&verification::lines(&verifications));
        json["signatures"] = verification::json(&verifications);
        failure = verification::failure(&verifications);
    }
    let image = match (&failure, only_root(&store)) {
        (None, Ok(root)) => {
            let names = root.image.names.iter().filter_map(|name| Some(name.tag.as_ref()?.to_string()));
            let image = transfer::describe(&store, &root.image.descriptor, names.collect())?;
            Some(Box::new(ImageOutcome::of_description(&image, place)))
        }
        _ => None,
    };
    Ok(TextDocument { text, json, failure, image })
}

/// Verifies the signatures of an image in a registry; does not read its blobs.
fn in_registry(
    context: &Context<'_>,
    options: &VerifyOptions,
    keys: Vec<PublicKey>,
) -> Result<TextDocument, Failure> {
    let opened = OpenedSource::open(context, &options.source, &options.registry, true)?;
    let attached = verification::attached(Attached::default(), Some(&Trust::of(Vec::new())));
    let depth = Depth { thick: false, inflate: false, attached, bundles_as_images: true };
    let (identity, require) = (options.identity.clone(), options.require.clone());
    let trust = Trust { keys, identity, require };
    let (verifications, digest) = opened.with(|locator| {
        reporter::watch(&context.ui, Wording::Fetched, |observer| {
            let collection = opened.gather(locator, depth, &options.registry, observer)?;
            let digest = opened.main_member(&collection, locator, false)?.descriptor.digest.clone();
            transfer::check_expected(options.expected_digest.as_ref(), &digest)?;
            Ok::<_, Failure>((verify_signatures(locator, &collection, &trust)?, digest))
        })
    })?;
    let place = verifications.first().map(|one| one.place.clone()).unwrap_or_default();
    let failure = verification::failure(&verifications);
    let mut text = verification::lines(&verifications);
    if failure.is_none() {
        writeln!(text, "{}@{digest}: verified", text::escaped(&place))
            .expect("writing to a String cannot fail");
    }
    let json = json!({ "image": place, "digest": digest, "signatures": verification::json(&verifications) });
    Ok(TextDocument { failure, ..TextDocument::new(text, json) })
}

/// Prints the warnings: one line about programs that do not load the tar, and the first of each other kind.
///
/// A bundle is read by imgpkg and imgrelay, and no container engine loads it; `--json` has every warning.
fn warn(context: &Context<'_>, report: &VerifyReport) {
    let (about_readers, others): (Vec<&Advice>, Vec<&Advice>) =
        report.warnings.iter().partition(|warning| is_about_readers(warning));
    if !report.roots.iter().any(|root| root.kind == DocumentKind::Bundle) {
        readers_line(&about_readers).iter().for_each(|line| context.ui.warning(line));
    }
    let mut of_kind: HashMap<_, usize> = HashMap::new();
    for warning in others {
        let count = of_kind.entry(std::mem::discriminant(warning)).or_default();
        *count += 1;
        if *count <= WARNED {
            context.ui.warning(&warning.to_string());
        }
    }
    let more: usize = of_kind.values().map(|count| count.saturating_sub(WARNED)).sum();
    if more > 0 {
        let advice = message!(Flag::JSON, " has all of them");
        context.ui.warning_with(&format!("… and {more} more warnings like these"), Some(advice));
    }
}

/// Tells whether a warning concerns only some programs; missing images concern every reader.
fn is_about_readers(warning: &Advice) -> bool {
    !warning.readers().is_empty() && !matches!(warning, Advice::PlatformsAbsent { .. })
}

/// Names the programs that do not load the tar, each reason once.
fn readers_line(warnings: &[&Advice]) -> Option<String> {
    let mut reasons: Vec<(&[&str], String)> = Vec::new();
    for warning in warnings {
        let reason = (warning.readers(), warning.short());
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let reasons: Vec<String> =
        reasons.iter().map(|(readers, what)| format!("{} ({what})", readers.join(", "))).collect();
    (!reasons.is_empty()).then(|| {
        format!(
            "not every program loads this tar as it is: {}; `{READERS_PAGE}` says which and why",
            reasons.join("; ")
        )
    })
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
