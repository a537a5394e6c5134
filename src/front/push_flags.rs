//! The flags of `push` that other doors offer: one row for each, with its name at every door.
//!
//! A door reads its values by this list and fills [`PushArgs`] with them; `cli::resolve` checks them. The texts about
//! these flags in the files of the doors (`action.yml`, `task.yml`, the Tekton files and their pages) are generated
//! from this list: `UPDATE_DOCS=1 cargo test push_flags`. A flag that has no row is reached by `IMGRELAY_<FLAG>` in the
//! action's environment and by `EXTRA_ARGS` of the Tekton tasks.

use std::path::PathBuf;

use super::cli::args::PushArgs;
use super::cli::values::Switch;
use super::flag::Flag;

/// The field of [`PushArgs`] that a flag fills; its kind decides how the value is written.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// A text.
    Text(fn(&mut PushArgs) -> &mut Option<String>),
    /// A list of texts.
    List(fn(&mut PushArgs) -> &mut Vec<String>),
    /// A map of texts, as `key=value`.
    Table(fn(&mut PushArgs) -> &mut Vec<String>),
    /// `true` or `false`.
    Switch(fn(&mut PushArgs) -> &mut Option<Switch>),
    /// The path of one file or folder.
    Path(fn(&mut PushArgs) -> &mut Option<PathBuf>),
    /// The path of a tar or folder with an image; on the command line also a reference.
    ImagePath(fn(&mut PushArgs) -> &mut Option<String>),
}

/// A flag of `push` and its names.
#[derive(Clone, Copy, Debug)]
pub struct PushFlag {
    /// The flag.
    pub flag: Flag,
    /// The field.
    pub field: Field,
    /// The param of Concourse's put; the task's is the same in capitals.
    pub param: Option<&'static str>,
    /// The input of the GitHub action.
    pub input: Option<&'static str>,
    /// The param of the Tekton tasks and step actions that build.
    pub tekton: Option<&'static str>,
    /// The help text, in one line without a capital letter or a full stop.
    pub meaning: &'static str,
}

