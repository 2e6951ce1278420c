//! The generator behind all random operators: the Mersenne Twister MT19937 of Matsumoto and Nishimura, seeded and read
//! as NumPy's `RandomState` does, so that a seeded model gives the numbers that others give for the same seed.

use std::hash::{BuildHasher, Hasher};

use crate::build::NodeSpec;
use crate::error::OpError;

/// Where the numbers of an operator begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub Option<u32>);

impl Seed {
    /// Reads the attribute `seed` of an operator that has it as a float.
    ///
    /// # Errors
    /// When it has another type.
    pub fn of_float(spec: &NodeSpec<'_>) -> Result<Seed, OpError> {
        let seed = spec.attributes.float("seed")?.filter(|seed| !seed.is_nan());
        // Seeds are integers of 32 bits; others are made such.
        Ok(Seed(seed.map(|&seed| seed as i64 as u32)))
    }

    /// Reads the attribute `seed` of an operator that has it as an integer.
    ///
    /// # Errors
    /// When it has another type.
    pub fn of_integer(spec: &NodeSpec<'_>) -> Result<Seed, OpError> {
        Ok(Seed(spec.attributes.int("seed")?.map(|&seed| seed as u32)))
    }

    /// A generator for one run.
    pub fn generator(self) -> Generator {
        // The standard library keys its hash tables with random numbers of the operating system.
        let chance = || std::hash::RandomState::new().build_hasher().finish() as u32;
        Generator::new(self.0.unwrap_or_else(chance))
    }
}

/// The number of words of the generator's state.
const WORDS: usize = 624;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Generator {
    state: [u32; WORDS],
    /// The next word to give out.
    next: usize,
    /// A normal number in stock: they come in pairs.
    normal: Option<f64>,
}

impl Generator {
    /// The stream of a seed.
    pub fn new(seed: u32) -> Generator {
        let mut state = [0; WORDS];
        let mut word = seed;
        for (i, slot) in (0u32..).zip(&mut state) {
            if i > 0 {
                word = (word ^ word >> 30).wrapping_mul(1_812_433_253).wrapping_add(i);
            }
            *slot = word;
        }
        Generator { state, next: WORDS, normal: None }
    }

    /// All words of the state anew.
    fn twist(&mut self) {
        const MIDDLE: usize = 397;
        for i in 0..WORDS {
            let pair = self.state[i] & 0x8000_0000 | self.state[(i + 1) % WORDS] & 0x7fff_ffff;
            let odd = if pair & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + MIDDLE) % WORDS] ^ pair >> 1 ^ odd;
        }
        self.next = 0;
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next >= WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// A number from 0 to 1 exclusive, of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.bits() >> 5, self.bits() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A normal number of mean 0 and variance 1, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        // More than a fifth of the points miss the circle; a thousand in a row never do.
        const ATTEMPTS: usize = 1000;
        if let Some(stock) = self.normal.take() {
            return stock;
        }
        for _ in 0..ATTEMPTS {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.normal = Some(factor * x);
                return factor * y;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        // The first words of the reference implementation, whose default seed is 5489.
        let mut words = Generator::new(5489);
        assert_eq!([words.bits(), words.bits(), words.bits()], [3_499_211_612, 581_869_302, 3_890_346_734]);
        // numpy.random.RandomState(0).uniform(size=3) and .randn(3).
        let mut zero = Generator::new(0);
        let uniform = [zero.uniform(), zero.uniform(), zero.uniform()];
        assert_eq!(uniform, [0.548_813_503_927_324_8, 0.715_189_366_372_419_5, 0.602_763_376_071_643_9]);
        let mut zero = Generator::new(0);
        for expected in [1.764_052_345_967_664, 0.400_157_208_367_223_3, 0.978_737_984_105_739_2] {
            assert!((zero.normal() - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn seeds_repeat_and_chance_does_not() {
        let first = |seed: Seed| [0; 8].map(|_: u32| seed.generator().bits());
        assert_eq!(first(Seed(Some(7)))[0], first(Seed(Some(7)))[7]);
        let drawn = first(Seed(None));
        assert!(drawn.iter().any(|&word| word != drawn[0]), "{drawn:?}");
    }
}
