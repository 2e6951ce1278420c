//! Inputs that are made up, the same on every platform.
//!
//! Word `k` (from 0) of a stream is `splitmix64(seed + (k + 1) · 0x9E3779B97F4A7C15)`, the 64-bit seed being the FNV-1a
//! hash of the seed's text. Everything else is integer arithmetic and single products and sums in binary32, so
//! another language repeats it bit for bit:
//!
//! * `random` of floats: `min + (word >> 40) · 2^-24 · (max - min)`, in binary32, then rounded to the element type;
//!   of integers: `min + word mod (max - min + 1)`; of truth values: the lowest bit;
//! * `normal`: the sum of the word's four 16-bit lanes less 131070, times `std / 37837.227`, plus `mean`: nearly
//!   normal, never further than 3.47 standard deviations from the mean;
//! * `arange`: the flat index, modulo 2^bits for integers, modulo 2 for truth values.

use bytes::Bytes;
use sardonyx_ops::ir::tensor::element_count;
use sardonyx_ops::{DType, Tensor};

use crate::elements;
use crate::failure::{Failure, Fault};
use crate::output::format;

/// The most elements that are made up for one input.
const MOST_ELEMENTS: usize = 1 << 30;

/// How an input is made up.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipe {
    /// Evenly distributed.
    Random {
        /// Text whose hash starts the stream.
        seed: String,
        /// Lower bound.
        min: f64,
        /// Upper bound: excluded for floats, included for integers.
        max: f64,
    },
    /// Nearly normally distributed.
    Normal {
        /// Text whose hash starts the stream.
        seed: String,
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// 0, false or empty text.
    Zeros,
    /// 1 or true.
    Ones,
    /// 0, 1, 2, …
    Arange,
}

impl Recipe {
    /// The names that start a recipe.
    pub const NAMES: [&'static str; 5] = ["random", "normal", "zeros", "ones", "arange"];

    /// `random` with a numbered seed, the default for inputs that are not given.
    pub fn default_random(number: usize) -> Recipe {
        Recipe::Random { seed: number.to_string(), min: 0.0, max: 1.0 }
    }

    /// A text like `random:seed=1,min=0,max=1` as a recipe; `None` when it does not start with one of
    /// [`Recipe::NAMES`].
    ///
    /// # Errors
    /// When an option is unknown or no number.
    pub fn parse(text: &str) -> Option<Result<Recipe, Failure>> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let name = Recipe::NAMES.into_iter().find(|known| *known == name)?;
        Some(Recipe::with_options(name, options))
    }

    fn with_options(name: &str, options: &str) -> Result<Recipe, Failure> {
        let fail = |what: String| Failure::new(Fault::Source, format!("{name}: {what}"));
        let (mut seed, mut numbers) = ("1".to_owned(), [None, None]);
        let known: [&str; 2] = match name {
            "random" => ["min", "max"],
            "normal" => ["mean", "std"],
            _ => ["", ""],
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match known.iter().position(|name| *name == key && !key.is_empty()) {
                Some(at) => {
                    let number = value.parse::<f64>().ok().filter(|value| value.is_finite());
                    numbers[at] =
                        Some(number.ok_or_else(|| fail(format!("{key}={value} is no finite number")))?);
                }
                None if key == "seed" && !known[0].is_empty() => seed = value.to_owned(),
                None => return Err(fail(format!("no option {key:?}"))),
            }
        }
        Ok(match name {
            "random" => {
                let (min, max) = (numbers[0].unwrap_or(0.0), numbers[1].unwrap_or(1.0));
                if min > max {
                    return Err(fail(format!("min={min} is above max={max}")));
                }
                Recipe::Random { seed, min, max }
            }
            "normal" => {
                Recipe::Normal { seed, mean: numbers[0].unwrap_or(0.0), std: numbers[1].unwrap_or(1.0) }
            }
            "zeros" => Recipe::Zeros,
            "ones" => Recipe::Ones,
            _ => Recipe::Arange,
        })
    }

