//! Loops over rows of numbers on the CPU, where libtorch's own are slow: its search for the least number of a row takes as long as
//! the matrix product that made the row, and squared distances to a point go through memory four times.

use multiversion::multiversion;

/// Numbers that are worked on side by side.
const LANES: usize = 16;

/// Where the least number of each row of `width` numbers stands, the first one of equals.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn least(table: &[f32], width: usize) -> Vec<i64> {
    let mut found = Vec::with_capacity(table.len() / width);
    for row in table.chunks_exact(width) {
        let (blocks, rest) = row.as_chunks::<LANES>();
        let mut least = [f32::INFINITY; LANES];
        let mut place = [0u32; LANES];
        for (number, block) in (0u32..).zip(blocks) {
            for ((least, place), &value) in least.iter_mut().zip(&mut place).zip(block) {
                let is_less = value < *least;
                *least = if is_less { value } else { *least };
                *place = if is_less { number } else { *place };
            }
        }
        let mut best = (f32::INFINITY, 0);
        let lanes = place.iter().enumerate().map(|(lane, &number)| number as usize * LANES + lane);
        let last = rest.iter().copied().zip(row.len() - rest.len()..);
        for (value, index) in least.into_iter().zip(lanes).chain(last) {
            if value.total_cmp(&best.0).then(index.cmp(&best.1)).is_lt() {
                best = (value, index);
            }
        }
        found.push(best.1 as i64);
    }
    found
}

/// Lower each point's squared distance to the nearest of some centres, where a further centre is nearer. Points are rows as
/// long as the centre.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn lower(nearest: &mut [f32], points: &[f32], centre: &[f32]) {
    let (blocks, rest) = centre.as_chunks::<LANES>();
    for (nearest, point) in nearest.iter_mut().zip(points.chunks_exact(centre.len())) {
        let mut sums = [0f32; LANES];
        for (point, centre) in point.as_chunks::<LANES>().0.iter().zip(blocks) {
            for ((sum, x), c) in sums.iter_mut().zip(point).zip(centre) {
                *sum += (x - c) * (x - c);
            }
        }
        let last = point[point.len() - rest.len()..].iter().zip(rest);
        let distance = sums.iter().sum::<f32>() + last.map(|(x, c)| (x - c) * (x - c)).sum::<f32>();
        *nearest = nearest.min(distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * i * 7919 % 31) as f32 / 4.0).collect()
    }

    #[test]
    fn the_least_of_a_row_is_the_first_of_equals() {
        for width in [1, 2, 15, 16, 17, 40, 64] {
            let table = values(9 * width);
            let first = |row: &[f32]| (0..width).min_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
            let expected: Vec<i64> = table.chunks(width).map(|row| first(row).unwrap() as i64).collect();
            assert_eq!(least(&table, width), expected, "{width}");
        }
    }

    #[test]
    fn distances_are_lowered_by_nearer_centres_alone() {
        for width in [1, 3, 16, 35] {
            let (points, centre) = (values(5 * width), values(width + 2)[2..].to_vec());
            let distance = |point: &[f32]| point.iter().zip(&centre).map(|(x, c)| (x - c).powi(2)).sum::<f32>();
            let mut nearest = vec![f32::INFINITY, 0.0, f32::INFINITY, 1e9, 0.5];
            let expected: Vec<f32> =
                nearest.iter().zip(points.chunks(width)).map(|(&before, point)| distance(point).min(before)).collect();
            lower(&mut nearest, &points, &centre);
            for (a, b) in nearest.iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-5 * b.abs(), "{width}: {a} {b}");
            }
        }
    }
}
