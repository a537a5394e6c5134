//! The methods of HTTP that the distribution protocol uses.

/// A method; requests that are sent and requests that are served have the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the header fields only.
    Head,
    /// Opens an upload session.
    Post,
    /// Writes a manifest, or ends an upload session.
    Put,
    /// Sends a part of a blob.
    Patch,
    /// Deletes, or abandons an upload session.
    Delete,
}

impl Method {
    const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Returns the method of a name; `None` for one that the protocol does not use.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Returns the name as it is sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for method in Method::ALL {
            assert_eq!(Method::of(method.name()), Some(method));
        }
        assert_eq!((Method::of("get"), Method::of("TRACE"), Method::of("")), (None, None, None));
    }
}