    /// A tensor made by the recipe.
    ///
    /// # Errors
    /// When it would have more than 2^30 elements, or the recipe has no meaning for the type.
    pub fn make(&self, dtype: DType, dims: &[usize]) -> Result<Tensor, Failure> {
        let count = element_count(dims).filter(|&count| count <= MOST_ELEMENTS).ok_or_else(|| {
            let message = format!("an input of dimensions {} is too large to make up", format::dims(dims));
            Failure::new(Fault::Shape, message)
                .help("give smaller dimensions: --dim NAME=N or --shape INPUT=1x3x8")
        })?;
        if dtype == DType::Str {
            return Tensor::from_strings(dims, self.texts(count)).map_err(|error| defect(&error));
        }
        if let Some(one) = code_of_one(dtype) {
            return self.codes(dtype, dims, count, one);
        }
        let values = match dtype {
            DType::C64 | DType::C128 => self.values(DType::F32, count.saturating_mul(2)),
            _ => self.values(dtype, count),
        };
        match dtype {
            DType::C64 => {
                let parts: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                Tensor::from_bytes(dtype, dims, Bytes::copy_from_slice(bytemuck::cast_slice(&parts)))
                    .map(Tensor::aligned)
                    .map_err(|error| defect(&error))
            }
            DType::C128 => {
                Tensor::from_bytes(dtype, dims, Bytes::copy_from_slice(bytemuck::cast_slice(&values)))
                    .map(Tensor::aligned)
                    .map_err(|error| defect(&error))
            }
            _ => elements::from_f64(dtype, dims, &values)
                .ok_or_else(|| {
                    Failure::new(Fault::Source, format!("elements of type {dtype} cannot be made up"))
                })?
                .map_err(|error| defect(&error)),
        }
    }

    fn values(&self, dtype: DType, count: usize) -> Vec<f64> {
        let float = dtype.is_float();
        match self {
            Recipe::Zeros => vec![0.0; count],
            Recipe::Ones => vec![1.0; count],
            Recipe::Arange if float => (0..count).map(|i| i as f64).collect(),
            Recipe::Arange => {
                let bits = if dtype == DType::Bool { 1 } else { dtype.bits().min(63) };
                let modulus = 1u64 << bits;
                // The upper half wraps to negative numbers in signed types.
                let wraps = |i: u64| dtype.is_signed_integer() && i >= modulus / 2;
                let signed = |i: u64| if wraps(i) { i as f64 - modulus as f64 } else { i as f64 };
                (0..count as u64).map(|i| signed(i & (modulus - 1))).collect()
            }
            Recipe::Random { seed, .. } if dtype == DType::Bool => {
                words(seed).take(count).map(|word| (word & 1) as f64).collect()
            }
            Recipe::Random { seed, min, max } if float => {
                let (min, span) = (*min as f32, (*max - *min) as f32);
                let fraction = |word: u64| (word >> 40) as f32 * 2f32.powi(-24);
                words(seed).take(count).map(|word| f64::from(min + fraction(word) * span)).collect()
            }
            Recipe::Random { seed, min, max } => {
                let span = (max.floor() - min.ceil()).max(0.0) as u64;
                let below = |word: u64| span.checked_add(1).map_or(word, |n| word % n);
                words(seed).take(count).map(|word| min.ceil() + below(word) as f64).collect()
            }
            Recipe::Normal { seed, mean, std } => {
                let (mean, step) = (*mean as f32, (*std / 37837.227) as f32);
                let lanes = |word: u64| (0..4).map(|lane| (word >> (16 * lane) & 0xffff) as i32).sum::<i32>();
                words(seed)
                    .take(count)
                    .map(|word| f64::from((lanes(word) - 131_070) as f32 * step + mean))
                    .collect()
            }
        }
    }

    fn texts(&self, count: usize) -> Vec<String> {
        match self {
            Recipe::Zeros => vec![String::new(); count],
            Recipe::Ones => vec!["1".to_owned(); count],
            Recipe::Arange => (0..count).map(|i| i.to_string()).collect(),
            Recipe::Random { seed, .. } | Recipe::Normal { seed, .. } => {
                // Six letters of 5 bits each.
                let letter = |word: u64, i: u64| char::from(b'a' + ((word >> (5 * i) & 31) % 26) as u8);
                words(seed).take(count).map(|word| (0..6).map(|i| letter(word, i)).collect()).collect()
            }
        }
    }

    /// Floats of 8 and 4 bits: evenly distributed over the codes of 0 to 1, which all formats have in rising order.
    fn codes(&self, dtype: DType, dims: &[usize], count: usize, one: u8) -> Result<Tensor, Failure> {
        let codes: Vec<u8> = match self {
            Recipe::Zeros => vec![0; count],
            Recipe::Ones => vec![one; count],
            Recipe::Random { seed, min: 0.0, max: 1.0 } => {
                words(seed).take(count).map(|word| (word % (u64::from(one) + 1)) as u8).collect()
            }
            _ => {
                let message =
                    format!("elements of type {dtype} are made up as zeros, ones, or random from 0 to 1");
                return Err(Failure::new(Fault::Source, message));
            }
        };
        let bytes = if dtype.bits() == 4 { elements::pack(&codes, 4) } else { codes };
        Tensor::from_bytes(dtype, dims, Bytes::from(bytes))
            .map(Tensor::aligned)
            .map_err(|error| defect(&error))
    }
}

