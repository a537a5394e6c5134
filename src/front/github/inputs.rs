//! Turns the action's inputs, as the runner passes them, into a command line.
//!
//! Scalars become words (`--flag=value`, so that no value is taken for a flag); lists and secrets become variables.
//! A flag without an input can be given as `IMGRELAY_<FLAG>` in the step's `env`.

use std::ffi::OsString;
use std::path::Path;

use crate::front::env::{self, Env};
use crate::front::failure::{Failure, FlagNames, Hint, Mention, Sense, Vocabulary};
use crate::front::flag::Flag;
use crate::front::push_flags::{self, Field, PUSH_FLAGS, PushFlag};
use crate::front::text;
use crate::model::{Reference, ReferenceError, Tag};

/// The path of the tar if the input `tar` is empty.
const TAR_DEFAULT: &str = "image.tar";
/// Inputs of the door's own that are secrets or part of one, with their flags.
const LOGIN: [(&str, Flag); 2] =
    [("username", Flag::REGISTRY_USERNAME), ("password", Flag::REGISTRY_PASSWORD)];
/// The values of `command`.
const COMMANDS: [&str; 4] = ["build", "push", "index", "verify"];
/// The flags that inputs of the door's own set; [`PUSH_FLAGS`] has the others.
const OWN: [(Flag, &str); 15] = [
    (Flag::BUNDLE, "image"),
    (Flag::FILE, "files"),
    (Flag::IMAGE, "image"),
    (Flag::REGISTRY_CA_CERT_PATH, "ca-file"),
    (Flag::REGISTRY_PASSWORD, "password"),
    (Flag::REGISTRY_USERNAME, "username"),
    (Flag::REGISTRY_VERIFY_CERTS, "tls-verify"),
    (Flag::REQUIRE_PLATFORM, "require-platform"),
    (Flag::SELECT, "select"),
    (Flag::SOURCE, "image"),
    (Flag::TAG, "tags"),
    (Flag::TAR, "tar"),
    (Flag::TO_OCI_TAR, "tar"),
    (Flag::TO_REPO, "image"),
    (Flag::VERIFY_KEY, "verify-key"),
];

