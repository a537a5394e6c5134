//! The checked options of an image that runs (`push -i`).

use std::path::{Path, PathBuf};

use super::places::{FileArgument, LayerFiles, layers};
use super::words::words;
use super::{expect_file, given, given_path, is_on, parsed, parsed_list, reference, wrong};
use crate::front::cli::args::PushArgs;
use crate::front::cli::values::key_value;
use crate::front::env::{self, Env};
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::time::{Timestamp, format_rfc3339};
use crate::model::{Platform, Reference, Repository};
use crate::pack::{BaseListing, ConfigEdits, MediaTypes, Modes};
use crate::tar::header::Owner;
use crate::transfer::UserName;

/// An image that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnableOptions {
    /// The base; `None` is scratch.
    pub base: Option<ImagePlace>,
    /// With `--rebase`: the image and its old base.
    pub rebase: Option<Rebase>,
    /// Files for its layers, lowest first.
    pub files: Vec<LayerFiles>,
    /// Every path that is packed, to which the numbers in `files` belong.
    pub roots: Vec<PathBuf>,
    /// Whether the files of the base are read.
    pub listing: BaseListing,
    /// Changes of the configuration, except labels.
    pub edits: ConfigEdits,
    /// The user.
    pub user: Option<UserName>,
    /// The owner of the files.
    pub owner: Owner,
    /// The permissions of the files.
    pub modes: Modes,
    /// The requested platforms.
    pub platforms: Vec<Platform>,
    /// The requested media types.
    pub media_types: Option<MediaTypes>,
}

impl RunnableOptions {
    /// Returns the images that are read: the base, then with it the image to put on it and its old base.
    pub(in crate::front) fn places(&self) -> Vec<&ImagePlace> {
        let rebase = self.rebase.iter().flat_map(|rebase| [&rebase.image, &rebase.old]);
        self.base.iter().chain(rebase).collect()
    }

    /// Returns the repositories that the command line names to read from.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.places().into_iter().filter_map(|place| match place {
            ImagePlace::Registry(reference) => Some(&reference.repository),
            ImagePlace::Tar(_) => None,
        })
    }
}

/// An image whose base is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// The image.
    pub image: ImagePlace,
    /// Its old base.
    pub old: ImagePlace,
}

/// The place of an image that is only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePlace {
    /// In a registry.
    Registry(Reference),
    /// In a tar or folder.
    Tar(PathBuf),
}

/// Returns the flags of an image that runs that were given.
pub(super) fn flags_given(args: &PushArgs) -> Vec<Flag> {
    let run = &args.run;
    let texts = [
        (Flag::ENTRYPOINT, &run.entrypoint),
        (Flag::CMD, &run.cmd),
        (Flag::USER, &run.user),
        (Flag::WORKDIR, &run.workdir),
        (Flag::STOP_SIGNAL, &run.stop_signal),
        (Flag::CREATED, &run.created),
        (Flag::REBASE, &run.rebase),
        (Flag::OLD_BASE, &run.old_base),
        (Flag::OWNER, &run.owner),
        (Flag::MODE, &run.mode),
    ];
    let lists = [(Flag::ENV, &run.env), (Flag::PORT, &run.port), (Flag::VOLUME, &run.volume)];
    let has_text = |list: &[String]| list.iter().any(|text| !text.is_empty());
    let texts = texts.into_iter().filter(|(_, text)| given(text.as_deref()).is_some()).map(|(flag, _)| flag);
    let switch = run.read_base.map(|_| Flag::READ_BASE);
    texts
        .chain(lists.into_iter().filter(|(_, list)| has_text(list)).map(|(flag, _)| flag))
        .chain(switch)
        .collect()
}

