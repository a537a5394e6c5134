//! The top-level images of a store while it is opened: each digest once, each name once, all bounded.
//!
//! Tables of contents come from outside: one of a few KiB, compressed, may list a million names. Finding a root and a
//! name again costs the same however many there are.

use std::collections::{HashMap, HashSet};

use crate::model::{Descriptor, Digest, limits};
use crate::tar::display_name;

use super::{ImageName, Remark, Root};

/// Most names in a remark; the others are counted.
const NAMED: usize = 10;

/// Roots and the remarks about their names.
#[derive(Default)]
pub(super) struct RootList {
    roots: Vec<Root>,
    known: HashMap<Digest, usize>,
    names: HashSet<(usize, ImageName)>,
    invalid_count: usize,
    /// The first few, each once.
    invalid: Vec<String>,
}

impl RootList {
    /// Returns the number of the root with this digest, which is new or was listed before.
    ///
    /// Errors: more roots than are accepted.
    pub(super) fn add(&mut self, descriptor: &Descriptor) -> Result<usize, String> {
        if let Some(at) = self.known.get(&descriptor.digest) {
            return Ok(*at);
        }
        let at = self.roots.len();
        if at >= limits::DOCUMENTS {
            return Err(format!("it lists more than {} images", limits::DOCUMENTS));
        }
        self.known.insert(descriptor.digest.clone(), at);
        self.roots.push(Root::new(descriptor.clone()));
        Ok(at)
    }

    /// Returns a root by its number.
    pub(super) fn root(&mut self, at: usize) -> &mut Root {
        &mut self.roots[at]
    }

    /// Names a root; a name that it has is passed over.
    ///
    /// Errors: more names than are accepted.
    pub(super) fn name(&mut self, at: usize, name: ImageName) -> Result<(), String> {
        if !self.names.insert((at, name.clone())) {
            return Ok(());
        }
        if self.names.len() > limits::IMAGE_NAMES {
            return Err(format!("it has more than {} names of images", limits::IMAGE_NAMES));
        }
        self.roots[at].image.names.push(name);
        Ok(())
    }

    /// Notes a text that is no name.
    pub(super) fn invalid_name(&mut self, text: &str) {
        self.invalid_count += 1;
        if self.invalid.len() < NAMED {
            let shown = display_name(text.as_bytes());
            if !self.invalid.contains(&shown) {
                self.invalid.push(shown);
            }
        }
    }

    /// Returns the roots; remarks about names are added to the others.
    pub(super) fn finish(self, remarks: &mut Vec<Remark>) -> Vec<Root> {
        if self.invalid_count > 0 {
            remarks.push(Remark::InvalidNames { count: self.invalid_count, names: self.invalid });
        }
        self.roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::media_type;

    fn image(bytes: &[u8]) -> Descriptor {
        Descriptor::of_bytes(media_type::OCI_MANIFEST, bytes)
    }

    #[test]
    fn digests_and_names_are_listed_once_and_names_that_are_none_counted() {
        let mut list = RootList::default();
        let name = |text: &str| ImageName::of(text.parse().unwrap());
        let (a, b) = (list.add(&image(b"a")).unwrap(), list.add(&image(b"b")).unwrap());
        assert_eq!((a, b, list.add(&image(b"a")).unwrap()), (0, 1, 0));
        for (at, text) in [(a, "r.io/x:1"), (a, "r.io/x:2"), (a, "r.io/x:1"), (b, "r.io/x:1")] {
            list.name(at, name(text)).unwrap();
        }
        for text in ["", "A B", ""] {
            list.invalid_name(text);
        }
        let mut remarks = Vec::new();
        let roots = list.finish(&mut remarks);
        let names: Vec<_> = roots.iter().map(|root| root.image.names.len()).collect();
        assert_eq!(names, [2, 1]);
        let names = vec![String::new(), "A B".to_owned()];
        assert_eq!(remarks, [Remark::InvalidNames { count: 3, names }]);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut list = RootList::default();
        let at = list.add(&image(b"a")).unwrap();
        let tag = |number: usize| ImageName { tag: format!("t{number}").parse().ok(), reference: None };
        for number in 0..limits::IMAGE_NAMES {
            list.name(at, tag(number)).unwrap();
        }
        list.name(at, tag(0)).unwrap();
        assert_eq!(
            list.name(at, tag(limits::IMAGE_NAMES)),
            Err("it has more than 100000 names of images".into())
        );
        for number in 0..1000 {
            list.invalid_name(&format!("-{number}"));
        }
        let mut remarks = Vec::new();
        drop(list.finish(&mut remarks));
        let [Remark::InvalidNames { count: 1000, names }] = remarks.as_slice() else { panic!("{remarks:?}") };
        assert_eq!(names.len(), 10);
    }
}