/// Returns the input that sets a flag; `tars` is the input for the tars that are read.
fn input_of(flag: Flag, tars: &'static str) -> Option<&'static str> {
    if flag == Flag::TAR {
        return Some(tars);
    }
    let own = OWN.iter().find(|(known, _)| *known == flag).map(|(_, input)| *input);
    own.or_else(|| push_flags::find(flag)?.input)
}

/// Tells whether an input is for making an image, so that it cannot be used with an existing one.
fn is_of_content(row: &&PushFlag) -> bool {
    row.flag != Flag::EXPECTED_DIGEST && row.flag != Flag::TO_STORE
}

/// Tells whether an input also applies to an index.
fn is_of_index(row: &&PushFlag) -> bool {
    [Flag::EXPECTED_DIGEST, Flag::ANNOTATION, Flag::PLATFORM].contains(&row.flag)
}

/// The command of the inputs.
#[derive(Debug)]
pub(in crate::front) struct Request {
    /// The command line, the program's name first.
    pub(super) words: Vec<OsString>,
    /// Its environment.
    pub(super) env: Env,
    /// Whether the step's summary is written.
    pub(super) summary: bool,
    /// Whether the image is declared as an artifact of the job.
    pub(super) declare: bool,
    /// The words for messages about the command.
    pub(super) vocabulary: &'static InputNames,
}

/// Reads the inputs.
///
/// Errors: misuse that names the input.
pub(in crate::front) fn read(env: &Env) -> Result<Request, Failure> {
    let inputs = Inputs { env };
    let files = inputs.paths("files")?;
    let is_index = inputs.get("command") == Some("index");
    if let (false, Some(input)) =
        (is_index, ["tars", "require-platform"].into_iter().find(|input| inputs.get(input).is_some()))
    {
        return Err(Failure::misuse(format!("input `{input}` belongs to `command: index`")));
    }
    let mut words = match inputs.get("command") {
        Some("index") => inputs.index(&files)?,
        Some("verify") => inputs.verify(&files)?,
        Some("build") => inputs.build(&files)?,
        Some("push") if files.is_empty() => inputs.push_tar()?,
        Some("push") => inputs.push_files(&files)?,
        Some(other) => {
            let known = text::quoted_list(COMMANDS);
            let failure = Failure::misuse(format!("input `command` is `{other}`, expected one of {known}"));
            return Err(match text::nearest(other, COMMANDS) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure,
            });
        }
        None => {
            let known = text::quoted_list(COMMANDS);
            return Err(Failure::misuse(format!("input `command` is missing, expected one of {known}")));
        }
    };
    let reads_tar = match inputs.get("command") {
        Some("push") => files.is_empty(),
        command => command == Some("verify"),
    };
    if inputs.get("select").is_some() && !reads_tar {
        return Err(Failure::misuse("input `select` chooses an image of a tar that is pushed or verified")
            .hint("use it with `command: push` without `files`, or with `command: verify`"));
    }
    let mut changed = env.clone();
    for row in PUSH_FLAGS {
        let Some(input) = row.input else { continue };
        let flag = row.flag;
        match row.field {
            Field::Text(_) => {
                words.extend(inputs.get(input).map(|value| format!("--{}={value}", flag.long())));
            }
            Field::Path(_) | Field::ImagePath(_) => {
                let path = inputs.get(input).map(|path| inputs.path(input, path)).transpose()?;
                words.extend(path.map(|path| format!("--{}={path}", flag.long())));
            }
            Field::Switch(_) => {
                words.extend(inputs.switch(input)?.map(|value| format!("--{}={value}", flag.long())));
            }
            Field::List(_) | Field::Table(_) => {
                if let Some(value) = inputs.get(input) {
                    changed = changed.with(&flag.variable(), lines(value.lines()));
                }
            }
        }
    }
    if inputs.get("command") != Some("verify") {
        words.extend(inputs.switch("tls-verify")?.map(|value| format!("--tls-verify={value}")));
    }
    for (input, flag) in LOGIN {
        if let Some(value) = inputs.get(input) {
            changed = changed.with(&flag.variable(), value.to_owned());
        }
    }
    let certificates = inputs.paths("ca-file")?;
    for (flag, values) in [(Flag::FILE, &files), (Flag::REGISTRY_CA_CERT_PATH, &certificates)] {
        if !values.is_empty() {
            changed = changed.with(&flag.variable(), lines(values.iter().map(String::as_str)));
        }
    }
    if env.text(env::RUNNER_DEBUG) == Some("1") && env.text("IMGRELAY_QUIET").is_none() {
        changed = changed.with("IMGRELAY_DEBUG", "true");
    }
    let words = std::iter::once("imgrelay".to_owned()).chain(words).map(OsString::from).collect();
    Ok(Request {
        words,
        env: changed,
        summary: inputs.switch("summary")?.unwrap_or(true),
        declare: inputs.switch("declare-artifact")?.unwrap_or(false),
        vocabulary: if is_index { &InputNames::INDEX } else { &InputNames::IMAGE },
    })
}

/// Returns the texts to be hidden in the log: passwords and tokens of inputs and environment.
pub(super) fn secrets(env: &Env) -> Vec<&str> {
    let inputs = Inputs { env };
    let of_env = env.iter().filter(|(name, _)| {
        let ours = name.starts_with("IMGRELAY_REGISTRY_") || name.starts_with("IMGPKG_");
        ours && ["PASSWORD", "TOKEN"].iter().any(|word| name.contains(word))
    });
    inputs.get("password").into_iter().chain(of_env.filter_map(|(_, value)| value.to_str())).collect()
}

/// The action's vocabulary: inputs, and variables for flags without an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputNames {
    /// The input for tars that are read.
    tars: &'static str,
}

impl InputNames {
    /// The vocabulary for one image.
    pub(super) const IMAGE: Self = Self { tars: "tar" };
    /// The vocabulary for an index, which is made of several tars.
    pub(super) const INDEX: Self = Self { tars: "tars" };
}

