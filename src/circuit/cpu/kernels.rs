//! Loops over the messages of a few examples, written so that the compiler makes vector instructions of them.
//!
//! A **message** is a row of states for every example, row behind row; rows are padded with zeros to a multiple of
//! [`LANES`] numbers ([`padded`]). The number of rows is a multiple of [`ROWS`].
//!
//! The products choose their instructions themselves and are functions of their own: inlined into a walk, what the compiler made
//! of them changed with the code around them, once to half as wide vectors.

use multiversion::multiversion;
use multiversion::target::match_target;

/// Numbers that messages are padded to a multiple of.
pub const LANES: usize = 8;
/// Columns of a table that are worked on together, where so many are left.
pub const PANEL: usize = 2 * LANES;
/// Examples that are worked on together.
pub const ROWS: usize = 4;

/// Numbers in a row of so many states.
#[must_use]
pub fn padded(states: usize) -> usize {
    states.next_multiple_of(LANES)
}

/// The panels of a table `[inner, columns]`: first column, and room for [`PANEL`] columns, or the last [`LANES`], row behind row.
fn panels(inner: usize, columns: usize, mut out: &mut [f32]) -> impl Iterator<Item = (usize, usize, &mut [f32])> {
    (0..padded(columns)).step_by(PANEL).map(move |start| {
        let width = PANEL.min(padded(columns) - start);
        (start, width, out.split_off_mut(..inner * width).expect("room for the table"))
    })
}

/// Write a table `[inner, columns]` in panels; `out` has room for `inner` padded rows, and zeros where they are padded.
pub fn pack(table: &[f32], columns: usize, out: &mut [f32]) {
    for (start, width, panel) in panels(table.len() / columns, columns, out) {
        let end = columns.min(start + width);
        for (row, out) in table.chunks_exact(columns).zip(panel.chunks_exact_mut(width)) {
            out[..end - start].copy_from_slice(&row[start..end]);
        }
    }
}

/// The same for a table `[inner, columns]` that lies as `[columns, inner]`.
pub fn pack_transposed(table: &[f32], inner: usize, out: &mut [f32]) {
    for (start, width, panel) in panels(inner, table.len() / inner, out) {
        for (c, column) in table[start * inner..].chunks_exact(inner).take(width).enumerate() {
            panel.chunks_exact_mut(width).zip(column).for_each(|(out, x)| out[c] = *x);
        }
    }
}

/// `a * b + c`, in one instruction where there is such.
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The products of some rows with one panel.
#[inline(always)]
fn product_tile<const L: usize, const FMA: bool>(rows: [&[f32]; ROWS], panel: &[[f32; L]]) -> [[f32; L]; ROWS] {
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut sums = [[0.0; L]; ROWS];
    for (k, weights) in panel.iter().enumerate() {
        for r in 0..ROWS {
            let x = rows[r][k];
            for l in 0..L {
                sums[r][l] = multiply_add::<FMA>(x, weights[l], sums[r][l]);
            }
        }
    }
    sums
}

/// `out[b] = sum_i rows[b, i] table[i]` for every example b: rows `[B, width]`, a packed table `[inner, columns]`, and out
/// `[B, padded columns]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn product(rows: (&[f32], usize), table: (&[f32], usize), out: (&mut [f32], usize)) {
    match_target! {
        "x86_64+avx2+fma" => change::<true>(rows, table, out, |_, x| x),
        _ => change::<{ cfg!(target_arch = "aarch64") }>(rows, table, out, |_, x| x),
    }
}

/// `out[b] *= sum_i rows[b, i] table[i]`, shapes as for [`product`].
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn multiply(rows: (&[f32], usize), table: (&[f32], usize), out: (&mut [f32], usize)) {
    match_target! {
        "x86_64+avx2+fma" => change::<true>(rows, table, out, |m, x| m * x),
        _ => change::<{ cfg!(target_arch = "aarch64") }>(rows, table, out, |m, x| m * x),
    }
}

