//! Operators that move elements without computing: other dimensions, other orders, parts, repetitions, look-ups.

pub mod assemble;
pub mod axes;
pub mod bit_cast;
pub mod center_crop_pad;
pub mod compress;
pub mod concat;
pub mod constant;
pub mod constant_of_shape;
pub mod depth_to_space;
pub mod dropout;
pub mod expand;
pub mod eye_like;
pub mod flatten;
pub mod gather;
pub mod gather_elements;
pub mod gather_nd;
pub mod identity;
pub mod layout;
pub mod non_zero;
pub mod number;
pub mod one_hot;
pub mod pad;
pub mod range;
pub mod rearrange;
pub mod reduction;
pub mod relabel;
pub mod reshape;
pub mod reverse_sequence;
pub mod scatter_elements;
mod scatter_gpu;
pub mod scatter_nd;
pub mod shape;
pub mod size;
pub mod sizes;
pub mod slice;
pub mod space_to_depth;
pub mod split;
pub mod squeeze;
pub mod strided;
pub mod tile;
pub mod transpose;
pub mod trilu;
pub mod unsqueeze;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 1, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("BitCast", bit_cast::build),
    row("CenterCropPad", center_crop_pad::build),
    row("Compress", compress::build),
    row("Concat", concat::build),
    row("Constant", constant::build),
    row("ConstantOfShape", constant_of_shape::build),
    row("DepthToSpace", depth_to_space::build),
    row("Dropout", dropout::build),
    row("Expand", expand::build),
    row("EyeLike", eye_like::build),
    row("Flatten", flatten::build),
    row("Gather", gather::build),
    row("GatherElements", gather_elements::build),
    row("GatherND", gather_nd::build),
    row("Identity", identity::build),
    row("NonZero", non_zero::build),
    row("OneHot", one_hot::build),
    row("Pad", pad::build),
    row("Range", range::build),
    row("Reshape", reshape::build),
    row("ReverseSequence", reverse_sequence::build),
    row("Scatter", scatter_elements::build),
    row("ScatterElements", scatter_elements::build),
    row("ScatterND", scatter_nd::build),
    row("Shape", shape::build),
    row("Size", size::build),
    row("Slice", slice::build),
    row("SpaceToDepth", space_to_depth::build),
    row("Split", split::build),
    row("Squeeze", squeeze::build),
    row("Tile", tile::build),
    row("Transpose", transpose::build),
    row("Trilu", trilu::build),
    row("Unsqueeze", unsqueeze::build),
    OperatorRow { domain: "com.microsoft", name: "Trilu", since: 1, build: trilu::build },
];

#[cfg(test)]
mod refusals;
