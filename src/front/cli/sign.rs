//! `sign`: signatures, made with a private key and put beside the image, in a layout or in a registry.

use std::fmt::Write as _;

use super::resolve::{self, SignOptions, SignTarget};
use super::sign_args::SignArgs;
use super::stores::{hold, open_oci};
use crate::front::context::Context;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::main_image::stored_roots;
use crate::front::outcome::{Document, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::store::{Remark, StoreKind};
use crate::transfer::signatures::{self, Addition, SignRequest};
use crate::transfer::{self, Attached, Collection, Gathering, ImageLocator, Role};

pub(in crate::front) fn run(context: &Context<'_>, args: &SignArgs) -> Result<Outcome, Failure> {
    let options = resolve::sign(args)?;
    let key = keys::signing_key(Flag::KEY, &options.key, context.env)?;
    let request = SignRequest {
        key: &key,
        identity: options.identity.clone(),
        annotations: options.annotations.clone(),
        recursive: options.recursive,
    };
    match &options.target {
        SignTarget::Layout(path) => {
            let _held = hold(context, path)?;
            let store = open_oci(context, path)?;
            if store.remarks().iter().any(|remark| matches!(remark, Remark::Wrapped(_))) {
                return Err(Failure::refused(format!(
                    "`{}` is compressed as a whole, and cannot be changed in place",
                    path.display()
                ))
                .hint(message!("copy it to a plain one first, with ", Flag::TO_OCI_TAR.with("FILE"))));
            }
            let place = store.path().display().to_string();
            let locator = ImageLocator::over(&store, None);
            reporter::watch(&context.ui, Wording::Written, |observer| {
                let gathering = gathering(&options, Attached::default());
                let collection =
                    transfer::gather(&locator, stored_roots(store.roots()), &gathering, observer)?;
                let additions = made(signatures::sign(&locator, &collection, &request))?;
                if !additions.is_empty() {
                    match store.kind() {
                        StoreKind::OciLayoutDirectory => signatures::add_to_folder(&store, &additions)?,
                        _ => signatures::add_to_layout(
                            &store,
                            &additions,
                            options.registry.concurrency,
                            observer,
                        )?,
                    }
                }
                Ok(outcome(&place, &collection, &additions))
            })
        }
        SignTarget::Image(_) => Err(Failure::refused("images in a registry cannot be signed yet")),
    }
}

fn gathering(options: &SignOptions, attached: Attached) -> Gathering {
    Gathering { thick: options.recursive, attached, concurrency: options.registry.concurrency }
}

/// Adds the advice that only this command has.
fn made<T>(result: Result<T, transfer::TransferError>) -> Result<T, Failure> {
    result.map_err(|error| match error {
        error @ transfer::TransferError::NoIdentity { .. } => Failure::from(error).hint(message!(
            "give the name under which the image will be published with ",
            Flag::IDENTITY.with("REFERENCE")
        )),
        error @ transfer::TransferError::Claim(_) => Failure::from(error).hint(Hint::command(
            "",
            "imgrelay describe",
            " lists what is attached to an image",
        )),
        error => error.into(),
    })
}

/// Says for each root, and for each other image that got a signature, what was done.
fn outcome(place: &str, collection: &Collection, additions: &[Addition]) -> Outcome {
    let roots = collection.members.iter().filter(|member| member.role == Role::Root);
    let mut images: Vec<_> = roots.map(|member| member.descriptor.digest.clone()).collect();
    for addition in additions {
        if !images.contains(&addition.image) {
            images.push(addition.image.clone());
        }
    }
    let (mut lines, mut json) = (String::new(), Vec::new());
    for image in images {
        let made = additions.iter().find(|addition| addition.image == image);
        let state = if made.is_some() { "signed" } else { "signed already" };
        writeln!(lines, "{}@{image}: {state}", text::escaped(place))
            .expect("writing to a String cannot fail");
        json.push(serde_json::json!({
            "digest": image,
            "added": made.map(|made| made.manifest.digest()),
            "tag": made.and_then(|made| made.tag.as_ref()).map(ToString::to_string),
        }));
    }
    let json = serde_json::json!({ "place": place, "images": json });
    Outcome::Document(Document { text: lines, json, failure: None })
}
