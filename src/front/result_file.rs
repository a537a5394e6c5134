//! Result files: `--result FORMAT:PATH` writes the result of a command in a form that a CI system reads.
//!
//! Files are written after the work is confirmed, never before.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::env::{self, Env};
use super::failure::{Failure, message};
use super::flag::Flag;
use super::outcome::{ImageOutcome, Outcome, TextDocument};
use super::text;
use crate::model::invisible::{escape_in_json, is_invisible};
use crate::stream::{AtomicFile, FileError};

/// The variables that `--result dotenv` may write; none of them may be a flag's variable.
pub const DOTENV_KEYS: &[&str] = &[
    "IMGRELAY_DIGEST",
    "IMGRELAY_KIND",
    "IMGRELAY_MEDIA_TYPE",
    "IMGRELAY_PATH",
    "IMGRELAY_REF",
    "IMGRELAY_REFS",
    "IMGRELAY_REPOSITORY",
    "IMGRELAY_SIZE",
    "IMGRELAY_TAGS",
];
/// Permissions of result files, before the umask: other users of a CI system's volume read them.
const MODE: u32 = 0o644;

/// Most bytes of a path in a Tekton result, counted in its JSON form.
///
/// Tekton accepts 4,096 bytes for all results of a step with its own JSON around them; if there are more, it fails a
/// successful step. The other results have at most 1,000 bytes: digests, and names as long as registries take them.
const TEKTON_PATH_BYTES: usize = 3000;
/// Where Tekton reads results.
const TEKTON_FOLDER: &str = "/tekton";

/// The form of a result file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document and a line break.
    Json,
    /// `KEY=value` lines as GitLab's dotenv reports.
    Dotenv,
    /// The digest alone, without a line break.
    Digest,
    /// `repository:tag` alone, without a line break; for an image in a registry.
    Url,
    /// `repository@digest` alone, without a line break; for an image in a registry.
    Ref,
    /// The path of the tar or folder alone, without a line break.
    Path,
    /// Step outputs appended to GitHub's output file.
    Github,
    /// A folder with one file per result, as Tekton reads it.
    Tekton,
}

impl Format {
    const ALL: [(&'static str, Self); 8] = [
        ("json", Self::Json),
        ("dotenv", Self::Dotenv),
        ("digest", Self::Digest),
        ("url", Self::Url),
        ("ref", Self::Ref),
        ("path", Self::Path),
        ("github", Self::Github),
        ("tekton", Self::Tekton),
    ];

    fn name(self) -> &'static str {
        let (name, _) = Self::ALL.iter().find(|(_, format)| *format == self).expect("all formats are listed");
        name
    }
}

/// A stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// A requested result file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFile {
    /// Its form.
    pub format: Format,
    /// Where it is written; a folder for [`Format::Tekton`].
    pub path: PathBuf,
}

