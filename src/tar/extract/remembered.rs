//! What has to be kept in memory about extracted names until the layer, or the whole image, is done.
//!
//! The names form a tree as the folders on disk do. A name costs its own bytes however deep it lies, and when an
//! entry replaces another, everything remembered about the older one is forgotten with one removal.

use std::collections::BTreeMap;

/// A name in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameId(u32);

/// What is done about a name when all layers are extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deferred {
    /// Modification time of a folder, in seconds since 1970; writing into the folder would change it earlier.
    pub(super) mtime: Option<i64>,
    /// Mode of a folder that would keep its owner out; its files have to be written first.
    pub(super) mode: Option<u32>,
    /// The name is a link that goes up after going down; where it leads is known when all folders are there.
    pub(super) is_link: bool,
}

#[derive(Debug, Default)]
struct Name {
    children: BTreeMap<Box<[u8]>, NameId>,
    /// Number of the last layer that wrote it, counted from 1.
    layer: u32,
    deferred: Deferred,
}

/// The tree of names.
#[derive(Debug)]
pub(super) struct Remembered {
    names: Vec<Name>,
    free: Vec<NameId>,
}

impl Remembered {
    /// The folder that is extracted into.
    pub(super) const ROOT: NameId = NameId(0);

    pub(super) fn new() -> Self {
        Self { names: vec![Name::default()], free: Vec::new() }
    }

    /// Tells whether there is nothing to forget.
    pub(super) fn is_empty(&self) -> bool {
        self.names.len() == self.free.len() + 1
    }

    fn name(&self, id: NameId) -> &Name {
        &self.names[id.0 as usize]
    }

    fn name_mut(&mut self, id: NameId) -> &mut Name {
        &mut self.names[id.0 as usize]
    }

    /// Returns a name below another one, if something is remembered about it or below it.
    pub(super) fn find(&self, parent: NameId, name: &[u8]) -> Option<NameId> {
        self.name(parent).children.get(name).copied()
    }

    /// Returns a name below another one and remembers it if it is new.
    pub(super) fn make(&mut self, parent: NameId, name: &[u8]) -> NameId {
        if let Some(known) = self.find(parent, name) {
            return known;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.names.push(Name::default());
            NameId(
                u32::try_from(self.names.len() - 1)
                    .expect("2³² names need more memory than an entry limit allows"),
            )
        });
        self.name_mut(parent).children.insert(name.into(), id);
        id
    }

    /// Forgets a name below another one, and everything below it.
    pub(super) fn forget(&mut self, parent: NameId, name: &[u8]) {
        let mut pending: Vec<NameId> = self.name_mut(parent).children.remove(name).into_iter().collect();
        while let Some(id) = pending.pop() {
            pending.extend(std::mem::take(self.name_mut(id)).children.into_values());
            self.free.push(id);
        }
    }

    /// Marks a name as written by a layer; `false` if it was marked already.
    pub(super) fn mark_written(&mut self, id: NameId, layer: u32) -> bool {
        std::mem::replace(&mut self.name_mut(id).layer, layer) != layer
    }

    /// Tells whether a layer wrote a name, or something below it.
    pub(super) fn is_written(&self, id: NameId, layer: u32) -> bool {
        self.name(id).layer == layer
    }

    /// Returns what is to be done about a name at the end.
    pub(super) fn deferred(&mut self, id: NameId) -> &mut Deferred {
        &mut self.name_mut(id).deferred
    }

    /// Calls `take` for each name with something left to do: in order of the names, or inner ones before outer ones.
    ///
    /// The first argument is the path from the root. Names of one folder come one after the other, so that
    /// following the paths opens each folder once.
    pub(super) fn each_deferred<E>(
        &self,
        order: Order,
        mut take: impl FnMut(&[&[u8]], Deferred) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut path: Vec<&[u8]> = Vec::new();
        let mut levels = vec![(Self::ROOT, self.name(Self::ROOT).children.iter())];
        while let Some((id, children)) = levels.last_mut() {
            let id = *id;
            if let Some((name, child)) = children.next() {
                path.push(name);
                if order == Order::OuterFirst {
                    self.call(*child, &path, &mut take)?;
                }
                levels.push((*child, self.name(*child).children.iter()));
                continue;
            }
            levels.pop();
            if order == Order::InnerFirst && id != Self::ROOT {
                self.call(id, &path, &mut take)?;
            }
            path.pop();
        }
        Ok(())
    }

    fn call<E>(
        &self,
        id: NameId,
        path: &[&[u8]],
        take: &mut impl FnMut(&[&[u8]], Deferred) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.name(id).deferred {
            nothing if nothing == Deferred::default() => Ok(()),
            deferred => take(path, deferred),
        }
    }
}

