//! `.wav` files as tensors: all channels mixed to one, samples from -1 to 1.

use std::io::Cursor;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::failure::{Failure, Fault};
use crate::formats::read_file;

/// The most bytes that are read from a sound file.
const MOST_BYTES: u64 = 1 << 30;

/// A sound with one channel.
#[derive(Debug)]
pub struct Sound {
    /// Samples from -1 to 1.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub rate: u32,
    /// Channels that were mixed.
    pub channels: u16,
}

/// Reads a `.wav` file of integer or float samples. Integers are divided by 2^(bits - 1); channels are averaged.
///
/// # Errors
/// When the file cannot be read, is no such file, or ends early.
pub fn read(path: &Path) -> Result<Sound, Failure> {
    let fail = |error: hound::Error| Failure::new(Fault::Malformed, format!("{}: {error}", path.display()));
    let bytes = read_file(path, MOST_BYTES)?;
    let reader = WavReader::new(Cursor::new(bytes)).map_err(fail)?;
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    let interleaved: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect::<Result<_, _>>().map_err(fail)?,
        SampleFormat::Int => {
            let scale = 2f32.powi(1 - i32::from(spec.bits_per_sample));
            let samples = reader.into_samples::<i32>();
            samples
                .map(|sample| sample.map(|value| value as f32 * scale))
                .collect::<Result<_, _>>()
                .map_err(fail)?
        }
    };
    let mix = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
    let samples = interleaved.chunks_exact(channels).map(mix).collect();
    Ok(Sound { samples, rate: spec.sample_rate, channels: spec.channels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn channels_are_mixed_and_integers_scaled() {
        let scratch = Scratch::new("sound");
        let path = scratch.path("a.wav");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for sample in [16384i16, -16384, 32767, 32767, -32768, 0] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let sound = read(&path).unwrap();
        assert_eq!(sound.samples, [0.0, 32767.0 / 32768.0, -0.5]);
        assert_eq!((sound.rate, sound.channels), (16_000, 2));
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            // A cut in the middle of the samples must not be taken for silence.
            let sound = read(&scratch.write("cut.wav", &bytes[..cut]));
            assert!(sound.is_err() || sound.unwrap().samples.len() < 3, "cut at {cut}");
        }
    }
}