impl ResultFile {
    /// Parses `FORMAT:PATH`; `github` alone takes the path from `GITHUB_OUTPUT`.
    ///
    /// Errors: misuse that lists the formats.
    pub fn parse(text: &str, env: &Env) -> Result<Self, Failure> {
        let (name, path) = match text.split_once(':') {
            Some((name, path)) => (name, Some(path).filter(|path| !path.is_empty())),
            None => (text, None),
        };
        let Some((_, format)) = Format::ALL.into_iter().find(|(known, _)| *known == name) else {
            let known = text::quoted_list(Format::ALL.map(|(known, _)| known));
            let failure =
                Failure::misuse(format!("result format `{name}` is unknown, expected one of {known}"));
            return Err(match text::nearest(name, Format::ALL.map(|(known, _)| known)) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint("a result is written as `FORMAT:PATH`, such as `json:result.json`"),
            });
        };
        if let Some(path) = path {
            return Ok(Self { format, path: path.into() });
        }
        match (format, env.path(env::GITHUB_OUTPUT)) {
            (Format::Github, Some(path)) => Ok(Self { format, path }),
            (Format::Github, None) => {
                Err(Failure::misuse("result `github` has no path, and `GITHUB_OUTPUT` is not set"))
            }
            _ => Err(Failure::misuse(format!("result `{name}` has no path, expected `{name}:PATH`"))),
        }
    }

    /// Returns the stream of this process that the path names, if it names one.
    fn stream(&self) -> Option<Stream> {
        let path = self.path.as_os_str().as_encoded_bytes();
        match path {
            b"/dev/stdout" | b"/dev/fd/1" | b"/proc/self/fd/1" => Some(Stream::Output),
            b"/dev/stderr" | b"/dev/fd/2" | b"/proc/self/fd/2" => Some(Stream::Error),
            _ => None,
        }
    }

    /// Refuses a path that cannot be written, before the work begins.
    fn check(&self, to: Option<&Path>) -> Result<(), Failure> {
        if self.stream() == Some(Stream::Output) && to == Some(Path::new("-")) {
            let shown = self.path.display();
            return Err(Failure::misuse(format!(
                "cannot write result `{shown}`: the tar goes to standard output"
            ))
            .hint("name a file, or `/dev/stderr`"));
        }
        let is_literal =
            matches!(self.format, Format::Path | Format::Dotenv | Format::Github | Format::Tekton);
        let to_text = to.map(Path::to_string_lossy).unwrap_or_default();
        if is_literal && to_text.contains(is_invisible) {
            return Err(Failure::misuse(format!(
                "the path `{}` has a character that is not visible, which result `{}` cannot escape",
                text::escaped(&to_text),
                self.format.name()
            ))
            .hint("choose another path, or use `json`"));
        }
        let for_tekton = match self.format {
            Format::Tekton => true,
            Format::Path => self.path.starts_with(TEKTON_FOLDER),
            _ => false,
        };
        let bytes = to.map_or(0, |to| serde_json::Value::from(to.to_string_lossy()).to_string().len());
        if for_tekton && bytes > TEKTON_PATH_BYTES {
            return Err(Failure::misuse(format!(
                "the path of the tar has {bytes} bytes as JSON, expected at most {TEKTON_PATH_BYTES}, because all \
                 results of a step together may have 4096"
            ))
            .hint("choose a shorter path"));
        }
        let folder = match self.format {
            Format::Tekton => self.path.as_path(),
            _ => self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        };
        if folder.is_dir() {
            return Ok(());
        }
        let shown = self.path.display();
        Err(Failure::refused(format!(
            "cannot write result `{shown}`: `{}` is not a folder",
            folder.display()
        ))
        .hint("create the folder first"))
    }

    fn write_json(&self, json: &str) -> Result<(), Failure> {
        self.replace(&self.path, &format!("{json}\n"))
    }

    fn write(&self, outcome: &ImageOutcome) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.write_json(&outcome.json()),
            Format::Digest => self.replace(&self.path, &outcome.digest.to_string()),
            Format::Url => self.replace_if_any(outcome.url(), "is in no registry"),
            Format::Ref => self.replace_if_any(outcome.reference(), "is in no registry"),
            Format::Path => self.replace_if_any(outcome.path_text(), "is in no file"),
            Format::Dotenv => self.replace(&self.path, &dotenv(outcome)?),
            Format::Github => append(&self.path, &github(outcome, &delimiter())?),
            Format::Tekton => tekton(outcome)
                .iter()
                .try_for_each(|(name, value)| self.replace(&self.path.join(name), value)),
        }
    }

    fn replace_if_any(&self, value: Option<String>, otherwise: &str) -> Result<(), Failure> {
        match value {
            Some(value) => self.replace(&self.path, &value),
            None => Err(Failure::refused(format!(
                "nothing to write to `{}`: the image {otherwise}",
                self.path.display()
            ))),
        }
    }

    fn replace(&self, path: &Path, content: &str) -> Result<(), Failure> {
        let failed = |error| Failure::from(FileError::io("write", path, error));
        match self.stream() {
            Some(Stream::Output) => return std::io::stdout().write_all(content.as_bytes()).map_err(failed),
            Some(Stream::Error) => return std::io::stderr().write_all(content.as_bytes()).map_err(failed),
            None => {}
        }
        // A pipe or a device is written to; only a regular file can be replaced.
        let is_pipe = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        if is_pipe {
            let file = std::fs::OpenOptions::new().write(true).open(path);
            return file.and_then(|mut file| file.write_all(content.as_bytes())).map_err(failed);
        }
        Ok(AtomicFile::write_whole(path, content.as_bytes(), MODE)?)
    }
}

