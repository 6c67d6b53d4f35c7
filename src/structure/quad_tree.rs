//! Quad trees: a picture is a square of squares, each of four, down to the pixels.
//!
//! Pixels, then the regions above them, are put together by two rows and two columns; at an odd edge fewer than four are, and
//! a region that would be alone stays as it is. A region above has a hidden state and no input of its own, so that with
//! dense tables to its children it is a sum of products of their sums, the **CP layer** of Loconte et al. (What is the
//! relationship between tensor factorizations and circuits, and how can we exploit it?, 2025):
//!
//! ```text
//! m_r(j) = prod_c sum_k W_c[j, k] m_c(k)
//! ```

use super::chow_liu::Parents;

/// The quad tree over `rows x columns` pixels of so many channels each. Regions `0..rows * columns * channels` observe the
/// variables (row, column, channel); the channels of a pixel are children of a region of the pixel, where there are several.
/// Further regions observe nothing, children before parents, the root last.
#[must_use]
pub fn quad_tree(rows: usize, columns: usize, channels: usize) -> Parents {
    let mut parents = vec![None; rows * columns * channels];
    let mut join = |members: &[usize]| {
        if let [alone] = members {
            return *alone;
        }
        let region = parents.len();
        parents.push(None);
        for &member in members {
            parents[member] = Some(region);
        }
        region
    };
    let pixel = |p: usize| (p * channels..(p + 1) * channels).collect::<Vec<_>>();
    let mut regions: Vec<usize> = (0..rows * columns).map(|p| join(&pixel(p))).collect();
    let (mut rows, mut columns) = (rows, columns);
    while regions.len() > 1 {
        let square = |row: usize, column: usize| {
            let rows = 2 * row..rows.min(2 * row + 2);
            rows.flat_map(|r| (2 * column..columns.min(2 * column + 2)).map(move |c| r * columns + c))
                .map(|i| regions[i])
                .collect::<Vec<_>>()
        };
        let half = [rows.div_ceil(2), columns.div_ceil(2)];
        regions = (0..half[0] * half[1]).map(|i| join(&square(i / half[1], i % half[1]))).collect();
        [rows, columns] = half;
    }
    parents
}

/// How many regions [`quad_tree`] has.
#[must_use]
pub fn regions(rows: usize, columns: usize, channels: usize) -> usize {
    quad_tree(rows, columns, channels).len()
}

/// The sides of the square picture whose pixels of one or three channels are so many variables, and its channels.
#[must_use]
pub fn square(variables: usize) -> Option<(usize, usize)> {
    let sides = [1, 3].map(|channels| ((variables / channels).isqrt(), channels));
    sides.into_iter().find(|(side, channels)| side * side * channels == variables && *side > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables below every region, and the most edges down to one.
    fn scopes(parents: &Parents, variables: usize) -> Vec<(Vec<usize>, usize)> {
        let mut scopes = vec![(Vec::new(), 0); parents.len()];
        for v in 0..variables {
            for (edges, r) in std::iter::successors(Some(v), |&r| parents[r]).enumerate() {
                scopes[r].0.push(v);
                scopes[r].1 = scopes[r].1.max(edges);
            }
        }
        scopes
    }

    #[test]
    fn digits_are_five_squarings_of_their_pixels() {
        let parents = quad_tree(28, 28, 1);
        // Of the 4 x 4 regions above 7 x 7 the one in the corner would be above one alone.
        assert_eq!(parents.len(), 784 + 196 + 49 + 15 + 4 + 1);
        let scopes = scopes(&parents, 784);
        let root = parents.iter().position(Option::is_none).unwrap();
        assert_eq!(root, parents.len() - 1);
        assert_eq!(scopes[root], ((0..784).collect(), 5));
        assert_eq!(scopes[784].0, [0, 1, 28, 29]);
        assert_eq!(scopes.last().unwrap().0.len(), 784);
        let children = |r: usize| parents.iter().filter(|p| **p == Some(r)).count();
        assert!((784..parents.len()).all(|r| (2..=4).contains(&children(r))));
    }

    #[test]
    fn odd_edges_join_fewer_and_single_regions_stay_as_they_are() {
        // 0 1 | 2
        // 3 4 | 5
        // ----+--
        // 6 7 | 8
        let (a, b, c, root) = (9, 10, 11, 12);
        let expected = [a, a, b, a, a, b, c, c, root, root, root, root].map(Some).into_iter().chain([None]);
        assert_eq!(quad_tree(3, 3, 1), expected.collect::<Vec<_>>());
    }

    #[test]
    fn channels_are_below_their_pixel() {
        let parents = quad_tree(1, 2, 3);
        assert_eq!(parents, [6, 6, 6, 7, 7, 7, 8, 8].map(Some).into_iter().chain([None]).collect::<Vec<_>>());
        assert_eq!(quad_tree(1, 1, 1), [None]);
        assert_eq!(regions(1, 2, 3), 9);
    }

    #[test]
    fn numbers_of_a_square_tell_its_sides() {
        assert_eq!(
            [16, 27, 784, 3072, 3, 2].map(square),
            [Some((4, 1)), Some((3, 3)), Some((28, 1)), Some((32, 3)), Some((1, 3)), None]
        );
    }
}
