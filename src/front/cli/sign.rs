//! `sign`: signatures, made with a private key and put beside the image, in a layout or in a registry.

use super::additions::{Change, Reach, advised};
use super::resolve;
use super::sign_args::SignArgs;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::outcome::Outcome;
use crate::transfer::signatures::{self, SignRequest};

pub(in crate::front) fn run(context: &Context<'_>, args: &SignArgs) -> Result<Outcome, Failure> {
    let options = resolve::sign(args, context.env)?;
    let key = keys::signing_key(Flag::KEY, &options.key, context.env)?;
    let request = SignRequest {
        key: &key,
        identity: options.identity.clone(),
        annotations: options.annotations.clone(),
        recursive: options.recursive,
        format: options.format,
    };
    let change = Change {
        target: &options.target,
        registry: &options.registry,
        results: &options.results,
        words: ["signed", "signed already"],
        reach: if options.recursive { Reach::Bundles } else { Reach::Named },
    };
    change.run(context, &|locator, collection, _| {
        signatures::sign(locator, collection, &request).map_err(advised)
    })
}