/// Runs work that produces an image, then writes the result files.
///
/// `to` is the tar or folder that is written, if one is.
/// Errors: files that cannot be written are refused before the work begins, as far as that can be known.
pub fn produce(
    files: &[ResultFile],
    to: Option<&Path>,
    work: impl FnOnce() -> Result<ImageOutcome, Failure>,
) -> Result<Outcome, Failure> {
    files.iter().try_for_each(|file| file.check(to))?;
    let outcome = work()?;
    write(files, &outcome)?;
    Ok(Outcome::Image(Box::new(outcome)))
}

/// Runs work that reports about images, then writes the result files unless the report is that of a failure.
///
/// `json` gets the report; every other form the one image that it is about.
/// Errors: as [`produce`]; another form than `json` for a report about several images.
pub fn report(
    files: &[ResultFile],
    to: Option<&Path>,
    work: impl FnOnce() -> Result<TextDocument, Failure>,
) -> Result<Outcome, Failure> {
    files.iter().try_for_each(|file| file.check(to))?;
    let document = work()?;
    if document.failure.is_none() {
        for file in files {
            match (file.format, document.image.as_deref()) {
                (Format::Json, _) => file.write_json(&escape_in_json(&document.json.to_string()))?,
                (_, Some(image)) => file.write(image)?,
                (_, None) => {
                    let name = file.format.name();
                    return Err(Failure::refused(format!(
                        "result `{name}` is for one image, and the report has several"
                    ))
                    .hint(message!(Flag::RESULT.with("json:PATH"), " holds all of them")));
                }
            }
        }
    }
    Ok(Outcome::Document(document))
}

/// Writes all result files.
///
/// Errors: a file that cannot be written; the hint says that the image itself is done.
pub(super) fn write(files: &[ResultFile], outcome: &ImageOutcome) -> Result<(), Failure> {
    files
        .iter()
        .try_for_each(|file| file.write(outcome))
        .map_err(|failure| failure.hint(format!("the image itself is done: {}", outcome.line())))
}

/// Returns `KEY=value` lines; values are taken literally by GitLab, so there are no quotes.
///
/// Source: GitLab, "artifacts:reports:dotenv": no quotes, no line breaks, no blank lines, no comments; a larger report
/// fails the job. Many tags make it large, so their full names are left out first, then the tags.
pub(super) fn dotenv(outcome: &ImageOutcome) -> Result<String, Failure> {
    const MOST: usize = 5 * 1024;
    let leave_out: [&[&str]; 3] = [&[], &["IMGRELAY_REFS"], &["IMGRELAY_REFS", "IMGRELAY_TAGS"]];
    let mut lines = String::new();
    for without in leave_out {
        lines = dotenv_without(outcome, without)?;
        if lines.len() <= MOST {
            break;
        }
    }
    Ok(lines)
}

fn dotenv_without(outcome: &ImageOutcome, without: &[&str]) -> Result<String, Failure> {
    let refs = outcome.refs().join(",");
    let values = [
        ("IMGRELAY_DIGEST", Some(outcome.digest.to_string())),
        ("IMGRELAY_KIND", Some(outcome.kind.name().to_owned())),
        ("IMGRELAY_MEDIA_TYPE", Some(outcome.media_type.clone())),
        ("IMGRELAY_PATH", outcome.path_text()),
        ("IMGRELAY_REF", outcome.reference()),
        ("IMGRELAY_REFS", Some(refs).filter(|refs| !refs.is_empty())),
        ("IMGRELAY_REPOSITORY", outcome.repository.as_ref().map(ToString::to_string)),
        ("IMGRELAY_SIZE", Some(outcome.size.to_string())),
        ("IMGRELAY_TAGS", outcome.tags_joined(",")),
    ];
    let mut lines = String::new();
    let given = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
    for (key, value) in given.filter(|(key, _)| !without.contains(key)) {
        if value.contains(is_invisible) {
            let value = text::escaped(&value);
            return Err(Failure::refused(format!(
                "`{key}` cannot be written as dotenv: `{value}` has a character that is not visible"
            )));
        }
        writeln!(lines, "{key}={value}").expect("writing to a String cannot fail");
    }
    Ok(lines)
}

