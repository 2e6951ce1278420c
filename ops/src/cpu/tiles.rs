//! An output that several threads fill at once, each taking the next tile, finished while it is in cache.

#![allow(
    unsafe_code,
    reason = "threads write disjoint tiles of one slice, which safe slices cannot express by columns"
)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::error::OpError;
use crate::finish::Finish;

/// An output seen as planes of rows of columns, and how it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Matrices, one behind the other.
    pub planes: usize,
    /// Rows of each.
    pub rows: usize,
    /// Elements of each row.
    pub columns: usize,
    /// Rows of a tile; those at the lower edge may have fewer.
    pub tile_rows: usize,
    /// Columns of a tile; those at the right edge may have fewer.
    pub tile_columns: usize,
}

/// A rectangle of an output, owned by one thread.
pub(crate) struct Tile<'a, T = f32> {
    /// Points at element (0, 0) of the tile.
    first: *mut T,
    /// Which matrix.
    pub plane: usize,
    /// First row, counted within the matrix.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements between rows.
    stride: usize,
    /// Flat index of element (0, 0) in the output.
    start: usize,
    output: PhantomData<&'a mut [T]>,
}

impl Grid {
    /// A grid with tiles of about equal work, several for each thread, where `flops` is the work of the whole output.
    /// Small outputs are one tile.
    pub fn balanced(planes: usize, rows: usize, columns: usize, flops: u64) -> Grid {
        // Below this a thread's wake-up costs more than it saves.
        const LEAST: u64 = 1 << 20;
        const PER_THREAD: u64 = 4;
        let threads = rayon::current_num_threads() as u64;
        let wanted = if threads == 1 { 1 } else { (flops / LEAST).clamp(1, threads * PER_THREAD) };
        let mut grid = Grid { planes, rows, columns, tile_rows: rows.max(1), tile_columns: columns.max(1) };
        while (grid.tiles() as u64) < wanted {
            // Whole vectors in both directions, and enough of each to reuse what is loaded.
            let (rows, columns) = (grid.tile_rows, grid.tile_columns);
            if columns >= 2 * rows && columns > 64 {
                grid.tile_columns = columns.div_ceil(2).next_multiple_of(32);
            } else if rows > 16 {
                grid.tile_rows = rows.div_ceil(2).next_multiple_of(8);
            } else if columns > 64 {
                grid.tile_columns = columns.div_ceil(2).next_multiple_of(32);
            } else {
                break;
            }
        }
        grid
    }

    /// The number of tiles.
    pub fn tiles(&self) -> usize {
        let per = |size: usize, tile: usize| size.div_ceil(tile.max(1));
        self.planes * per(self.rows, self.tile_rows) * per(self.columns, self.tile_columns)
    }
}

impl<T> Tile<'_, T> {
    /// Row `row` of the tile; empty past the last one.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        if row >= self.rows {
            return &mut [];
        }
        // SAFETY: `share_out` made the tile from a slice that holds all its rows, and gives each tile to one
        // thread once; `&mut self` excludes a second borrow.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }

    /// The tile as a destination of a matrix product: its first element, and the elements between rows.
    pub fn destination(&mut self) -> (*mut T, usize) {
        (self.first, self.stride)
    }

    /// Calls `visit` with every run of the tile that is contiguous in memory, and the flat index it starts at.
    fn runs(&mut self, mut visit: impl FnMut(&mut [T], usize) -> Result<(), OpError>) -> Result<(), OpError> {
        if self.columns == self.stride {
            // SAFETY: as in `row_mut`; the rows follow each other without gaps.
            let all = unsafe { std::slice::from_raw_parts_mut(self.first, self.rows * self.columns) };
            return visit(all, self.start);
        }
        for row in 0..self.rows {
            let start = self.start + row * self.stride;
            visit(self.row_mut(row), start)?;
        }
        Ok(())
    }
}

/// The output's address, shared with the threads that fill it.
struct Shared<T>(*mut T);

