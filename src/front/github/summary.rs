//! The step's summary: what was built or pushed, as GitHub's Markdown.

use std::fmt::Write as _;

use crate::front::outcome::{ImageKind, ImageOutcome};
use crate::front::text;

/// Tags that are shown before the list is cut.
const TAGS: usize = 20;

/// Returns the summary of one image that a command made.
pub(super) fn made(image: &ImageOutcome) -> String {
    markdown(image, if image.repository.is_some() { "pushed" } else { "built" })
}

/// Returns the summary of one image; `done` is the verb of the command.
pub(super) fn markdown(image: &ImageOutcome, done: &str) -> String {
    let mut out = format!("### imgrelay: {} {done}\n\n| | |\n|---|---|\n", image.kind.name());
    let mut row = |name: &str, value: &str| {
        writeln!(out, "| {name} | {value} |").expect("writing to a String cannot fail");
    };
    row("Digest", &code(&image.digest.to_string()));
    if let Some(repository) = &image.repository {
        row("Repository", &code(&repository.to_string()));
    }
    if !image.tags.is_empty() {
        let mut tags: Vec<String> = image.tags.iter().take(TAGS).map(|tag| code(tag.as_str())).collect();
        if image.tags.len() > TAGS {
            tags.push(format!("and {} more", image.tags.len() - TAGS));
        }
        row("Tags", &tags.join(", "));
    }
    if !image.platforms.is_empty() {
        let names: Vec<String> = image.platform_names().into_iter().map(code).collect();
        row("Platforms", &names.join(", "));
    }
    if let Some(path) = &image.path {
        row("File", &code(&path.to_string_lossy()));
    }
    row("Size", &text::bytes(image.size));
    if let Some(layers) = image.layers {
        row("Layers", &layers.to_string());
    }
    if let Some(repository) = &image.repository {
        let pull = match image.kind {
            ImageKind::Bundle => format!("imgrelay pull -b {repository}@{} -o OUT", image.digest),
            ImageKind::Image | ImageKind::Index | ImageKind::App => {
                format!("docker pull {repository}@{}", image.digest)
            }
        };
        write!(out, "\n```sh\n{pull}\n```\n").expect("writing to a String cannot fail");
    }
    out.push('\n');
    out
}

/// Returns a text as code that cannot end its cell or itself, without HTML.
fn code(text: &str) -> String {
    let mut out = String::from("<code>");
    for character in text::escaped(text).chars() {
        // Characters with a meaning in Markdown or HTML are written as numbers.
        if character.is_ascii_punctuation() && !matches!(character, '.' | '/' | ',') {
            write!(out, "&#{};", u32::from(character)).expect("writing to a String cannot fail");
        } else {
            out.push(character);
        }
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::outcome::tests::pushed;

    #[test]
    fn a_summary_says_what_was_pushed_and_how_to_get_it() {
        let image = pushed();
        let text = made(&image);
        let digest = image.digest.to_string();
        for part in [
            "### imgrelay: bundle pushed\n",
            &format!("| Digest | <code>{}</code> |\n", digest.replace(':', "&#58;")),
            "| Tags | <code>v1</code>, <code>latest</code> |\n",
            "| Size | 1.2 KiB |\n",
            "| Layers | 1 |\n",
            &format!("imgrelay pull -b reg.example/team/app@{digest} -o OUT\n"),
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_file_name_cannot_leave_its_cell() {
        let path = Some("a|b`</code><img src=x>\n\n# x".into());
        let text = made(&ImageOutcome { repository: None, tags: Vec::new(), path, ..pushed() });
        let row = text.lines().find(|line| line.starts_with("| File |")).unwrap();
        assert_eq!(
            row,
            "| File | <code>a&#124;b&#96;&#60;/code&#62;&#60;img src&#61;x&#62;&#92;n&#92;n&#35; x</code> |"
        );
        assert!(!text.contains("```"), "{text}");
    }

    #[test]
    fn many_tags_are_cut() {
        let tags = (0..25).map(|n| format!("v{n}").parse().unwrap()).collect();
        let text = made(&ImageOutcome { tags, ..pushed() });
        assert!(text.contains("<code>v19</code>, and 5 more |"), "{text}");
    }
}