/// Returns step outputs, each between two lines of a delimiter that no value can contain.
///
/// Source: GitHub's runner, FileCommandManager; `name=value` would let a line break in a value make a new output.
pub(super) fn github(outcome: &ImageOutcome, delimiter: &str) -> Result<String, Failure> {
    let refs = serde_json::to_string(&outcome.refs()).expect("strings are always JSON");
    let names: Vec<_> = outcome.platform_names().into_iter().map(text::escaped).collect();
    let values = [
        ("digest", Some(outcome.digest.to_string())),
        ("image", outcome.repository.as_ref().map(ToString::to_string)),
        ("ref", outcome.reference()),
        ("tags", outcome.tags_joined("\n")),
        ("refs", Some(refs)),
        ("path", outcome.path_text()),
        ("size", Some(outcome.size.to_string())),
        // The names are text from outside; each is one line.
        ("platforms", Some(names.join("\n")).filter(|names| !names.is_empty())),
    ];
    let mut text = String::new();
    for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        if value.contains(delimiter) {
            return Err(Failure::refused(format!("output `{name}` contains the delimiter `{delimiter}`")));
        }
        write!(text, "{name}<<{delimiter}\n{value}\n{delimiter}\n").expect("writing to a String cannot fail");
    }
    Ok(text)
}

fn delimiter() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers the delimiter is fixed; `github` still refuses a value that contains it.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("imgrelay_{:032x}", u128::from_le_bytes(bytes))
}

/// Returns result files by name, without line breaks: Tekton passes the bytes on as they are.
///
/// A tar gets other names than an image in a registry: Tekton Chains signs the image that `IMAGE_URL` and
/// `IMAGE_DIGEST` name, and ignores a URL that holds a digest.
fn tekton(outcome: &ImageOutcome) -> Vec<(&'static str, String)> {
    let digest = outcome.digest.to_string();
    match (outcome.url(), outcome.reference(), outcome.path_text()) {
        (Some(url), Some(reference), _) => {
            vec![("IMAGE_URL", url), ("IMAGE_DIGEST", digest), ("IMAGE_REF", reference)]
        }
        (_, _, Some(path)) => vec![("LAYOUT_PATH", path), ("LAYOUT_DIGEST", digest)],
        _ => vec![("LAYOUT_DIGEST", digest)],
    }
}