/// The code of 1.0 in the small float formats.
fn code_of_one(dtype: DType) -> Option<u8> {
    Some(match dtype {
        DType::F8E4M3FN => 0x38,
        DType::F8E4M3FNUZ => 0x40,
        DType::F8E5M2 => 0x3c,
        DType::F8E5M2FNUZ => 0x40,
        DType::F8E8M0 => 127,
        DType::F4E2M1 => 2,
        _ => return None,
    })
}

/// The stream of a seed.
fn words(seed: &str) -> impl Iterator<Item = u64> {
    let start = seed.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (1u64..).map(move |k| {
        let mut x = start.wrapping_add(k.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}

fn defect(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Fault::Defect, format!("a made-up tensor does not fit its own dimensions: {error}"))
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Recipe::Random { seed, min, max } => write!(f, "random:seed={seed},min={min},max={max}"),
            Recipe::Normal { seed, mean, std } => write!(f, "normal:seed={seed},mean={mean},std={std}"),
            Recipe::Zeros => f.write_str("zeros"),
            Recipe::Ones => f.write_str("ones"),
            Recipe::Arange => f.write_str("arange"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(text: &str, dtype: DType, dims: &[usize]) -> Tensor {
        Recipe::parse(text).unwrap().unwrap().make(dtype, dims).unwrap()
    }

    #[test]
    fn the_stream_is_the_documented_one() {
        // FNV-1a("1") and the first words, computed by hand from the published constants.
        let first: Vec<u64> = words("1").take(2).collect();
        assert_eq!(first, FIRST_WORDS);
        let floats = make("random:seed=1", DType::F32, &[2]).to_vec::<f32>().unwrap();
        assert_eq!(floats[0], (first[0] >> 40) as f32 / 16_777_216.0);
    }

    const FIRST_WORDS: [u64; 2] = [0x895a_0ba9_7ae3_1bf5, 0x9f35_8cbd_df44_63d9];

    #[test]
    fn bounds_hold_for_every_type() {
        for dtype in
            [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8, DType::I64, DType::Bool]
        {
            let values = elements::to_f64(&make("random", dtype, &[1000])).unwrap();
            assert!(values.iter().all(|v| (0.0..=1.0).contains(v)), "{dtype}");
            assert!(values.iter().any(|v| *v > 0.5) && values.iter().any(|v| *v < 0.5), "{dtype}");
        }
        let values = make("random:seed=3,min=-2,max=5", DType::I32, &[500]).to_vec::<i32>().unwrap();
        assert_eq!((values.iter().min(), values.iter().max()), (Some(&-2), Some(&5)));
        let normal = make("normal:seed=a,mean=10,std=2", DType::F32, &[4096]);
        let all = crate::output::statistics::Statistics::of(&normal).unwrap();
        assert!((all.mean - 10.0).abs() < 0.1 && (all.std - 2.0).abs() < 0.05, "{all:?}");
        for dtype in [
            DType::F8E4M3FN,
            DType::F8E5M2FNUZ,
            DType::F8E8M0,
            DType::F4E2M1,
            DType::C64,
            DType::C128,
            DType::Str,
        ] {
            assert_eq!(make("random", dtype, &[3, 5]).dims(), [3, 5]);
        }
        assert_eq!(
            make("arange", DType::I8, &[200]).to_vec::<i8>().unwrap()[126..130],
            [126, 127, -128, -127]
        );
        assert_eq!(make("arange", DType::Bool, &[3]).bytes(), [0, 1, 0]);
    }

    #[test]
    fn wrong_options_are_refused() {
        assert!(Recipe::parse("face.jpg").is_none());
        for text in [
            "random:sed=1",
            "random:min=x",
            "random:min=2,max=1",
            "zeros:seed=1",
            "normal:min=0",
            "random:max=inf",
        ] {
            assert!(Recipe::parse(text).unwrap().is_err(), "{text}");
        }
        assert!(Recipe::Zeros.make(DType::F32, &[usize::MAX, 2]).is_err());
        let recipe = Recipe::parse("random:seed=x,max=2").unwrap().unwrap();
        assert_eq!(Recipe::parse(&recipe.to_string()).unwrap().unwrap(), recipe);
    }
}
