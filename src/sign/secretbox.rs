//! Decrypts NaCl's secretbox: XSalsa20 and Poly1305, as cosign encrypts its keys.
//!
//! Source: <https://nacl.cr.yp.to/secretbox.html>. Does not encrypt.

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};

use crate::model::SecretBytes;

/// Bytes of the authenticator in front of the ciphertext.
const TAG: usize = 16;
/// Bytes of the key stream that make the authenticator's key.
const AUTHENTICATOR_KEY: usize = 32;

/// Decrypts a box; `None` if it was not made with this key.
pub(super) fn open(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<SecretBytes> {
    let (tag, ciphertext) = sealed.split_at_checked(TAG)?;
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut one_time = [0; AUTHENTICATOR_KEY];
    cipher.try_apply_keystream(&mut one_time).ok()?;
    let found = Poly1305::new((&one_time).into()).compute_unpadded(ciphertext);
    // Not compared in constant time: only a process on the user's own machine could measure it.
    if found.as_slice() != tag {
        return None;
    }
    let mut opened = SecretBytes::new(ciphertext.to_vec());
    cipher.try_apply_keystream(opened.expose_mut()).ok()?;
    Some(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of NaCl's own tests (`secretbox.c`): its key, its nonce, and the start of what it prints.
    #[test]
    fn the_vector_of_nacl_is_opened_and_nothing_else() {
        let key: [u8; 32] = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce: [u8; 24] = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let sealed = NACL.to_vec();
        let opened = open(&key, &nonce, &sealed).unwrap();
        assert_eq!(opened.expose()[..8], [0xbe, 0x07, 0x5f, 0xc5, 0x3c, 0x81, 0xf2, 0xd5]);
        assert_eq!(opened.expose().len(), 131);
        for (at, bit) in [(0, 1), (15, 0x80), (16, 1), (146, 0x40)] {
            let mut changed = sealed.clone();
            changed[at] ^= bit;
            assert!(open(&key, &nonce, &changed).is_none(), "byte {at}");
        }
        assert!(open(&[0; 32], &nonce, &sealed).is_none());
        assert!(open(&key, &nonce, &sealed[..15]).is_none(), "shorter than an authenticator");
        assert!(open(&key, &nonce, &sealed[..146]).is_none(), "cut");
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    const NACL: [u8; 147] = [
        0xf3, 0xff, 0xc7, 0x70, 0x3f, 0x94, 0x00, 0xe5, 0x2a, 0x7d, 0xfb, 0x4b, 0x3d, 0x33, 0x05, 0xd9, 0x8e,
        0x99, 0x3b, 0x9f, 0x48, 0x68, 0x12, 0x73, 0xc2, 0x96, 0x50, 0xba, 0x32, 0xfc, 0x76, 0xce, 0x48, 0x33,
        0x2e, 0xa7, 0x16, 0x4d, 0x96, 0xa4, 0x47, 0x6f, 0xb8, 0xc5, 0x31, 0xa1, 0x18, 0x6a, 0xc0, 0xdf, 0xc1,
        0x7c, 0x98, 0xdc, 0xe8, 0x7b, 0x4d, 0xa7, 0xf0, 0x11, 0xec, 0x48, 0xc9, 0x72, 0x71, 0xd2, 0xc2, 0x0f,
        0x9b, 0x92, 0x8f, 0xe2, 0x27, 0x0d, 0x6f, 0xb8, 0x63, 0xd5, 0x17, 0x38, 0xb4, 0x8e, 0xee, 0xe3, 0x14,
        0xa7, 0xcc, 0x8a, 0xb9, 0x32, 0x16, 0x45, 0x48, 0xe5, 0x26, 0xae, 0x90, 0x22, 0x43, 0x68, 0x51, 0x7a,
        0xcf, 0xea, 0xbd, 0x6b, 0xb3, 0x73, 0x2b, 0xc0, 0xe9, 0xda, 0x99, 0x83, 0x2b, 0x61, 0xca, 0x01, 0xb6,
        0xde, 0x56, 0x24, 0x4a, 0x9e, 0x88, 0xd5, 0xf9, 0xb3, 0x79, 0x73, 0xf6, 0x22, 0xa4, 0x3d, 0x14, 0xa6,
        0x59, 0x9b, 0x1f, 0x65, 0x4c, 0xb4, 0x5a, 0x74, 0xe3, 0x55, 0xa5,
    ];
}