/// Resolves the flags, if they ask for an image that runs.
///
/// `media_types` are those that were requested.
pub(super) fn runnable(
    args: &PushArgs,
    media_types: Option<MediaTypes>,
    env: &Env,
) -> Result<Option<RunnableOptions>, Failure> {
    let paths = args.file.iter().filter(|path| !path.as_os_str().is_empty());
    let places = paths.map(|path| FileArgument::parse(path)).collect::<Result<Vec<_>, _>>()?;
    let base = base(args)?;
    let is_asked =
        base.is_some() || places.iter().any(FileArgument::is_placed) || !flags_given(args).is_empty();
    if !is_asked {
        return Ok(None);
    }
    let rebase = rebase(args, base.as_ref())?;
    if places.is_empty() && base.is_none() {
        return Err(Failure::misuse("no files were given").hint(message!(
            "name folders or files with ",
            Flag::FILE.with("SRC:DEST").short(),
            ", or an image to change with ",
            Flag::BASE,
            " or ",
            Flag::BASE_TAR
        )));
    }
    let listing = listing(args, base.as_ref())?;
    let user = parsed(Flag::USER, args.run.user.as_deref(), user)?;
    if listing == BaseListing::Unread && user.as_ref().is_some_and(UserName::has_names) {
        return Err(Failure::misuse(message!(
            Flag::USER,
            " needs numbers with ",
            Flag::READ_BASE.with("false"),
            ", because names are looked up in the base"
        )));
    }
    let (files, roots) = layers(&places);
    let platforms: Vec<String> = given(args.platform.as_deref())
        .map(|list| list.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    Ok(Some(RunnableOptions {
        base,
        rebase,
        files,
        roots,
        edits: edits(args, env)?,
        listing,
        user,
        owner: parsed(Flag::OWNER, args.run.owner.as_deref(), owner)?.unwrap_or_default(),
        modes: modes(args)?,
        platforms: parsed_list(Flag::PLATFORM, &platforms, str::parse)?,
        media_types,
    }))
}

fn base(args: &PushArgs) -> Result<Option<ImagePlace>, Failure> {
    match (given_path(args.base_tar.as_ref()), given(args.base.as_deref())) {
        (Some(_), Some(_)) => {
            Err(Failure::misuse(message!(Flag::BASE, " and ", Flag::BASE_TAR, " exclude each other")))
        }
        (Some(path), None) => {
            expect_file(Flag::BASE_TAR, path)?;
            Ok(Some(ImagePlace::Tar(path.to_owned())))
        }
        (None, Some("scratch")) | (None, None) => Ok(None),
        (None, Some(text)) => {
            expect_file(Flag::BASE, Path::new(text))?;
            Ok(Some(ImagePlace::Registry(reference(Flag::BASE, text)?)))
        }
    }
}

/// Resolves `--read-base`; refuses it without a base.
fn listing(args: &PushArgs, base: Option<&ImagePlace>) -> Result<BaseListing, Failure> {
    match (args.run.read_base, base) {
        (Some(_), None) => Err(Failure::misuse(message!(
            Flag::READ_BASE,
            " works with ",
            Flag::BASE,
            " or ",
            Flag::BASE_TAR,
            " only"
        ))),
        (Some(_), Some(_)) if !is_on(args.run.read_base, true) => Ok(BaseListing::Unread),
        _ => Ok(BaseListing::Read),
    }
}

fn rebase(args: &PushArgs, base: Option<&ImagePlace>) -> Result<Option<Rebase>, Failure> {
    let place = |flag: Flag, text: Option<&str>| {
        let place = |text: &str| {
            expect_file(flag, Path::new(text))?;
            let is_path = text.starts_with(['.', '/']) || Path::new(text).exists();
            if is_path {
                Ok(ImagePlace::Tar(text.into()))
            } else {
                reference(flag, text).map(ImagePlace::Registry)
            }
        };
        given(text).map(place).transpose()
    };
    let image = place(Flag::REBASE, args.run.rebase.as_deref())?;
    let old = place(Flag::OLD_BASE, args.run.old_base.as_deref())?;
    match (image, old, base) {
        (None, None, _) => Ok(None),
        (Some(image), Some(old), Some(_)) => Ok(Some(Rebase { image, old })),
        _ => Err(Failure::misuse(message!(
            Flag::REBASE,
            " needs ",
            Flag::OLD_BASE,
            ", and the new base with ",
            Flag::BASE,
            " or ",
            Flag::BASE_TAR
        ))),
    }
}

fn edits(args: &PushArgs, env: &Env) -> Result<ConfigEdits, Failure> {
    let run = &args.run;
    let list = |flag: Flag, text: Option<&str>| {
        given(text).map(words).transpose().map_err(|error| {
            let failure = wrong(flag, &error.problem);
            match error.instead {
                Some(instead) => failure.hint(message!("write ", flag.with(format!("'{instead}'")))),
                None => failure,
            }
        })
    };
    Ok(ConfigEdits {
        entrypoint: list(Flag::ENTRYPOINT, run.entrypoint.as_deref())?,
        cmd: list(Flag::CMD, run.cmd.as_deref())?,
        env: parsed_list(Flag::ENV, &run.env, key_value)?,
        user: None,
        workdir: parsed(Flag::WORKDIR, run.workdir.as_deref(), absolute)?,
        ports: parsed_list(Flag::PORT, &run.port, port)?,
        volumes: parsed_list(Flag::VOLUME, &run.volume, absolute)?,
        stop_signal: parsed(Flag::STOP_SIGNAL, run.stop_signal.as_deref(), signal)?,
        labels: Default::default(),
        created: parsed(Flag::CREATED, run.created.as_deref(), |text| created(text, env))?,
    })
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(format!("`{text}` is not an absolute path")) }
}