impl FlagNames for InputNames {
    fn flag(&self, mention: &Mention) -> Option<String> {
        let flag = mention.flag;
        if mention.sense == Sense::Kind {
            return Some(format!("input `kind: {}`", flag.long()));
        }
        let value = mention.value.as_ref().map(|value| format!(": {value}")).unwrap_or_default();
        Some(match input_of(flag, self.tars) {
            // A placeholder such as `FILE` adds nothing to the input's name.
            Some(input) => format!("input `{input}`"),
            None => format!("`{}{value}`", flag.variable()),
        })
    }

    fn command(&self, command: &str) -> Option<String> {
        Some(format!("`{command}`"))
    }
}

impl Vocabulary for InputNames {
    fn instead(&self, hint: &Hint) -> Option<String> {
        match hint {
            Hint::LogIn { host } => Some(format!(
                "no credentials for `{host}` were found: set the inputs `username` and `password`; what `docker \
                 login` or docker/login-action stored on the runner cannot be seen here, unless `DOCKER_CONFIG` named \
                 a folder below the workspace or `${{{{ runner.temp }}}}` before the login"
            )),
            Hint::Withheld { host } => Some(format!(
                "the inputs `username` and `password` go to the registry of the input `image` only, and `{host}` is \
                 another one: set the variables `IMGPKG_REGISTRY_HOSTNAME_0`, `IMGPKG_REGISTRY_USERNAME_0` and \
                 `IMGPKG_REGISTRY_PASSWORD_0`, or name it in `IMGRELAY_REGISTRY_CREDENTIALS_FOR`"
            )),
            Hint::CredentialHelper => Some(
                "credential helpers are programs of the runner and cannot be run inside a container action: set the \
                 inputs `username` and `password`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

struct Inputs<'a> {
    env: &'a Env,
}

impl<'a> Inputs<'a> {
    /// Returns an input's value without white space around it; empty is none.
    ///
    /// The runner replaces spaces only, so a dash stays: `INPUT_CA-FILE`. A shell cannot set such a variable.
    fn get(&self, name: &str) -> Option<&'a str> {
        let variable = format!("INPUT_{}", name.to_ascii_uppercase());
        let value = self.env.text(&variable).or_else(|| self.env.text(&variable.replace('-', "_")));
        value.map(str::trim).filter(|value| !value.is_empty())
    }

    /// Source: `getBooleanInput` of actions/toolkit, YAML 1.2's core schema.
    fn switch(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "True" | "TRUE") => Ok(Some(true)),
            Some("false" | "False" | "FALSE") => Ok(Some(false)),
            Some(other) => {
                Err(Failure::misuse(format!("input `{name}` is `{other}`, expected `true` or `false`")))
            }
        }
    }

    /// Returns the lines of an input as paths.
    fn paths(&self, name: &str) -> Result<Vec<String>, Failure> {
        let lines = self.get(name).unwrap_or_default().lines().map(str::trim);
        lines.filter(|line| !line.is_empty()).map(|path| self.path(name, path)).collect()
    }

    /// Returns a path below the workspace relative to it, because outputs are not translated for the host.
    ///
    /// Errors: paths in folders of the host that the runner does not mount into the container.
    fn path(&self, name: &str, path: &str) -> Result<String, Failure> {
        let Some(workspace) = self.env.text(env::GITHUB_WORKSPACE) else { return Ok(path.to_owned()) };
        if !Path::new(path).is_absolute() {
            return Ok(path.to_owned());
        }
        if let Ok(inside) = Path::new(path).strip_prefix(workspace) {
            let inside = inside.to_string_lossy().into_owned();
            return Ok(if inside.is_empty() { ".".to_owned() } else { inside });
        }
        let mounted = [env::RUNNER_TEMP, env::HOME].map(|variable| self.env.text(variable));
        if mounted.into_iter().flatten().any(|folder| Path::new(path).starts_with(folder)) {
            return Ok(path.to_owned());
        }
        Err(Failure::misuse(format!(
            "input `{name}`: `{path}` is outside the folders that a container action can read"
        ))
        .hint("use a path relative to the workspace, or one below `${{ runner.temp }}` alone on its line"))
    }

