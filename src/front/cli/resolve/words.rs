//! `--entrypoint` and `--cmd`: a JSON array, or words between blanks; what only a shell understands is refused.

/// Characters that a shell reads in another way than a program does.
const OF_SHELLS: &[char] =
    &['$', '`', '|', '&', ';', '<', '>', '(', ')', '{', '}', '[', ']', '*', '?', '~', '#', '!', '\\', '\n'];

/// Why a text is no list of words, with the array to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotWords {
    /// What is wrong.
    pub(super) problem: String,
    /// The array that the text would be.
    pub(super) instead: Option<String>,
}

/// Reads a JSON array of texts, or words.
///
/// Errors: an array that is none, an empty program, quotes, shell syntax.
pub(super) fn words(text: &str) -> Result<Vec<String>, NotWords> {
    let wrong = |problem: &str, instead| NotWords { problem: problem.to_owned(), instead };
    let text = text.trim();
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|_| wrong("it is not a JSON array of texts", None));
    }
    let array = |words: &[&str]| serde_json::to_string(words).ok();
    if let Some(found) = text.chars().find(|c| OF_SHELLS.contains(c)) {
        let problem = format!("`{}` is shell syntax, and no shell reads it", found.escape_default());
        return Err(NotWords { problem, instead: array(&["/bin/sh", "-c", text]) });
    }
    if text.contains(['"', '\'']) {
        let words = unquoted(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return Err(wrong("quotes are shell syntax, and no shell reads them", array(&words)));
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Splits as a shell would that knows quotes and blanks only.
fn unquoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_words_are_read() {
        for (text, expected) in [
            ("/srv", &["/srv"][..]),
            (" /srv  -v --port=8080 ", &["/srv", "-v", "--port=8080"]),
            (r#"["/srv","a b",""]"#, &["/srv", "a b", ""]),
            ("[]", &[]),
            ("", &[]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn shell_syntax_is_refused_with_the_array_to_write() {
        for (text, problem, instead) in [
            ("/srv $PORT", "`$` is shell", Some(r#"["/bin/sh","-c","/srv $PORT"]"#)),
            ("a && b", "`&` is shell", Some(r#"["/bin/sh","-c","a && b"]"#)),
            (r#"/srv "a b" c''d ''"#, "quotes are", Some(r#"["/srv","a b","cd",""]"#)),
            ("[/srv]", "not a JSON array", None),
            (r#"["a",1]"#, "not a JSON array", None),
        ] {
            let error = words(text).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {}", error.problem);
            assert_eq!(error.instead.as_deref(), instead, "{text}");
        }
    }
}