fn port(text: &str) -> Result<String, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = number.parse::<u16>().is_ok_and(|number| number > 0);
    if !is_port || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(format!("`{text}` is not a port such as `8080`, `8080/tcp` or `53/udp`"));
    }
    Ok(format!("{number}/{protocol}"))
}

fn signal(text: &str) -> Result<String, String> {
    let is_name = text.starts_with("SIG")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-".contains(&byte));
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    if is_name || is_number {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a signal such as `SIGTERM` or `15`"))
    }
}

fn user(text: &str) -> Result<UserName, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let is_name =
        |text: &str| !text.is_empty() && !text.contains([':', '/']) && !text.contains(char::is_whitespace);
    if !is_name(user) || !group.is_none_or(is_name) {
        return Err(format!("`{text}` is not a user such as `65532`, `65532:65532` or `nonroot`"));
    }
    Ok(UserName { user: user.to_owned(), group: group.map(str::to_owned) })
}

fn owner(text: &str) -> Result<Owner, String> {
    let wrong = || format!("`{text}` is not an owner by number, such as `65532` or `65532:65532`");
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let uid = number(text.split_once(':').map_or(text, |(uid, _)| uid))?;
    let gid = text.split_once(':').map_or(Ok(uid), |(_, gid)| number(gid))?;
    Ok(Owner { uid, gid })
}

fn modes(args: &PushArgs) -> Result<Modes, Failure> {
    let keep = is_on(args.preserve_permissions, false);
    let mode = |text: &str| match text {
        "keep" => Ok(Modes::Keep),
        octal => {
            let mode = u32::from_str_radix(octal, 8).ok().filter(|mode| *mode <= 0o7777);
            let mode = mode.filter(|_| octal.bytes().all(|byte| byte.is_ascii_digit()));
            mode.map(Modes::Fixed).ok_or_else(|| format!("`{text}` is neither `keep` nor octal, as `0755`"))
        }
    };
    match parsed(Flag::MODE, args.run.mode.as_deref(), mode)? {
        Some(Modes::Fixed(_)) if keep => Err(Failure::misuse(message!(
            Flag::MODE,
            " and ",
            Flag::PRESERVE_PERMISSIONS,
            " exclude each other"
        ))),
        Some(modes) => Ok(modes),
        None => Ok(if keep { Modes::Keep } else { Modes::Readable }),
    }
}