    /// Returns the further tags; a comma separates too, because no tag holds one.
    ///
    /// Errors: a text that is no tag, with a hint about the right form.
    fn tags(&self) -> Result<Vec<&'a str>, Failure> {
        let tags = self.get("tags").unwrap_or_default().split(['\n', ',']).map(str::trim);
        let tags: Vec<&str> = tags.filter(|tag| !tag.is_empty()).collect();
        tags.iter().try_for_each(|tag| match tag.parse::<Tag>() {
            Ok(_) => Ok(()),
            Err(error) => Err(not_a_tag(tag, &error)),
        })?;
        Ok(tags)
    }

    fn build(&self, files: &[String]) -> Result<Vec<String>, Failure> {
        if files.is_empty() {
            return Err(Failure::misuse("input `files` is missing: nothing to build from"));
        }
        self.refuse_verify_key()?;
        if self.get("to-store").is_some() {
            return Err(Failure::misuse("input `to-store` works with `command: push` only")
                .hint("`build` writes a tar"));
        }
        let tar = self.path("tar", self.get("tar").unwrap_or(TAR_DEFAULT))?;
        let mut words = vec!["push".to_owned(), format!("--to-oci-tar={tar}")];
        words.extend(self.name(files, self.get("image"))?);
        Ok(words)
    }

    fn push_files(&self, files: &[String]) -> Result<Vec<String>, Failure> {
        if self.get("tar").is_some() {
            return Err(Failure::misuse("inputs `files` and `tar` exclude each other with `command: push`")
                .hint("leave `files` out to push the tar"));
        }
        self.refuse_verify_key()?;
        let image = self.get("image");
        if image.or(self.get("to-store")).is_none() {
            return Err(no_image());
        }
        let mut words = vec!["push".to_owned()];
        words.extend(self.name(files, image)?);
        Ok(words)
    }

    fn push_tar(&self) -> Result<Vec<String>, Failure> {
        let of_content = PUSH_FLAGS.iter().filter(is_of_content).filter_map(|row| row.input);
        if let Some(input) = std::iter::once("kind").chain(of_content).find(|input| self.get(input).is_some())
        {
            return Err(Failure::misuse(format!("input `{input}` cannot change an image that is in a tar"))
                .hint("use it with `files`"));
        }
        let to_repo = match (self.get("image"), self.get("to-store")) {
            (Some(_), Some(_)) => {
                return Err(Failure::misuse("inputs `image` and `to-store` exclude each other with a tar")
                    .hint(
                        "give the tag with the store, `to-store: s3://BUCKET/PREFIX:TAG`, or leave it out",
                    ));
            }
            (None, None) => return Err(no_image()),
            (image, _) => image.map(|image| format!("--to-repo={image}")),
        };
        let tar = self.path("tar", self.get("tar").unwrap_or(TAR_DEFAULT))?;
        let mut words = vec!["copy".to_owned(), format!("--tar={tar}")];
        words.extend(to_repo);
        words.extend(self.get("select").map(|select| format!("--select={select}")));
        words.extend(self.tags()?.iter().map(|tag| format!("--tag={tag}")));
        words.extend(self.verify_keys()?.into_iter().map(|key| format!("--verify-key={key}")));
        Ok(words)
    }

    fn verify(&self, files: &[String]) -> Result<Vec<String>, Failure> {
        let of_content = PUSH_FLAGS.iter().filter(is_of_content).filter_map(|row| row.input);
        let others = ["kind", "image", "tags", "to-store"].into_iter().chain(of_content);
        let other = (!files.is_empty()).then_some("files").into_iter().chain(others);
        if let Some(input) = other.into_iter().find(|input| self.get(input).is_some()) {
            return Err(Failure::misuse(format!("input `{input}` cannot be used with `command: verify`"))
                .hint("only the tar is read, and nothing is pushed"));
        }
        let tar = self.path("tar", self.get("tar").unwrap_or(TAR_DEFAULT))?;
        let mut words = vec!["verify".to_owned(), format!("--tar={tar}")];
        words.extend(self.get("select").map(|select| format!("--select={select}")));
        words.extend(self.verify_keys()?.into_iter().map(|key| format!("--key={key}")));
        Ok(words)
    }

    /// Returns the keys, one of which must have signed the tar's image: a key in PEM form, or files with keys.
    fn verify_keys(&self) -> Result<Vec<String>, Failure> {
        match self.get("verify-key") {
            Some(pem) if pem.contains("-----BEGIN") => Ok(vec![pem.to_owned()]),
            _ => self.paths("verify-key"),
        }
    }

    /// Refuses a key where the image is made in this step and has no signature.
    fn refuse_verify_key(&self) -> Result<(), Failure> {
        match self.get("verify-key") {
            None => Ok(()),
            Some(_) => Err(Failure::misuse("input `verify-key` works with images in tars only")
                .hint("an image that is packed in this step has no signature yet")),
        }
    }

    /// Joins tars, into the tar of the input `tar` or else into the registry.
    fn index(&self, files: &[String]) -> Result<Vec<String>, Failure> {
        let of_files = PUSH_FLAGS.iter().filter(|row| !is_of_index(row)).filter_map(|row| row.input);
        let of_files = std::iter::once("kind").chain(of_files).find(|input| self.get(input).is_some());
        if let Some(input) = (!files.is_empty()).then_some("files").or(of_files) {
            return Err(Failure::misuse(format!("input `{input}` cannot be used with `command: index`"))
                .hint("`index` joins images that are in tars, and changes none of them"));
        }
        let tars = self.paths("tars")?;
        if tars.is_empty() {
            return Err(Failure::misuse("input `tars` is missing: nothing to join").hint(
                "name the tar of each platform on a line, or give a pattern such as `images/*/image.tar`",
            ));
        }
        let mut words = vec!["index".to_owned()];
        words.extend(tars.iter().map(|tar| format!("--tar={tar}")));
        match (self.get("tar"), self.get("image")) {
            (Some(tar), name) => {
                words.push(format!("--to-oci-tar={}", self.path("tar", tar)?));
                words.extend(name.map(|name| format!("--name={name}")));
            }
            (None, Some(image)) => words.push(format!("--to-repo={image}")),
            (None, None) => {
                return Err(Failure::misuse(
                    "neither input `image` nor input `tar` is given: no target for the index",
                )
                .hint("`image` pushes the index, `tar` writes it into a tar"));
            }
        }
        words.extend(self.tags()?.iter().map(|tag| format!("--tag={tag}")));
        let platforms = self.get("require-platform").unwrap_or_default().split(['\n', ',']).map(str::trim);
        let platforms = platforms.filter(|platform| !platform.is_empty());
        words.extend(platforms.map(|platform| format!("--require-platform={platform}")));
        words.extend(self.verify_keys()?.into_iter().map(|key| format!("--verify-key={key}")));
        Ok(words)
    }

    /// Returns the arguments for the kind of image, its name and its tags.
    fn name(&self, files: &[String], image: Option<&str>) -> Result<Vec<String>, Failure> {
        let is_bundle = || files.iter().any(|path| Path::new(path).join(".imgpkg").is_dir());
        let flag = match self.get("kind") {
            Some(kind @ ("bundle" | "image" | "source")) => format!("--{kind}"),
            Some(other) => {
                let expected = "expected one of `bundle`, `image`, `source`";
                return Err(Failure::misuse(format!("input `kind` is `{other}`, {expected}")));
            }
            None if is_bundle() => "--bundle".to_owned(),
            None => "--image".to_owned(),
        };
        let mut tags = self.tags()?;
        let mut image = image.unwrap_or_default().to_owned();
        // Listed tags replace `latest`, which a name without a tag means.
        let is_bare =
            image.parse::<Reference>().is_ok_and(|name| name.tag.is_none() && name.digest.is_none());
        if is_bare && !tags.is_empty() {
            image = format!("{image}:{}", tags.remove(0));
        }
        let tags = tags.into_iter().map(|tag| format!("--tag={tag}"));
        Ok(std::iter::once(format!("{flag}={image}")).chain(tags).collect())
    }
}

