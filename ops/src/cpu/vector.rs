//! Eight f32 as one value, for kernels whose text is written once and compiled for several instruction sets.

#![allow(unsafe_code, reason = "loads and stores through pointers, and calls of vector instructions")]

/// Elements of a vector.
pub(crate) const LANES: usize = 8;

/// Eight f32.
pub(crate) trait Vector: Copy {
    /// Eight elements from memory.
    ///
    /// # Safety
    /// `from` points at eight readable elements, and the processor has the implementor's instructions.
    unsafe fn load(from: *const f32) -> Self;

    /// Eight elements to memory.
    ///
    /// # Safety
    /// `to` points at eight writable elements, and the processor has the implementor's instructions.
    unsafe fn store(self, to: *mut f32);

    /// The same number eight times.
    ///
    /// # Safety
    /// The processor has the implementor's instructions.
    unsafe fn splat(x: f32) -> Self;

    /// `self * b + c`.
    ///
    /// # Safety
    /// The processor has the implementor's instructions.
    unsafe fn fma(self, b: Self, c: Self) -> Self;

    /// `self + b`.
    ///
    /// # Safety
    /// The processor has the implementor's instructions.
    unsafe fn add(self, b: Self) -> Self;

    /// `self`, but not below `low` nor above `high`; NaN stays.
    ///
    /// # Safety
    /// The processor has the implementor's instructions.
    unsafe fn limit(self, low: Self, high: Self) -> Self;
}

/// Eight f32 for any processor; the compiler finds the instructions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Plain([f32; LANES]);

// SAFETY: `load` and `store` touch eight elements, as their contracts allow; no special instruction is used.
#[allow(clippy::missing_safety_doc, reason = "the contracts are the trait's")]
impl Vector for Plain {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of f32 needs no more alignment than f32.
        Plain(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; an array of f32 needs no more alignment than f32.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Plain([x; LANES])
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        let fused = cfg!(target_arch = "aarch64");
        let term = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { a * b + c };
        Plain(std::array::from_fn(|i| term(self.0[i], b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn limit(self, low: Self, high: Self) -> Self {
        let each = |x: f32, low: f32, high: f32| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        };
        Plain(std::array::from_fn(|i| each(self.0[i], low.0[i], high.0[i])))
    }
}

/// Eight f32 in a register of AVX2, with fused multiply-add.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(std::arch::x86_64::__m256);

#[cfg(target_arch = "x86_64")]
#[allow(clippy::missing_safety_doc, reason = "the contracts are the trait's")]
impl Vector for Avx2 {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; the instruction needs no alignment.
        Avx2(unsafe { std::arch::x86_64::_mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; the instruction needs no alignment.
        unsafe { std::arch::x86_64::_mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise.
        Avx2(unsafe { std::arch::x86_64::_mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller's promise.
        Avx2(unsafe { std::arch::x86_64::_mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller's promise.
        Avx2(unsafe { std::arch::x86_64::_mm256_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn limit(self, low: Self, high: Self) -> Self {
        use std::arch::x86_64::{_mm256_max_ps, _mm256_min_ps};
        // SAFETY: the caller's promise. Both instructions give their second operand where one is NaN.
        Avx2(unsafe { _mm256_min_ps(high.0, _mm256_max_ps(low.0, self.0)) })
    }
}

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isa {
    /// What the target has in any case.
    Plain,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// The best that the processor has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
        Isa::Plain
    }

    /// Whether vectors are wide enough, and multiply and add in one, for blocks of [`LANES`] channels to gain.
    pub fn has_vectors(self) -> bool {
        self != Isa::Plain || cfg!(target_arch = "aarch64")
    }

    /// All that the processor has.
    #[cfg(test)]
    pub fn all() -> Vec<Isa> {
        let best = Isa::detect();
        if best == Isa::Plain { vec![best] } else { vec![Isa::Plain, best] }
    }
}

/// Defines functions twice: for every processor of the target, and for AVX2 with fused multiply-add, of which `body::<FUSED>`
/// is told.
macro_rules! vectorised {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:ident;)*) => {$(
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    $body::<true>($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the instructions that `wide` is compiled to.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    )*};
}
pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    fn check<V: Vector>() {
        let a = [1.0f32, -2.0, f32::NAN, 4.0, 0.5, 1e30, -7.0, 8.0];
        let mut out = [0.0f32; 9];
        // SAFETY: arrays of eight elements or more; callers check for the instructions.
        unsafe {
            V::load(a.as_ptr()).fma(V::splat(2.0), V::splat(1.0)).store(out.as_mut_ptr());
            assert_eq!((out[0], out[1], out[7], out[8]), (3.0, -3.0, 17.0, 0.0));
            V::load(a.as_ptr()).add(V::splat(-1.0)).store(out.as_mut_ptr());
            assert_eq!((out[0], out[4]), (0.0, -0.5));
            V::load(a.as_ptr()).limit(V::splat(0.0), V::splat(6.0)).store(out.as_mut_ptr());
        }
        assert_eq!((out[0], out[1], out[5], out[6], out[7]), (1.0, 0.0, 6.0, 0.0, 6.0));
        assert!(out[2].is_nan());
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        for isa in Isa::all() {
            match isa {
                Isa::Plain => check::<Plain>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => check::<Avx2>(),
            }
        }
    }
}