/// In which order [`Remembered::each_deferred`] goes through the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A folder before what is in it.
    OuterFirst,
    /// What is in a folder before the folder.
    InnerFirst,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(remembered: &mut Remembered, path: &str) -> NameId {
        path.split('/').fold(Remembered::ROOT, |parent, name| remembered.make(parent, name.as_bytes()))
    }

    fn listed(remembered: &Remembered, order: Order) -> Vec<String> {
        let mut found = Vec::new();
        let take = |path: &[&[u8]], deferred: Deferred| {
            let path = String::from_utf8(path.join(&b'/')).unwrap();
            found.push(format!("{path} {}", deferred.mtime.unwrap()));
            Ok::<_, ()>(())
        };
        remembered.each_deferred(order, take).unwrap();
        found
    }

    #[test]
    fn what_is_deferred_is_listed_in_both_orders() {
        let mut remembered = Remembered::new();
        for (number, text) in ["b", "a/x/y", "a", "a/x", "c/d"].iter().enumerate() {
            let id = path(&mut remembered, text);
            remembered.deferred(id).mtime = Some(i64::try_from(number).unwrap());
        }
        assert_eq!(listed(&remembered, Order::OuterFirst), ["a 2", "a/x 3", "a/x/y 1", "b 0", "c/d 4"]);
        assert_eq!(listed(&remembered, Order::InnerFirst), ["a/x/y 1", "a/x 3", "a 2", "b 0", "c/d 4"]);
    }

    #[test]
    fn an_error_ends_the_listing() {
        let mut remembered = Remembered::new();
        for text in ["a", "b"] {
            let id = path(&mut remembered, text);
            remembered.deferred(id).is_link = true;
        }
        for order in [Order::OuterFirst, Order::InnerFirst] {
            let mut calls = 0;
            let take = |_: &[&[u8]], _| {
                calls += 1;
                Err(7)
            };
            assert_eq!(remembered.each_deferred(order, take), Err(7));
            assert_eq!(calls, 1);
        }
    }

    #[test]
    fn a_name_is_forgotten_with_everything_below_it_and_its_memory_is_used_again() {
        let mut remembered = Remembered::new();
        assert!(remembered.is_empty());
        let kept = path(&mut remembered, "a/kept");
        let inner = path(&mut remembered, "a/gone/x/y");
        remembered.deferred(inner).mode = Some(0);
        assert!(remembered.mark_written(inner, 2));
        let folder = remembered.find(Remembered::ROOT, b"a").unwrap();
        let size = remembered.names.len();
        remembered.forget(folder, b"gone");
        remembered.forget(folder, b"gone");
        assert_eq!(remembered.find(folder, b"gone"), None);
        assert_eq!(remembered.find(folder, b"kept"), Some(kept));
        let again = path(&mut remembered, "a/gone/x/y");
        assert_eq!(*remembered.deferred(again), Deferred::default());
        assert!(!remembered.is_written(again, 2));
        assert_eq!(remembered.names.len(), size);
        remembered.forget(Remembered::ROOT, b"a");
        assert!(remembered.is_empty());
    }

    #[test]
    fn a_name_is_written_by_its_last_layer() {
        let mut remembered = Remembered::new();
        let id = path(&mut remembered, "a");
        assert!(!remembered.is_written(id, 1));
        assert!(remembered.mark_written(id, 1));
        assert!(!remembered.mark_written(id, 1), "known already");
        assert!(remembered.is_written(id, 1));
        assert!(remembered.mark_written(id, 2));
        assert!(!remembered.is_written(id, 1));
    }
}