/// Every flag of `push` that other doors have a name for.
pub const PUSH_FLAGS: &[PushFlag] = &[
    PushFlag {
        flag: Flag::LABELS,
        field: Field::Table(|args| &mut args.labels),
        param: Some("labels"),
        input: Some("labels"),
        tekton: Some("LABELS"),
        meaning: "labels of the image, `key=value`",
    },
    PushFlag {
        flag: Flag::ANNOTATION,
        field: Field::Table(|args| &mut args.annotation),
        param: Some("annotations"),
        input: Some("annotations"),
        tekton: Some("ANNOTATIONS"),
        meaning: "annotations of the manifest, `key=value`",
    },
    PushFlag {
        flag: Flag::FILE_EXCLUSION,
        field: Field::List(|args| &mut args.file_exclusion),
        param: Some("exclude"),
        input: Some("exclude"),
        tekton: None,
        meaning: "exact paths below a folder that are left out (default `.git`)",
    },
    PushFlag {
        flag: Flag::COMPRESSION,
        field: Field::Text(|args| &mut args.compression),
        param: Some("compression"),
        input: Some("compression"),
        tekton: Some("COMPRESSION"),
        meaning: "compression of the layer: `gzip[:1-12]`, `zstd[:1-19]` or `none` (default `gzip`)",
    },
    PushFlag {
        flag: Flag::LAYERS,
        field: Field::Text(|args| &mut args.layers),
        param: Some("layers"),
        input: None,
        tekton: None,
        meaning: "for `source`: `1`, or `auto` for layers of which few change from push to push (default `1`)",
    },
    PushFlag {
        flag: Flag::BASE_TAR,
        field: Field::Path(|args| &mut args.base_tar),
        param: Some("base"),
        input: Some("base-tar"),
        tekton: Some("BASE_TAR"),
        meaning: "for `image`: a tar or folder with the image to build on; for `source`: one with the earlier image",
    },
    PushFlag {
        flag: Flag::BASE,
        field: Field::Text(|args| &mut args.base),
        // A task and a put contact no registry for it: the base is an input, see `base`.
        param: None,
        input: Some("base"),
        tekton: Some("BASE"),
        meaning: "for `image`: reference of the image to build on, read from its registry",
    },
    PushFlag {
        flag: Flag::READ_BASE,
        field: Field::Switch(|args| &mut args.run.read_base),
        param: None,
        input: Some("read-base"),
        tekton: Some("READ_BASE"),
        meaning: "`false`: fetch no layer of `base`; the image gets no entries for folders above the files, and the files of the base are not checked",
    },
    PushFlag {
        flag: Flag::ENTRYPOINT,
        field: Field::Text(|args| &mut args.run.entrypoint),
        param: Some("entrypoint"),
        input: Some("entrypoint"),
        tekton: Some("ENTRYPOINT"),
        meaning: "for `image`: program and first arguments, as a JSON array or words",
    },
    PushFlag {
        flag: Flag::CMD,
        field: Field::Text(|args| &mut args.run.cmd),
        param: Some("cmd"),
        input: Some("cmd"),
        tekton: Some("CMD"),
        meaning: "for `image`: default arguments, as a JSON array or words",
    },
    PushFlag {
        flag: Flag::ENV,
        field: Field::Table(|args| &mut args.run.env),
        param: Some("env"),
        input: Some("env"),
        tekton: Some("ENV"),
        meaning: "for `image`: environment of the container, `NAME=value`",
    },
    PushFlag {
        flag: Flag::USER,
        field: Field::Text(|args| &mut args.run.user),
        // Concourse itself sets the variable `USER` of a task.
        param: Some("run_user"),
        input: Some("user"),
        tekton: Some("USER"),
        meaning: "for `image`: user of the container, `uid[:gid]`; a name is looked up in the base",
    },
    PushFlag {
        flag: Flag::WORKDIR,
        field: Field::Text(|args| &mut args.run.workdir),
        param: Some("workdir"),
        input: Some("workdir"),
        tekton: Some("WORKDIR"),
        meaning: "for `image`: working folder of the container",
    },
    PushFlag {
        flag: Flag::PORT,
        field: Field::List(|args| &mut args.run.port),
        param: Some("ports"),
        input: Some("ports"),
        tekton: Some("PORTS"),
        meaning: "for `image`: ports that the program listens on, `8080` or `53/udp`",
    },
    PushFlag {
        flag: Flag::VOLUME,
        field: Field::List(|args| &mut args.run.volume),
        param: Some("volumes"),
        input: Some("volumes"),
        tekton: Some("VOLUMES"),
        meaning: "for `image`: paths that get a volume",
    },
    PushFlag {
        flag: Flag::STOP_SIGNAL,
        field: Field::Text(|args| &mut args.run.stop_signal),
        param: Some("stop_signal"),
        input: Some("stop-signal"),
        tekton: Some("STOP_SIGNAL"),
        meaning: "for `image`: signal that stops the container",
    },
    PushFlag {
        flag: Flag::CREATED,
        field: Field::Text(|args| &mut args.run.created),
        param: Some("created"),
        input: Some("created"),
        tekton: Some("CREATED"),
        meaning: "for `image`: creation time, RFC 3339 or `epoch:SECONDS` (default: the year 1)",
    },
    PushFlag {
        flag: Flag::REBASE,
        field: Field::ImagePath(|args| &mut args.run.rebase),
        param: Some("rebase"),
        input: None,
        tekton: None,
        meaning: "for `image`: a tar or folder with an image that is moved from `old_base` to `base`",
    },
    PushFlag {
        flag: Flag::OLD_BASE,
        field: Field::ImagePath(|args| &mut args.run.old_base),
        param: Some("old_base"),
        input: None,
        tekton: None,
        meaning: "with `rebase`: a tar or folder with the base that the image was made on",
    },
    PushFlag {
        flag: Flag::OWNER,
        field: Field::Text(|args| &mut args.run.owner),
        param: Some("owner"),
        input: Some("owner"),
        tekton: Some("OWNER"),
        meaning: "for `image`: owner of the files, `uid[:gid]` (default `0:0`)",
    },
    PushFlag {
        flag: Flag::MODE,
        field: Field::Text(|args| &mut args.run.mode),
        param: Some("mode"),
        input: Some("mode"),
        tekton: Some("MODE"),
        meaning: "for an image that runs: permissions of the files, `keep` or octal (default 0755 for programs, else 0644)",
    },
    PushFlag {
        flag: Flag::SIZE_LIMIT,
        field: Field::Text(|args| &mut args.size_limit),
        param: Some("size_limit"),
        input: None,
        tekton: None,
        meaning: "for `source`: most bytes of all files together (default `1GiB`)",
    },
    PushFlag {
        flag: Flag::PLATFORM,
        field: Field::Text(|args| &mut args.platform),
        param: Some("platform"),
        input: Some("platform"),
        tekton: Some("PLATFORM"),
        meaning: "platform of the image, `os/architecture` (default `linux/amd64`)",
    },
    PushFlag {
        flag: Flag::MEDIA_TYPES,
        field: Field::Text(|args| &mut args.media_types),
        param: Some("media_types"),
        input: None,
        tekton: None,
        meaning: "media types: `oci` or `docker` (default `oci`)",
    },
    PushFlag {
        flag: Flag::SYMLINKS,
        field: Field::Text(|args| &mut args.symlinks),
        param: Some("symlinks"),
        input: None,
        tekton: None,
        meaning: "symbolic links: `keep`, `copy`, `omit`, `refuse` or, for `image`, `verbatim` (default `keep`, for `source` `copy`)",
    },
    PushFlag {
        flag: Flag::PRESERVE_PERMISSIONS,
        field: Field::Switch(|args| &mut args.preserve_permissions),
        param: Some("preserve_permissions"),
        input: Some("preserve-permissions"),
        tekton: None,
        meaning: "keep each entry's own permissions; otherwise only the owner can read the packed files (0600, 0700), or every user if the image runs (0644, 0755)",
    },
    PushFlag {
        flag: Flag::EXPECTED_DIGEST,
        field: Field::Text(|args| &mut args.expected_digest),
        // A put and the task read it by themselves: for a put it may be the name of a file.
        param: None,
        input: Some("expected-digest"),
        tekton: None,
        meaning: "digest that the image must have; nothing is pushed if it has another one",
    },
    PushFlag {
        flag: Flag::TO_STORE,
        field: Field::Text(|args| &mut args.to_store),
        // A put has `source.store`, and the task writes a tar. A Tekton task takes it as one of `EXTRA_ARGS`, because the
        // same params are those of the tasks that write a tar.
        param: None,
        input: Some("to-store"),
        tekton: None,
        meaning: "with `command: push`: push into a store in place of a registry, `s3://BUCKET/PREFIX:TAG`",
    },
];

