//! Channels of quantized images as a convolution reads them: widened to 16 bits, without their zero points, between zeros,
//! and split by position modulo the stride along rows, so that neighbouring outputs read neighbouring elements.

use crate::conv::window::Sizes;
use crate::cpu::integer::words::widen;

/// Elements that copies may read and write behind their end.
pub(super) const SLACK: usize = 16;

/// The layout of one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    sizes: Sizes,
    /// Planes, and rows of a plane.
    rows: [usize; 2],
    /// Elements of a row: an output row, and how far windows reach beyond.
    pitch: usize,
    len: usize,
}

impl Staged {
    /// The layout for a convolution; `None` when it does not fit the address space.
    pub fn new(sizes: &Sizes) -> Option<Staged> {
        let reach = |axis: usize| (sizes.kernel[axis] - 1) * sizes.dilations[axis];
        let rows = |axis: usize| sizes.output[axis].saturating_sub(1) * sizes.strides[axis] + reach(axis) + 1;
        let rows = [rows(0), rows(1)];
        let pitch = sizes.output[2] + reach(2) / sizes.strides[2];
        let len = crate::ir::tensor::element_count(&[sizes.strides[2], rows[0], rows[1], pitch])?;
        Some(Staged { sizes: *sizes, rows, pitch, len: len.checked_add(SLACK)? })
    }

    /// Elements of a channel.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Elements between output rows.
    pub fn line(&self) -> usize {
        self.sizes.strides[1] * self.pitch
    }

    /// Where output row `line`, counted through all planes, begins.
    pub fn start(&self, line: usize) -> usize {
        let (z, y) = (line / self.sizes.output[1].max(1), line % self.sizes.output[1].max(1));
        z * self.sizes.strides[0] * self.rows[1] * self.pitch + y * self.line()
    }

    /// Where each window element of the first output lies.
    pub fn offsets(&self) -> Vec<usize> {
        let sizes = &self.sizes;
        let mut all = Vec::with_capacity(sizes.window());
        for kz in 0..sizes.kernel[0] {
            for ky in 0..sizes.kernel[1] {
                for kx in 0..sizes.kernel[2] {
                    let x = kx * sizes.dilations[2];
                    let plane = x % sizes.strides[2] * self.rows[0] + kz * sizes.dilations[0];
                    let row = plane * self.rows[1] + ky * sizes.dilations[1];
                    all.push(row * self.pitch + x / sizes.strides[2]);
                }
            }
        }
        all
    }

    /// Fills the layout from a channel.
    pub fn fill(&self, channel: &[u8], signed: bool, zero: i16, out: &mut [i16]) {
        let sizes = &self.sizes;
        let ([depth, height, width], stride) = (sizes.input, sizes.strides[2]);
        let (rows, tail) = out.split_at_mut(self.len - SLACK);
        tail.fill(0);
        for (index, row) in rows.chunks_exact_mut(self.pitch.max(1)).enumerate() {
            let (phase, line) =
                (index / (self.rows[0] * self.rows[1]), index % (self.rows[0] * self.rows[1]));
            let z = (line / self.rows[1]).checked_sub(sizes.before[0]).filter(|&z| z < depth);
            let y = (line % self.rows[1]).checked_sub(sizes.before[1]).filter(|&y| y < height);
            let (Some(z), Some(y)) = (z, y) else {
                row.fill(0);
                continue;
            };
            // Element i is input element i * stride + phase - before.
            let from = sizes.before[2].saturating_sub(phase).div_ceil(stride).min(row.len());
            let x = (from * stride + phase).saturating_sub(sizes.before[2]);
            let count = width.saturating_sub(x).div_ceil(stride).min(row.len() - from);
            let source = channel.get((z * height + y) * width + x..).unwrap_or(&[]);
            row[..from].fill(0);
            row[from + count..].fill(0);
            let target = &mut row[from..from + count];
            match stride {
                1 => widen(source, signed, zero, target),
                _ => {
                    let bytes = source.iter().step_by(stride);
                    if signed {
                        target.iter_mut().zip(bytes).for_each(|(t, &x)| *t = i16::from(x as i8) - zero);
                    } else {
                        target.iter_mut().zip(bytes).for_each(|(t, &x)| *t = i16::from(x) - zero);
                    }
                }
            }
        }
    }

    /// What outputs `first .. first + count` read of a channel for the window element at `offset`. Up to [`SLACK`]
    /// elements behind are overwritten too.
    #[inline(always)]
    pub fn columns(&self, channel: &[i16], offset: usize, first: usize, count: usize, out: &mut [i16]) {
        let (lines, width) = (self.sizes.output[0] * self.sizes.output[1], self.sizes.output[2].max(1));
        // Where nothing lies between them, output rows are one.
        let joined = self.line() == width && self.sizes.output[0] == 1;
        let width = if joined { width * lines } else { width };
        let (mut at, end) = (first, first + count);
        while at < end {
            let (line, x) = (at / width, at % width);
            let run = (width - x).min(end - at);
            let source = channel.get(offset + self.start(line) + x..).unwrap_or(&[]);
            let target = out.get_mut(at - first..).unwrap_or(&mut []);
            let mut done = 0;
            while done < run {
                let from = source.get(done..).and_then(<[i16]>::first_chunk::<SLACK>);
                let to = target.get_mut(done..).and_then(<[i16]>::first_chunk_mut::<SLACK>);
                if let (Some(from), Some(to)) = (from, to) {
                    *to = *from;
                }
                done += SLACK;
            }
            at += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_element_is_found() {
        for strides in [[1, 1, 1], [2, 1, 2], [1, 2, 3]] {
            let sizes = Sizes {
                batch: 1,
                groups: 1,
                inputs: 1,
                outputs: 1,
                input: [3, 5, 11],
                kernel: [2, 3, 3],
                output: [3, 5, 11].map(|n: usize| n).map(|n| n),
                strides,
                dilations: [1, 2, 2],
                before: [1, 2, 1],
            };
            let padded = [3 + 2, 5 + 4, 11 + 3];
            let output: [usize; 3] = std::array::from_fn(|axis| {
                let span = (sizes.kernel[axis] - 1) * sizes.dilations[axis] + 1;
                (padded[axis] - span) / strides[axis] + 1
            });
            let sizes = Sizes { output, ..sizes };
            let staged = Staged::new(&sizes).unwrap();
            let channel: Vec<u8> = (0..165).collect();
            let mut out = vec![i16::MIN; staged.len()];
            staged.fill(&channel, false, 7, &mut out);
            let plane: usize = output.iter().product();
            for (k, offset) in staged.offsets().into_iter().enumerate() {
                let mut line = vec![i16::MIN; plane + SLACK];
                staged.columns(&out, offset, 2, plane - 2, &mut line);
                for (at, &got) in (2..plane).zip(&line) {
                    let o = [at / (output[1] * output[2]), at / output[2] % output[1], at % output[2]];
                    let k = [k / 9, k / 3 % 3, k % 3];
                    let position = |axis: usize| {
                        (o[axis] * strides[axis] + k[axis] * sizes.dilations[axis])
                            .checked_sub(sizes.before[axis])
                            .filter(|&at| at < sizes.input[axis])
                    };
                    let expected = match (position(0), position(1), position(2)) {
                        (Some(z), Some(y), Some(x)) => i16::from(channel[(z * 5 + y) * 11 + x]) - 7,
                        _ => 0,
                    };
                    assert_eq!(got, expected, "{strides:?} {k:?} {o:?}");
                }
            }
        }
    }
}