/// `out[b] = change(out[b], sum_i rows[b, i] table[i])`, panel by panel.
#[inline(always)]
fn change<const FMA: bool>(
    (rows, width): (&[f32], usize),
    (table, inner): (&[f32], usize),
    (out, columns): (&mut [f32], usize),
    change: impl Fn(f32, f32) -> f32,
) {
    for (rows, out) in rows.chunks_exact(ROWS * width).zip(out.chunks_exact_mut(ROWS * columns)) {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &rows[r * width..(r + 1) * width]);
        for (panel, start) in table.chunks(PANEL * inner).zip((0..columns).step_by(PANEL)) {
            if columns - start >= PANEL {
                let tile = product_tile::<PANEL, FMA>(rows, panel.as_chunks().0);
                put(&tile, &mut out[start..], columns, &change);
            } else {
                let tile = product_tile::<LANES, FMA>(rows, panel.as_chunks().0);
                put(&tile, &mut out[start..], columns, &change);
            }
        }
    }
}

/// Change the numbers of a matrix by those of a tile, the tile's rows being `stride` numbers apart in it.
#[inline(always)]
fn put<const L: usize>(tile: &[[f32; L]; ROWS], out: &mut [f32], stride: usize, change: impl Fn(f32, f32) -> f32) {
    for (tile, out) in tile.iter().zip(out.chunks_mut(stride)) {
        let out: &mut [f32; L] = out.first_chunk_mut().expect("a row of the tile");
        *out = std::array::from_fn(|l| change(out[l], tile[l]));
    }
}

/// `sum_b ratio[b, j + r] message[b, k + l]`.
#[inline(always)]
fn outer_tile<const L: usize, const FMA: bool>(
    (ratio, above, j): (&[f32], usize, usize),
    (message, width, k): (&[f32], usize, usize),
) -> [[f32; L]; ROWS] {
    let mut sums = [[0.0; L]; ROWS];
    for (ratio, message) in ratio.chunks_exact(above).zip(message.chunks_exact(width)) {
        let ratio: &[f32; ROWS] = ratio[j..].first_chunk().expect("columns of a tile");
        let message: &[f32; L] = message[k..].first_chunk().expect("columns of a tile");
        for r in 0..ROWS {
            for l in 0..L {
                sums[r][l] = multiply_add::<FMA>(ratio[r], message[l], sums[r][l]);
            }
        }
    }
    sums
}

/// `counts[j, k] += sum_b ratio[b, j] message[b, k]`: ratio `[B, above]` and message `[B, width]`, both padded; counts
/// `[parent states, states]`, not padded.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn add_outer(ratio: (&[f32], usize), message: (&[f32], usize), counts: (&mut [f32], usize)) {
    match_target! {
        "x86_64+avx2+fma" => add_outers::<true>(ratio, message, counts),
        _ => add_outers::<{ cfg!(target_arch = "aarch64") }>(ratio, message, counts),
    }
}

#[inline(always)]
fn add_outers<const FMA: bool>(
    (ratio, above): (&[f32], usize),
    (message, width): (&[f32], usize),
    (counts, states): (&mut [f32], usize),
) {
    for (j, counts) in (0..above).step_by(ROWS).zip(counts.chunks_mut(ROWS * states)) {
        for k in (0..width).step_by(PANEL) {
            let (ratio, message) = ((ratio, above, j), (message, width, k));
            if width - k >= PANEL {
                add_tile(&outer_tile::<PANEL, FMA>(ratio, message), counts, states, k);
            } else {
                add_tile(&outer_tile::<LANES, FMA>(ratio, message), counts, states, k);
            }
        }
    }
}

/// Add to rows of `states` counts what they have of a tile that begins in their column k.
#[inline(always)]
fn add_tile<const L: usize>(tile: &[[f32; L]; ROWS], counts: &mut [f32], states: usize, k: usize) {
    if counts.len() == ROWS * states && k + L <= states {
        put(tile, &mut counts[k..], states, |count, x| count + x);
        return;
    }
    for (tile, counts) in tile.iter().zip(counts.chunks_mut(states)) {
        counts[k..].iter_mut().zip(tile).for_each(|(count, x)| *count += x);
    }
}

/// Divide every row by the power of two below its sum, which changes no digit, and add its exponent to those of the
/// examples.
#[inline(always)]
pub fn rescale(message: &mut [f32], width: usize, exponents: &mut [i32]) {
    for (row, exponent) in message.chunks_exact_mut(width).zip(exponents) {
        let mut lanes = [0.0f32; LANES];
        for part in row.as_chunks::<LANES>().0 {
            (0..LANES).for_each(|l| lanes[l] += part[l]);
        }
        let sum = lanes.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let biased = (sum.to_bits() >> 23).min(253);
        *exponent += biased as i32 - 127;
        let inverse = f32::from_bits((254 - biased) << 23);
        for x in row {
            *x *= inverse;
        }
    }
}