/// Returns the row of a flag.
#[must_use]
pub fn find(flag: Flag) -> Option<&'static PushFlag> {
    PUSH_FLAGS.iter().find(|row| row.flag == flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::env::Env;

    /// The lines around the generated part of a file.
    const BEGIN: &str = "push flags, written by UPDATE_DOCS=1 cargo test push_flags: begin";
    const END: &str = "push flags: end";

    /// Returns the help text as the beginning of a sentence, with the door's text about the form.
    fn sentence(row: &PushFlag, list: &str) -> String {
        let (before, after) = match row.field {
            Field::List(_) | Field::Table(_) => ("", list),
            Field::Switch(_) if !row.meaning.starts_with('`') => ("`true`: ", ""),
            Field::Switch(_) => ("", ""),
            Field::Text(_) | Field::Path(_) | Field::ImagePath(_) => ("", ""),
        };
        let mut meaning = row.meaning.to_owned();
        if before.is_empty() {
            meaning[..1].make_ascii_uppercase();
        }
        format!("{before}{meaning}{after}")
    }

    /// Writes lines between the markers of a file.
    fn between(text: &str, lines: &str) -> String {
        let begin = text.find(BEGIN).unwrap_or_else(|| panic!("no line `# {BEGIN}`"));
        let begin = begin + text[begin..].find('\n').unwrap() + 1;
        let end = begin + text[begin..].find(END).unwrap();
        let end = text[..end].rfind('\n').unwrap() + 1;
        format!("{}{lines}{}", &text[..begin], &text[end..])
    }

    /// Replaces rows of a table by their first cell; a new row is inserted behind the one before it.
    fn rows(text: &str, rows: &[(String, String)]) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut last = None;
        for (cell, line) in rows {
            let start = format!("| {cell} |");
            match lines.iter().position(|line| line.starts_with(&start)) {
                Some(at) => {
                    lines[at].clone_from(line);
                    last = Some(at);
                }
                None => {
                    let at = last.expect("the first row is there") + 1;
                    lines.insert(at, line.clone());
                    last = Some(at);
                }
            }
        }
        lines.join("\n") + "\n"
    }

    fn check(path: &str, change: impl Fn(&str) -> String) {
        let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let found = std::fs::read_to_string(&file).unwrap();
        let expected = change(&found);
        if Env::of_process().text("UPDATE_DOCS").is_some() {
            std::fs::write(&file, &expected).unwrap();
        } else {
            assert!(
                found == expected,
                "{path} is not current; write it with UPDATE_DOCS=1 cargo test push_flags"
            );
        }
    }

    #[test]
    fn the_actions_inputs_are_those_of_the_list() {
        let inputs =
            || PUSH_FLAGS.iter().filter_map(|row| Some((row.input?, sentence(row, ", one per line"))));
        check("action.yml", |text| {
            let input =
                |(name, text)| format!("  {name}:\n    description: \"{text}\"\n    required: false\n");
            between(text, &inputs().map(input).collect::<String>())
        });
        check("docs/github-actions.md", |text| {
            let row = |(name, text): (&str, String)| (format!("`{name}`"), format!("| `{name}` | {text} |"));
            rows(text, &inputs().map(row).collect::<Vec<_>>())
        });
    }

    #[test]
    fn the_params_of_concourse_are_those_of_the_list() {
        let params = || PUSH_FLAGS.iter().filter_map(|row| row.param);
        check("task.yml", |text| {
            let lines = params().map(|param| format!("  {}:\n", param.to_ascii_uppercase()));
            between(text, &lines.collect::<String>())
        });
        check("docs/concourse.md", |text| {
            let names: Vec<String> = params().map(|param| format!("`{param}`")).collect();
            let line = format!("| `kind`, {} | for `files`, as in the task |", names.join(", "));
            let is_row = |line: &str| line.starts_with("| `kind`, ");
            let lines = text.lines().map(|old| if is_row(old) { line.as_str() } else { old });
            lines.collect::<Vec<_>>().join("\n") + "\n"
        });
    }

    #[test]
    fn the_params_of_tekton_are_those_of_the_list() {
        let list = ", one per line or separated by commas";
        let params = || {
            PUSH_FLAGS.iter().filter_map(|row| Some((row.tekton?, row.flag.variable(), sentence(row, list))))
        };
        let files = [
            ("tekton/task/imgrelay", "      "),
            ("tekton/task/imgrelay-build", "      "),
            ("tekton/stepaction/imgrelay-build", "  "),
        ];
        for (folder, variables) in files {
            let name = folder.rsplit('/').next().unwrap();
            check(&format!("{folder}/{name}.yaml"), |text| {
                let param = |(name, _, text): (&str, String, String)| {
                    format!(
                        "    - name: {name}\n      type: string\n      description: >-\n        {text}.\n      default: \"\"\n"
                    )
                };
                let variable = |(name, variable, _): (&str, String, String)| {
                    format!("{variables}  - name: {variable}\n{variables}    value: $(params.{name})\n")
                };
                let (first, rest) = text.split_at(text.find(END).unwrap() + END.len());
                let first = between(first, &params().map(param).collect::<String>());
                first + &between(rest, &params().map(variable).collect::<String>())
            });
            check(&format!("{folder}/README.md"), |text| {
                let row = |(name, _, text): (&str, String, String)| {
                    (format!("`{name}`"), format!("| `{name}` | empty | {text}. |"))
                };
                rows(text, &params().map(row).collect::<Vec<_>>())
            });
        }
    }

    #[test]
    fn every_row_fills_the_field_of_its_flag() {
        let command = crate::front::program::command();
        let push = command.find_subcommand("push").unwrap();
        for row in PUSH_FLAGS {
            let arg = push.get_arguments().find(|arg| arg.get_long() == Some(row.flag.long()));
            let arg = arg.unwrap_or_else(|| panic!("`push` has no flag `--{}`", row.flag.long()));
            let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
            assert_eq!(is_list, matches!(row.field, Field::List(_) | Field::Table(_)), "{row:?}");
            let mut args = PushArgs::default();
            match row.field {
                Field::Text(field) | Field::ImagePath(field) => {
                    *field(&mut args) = Some("value".to_owned());
                }
                Field::List(field) | Field::Table(field) => field(&mut args).push("value".to_owned()),
                Field::Switch(field) => *field(&mut args) = Some(Switch::ON),
                Field::Path(field) => *field(&mut args) = Some("value".into()),
            }
            // The field has the flag's name, and no other field changed.
            let changed = format!("{args:?}");
            let value = match row.field {
                Field::Text(_) | Field::Path(_) | Field::ImagePath(_) => "Some(\"value\")".to_owned(),
                Field::List(_) | Field::Table(_) => "[\"value\"]".to_owned(),
                Field::Switch(_) => format!("{:?}", Some(Switch::ON)),
            };
            let name = row.flag.long().replace('-', "_");
            assert!(changed.contains(&format!(" {name}: {value}")), "{name}: {changed}");
        }
    }
}