// SAFETY: threads write through it only inside the tiles they were given, which do not overlap.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Fills `output` tile by tile on all threads of the current pool: `fill` computes one tile, with a piece of `scratch`
/// of its own of `share` elements; then the tile passes through `finish`, `base` being the flat index of `output[0]`.
///
/// # Errors
/// When `output` is not as large as the grid, `scratch` holds no piece, or `fill` fails.
pub(crate) fn for_each_tile(
    output: &mut [f32],
    base: usize,
    grid: &Grid,
    scratch: (&mut [f32], usize),
    finish: Option<&Finish<'_>>,
    fill: impl Fn(&mut Tile<'_>, &mut [f32]) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    let start = || finish.map(Finish::workspace).transpose();
    share_out(output, base, grid, scratch, start, |tile, scratch, workspace| {
        fill(tile, scratch)?;
        match (finish, workspace) {
            (Some(finish), Some(workspace)) => {
                tile.runs(|run, start| finish.apply_with(workspace, run, start))
            }
            _ => Ok(()),
        }
    })
}

/// The same for elements of any type: `start` gives each thread what it keeps from tile to tile.
///
/// # Errors
/// When `output` is not as large as the grid, `scratch` holds no piece, or `start` or `fill` fails.
pub(crate) fn share_out<T: Send, S: Send, W>(
    output: &mut [T],
    base: usize,
    grid: &Grid,
    (scratch, share): (&mut [S], usize),
    start: impl Fn() -> Result<W, OpError> + Sync,
    fill: impl Fn(&mut Tile<'_, T>, &mut [S], &mut W) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    let size = grid.rows.checked_mul(grid.columns).and_then(|n| n.checked_mul(grid.planes));
    if size != Some(output.len()) || grid.tile_rows == 0 || grid.tile_columns == 0 {
        return Err(OpError::Internal("a grid of another size than its output"));
    }
    let tiles = grid.tiles();
    let down = grid.rows.div_ceil(grid.tile_rows);
    let across = grid.columns.div_ceil(grid.tile_columns);
    let shared = Shared(output.as_mut_ptr());
    let shared = &shared;
    let next = AtomicUsize::new(0);
    let worker = |scratch: &mut [S]| -> Result<(), OpError> {
        let mut own = start()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= tiles {
                return Ok(());
            }
            let plane = index / (down * across);
            let row = index / across % down * grid.tile_rows;
            let column = index % across * grid.tile_columns;
            let start = (plane * grid.rows + row) * grid.columns + column;
            let mut tile = Tile {
                // SAFETY: row < rows and column < columns of a plane below `planes`, so `start` is inside `output`.
                first: unsafe { shared.0.add(start) },
                plane,
                row,
                column,
                rows: grid.tile_rows.min(grid.rows - row),
                columns: grid.tile_columns.min(grid.columns - column),
                stride: grid.columns,
                start: base + start,
                output: PhantomData,
            };
            fill(&mut tile, scratch, &mut own)?;
        }
    };
    let threads = rayon::current_num_threads().min(tiles);
    match share {
        0 if threads <= 1 => worker(&mut []),
        0 => (0..threads).into_par_iter().with_max_len(1).try_for_each(|_| worker(&mut [])),
        _ if scratch.len() < share => Err(OpError::Internal("too little scratch memory")),
        _ if threads <= 1 => worker(&mut scratch[..share]),
        _ => scratch.par_chunks_exact_mut(share).take(threads).with_max_len(1).try_for_each(worker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_filled_once() {
        for (planes, rows, columns, tile_rows, tile_columns) in
            [(1, 1, 1, 1, 1), (3, 17, 65, 4, 32), (2, 7, 49, 7, 49), (1, 5, 127, 9, 1), (0, 3, 3, 1, 1)]
        {
            let grid = Grid { planes, rows, columns, tile_rows, tile_columns };
            let mut output = vec![0.0f32; planes * rows * columns];
            let mut scratch = [0.0f32; 64];
            for_each_tile(&mut output, 0, &grid, (&mut scratch, 16), None, |tile, scratch| {
                assert_eq!(scratch.len(), 16);
                for row in 0..tile.rows {
                    let at = (tile.plane * rows + tile.row + row) * columns + tile.column;
                    for (column, slot) in tile.row_mut(row).iter_mut().enumerate() {
                        *slot += (at + column) as f32 + 1.0;
                    }
                }
                assert!(tile.row_mut(tile.rows).is_empty());
                Ok(())
            })
            .unwrap();
            assert!(output.iter().enumerate().all(|(i, &x)| x == i as f32 + 1.0));
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let grid = Grid { planes: 1, rows: 2, columns: 3, tile_rows: 1, tile_columns: 3 };
        let mut output = [0.0; 5];
        assert!(for_each_tile(&mut output, 0, &grid, (&mut [], 0), None, |_, _| Ok(())).is_err());
        let mut output = [0.0; 6];
        assert!(for_each_tile(&mut output, 0, &grid, (&mut [0.0; 3], 4), None, |_, _| Ok(())).is_err());
    }

    #[test]
    fn balanced_grids_cover_their_output() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            assert_eq!(Grid::balanced(1, 64, 64, 1000).tiles(), 1);
            let grid = Grid::balanced(1, 512, 512, 1 << 28);
            assert!(grid.tiles() >= 16, "{grid:?}");
            let grid = Grid::balanced(1, 1, 1000, 1 << 24);
            assert!(grid.tiles() >= 8 && grid.tile_rows == 1, "{grid:?}");
        });
    }
}
