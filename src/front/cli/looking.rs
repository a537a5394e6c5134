//! Shared by `ls`, `cat` and `diff`: reads an image's files, and describes files.

use std::fmt::Write as _;

use super::open_source::{Depth, OpenedSource};
use super::resolve::LookedAt;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::tar::{FileTree, Node, NodeKind};
use crate::transfer::{self, Attached, ImageListing, ImageLocator, ImageSource as _};

/// Lists the files of an image, and passes them on with the name of their place.
pub(super) fn look<T>(
    context: &Context<'_>,
    image: &LookedAt,
    work: impl FnOnce(&ImageListing, &str, &ImageLocator<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let opened =
        OpenedSource::open(context, &image.source, &image.registry, false)?.select(image.select.as_ref())?;
    opened.with(|locator| {
        let listing = reporter::watch(&context.ui, Wording::Fetched, |observer| {
            let collection = opened.gather(locator, ALONE, &image.registry, observer)?;
            let root = opened.main_member(&collection, locator, true)?.descriptor.clone();
            let concurrency = image.registry.concurrency;
            Ok::<_, Failure>(transfer::list_image(
                locator,
                &root,
                image.platform.as_ref(),
                concurrency,
                observer,
            )?)
        })?;
        work(&listing, &locator.label(), locator)
    })
}

/// Gathers only the image itself; a bundle is an image too.
pub(super) const ALONE: Depth = Depth {
    thick: false,
    inflate: false,
    attached: Attached { cosign: false, referrers: false, locations: false },
    bundles_as_images: true,
};

/// Resolves a typed path: follows links in it, and the last part only if a `/` follows.
pub(super) fn place_of(tree: &FileTree, place: &str, path: &[u8]) -> Result<Vec<u8>, Failure> {
    let path_of = || {
        let cleaned = crate::tar::paths::clean(path);
        if path.ends_with(b"/") || cleaned.ends_with(b"..") {
            tree.follow(&cleaned)
        } else {
            tree.place(&cleaned)
        }
    };
    let found = path_of().map_err(|_| too_many_links(place, path))?;
    match tree.get(&found) {
        Some(_) => Ok(found),
        None => Err(absent(place, path)),
    }
}

/// Makes the failure for a path that does not exist.
pub(super) fn absent(place: &str, path: &[u8]) -> Failure {
    Failure::refused(format!("the image in `{place}` has no `{}`", shown(path)))
}

/// Makes the failure for links that lead in a circle.
pub(super) fn too_many_links(place: &str, path: &[u8]) -> Failure {
    let (path, most) = (shown(path), crate::model::limits::LINKS);
    Failure::refused(format!("`{path}` in `{place}` leads through more than {most} links"))
}

/// Returns a path or link in printable form: control characters escaped, and bytes that are no text as `\xff`.
pub(super) fn shown(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.push_str(&text::escaped(chunk.valid()));
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// Returns type and permissions as `ls -l` has them.
pub(super) fn mode_text(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::Directory => 'd',
        NodeKind::File => '-',
        NodeKind::Link(_) => 'l',
        NodeKind::HardLink(_) => 'h',
        NodeKind::CharacterDevice => 'c',
        NodeKind::BlockDevice => 'b',
        NodeKind::Fifo => 'p',
    };
    let mut out = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = node.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (node.mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    out
}

/// Returns the name of a kind in JSON.
pub(super) fn kind_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "directory",
        NodeKind::File => "file",
        NodeKind::Link(_) => "symlink",
        NodeKind::HardLink(_) => "broken-hardlink",
        NodeKind::CharacterDevice => "character-device",
        NodeKind::BlockDevice => "block-device",
        NodeKind::Fifo => "fifo",
    }
}

/// Describes a file as JSON.
pub(super) fn file_json(path: &[u8], node: &Node) -> serde_json::Value {
    let mut json = node_json(node);
    json["path"] = path_json(path).into();
    json["layer"] = (u64::from(node.layer) + 1).into();
    json
}

/// Describes a file without its path and layer as JSON.
pub(super) fn node_json(node: &Node) -> serde_json::Value {
    let mut json = serde_json::json!({
        "type": kind_name(&node.kind),
        "mode": format!("{:04o}", node.mode),
        "uid": node.owner.uid,
        "gid": node.owner.gid,
        "size": node.content.size,
        "mtime": node.mtime,
    });
    if let Some(sum) = node.content.sha256 {
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        json["sha256"] = hex.into();
    }
    if let NodeKind::Link(target) | NodeKind::HardLink(target) = &node.kind {
        json["target"] = shown_json(target).into();
    }
    json
}

/// Returns a path of the image for JSON.
pub(super) fn path_json(path: &[u8]) -> String {
    format!("/{}", shown_json(path))
}

/// Returns bytes as text; those that are no text as `\xff`.
pub(super) fn shown_json(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) => text.to_owned(),
        Err(_) => shown(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_ls() {
        for (kind, mode, expected) in [
            (NodeKind::Directory, 0o755, "drwxr-xr-x"),
            (NodeKind::Directory, 0o1777, "drwxrwxrwt"),
            (NodeKind::File, 0o4755, "-rwsr-xr-x"),
            (NodeKind::File, 0o2640, "-rw-r-S---"),
            (NodeKind::File, 0o1000, "---------T"),
            (NodeKind::File, 0o4000, "---S------"),
            (NodeKind::Link(Vec::new()), 0o777, "lrwxrwxrwx"),
            (NodeKind::Fifo, 0o010, "p-----x---"),
        ] {
            assert_eq!(mode_text(&Node { kind, mode, ..Node::IMPLIED }), expected);
        }
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(shown(b"a\n\x1b[31m\xff\xc3\xa9\xe2\x80\xae"), "a\\n\\u{1b}[31m\\xffé\\u{202e}");
        assert_eq!(path_json(b"a\n"), "/a\n", "JSON has its own escapes");
        assert_eq!(path_json(b"a\xff"), "/a\\xff");
    }
}
