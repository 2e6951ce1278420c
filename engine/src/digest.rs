//! Digests: which model, and which plan, a number comes from.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest of several digests in this order; of one, itself.
    pub(crate) fn of_all(all: impl ExactSizeIterator<Item = Digest>) -> Option<Digest> {
        let (count, mut all) = (all.len(), all);
        match count {
            0 | 1 => all.next(),
            _ => {
                let mut digest = Sha256::new();
                all.for_each(|one| digest.update(one.0));
                Some(Digest(digest.finalize().into()))
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        // The example of FIPS 180-4.
        let abc = Digest::of(b"abc");
        let wanted = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((abc.to_string().as_str(), format!("{abc:?}").as_str()), (wanted, wanted));
        let both = |all: &[Digest]| Digest::of_all(all.iter().copied());
        assert_eq!((both(&[]), both(&[abc])), (None, Some(abc)));
        let other = Digest::of(b"");
        assert_ne!(both(&[abc, other]), both(&[other, abc]));
    }
}
