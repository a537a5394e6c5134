//! `attach`: an SBOM, provenance or any other file, put beside its image, signed or not.

use super::additions::{Change, Reach, advised};
use super::resolve;
use super::sign_args::AttachArgs;
use crate::front::attachment::Attachment;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::main_image::main_member;
use crate::front::outcome::Outcome;
use crate::transfer::signatures::{self, AttachRequest};

pub(in crate::front) fn run(context: &Context<'_>, args: &AttachArgs) -> Result<Outcome, Failure> {
    let options = resolve::attach(args, context.env)?;
    let key = options.key.as_deref().map(|key| keys::signing_key(Flag::KEY, key, context.env)).transpose()?;
    let attachment = Attachment::read(&options.file, &options.kind, key.is_some())?;
    let change = Change {
        target: &options.target,
        registry: &options.registry,
        results: &options.results,
        words: ["attached", "attached already"],
        reach: Reach::Named,
    };
    change.run(context, &|locator, collection, place| {
        let member = main_member(collection, place, true)?;
        let content = attachment.content(&member.descriptor.digest, key.is_some())?;
        let request = AttachRequest {
            artifact_type: &options.kind.artifact_type,
            predicate_type: &options.kind.predicate_type,
            title: attachment.title(),
            content: &content,
            key: key.as_ref(),
            identity: options.identity.clone(),
            format: options.format,
        };
        signatures::attach(locator, collection, member, &request).map_err(advised)
    })
}