/// Appends under a lock and with one write call, so that records of parallel steps do not mix.
pub(super) fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |action| move |error| Failure::from(FileError::io(action, path, error));
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(failed("open"))?;
    // A pipe, or a file system without locks, is written without a lock.
    let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
    file.write_all(text.as_bytes()).map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::outcome::tests::{HEX, packed, pushed};

    #[test]
    fn dotenv_lines_are_literal_and_refuse_what_would_make_a_new_line() {
        assert_eq!(
            dotenv(&pushed()).unwrap(),
            format!(
                "IMGRELAY_DIGEST=sha256:{HEX}\nIMGRELAY_KIND=bundle\n\
                 IMGRELAY_MEDIA_TYPE=application/vnd.oci.image.manifest.v1+json\n\
                 IMGRELAY_REF=reg.example/team/app@sha256:{HEX}\n\
                 IMGRELAY_REFS=reg.example/team/app:v1,reg.example/team/app:latest\n\
                 IMGRELAY_REPOSITORY=reg.example/team/app\nIMGRELAY_SIZE=1234\nIMGRELAY_TAGS=v1,latest\n"
            )
        );
        let lines = dotenv(&packed("my app.tar")).unwrap();
        assert!(lines.contains("\nIMGRELAY_PATH=my app.tar\n"), "{lines}");
        assert!(
            dotenv(&packed("a\nLD_PRELOAD=x"))
                .unwrap_err()
                .message
                .to_string()
                .contains("has a character that is not visible")
        );
        for line in lines.lines() {
            let key = line.split('=').next().unwrap();
            assert!(DOTENV_KEYS.contains(&key), "{key}");
        }
    }

    #[test]
    fn dotenv_has_at_most_what_gitlab_takes() {
        let with_tags = |count: usize| {
            let tags = (0..count).map(|number| format!("v1.2.{number}").parse().unwrap()).collect();
            dotenv(&ImageOutcome { tags, ..pushed() }).unwrap()
        };
        assert!(with_tags(50).contains("IMGRELAY_REFS=") && with_tags(50).contains("IMGRELAY_TAGS="));
        assert!(!with_tags(300).contains("IMGRELAY_REFS=") && with_tags(300).contains("IMGRELAY_TAGS="));
        assert!(!with_tags(3000).contains("IMGRELAY_TAGS="));
        for count in [50, 300, 3000] {
            let lines = with_tags(count);
            assert!(lines.len() <= 5120 && lines.contains("IMGRELAY_REF="), "{count}: {}", lines.len());
        }
    }

    #[test]
    fn github_outputs_cannot_be_forged_by_a_value() {
        let text = github(&packed("a\nb<<EOF"), "DELIM").unwrap();
        assert_eq!(
            text,
            format!(
                "digest<<DELIM\nsha256:{HEX}\nDELIM\nrefs<<DELIM\n[]\nDELIM\n\
                 path<<DELIM\na\nb<<EOF\nDELIM\nsize<<DELIM\n1234\nDELIM\n"
            )
        );
        assert!(github(&pushed(), "D").unwrap().contains("tags<<D\nv1\nlatest\nD\n"));
        let row = |platform: &str| crate::transfer::PlatformRow {
            platform: Some(platform.to_owned()),
            digest: pushed().digest,
            size: 1,
            absent: false,
            attestations: Vec::new(),
        };
        let platforms = vec![row("linux/amd64\nlinux/arm64"), row("linux/s390x")];
        let outputs = github(&ImageOutcome { platforms, ..pushed() }, "D").unwrap();
        assert!(outputs.contains("platforms<<D\nlinux/amd64\\nlinux/arm64\nlinux/s390x\nD\n"), "{outputs}");
        assert!(github(&packed("x\nDELIM\ny=z"), "DELIM").is_err());
        assert_ne!(delimiter(), delimiter());
    }

    #[test]
    fn tekton_results_name_an_image_only_when_it_is_in_a_registry() {
        assert_eq!(
            tekton(&pushed()),
            [
                ("IMAGE_URL", "reg.example/team/app:v1".to_owned()),
                ("IMAGE_DIGEST", format!("sha256:{HEX}")),
                ("IMAGE_REF", format!("reg.example/team/app@sha256:{HEX}")),
            ]
        );
        assert_eq!(
            tekton(&packed("app.tar")),
            [("LAYOUT_PATH", "app.tar".to_owned()), ("LAYOUT_DIGEST", format!("sha256:{HEX}"))]
        );
    }

    #[test]
    fn result_flags_are_read_or_refused() {
        let none = Env::default();
        let parse = |text: &str| ResultFile::parse(text, &none);
        assert_eq!(parse("json:a:b").unwrap(), ResultFile { format: Format::Json, path: "a:b".into() });
        for (text, expected) in [
            ("jsn:a", "result format `jsn` is unknown"),
            ("out/", "result format `out/` is unknown"),
            ("json", "result `json` has no path, expected `json:PATH`"),
            ("digest:", "result `digest` has no path"),
            ("github", "`GITHUB_OUTPUT` is not set"),
        ] {
            assert!(parse(text).unwrap_err().message.to_string().contains(expected), "{text}");
        }
        let env = Env::from_pairs([("GITHUB_OUTPUT", "/gh/out")]);
        assert_eq!(ResultFile::parse("github", &env).unwrap().path, Path::new("/gh/out"));
    }

    #[test]
    fn a_result_cannot_go_into_the_tar_on_standard_output() {
        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            let files = [ResultFile { format: Format::Json, path: path.into() }];
            let failure =
                produce(&files, Some(Path::new("-")), || panic!("the work is not begun")).unwrap_err();
            let expected = format!("cannot write result `{path}`: the tar goes to standard output");
            assert_eq!(failure.message, expected.as_str());
            assert_eq!(files[0].check(Some(Path::new("app.tar"))), Ok(()));
        }
    }

    #[test]
    fn a_result_can_go_into_a_pipe() {
        let folder = std::env::temp_dir().join(format!("imgrelay-pipe-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        write(&[ResultFile { format: Format::Digest, path: pipe }], &pushed()).unwrap();
        assert_eq!(reader.join().unwrap(), format!("sha256:{HEX}"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_are_replaced_except_githubs_which_is_appended_to() {
        let folder = std::env::temp_dir().join(format!("imgrelay-outputs-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("digest"), "old and longer than the new one".repeat(10)).unwrap();
        std::fs::write(folder.join("github"), "a=b\n").unwrap();
        let file = |format, name: &str| ResultFile { format, path: folder.join(name) };
        let files = [
            file(Format::Digest, "digest"),
            file(Format::Github, "github"),
            file(Format::Json, "json"),
            file(Format::Tekton, ""),
            file(Format::Url, "url"),
            file(Format::Ref, "ref"),
        ];
        files.iter().for_each(|file| file.check(None).unwrap());
        write(&files, &pushed()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("digest"), format!("sha256:{HEX}"));
        assert!(read("github").starts_with("a=b\ndigest<<imgrelay_"), "{}", read("github"));
        assert!(read("json").ends_with("}\n"));
        assert_eq!(read("IMAGE_URL"), "reg.example/team/app:v1");
        assert_eq!(read("url"), "reg.example/team/app:v1");
        assert_eq!(read("ref"), format!("reg.example/team/app@sha256:{HEX}"));
        let path = [file(Format::Path, "path")];
        assert!(
            write(&path, &pushed()).unwrap_err().message.to_string().ends_with("the image is in no file")
        );
        write(&path, &packed("out/app.tar")).unwrap();
        assert_eq!(read("path"), "out/app.tar");
        let missing = file(Format::Json, "no/such/json");
        let failure =
            produce(std::slice::from_ref(&missing), None, || panic!("the work is not begun")).unwrap_err();
        assert!(failure.message.to_string().ends_with("no/such` is not a folder"), "{}", failure.message);
        let handed_over = |length: usize| {
            let path = "p".repeat(length);
            let there = [ResultFile { format: Format::Tekton, path: folder.clone() }];
            let outcome = produce(&there, Some(Path::new(&path)), || Ok(packed(&path)));
            outcome.map(|_| tekton(&packed(&path)))
        };
        // The length includes the quotes of JSON; the message is built as Tekton's entrypoint builds it.
        let entries: Vec<_> = handed_over(2998).unwrap().into_iter().collect();
        let message: Vec<_> = entries
            .iter()
            .map(|(name, value)| serde_json::json!({"key": name, "value": value, "type": 1}))
            .collect();
        assert!(serde_json::to_string(&message).unwrap().len() < 4096 - 100);
        let failure = handed_over(2999).unwrap_err();
        assert!(
            failure.message.to_string().starts_with("the path of the tar has 3001 bytes as JSON"),
            "{}",
            failure.message
        );
        let failure = write(&[missing], &pushed()).unwrap_err();
        assert!(
            failure
                .hints
                .iter()
                .any(|hint| hint.to_string().starts_with("the image itself is done: reg.example/"))
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
