//! Temporary files without a name: the kernel removes them when they are closed, also after `kill -9`.

use std::fs::File;
use std::path::Path;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};

use super::FileError;
use super::temporary::temporary_name;

/// Opens a new file without a name in a folder, for reading and writing by this process only.
pub fn nameless_file(folder: &Path) -> Result<File, FileError> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rfs::open(folder, flags, mode) {
        return Ok(File::from(file));
    }
    unnamed_at_once(folder)
}

/// Creates a file with a name and removes the name, for file systems without `O_TMPFILE`.
fn unnamed_at_once(folder: &Path) -> Result<File, FileError> {
    let failed = |error| FileError::io("create a temporary file in", folder, error);
    let mode = Mode::RUSR | Mode::WUSR;
    let directory = rfs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let name = temporary_name("spool".as_ref());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rfs::openat(&directory, &name, flags, mode).map_err(failed)?;
    rfs::unlinkat(&directory, &name, AtFlags::empty()).map_err(failed)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    type Create = fn(&Path) -> Result<File, FileError>;

    /// With and without the help of the file system.
    const WAYS: [Create; 2] = [nameless_file, unnamed_at_once];

    #[test]
    fn a_nameless_file_holds_data_and_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("imgrelay-nameless-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for create in WAYS {
            let mut file = create(&folder).unwrap();
            file.write_all(b"data").unwrap();
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "data");
        }
        std::fs::remove_dir(&folder).unwrap();
        for create in WAYS {
            let error = create(&folder).unwrap_err().to_string();
            assert!(error.starts_with("cannot create a temporary file in `"), "{error}");
        }
    }

    #[test]
    fn only_this_user_and_this_program_can_use_a_nameless_file() {
        use std::os::unix::fs::PermissionsExt as _;
        for create in WAYS {
            let file = create(&std::env::temp_dir()).unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        }
    }
}
