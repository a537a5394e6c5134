//! `tag …` and `delete`: lists, resolves, adds and deletes tags, and deletes images.

use std::borrow::Cow;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::printing::Printer;
use super::resolve;
use super::tag_args::{DeleteArgs, TagAddArgs, TagDeleteArgs, TagListArgs, TagResolveArgs};
use crate::front::context::Context;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::front::outcome::{Outcome, TextDocument};
use crate::front::reporter::Warnings;
use crate::front::{registries, text};
use crate::model::{Digest, Reference, Repository, Tag, Target};
use crate::registry::RegistryError;
use crate::stream::{into_value, lock};
use crate::transfer::TransferError;

/// Endings of imgpkg's and imgrelay's internal tags.
const INTERNAL: [&str; 2] = [".imgpkg", ".imgrelay"];

pub(in crate::front) fn list(
    context: &Context<'_>,
    args: &TagListArgs,
    columns: &[String],
    json: bool,
) -> Result<Outcome, Failure> {
    let options = resolve::tag_list(args)?;
    let columns = Columns::of(columns)?;
    let client = registries::client(&options.registry, context.env, &context.ui)?;
    let mut tags = client.list_tags(&options.repository)?;
    tags.retain(|tag| options.internal || !INTERNAL.iter().any(|end| tag.ends_with(end)));
    tags.sort_unstable();
    let digests = Mutex::new(vec![None::<Digest>; tags.len()]);
    if options.digests {
        let numbered: Vec<(usize, &String)> = tags.iter().enumerate().collect();
        crate::transfer::for_each(&numbered, options.registry.concurrency, |(number, tag)| {
            let Ok(tag) = tag.parse::<Tag>() else { return Ok(()) };
            let found = client.head_manifest(&options.repository, &Target::Tag(tag))?;
            lock(&digests)[*number] = found.map(|found| found.digest);
            Ok(())
        })?;
    }
    let list =
        Listed { repository: &options.repository, tags: &tags, digests: &into_value(digests), columns };
    if json {
        list.print_json(context, options.digests)?;
    } else {
        list.print_lines(context)?;
    }
    Ok(Outcome::Printed)
}

/// The tags of a repository, with the digest of each if it was asked for.
struct Listed<'a> {
    repository: &'a Repository,
    tags: &'a [String],
    digests: &'a [Option<Digest>],
    columns: Columns,
}

impl Listed<'_> {
    /// Returns the tags, made safe to print.
    fn rows(&self) -> impl Iterator<Item = (Cow<'_, str>, Option<&Digest>)> {
        self.tags.iter().map(|tag| text::escaped(tag)).zip(self.digests.iter().map(Option::as_ref))
    }

    fn print_lines(&self, context: &Context<'_>) -> Result<(), Failure> {
        let mut printer = Printer::new(&context.ui);
        for (tag, digest) in self.rows() {
            let digest = digest.filter(|_| self.columns.digest).map(ToString::to_string);
            let cells: Vec<&str> =
                Some(&*tag).filter(|_| self.columns.name).into_iter().chain(digest.as_deref()).collect();
            printer.line(&cells.join("  "))?;
        }
        printer.finish()
    }

    /// Prints our list and, for scripts, the table of imgpkg's user interface.
    fn print_json(&self, context: &Context<'_>, digests: bool) -> Result<(), Failure> {
        let mut printer = Printer::new(&context.ui);
        let image = self.repository.to_string();
        let members = [("Blocks", Value::Null), ("Lines", json!(["Succeeded"])), ("image", image.into())];
        printer.json_open(&members, "Tables")?;
        let header = self.columns.header(digests);
        let members = [("Content", "Tags".into()), ("Header", header), ("Notes", Value::Null)];
        printer.json_open(&members, "Rows")?;
        for (tag, digest) in self.rows() {
            let mut row = serde_json::Map::new();
            row.extend(self.columns.name.then(|| ("name".to_owned(), tag.into())));
            row.extend(
                digest.filter(|_| self.columns.digest).map(|digest| ("digest".to_owned(), json!(digest))),
            );
            printer.json_item(&row.into())?;
        }
        printer.json_close()?;
        printer.json_next("tags")?;
        for (tag, digest) in self.rows() {
            printer.json_item(&match digest {
                Some(digest) => json!({ "tag": tag, "digest": digest }),
                None => json!({ "tag": tag }),
            })?;
        }
        printer.json_close()?;
        printer.finish()
    }
}

/// Which columns of the list are shown.
struct Columns {
    name: bool,
    digest: bool,
}