/// Reads a creation time and writes it as RFC 3339 in UTC.
fn created(text: &str, env: &Env) -> Result<String, String> {
    let seconds = |text: &str, of: &str| {
        let seconds =
            text.parse::<u64>().map_err(|_| format!("`{text}`{of} is not a number of seconds since 1970"))?;
        format_rfc3339(seconds).ok_or_else(|| format!("`{text}`{of} is after the year 9999"))
    };
    if let Some(number) = text.strip_prefix("epoch:") {
        return seconds(number, "");
    }
    if text == "source-date-epoch" {
        let name = env::SOURCE_DATE_EPOCH;
        let value = env.text(name).ok_or_else(|| format!("`{name}` is not set"))?;
        return seconds(value, &format!(" in `{name}`"));
    }
    let time = Timestamp::parse_rfc3339(text).and_then(|time| u64::try_from(time.unix_seconds()).ok());
    let wrong = || {
        format!(
            "`{text}` is neither a date since 1970 such as `2026-11-29T12:00:00Z` nor `epoch:SECONDS` nor `source-date-epoch`"
        )
    };
    time.and_then(format_rfc3339).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<Option<RunnableOptions>, Failure> {
        let env = Env::from_pairs([("SOURCE_DATE_EPOCH", "1764374400")]);
        runnable(&args(words), None, &env)
    }

    fn options(words: &[&str]) -> RunnableOptions {
        resolve(&[&["-f", "d"], words].concat()).unwrap().unwrap()
    }

    #[test]
    fn an_image_runs_as_soon_as_one_of_its_flags_is_given() {
        assert_eq!(resolve(&["-f", "a,b", "-l", "k=v", "--platform", "linux/arm64"]), Ok(None));
        assert_eq!(resolve(&["-f", "d", "--entrypoint", "", "--env", "", "--base", ""]), Ok(None));
        for words in [
            &["-f", "d:/app"][..],
            &["-f", "linux/amd64=d"],
            &["-f", "d", "--entrypoint", "/x"],
            &["-f", "d", "--port", "80"],
            &["-f", "d", "--mode", "keep"],
            &["--base", "r.io/b"],
            &["--base-tar", "b.tar"],
        ] {
            assert!(resolve(words).unwrap().is_some(), "{words:?}");
        }
    }

    #[test]
    fn workdir_volume_port_and_stop_signal_are_in_the_configuration() {
        let found = options(&[
            "--entrypoint=/srv -v",
            "--cmd=[\"a b\"]",
            "--env=A=1,2",
            "--env=B=",
            "--user=nonroot:1",
            "--workdir=/w",
            "--port=8080,53/udp",
            "--volume=/data",
            "--stop-signal=SIGRTMIN+3",
            "--owner=7",
            "--mode=0640",
            "--platform=linux/amd64,linux/arm64",
            "--base=scratch",
        ]);
        let edits = ConfigEdits {
            entrypoint: Some(vec!["/srv".into(), "-v".into()]),
            cmd: Some(vec!["a b".into()]),
            env: vec![("A".into(), "1,2".into()), ("B".into(), String::new())],
            workdir: Some("/w".into()),
            ports: vec!["8080/tcp".into(), "53/udp".into()],
            volumes: vec!["/data".into()],
            stop_signal: Some("SIGRTMIN+3".into()),
            ..ConfigEdits::default()
        };
        assert_eq!(found.edits, edits);
        assert_eq!(found.user, Some(UserName { user: "nonroot".into(), group: Some("1".into()) }));
        assert_eq!((found.owner, found.modes), (Owner { uid: 7, gid: 7 }, Modes::Fixed(0o640)));
        assert_eq!((found.base, found.platforms.len()), (None, 2));
        assert_eq!(options(&["--preserve-permissions", "--cmd=x"]).modes, Modes::Keep);
    }

    #[test]
    fn a_date_is_written_in_utc() {
        for (text, expected) in [
            ("2026-11-29T01:00:00.5+01:00", "2026-11-29T00:00:00Z"),
            ("epoch:0", "1970-01-01T00:00:00Z"),
            ("epoch:253402300799", "9999-12-31T23:59:59Z"),
            ("source-date-epoch", "2025-11-29T00:00:00Z"),
        ] {
            assert_eq!(options(&["--created", text]).edits.created.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn wrong_values_name_their_flag() {
        for (words, expected) in [
            (&["--entrypoint", "/srv $X"][..], "`--entrypoint`: `$` is shell syntax"),
            (&["--cmd", "[1]"], "`--cmd`: it is not a JSON array of texts"),
            (&["--env", "A"], "`--env`: `A` has no `=`"),
            (&["--user", "a b"], "`--user`: `a b` is not a user"),
            (&["--user", "1:"], "`--user`: `1:` is not a user"),
            (&["--workdir", "w"], "`--workdir`: `w` is not an absolute path"),
            (&["--port", "0"], "`--port`: `0` is not a port"),
            (&["--port", "65536"], "`--port`: `65536` is not a port"),
            (&["--port", "80/x"], "`--port`: `80/x` is not a port"),
            (&["--volume", "v"], "`--volume`: `v` is not an absolute path"),
            (&["--stop-signal", "TERM"], "`--stop-signal`: `TERM` is not a signal"),
            (&["--stop-signal", "65"], "`--stop-signal`: `65` is not a signal"),
            (&["--owner", "root"], "`--owner`: `root` is not an owner by number"),
            (&["--owner", "1:4294967296"], "`--owner`: `1:4294967296` is not an owner"),
            (&["--mode", "0888"], "`--mode`: `0888` is neither `keep` nor octal"),
            (&["--mode", "10000"], "`--mode`: `10000` is neither"),
            (&["--mode", "644", "--preserve-permissions"], "`--mode` and `--preserve-permissions` exclude"),
            (&["--created", "today"], "`--created`: `today` is neither a date"),
            (&["--created", "1969-12-31T23:59:59Z"], "is neither a date since 1970"),
            (&["--created", "epoch:x"], "`--created`: `x` is not a number of seconds"),
            (&["--created", "epoch:253402300800"], "is after the year 9999"),
            (&["--base", "r.io/a", "--base-tar", "t"], "`--base` and `--base-tar` exclude each other"),
            (&["--rebase", "r.io/a", "--base", "r.io/b"], "`--rebase` needs `--old-base`, and the new base"),
            (&["--old-base", "r.io/a"], "`--rebase` needs `--old-base`"),
            (&["--cmd", "x", "--platform", "linux"], "`--platform`: platform `linux` is not of the form"),
        ] {
            let failure = resolve(&[&["-f", "d"], words].concat()).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
        let failure = resolve(&["--cmd", "x"]).unwrap_err();
        assert_eq!(failure.message.to_string(), "no files were given");
        let created = |env: Env| runnable(&args(&["-f", "d", "--created", "source-date-epoch"]), None, &env);
        let failure = created(Env::default()).unwrap_err().message.to_string();
        assert_eq!(failure, "`--created`: `SOURCE_DATE_EPOCH` is not set");
        let failure = created(Env::from_pairs([("SOURCE_DATE_EPOCH", "1.5")])).unwrap_err();
        assert!(failure.message.to_string().contains("`1.5` in `SOURCE_DATE_EPOCH` is not a number"));
    }
}
