//! A user by name: its numbers, from the files of the base.

use crate::transfer::TransferError;
use crate::transfer::image_files::ImageFiles;

/// Files of a base whose content is wanted to look up names.
pub(super) const ACCOUNTS: &[&[u8]] = &[PASSWD, GROUP];
/// Users by name.
const PASSWD: &[u8] = b"etc/passwd";
/// Groups by name.
const GROUP: &[u8] = b"etc/group";

/// The user that a container runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// A number or a name.
    pub user: String,
    /// A number or a name.
    pub group: Option<String>,
}

impl UserName {
    /// Tells whether a file of the base is needed to find the numbers.
    #[must_use]
    pub fn has_names(&self) -> bool {
        let is_name = |text: &str| text.parse::<u32>().is_err();
        is_name(&self.user) || self.group.as_deref().is_some_and(is_name)
    }

    /// Returns the user as numbers; a user by name brings its group along.
    pub(super) fn numbers(&self, base: &ImageFiles) -> Result<String, TransferError> {
        let (uid, own_group) = match self.user.parse::<u32>() {
            Ok(_) => (self.user.clone(), None),
            Err(_) => {
                let fields = look_up(base, PASSWD, &self.user)?;
                (number(&fields, 2, PASSWD, &self.user)?, fields.get(3).cloned())
            }
        };
        let gid = match &self.group {
            Some(group) if group.parse::<u32>().is_ok() => Some(group.clone()),
            Some(group) => Some(number(&look_up(base, GROUP, group)?, 2, GROUP, group)?),
            None => own_group.filter(|gid| gid.parse::<u32>().is_ok()),
        };
        Ok(gid.map_or_else(|| uid.clone(), |gid| format!("{uid}:{gid}")))
    }
}

fn missing(file: &[u8], name: &str) -> TransferError {
    TransferError::NoSuchName { name: name.to_owned(), file: String::from_utf8_lossy(file).into_owned() }
}

fn number(fields: &[String], at: usize, file: &[u8], name: &str) -> Result<String, TransferError> {
    let field = fields.get(at).filter(|field| field.parse::<u32>().is_ok());
    field.cloned().ok_or_else(|| missing(file, name))
}

/// Finds the line of a name; colons separate the fields.
fn look_up(base: &ImageFiles, file: &[u8], name: &str) -> Result<Vec<String>, TransferError> {
    let text = base.wanted.get(file).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines().map(fields);
    lines.find(|fields| fields.first().is_some_and(|first| first == name)).ok_or_else(|| missing(file, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_numbers_of_the_base() {
        let accounts = [
            (PASSWD.to_vec(), b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:\nodd:x:y:1::/:\n".to_vec()),
            (GROUP.to_vec(), b"root:x:0:\nstaff:x:50:web\n".to_vec()),
        ];
        let base = ImageFiles { wanted: accounts.into(), ..ImageFiles::default() };
        for (user, group, expected) in [
            ("65532", None, Ok("65532")),
            ("65532", Some("7"), Ok("65532:7")),
            ("web", None, Ok("33:34")),
            ("web", Some("staff"), Ok("33:50")),
            ("5", Some("staff"), Ok("5:50")),
            ("other", None, Err("`other` is not in `/etc/passwd` of the base")),
            ("odd", None, Err("`odd` is not in `/etc/passwd` of the base")),
            ("web", Some("web"), Err("`web` is not in `/etc/group` of the base")),
        ] {
            let name = UserName { user: user.to_owned(), group: group.map(str::to_owned) };
            let found = name.numbers(&base).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{user} {group:?}");
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            assert_eq!(name.has_names(), !digits(user) || group.is_some_and(|group| !digits(group)));
        }
    }
}