impl Columns {
    /// Reads the names of columns; no name means all columns.
    fn of(names: &[String]) -> Result<Self, Failure> {
        let names: Vec<String> =
            names.iter().filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase()).collect();
        if let Some(other) = names.iter().find(|name| !["name", "digest"].contains(&name.as_str())) {
            let problem = format!(" cannot be `{other}`, expected one of `name`, `digest`");
            return Err(Failure::misuse(message!(Flag::COLUMN, problem)));
        }
        let has = |column: &str| names.is_empty() || names.iter().any(|name| name == column);
        Ok(Self { name: has("name"), digest: has("digest") })
    }

    fn header(&self, digests: bool) -> Value {
        let mut header = serde_json::Map::new();
        header.extend(self.name.then(|| ("name".to_owned(), "Name".into())));
        header.extend((self.digest && digests).then(|| ("digest".to_owned(), "Digest".into())));
        header.into()
    }
}

pub(in crate::front) fn resolve(context: &Context<'_>, args: &TagResolveArgs) -> Result<Outcome, Failure> {
    let (reference, registry) = resolve::tag_resolve(args)?;
    let client = registries::client(&registry, context.env, &context.ui)?;
    let target = reference.target();
    let Some(found) = client.head_manifest(&reference.repository, &target)? else {
        return Err(Failure::refused(format!("`{}` has no manifest `{target}`", reference.repository)).hint(
            Hint::command("", format!("imgrelay tag list -i {}", reference.repository), " shows its tags"),
        ));
    };
    let line = format!("{}@{}", reference.repository, found.digest);
    let json = json!({
        "image": reference.repository.to_string(),
        "ref": line,
        "digest": found.digest,
        "mediaType": found.media_type,
    });
    Ok(Outcome::Document(TextDocument::new(format!("{line}\n"), json)))
}

pub(in crate::front) fn add(context: &Context<'_>, args: &TagAddArgs) -> Result<Outcome, Failure> {
    let (reference, tags, registry) = resolve::tag_add(args)?;
    let client = registries::client(&registry, context.env, &context.ui)?;
    let document = client.fetch_manifest(&reference.repository, &reference.target())?;
    crate::transfer::for_each(&tags, registry.concurrency, |tag| {
        let target = Target::Tag(tag.clone());
        let there = client.head_manifest(&reference.repository, &target)?;
        if there.is_none_or(|there| there.digest != *document.digest()) {
            client.push_manifest(&reference.repository, &target, &document)?;
            let digest = document.digest();
            crate::transfer::confirm(&client, &reference.repository, tag, digest, &Warnings(&context.ui))?;
        }
        Ok(())
    })?;
    let named = |tag: &Tag| Reference {
        tag: Some(tag.clone()),
        ..reference.repository.with_digest(document.digest().clone())
    };
    Ok(lines("added", &tags.iter().map(named).collect::<Vec<_>>()))
}

pub(in crate::front) fn delete(context: &Context<'_>, args: &TagDeleteArgs) -> Result<Outcome, Failure> {
    let (references, registry) = resolve::tag_delete(args)?;
    let client = registries::client(&registry, context.env, &context.ui)?;
    let result =
        crate::transfer::for_each(&references, registry.concurrency, |reference| match &reference.tag {
            Some(tag) => Ok(client.delete_tag(&reference.repository, tag)?),
            None => Ok(()),
        });
    match result {
        Ok(()) => Ok(lines("deleted", &references)),
        Err(error) => Err(cannot_delete(error, "tags")),
    }
}

pub(in crate::front) fn delete_images(context: &Context<'_>, args: &DeleteArgs) -> Result<Outcome, Failure> {
    let (references, registry) = resolve::delete(args)?;
    let client = registries::client(&registry, context.env, &context.ui)?;
    let result =
        crate::transfer::for_each(&references, registry.concurrency, |reference| match &reference.digest {
            Some(digest) => Ok(client.delete_manifest(&reference.repository, digest)?),
            None => Ok(()),
        });
    match result {
        Ok(()) => Ok(lines("deleted", &references)),
        Err(error) => Err(cannot_delete(error, "images")),
    }
}

/// Not every registry can delete, and some only when they are configured so.
fn cannot_delete(error: TransferError, what: &str) -> Failure {
    let unable =
        matches!(&error, TransferError::Registry(RegistryError::Rejected { status: 400 | 405 | 501, .. }));
    let failure = Failure::from(error);
    if unable { failure.hint(format!("this registry does not delete {what}")) } else { failure }
}

fn lines(word: &str, references: &[Reference]) -> Outcome {
    let names: Vec<String> = references.iter().map(ToString::to_string).collect();
    let text = names.iter().map(|name| format!("{name}\n")).collect();
    Outcome::Document(TextDocument::new(text, json!({ word: names })))
}
