//! Chance that is the same on every machine and in every order of calls.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and its output is fixed by the algorithm, not by a library's version.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True with probability `share`.
    pub fn chance(&mut self, share: f64) -> bool {
        unit(self.next()) < share
    }

    /// Lowercase letters and digits, as in AWS's ids.
    pub fn id(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| ALPHABET[self.below(36) as usize] as char).collect()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in `[0, 1)`.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// A number that depends on the seed and the words only, so that the order of concurrent calls does not matter.
pub fn hash(seed: u64, words: &[&str]) -> u64 {
    let mut state = seed ^ 0xCBF2_9CE4_8422_2325;
    for word in words {
        for byte in word.bytes().chain([0xFF]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    mix(state)
}
