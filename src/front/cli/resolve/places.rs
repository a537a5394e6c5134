//! `-f [PLATFORM=]SRC[:DEST]`: what is packed, for which platform, and where it goes in the image.
//!
//! DEST is absolute, so it begins after the last `:/`. A SRC with `:/` in it needs a DEST; one that begins like a
//! platform (`linux/x=`) is written with `./` in front.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::wrong;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::Platform;
use crate::pack::PlacedFiles;

/// Operating systems that a platform in front of a path begins with.
const SYSTEMS: [&str; 3] = ["linux", "windows", "freebsd"];

/// A value of `--file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileArgument {
    /// The platform whose image it is for; none for all.
    pub(super) platform: Option<Platform>,
    /// What is packed.
    pub(super) source: PathBuf,
    /// Where it goes; none for the root of the image.
    pub(super) destination: Option<Vec<u8>>,
}

impl FileArgument {
    /// Reads a value.
    pub(super) fn parse(path: &Path) -> Result<Self, Failure> {
        let value = path.as_os_str().as_bytes();
        let (platform, rest) = platform(value);
        let range = source(value);
        let source = value.get(range.clone()).unwrap_or_default();
        let destination =
            value.get(range.end + 1..).filter(|_| source.len() < rest.len()).map(<[u8]>::to_vec);
        let shown = path.display();
        if source.is_empty() {
            return Err(wrong(Flag::FILE, &format_args!("`{shown}` has no path to pack"))
                .hint(message!("write ", Flag::FILE.with("SRC:DEST").short())));
        }
        let destination_parts = destination.iter().flat_map(|path| path.split(|byte| *byte == b'/'));
        if destination_parts.into_iter().any(|part| part == b"..") {
            return Err(wrong(Flag::FILE, &format_args!("`{shown}` has `..` in its path in the image")));
        }
        Ok(Self { platform, source: PathBuf::from(OsStr::from_bytes(source)), destination })
    }

    /// Tells whether the value says more than a path.
    #[must_use]
    pub(super) fn is_placed(&self) -> bool {
        self.platform.is_some() || self.destination.is_some()
    }
}

/// Returns where SRC stands in a value of `--file`.
pub(in crate::front) fn source(value: &[u8]) -> std::ops::Range<usize> {
    let (_, rest) = platform(value);
    let start = value.len() - rest.len();
    let end = rest.windows(2).rposition(|pair| pair == b":/");
    start..end.map_or(value.len(), |end| start + end)
}

fn platform(value: &[u8]) -> (Option<Platform>, &[u8]) {
    let whole = (None, value);
    let Some(end) = value.iter().position(|byte| *byte == b'=') else { return whole };
    let (before, after) = value.split_at(end);
    let Ok(text) = std::str::from_utf8(before) else { return whole };
    let is_known = text.split('/').next().is_some_and(|system| SYSTEMS.contains(&system));
    match text.parse::<Platform>() {
        Ok(platform) if is_known => (Some(platform), after.get(1..).unwrap_or_default()),
        _ => whole,
    }
}

/// Files for a layer, for one platform or for all.
pub(super) type LayerFiles = (Option<Platform>, PlacedFiles);

/// Makes layers of places: one for each destination and platform, in the order in which they are first named.
///
/// Shape: the layers, and every path in the order given, to which the numbers in the layers belong.
#[must_use]
pub(super) fn layers(places: &[FileArgument]) -> (Vec<LayerFiles>, Vec<PathBuf>) {
    let mut layers: Vec<LayerFiles> = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let destination = place.destination.clone().unwrap_or_else(|| b"/".to_vec());
        let root = (number, place.source.clone());
        let same = |(platform, files): &&mut LayerFiles| {
            *platform == place.platform && files.destination == destination
        };
        match layers.iter_mut().find(same) {
            Some((_, files)) => files.roots.push(root),
            None => {
                let files = PlacedFiles { roots: vec![root], destination };
                layers.push((place.platform.clone(), files));
            }
        }
    }
    (layers, places.iter().map(|place| place.source.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        let place = FileArgument::parse(Path::new(text)).map_err(|failure| failure.message.to_string())?;
        let platform = place.platform.map_or("all".to_owned(), |platform| platform.to_string());
        let destination = place.destination.map(|path| String::from_utf8(path).unwrap());
        Ok(format!("{platform} {} {}", place.source.display(), destination.as_deref().unwrap_or("-")))
    }

    #[test]
    fn a_value_has_a_platform_a_path_and_a_place() {
        for (text, expected) in [
            ("dist", "all dist -"),
            ("dist:/app", "all dist /app"),
            ("dist:/app/", "all dist /app/"),
            ("./a:b", "all ./a:b -"),
            ("a:/b:/dest", "all a:/b /dest"),
            ("linux/arm64=out/srv:/srv", "linux/arm64 out/srv /srv"),
            ("linux/arm/v7=out", "linux/arm/v7 out -"),
            ("./linux/arm64=out", "all ./linux/arm64=out -"),
            ("a=b:/c", "all a=b /c"),
            ("x/y=b", "all x/y=b -"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            (":/app", "`--file`: `:/app` has no path to pack"),
            ("linux/amd64=", "`--file`: `linux/amd64=` has no path to pack"),
            ("a:/b/../c", "`--file`: `a:/b/../c` has `..` in its path in the image"),
        ] {
            assert_eq!(shown(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn each_place_is_a_layer_and_equal_places_share_one() {
        let places: Vec<FileArgument> =
            ["libs:/app/", "srv:/bin/srv", "more:/app/", "linux/arm64=x:/app/", "etc"]
                .iter()
                .map(|text| FileArgument::parse(Path::new(text)).unwrap())
                .collect();
        let (layers, roots) = layers(&places);
        let shown: Vec<String> = layers
            .iter()
            .map(|(platform, files)| {
                let numbers: Vec<usize> = files.roots.iter().map(|(number, _)| *number).collect();
                let place = String::from_utf8_lossy(&files.destination).into_owned();
                format!(
                    "{} {place} {numbers:?}",
                    platform.as_ref().map(ToString::to_string).unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(shown, [" /app/ [0, 2]", " /bin/srv [1]", "linux/arm64 /app/ [3]", " / [4]"]);
        assert_eq!(roots.len(), 5);
    }
}