/// Makes the failure for a text that is no tag.
fn not_a_tag(text: &str, error: &ReferenceError) -> Failure {
    let failure = Failure::misuse(format!("input `tags`: {error}"));
    let last = text.rsplit('/').next().unwrap_or(text);
    if let Some((_, tag)) = last.split_once(':') {
        return failure.hint(format!(
            "give the tag alone, `{tag}`; the repository is in `image`. docker/metadata-action 5.9 and newer have tags \
             without names in the output `tag-names`"
        ));
    }
    let dashed = text.replace('/', "-");
    match dashed.parse::<Tag>() {
        Ok(_) if dashed != text => failure.hint(format!("a tag has no `/`: `{dashed}`")),
        _ => failure,
    }
}

fn no_image() -> Failure {
    Failure::misuse("input `image` is missing: no repository to push to")
        .hint("give `registry/repository[:tag]`, or a store as `to-store`")
}

/// Joins a list so that no comma in an item separates it.
fn lines<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| format!("{item}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::failure::{Message, Spelling, message};

    fn request(pairs: &[(&str, &str)]) -> Result<Request, Failure> {
        let fixed = [("GITHUB_WORKSPACE", "/github/workspace"), ("RUNNER_TEMP", "/github/runner_temp")];
        read(&Env::from_pairs(fixed.into_iter().chain(pairs.iter().copied())))
    }

    fn words(pairs: &[(&str, &str)]) -> String {
        let request = request(pairs).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
        let words: Vec<_> = request.words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn inputs_stand_for_command_lines() {
        let build = [("INPUT_COMMAND", "build"), ("INPUT_FILES", "dist")];
        let push = [("INPUT_COMMAND", "push"), ("INPUT_IMAGE", "reg.example/app")];
        let with = |base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| {
            words(&[base, more].concat())
        };
        assert_eq!(with(&build, &[]), "imgrelay push --to-oci-tar=image.tar --image=");
        assert_eq!(
            with(&build, &[("INPUT_IMAGE", "reg.example/app"), ("INPUT_TAGS", "v1\n v2,v3 \n")]),
            "imgrelay push --to-oci-tar=image.tar --image=reg.example/app:v1 --tag=v2 --tag=v3"
        );
        assert_eq!(
            with(&build, &[("INPUT_KIND", "bundle"), ("INPUT_TAR", "/github/workspace/out/a.tar")]),
            "imgrelay push --to-oci-tar=out/a.tar --bundle="
        );
        assert_eq!(with(&push, &[]), "imgrelay copy --tar=image.tar --to-repo=reg.example/app");
        assert_eq!(
            with(
                &push,
                &[
                    ("INPUT_TAR", "/github/runner_temp/a"),
                    ("INPUT_TAGS", "v1"),
                    ("INPUT_TLS-VERIFY", "False")
                ]
            ),
            "imgrelay copy --tar=/github/runner_temp/a --to-repo=reg.example/app --tag=v1 --tls-verify=false"
        );
        assert_eq!(
            with(&push, &[("INPUT_SELECT", " @1\n")]),
            "imgrelay copy --tar=image.tar --to-repo=reg.example/app --select=@1"
        );
        assert_eq!(
            with(&push, &[("INPUT_FILES", "a"), ("INPUT_EXPECTED_DIGEST", " x "), ("INPUT_PLATFORM", "")]),
            "imgrelay push --image=reg.example/app --expected-digest=x"
        );
    }

    #[test]
    fn index_joins_tars_into_a_tar_or_a_registry() {
        let base = [("INPUT_COMMAND", "index"), ("INPUT_TARS", "a/image.tar\n /github/workspace/b/*.tar\n")];
        let with = |more: &[(&'static str, &'static str)]| words(&[&base[..], more].concat());
        let tars = "imgrelay index --tar=a/image.tar --tar=b/*.tar";
        assert_eq!(
            with(&[("INPUT_IMAGE", "r.example/app:v1")]),
            format!("{tars} --to-repo=r.example/app:v1")
        );
        let more = [
            ("INPUT_IMAGE", "r.example/app:v1"),
            ("INPUT_TAR", "all.tar"),
            ("INPUT_TAGS", "v2"),
            ("INPUT_REQUIRE-PLATFORM", "linux/amd64, linux/arm64"),
            ("INPUT_VERIFY-KEY", "keys/a.pub"),
            ("INPUT_PLATFORM", "linux/amd64"),
        ];
        let expected = "--to-oci-tar=all.tar --name=r.example/app:v1 --tag=v2 --require-platform=linux/amd64 \
                        --require-platform=linux/arm64 --verify-key=keys/a.pub --platform=linux/amd64";
        assert_eq!(with(&more), format!("{tars} {expected}"));
        for (pairs, expected) in [
            (vec![("INPUT_COMMAND", "index")], "input `tars` is missing"),
            (
                vec![
                    ("INPUT_COMMAND", "build"),
                    ("INPUT_FILES", "a"),
                    ("INPUT_IMAGE", "r.example/a"),
                    ("INPUT_VERIFY-KEY", "a.pub"),
                ],
                "input `verify-key` works with images in tars only",
            ),
            (base.to_vec(), "neither input `image` nor input `tar` is given"),
            (
                [&base[..], &[("INPUT_FILES", "a")]].concat(),
                "input `files` cannot be used with `command: index`",
            ),
            ([&base[..], &[("INPUT_LABELS", "a=b")]].concat(), "input `labels` cannot be used"),
            (
                vec![("INPUT_COMMAND", "push"), ("INPUT_TARS", "a"), ("INPUT_IMAGE", "r.example/a")],
                "input `tars` belongs to `command: index`",
            ),
        ] {
            let failure = request(&pairs).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{pairs:?}: {}", failure.message);
        }
        let tar = Flag::TAR.mention();
        assert_eq!(InputNames::INDEX.flag(&tar).as_deref(), Some("input `tars`"));
        assert_eq!(InputNames::IMAGE.flag(&tar).as_deref(), Some("input `tar`"));
    }

    #[test]
    fn lists_and_secrets_go_by_the_environment() {
        let pairs = [
            ("INPUT_COMMAND", "build"),
            ("INPUT_FILES", "a,b\n\n  /github/workspace/c \n/github/workspace"),
            ("INPUT_LABELS", "x=1,2\ny=3"),
            ("INPUT_CA-FILE", "ca.pem"),
            ("INPUT_USERNAME", "u"),
            ("INPUT_PASSWORD", " s3cret\n"),
            ("RUNNER_DEBUG", "1"),
        ];
        let request = request(&pairs).unwrap();
        let get = |name: &str| request.env.os(name).and_then(|value| value.to_str()).unwrap_or("-");
        assert_eq!(get("IMGRELAY_FILE"), "a,b\nc\n.\n");
        assert_eq!(get("IMGRELAY_LABELS"), "x=1,2\ny=3\n");
        assert_eq!(get("IMGRELAY_REGISTRY_CA_CERT_PATH"), "ca.pem\n");
        assert_eq!(get("IMGRELAY_REGISTRY_USERNAME"), "u");
        assert_eq!(get("IMGRELAY_REGISTRY_PASSWORD"), "s3cret");
        assert_eq!(get("IMGRELAY_DEBUG"), "true");
        assert!(request.summary && !request.declare);
        assert!(!format!("{:?}", request.words).contains("s3cret"));
        let env = [("INPUT_PASSWORD", " a "), ("IMGPKG_TOKEN", "b"), ("IMGPKG_REGISTRY_PASSWORD_0", "c")];
        assert_eq!(secrets(&Env::from_pairs(env)), ["a", "c", "b"]);
    }

    #[test]
    fn wrong_inputs_are_named() {
        let push = [("INPUT_COMMAND", "push"), ("INPUT_IMAGE", "reg.example/app")];
        let build = [("INPUT_COMMAND", "build"), ("INPUT_FILES", "a")];
        for (pairs, expected) in [
            (vec![], "input `command` is missing"),
            (
                vec![("INPUT_COMMAND", "biuld")],
                "input `command` is `biuld`, expected one of `build`, `push`, `index`, `verify`",
            ),
            (vec![("INPUT_COMMAND", "build")], "input `files` is missing"),
            (vec![("INPUT_COMMAND", "push")], "input `image` is missing"),
            ([&build[..], &[("INPUT_KIND", "x")]].concat(), "input `kind` is `x`"),
            ([&push[..], &[("INPUT_LABELS", "a=b")]].concat(), "input `labels` cannot change an image"),
            ([&push[..], &[("INPUT_FILES", "a"), ("INPUT_TAR", "b")]].concat(), "exclude each other"),
            (
                [&push[..], &[("INPUT_TAGS", "v1\nreg.example/app:v2")]].concat(),
                "input `tags`: tag `reg.example/app:v2` is not valid",
            ),
            (
                [&build[..], &[("INPUT_TAGS", "feature/x")]].concat(),
                "input `tags`: tag `feature/x` is not valid",
            ),
            ([&build[..], &[("INPUT_SELECT", "@0")]].concat(), "input `select` chooses an image of a tar"),
            (
                [&push[..], &[("INPUT_SUMMARY", "yes")]].concat(),
                "`summary` is `yes`, expected `true` or `false`",
            ),
            (
                [&push[..], &[("INPUT_TAR", "/tmp/image.tar")]].concat(),
                "input `tar`: `/tmp/image.tar` is outside the folders that a container action can read",
            ),
            (
                [&build[..], &[("INPUT_FILES", "a\n/home/runner/work/r/r/b")]].concat(),
                "input `files`: `/home",
            ),
        ] {
            let failure = request(&pairs).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{pairs:?}: {}", failure.message);
        }
    }

    #[test]
    fn what_is_no_tag_comes_with_what_to_give() {
        let push = [("INPUT_COMMAND", "push"), ("INPUT_FILES", "x"), ("INPUT_IMAGE", "reg.example/app")];
        for (tags, expected) in [
            ("reg.example:5000/app:v2", "give the tag alone, `v2`"),
            ("app:v2", "`tag-names`"),
            ("feature/x", "a tag has no `/`: `feature-x`"),
        ] {
            let failure = request(&[&push[..], &[("INPUT_TAGS", tags)]].concat()).unwrap_err();
            assert!(failure.hints[0].to_string().contains(expected), "{tags}: {}", failure.render(false));
        }
        let failure = request(&[&push[..], &[("INPUT_TAGS", "-x")]].concat()).unwrap_err();
        assert_eq!(failure.hints, Vec::<Hint>::new());
    }

    #[test]
    fn messages_name_inputs_instead_of_flags() {
        let text = |message: Message| message.render(&InputNames::IMAGE);
        let variable = Spelling::Variable("IMGRELAY_TAG".to_owned());
        let from_variable = Mention { spelling: variable, ..Flag::TAG.mention() };
        assert_eq!(text(message!(Flag::TO_REPO, ": ", from_variable)), "input `image`: input `tags`");
        assert_eq!(text(message!("use ", Flag::IMAGE.kind())), "use input `kind: image`");
        assert_eq!(text(message!(Flag::SYMLINKS.with("keep"))), "`IMGRELAY_SYMLINKS: keep`");
    }

    #[test]
    fn hints_are_those_for_a_container_action() {
        let said = |hint: Hint| hint.render(&InputNames::IMAGE).unwrap();
        let login = said(Hint::LogIn { host: "r".to_owned() });
        assert!(login.starts_with("no credentials for `r` were found: set the inputs `username`"), "{login}");
        assert!(login.contains("`${{ runner.temp }}` before the login"), "{login}");
        assert!(said(Hint::CredentialHelper).starts_with("credential helpers are programs of the runner"));
        assert_eq!(said(Hint::TrustCa), "name the authority's certificate with input `ca-file`");
        assert_eq!(said("y: z".into()), "y: z");
    }
}
