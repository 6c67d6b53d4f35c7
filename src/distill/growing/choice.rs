//! Which proposals of a round are taken, by what each of them replaces and brings.

use std::collections::HashSet;

use super::proposal::Offer;

/// Which offers are taken, as positions in splits followed by merges, with no cluster in two of them. Both come best first.
///
/// Merges that pay make room; splits that pay fill it, `room` of them and one more for each of these merges; then the next
/// best splits are paired with the cheapest merges where a split brings more than its merge costs. While a partner of a merge
/// is looked for, every split that clashes with it is passed over; what no merge that is taken replaces is there for the
/// next one.
pub fn choose(splits: &[Offer], merges: &[Offer], confidence: f64, room: usize) -> Vec<usize> {
    let pays = |offer: &Offer| offer.gain > 0.0 && offer.gain > confidence * offer.error;
    let position_of_merge = |m: usize| splits.len() + m;
    let mut replaced = Replaced::default();
    let gaining: Vec<usize> =
        (0..merges.len()).filter(|&m| pays(&merges[m]) && replaced.add_if_free(&merges[m])).collect();

    let mut further = (0..splits.len()).filter(|&s| pays(&splits[s]));
    let fill = further.by_ref().filter(|&s| replaced.add_if_free(&splits[s]));
    let mut taken: Vec<usize> = fill.take(room + gaining.len()).collect();
    taken.extend(gaining.iter().map(|&m| position_of_merge(m)));

    let costly = (0..merges.len()).filter(|m| !gaining.contains(m) && merges[*m].gain.is_finite());
    let mut open: Vec<usize> = further.collect();
    for m in costly {
        let merge = &merges[m];
        if !replaced.is_free(merge) {
            continue;
        }
        let partner = open.iter().position(|&s| replaced.is_free(&splits[s]) && !merge.clashes(&splits[s]));
        let Some(at) = partner.filter(|&at| splits[open[at]].gain + merge.gain > 0.0) else { continue };
        let s = open.remove(at);
        replaced.add_if_free(merge);
        replaced.add_if_free(&splits[s]);
        taken.extend([s, position_of_merge(m)]);
    }
    taken
}

/// The clusters that offers taken so far replace.
#[derive(Default)]
struct Replaced(HashSet<usize>);

impl Replaced {
    fn is_free(&self, offer: &Offer) -> bool {
        offer.old.iter().all(|k| !self.0.contains(k))
    }

    /// Add all clusters of an offer, or none where one of them is replaced already; says which.
    fn add_if_free(&mut self, offer: &Offer) -> bool {
        let free = self.is_free(offer);
        if free {
            self.0.extend(offer.old);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of splits (cluster, gain) and merges (clusters, gain), all of them certain: the clusters of each offer.
    fn chosen(splits: &[(usize, f64)], merges: &[([usize; 2], f64)], room: usize) -> Vec<Vec<usize>> {
        let split_of: Vec<Offer> =
            splits.iter().map(|(k, gain)| Offer { old: std::slice::from_ref(k), gain: *gain, error: 0.0 }).collect();
        let merge_of: Vec<Offer> = merges.iter().map(|(old, gain)| Offer { old, gain: *gain, error: 0.0 }).collect();
        let all: Vec<&Offer> = split_of.iter().chain(&merge_of).collect();
        choose(&split_of, &merge_of, 1.0, room).into_iter().map(|i| all[i].old.to_vec()).collect()
    }

    #[test]
    fn splits_that_pay_fill_the_room_and_uncertain_ones_do_not() {
        let offer = |old, gain, error| Offer { old, gain, error };
        let splits = [offer(&[0], 9.0, 1.0), offer(&[1], 8.0, 5.0), offer(&[2], 7.0, 1.0), offer(&[3], -1.0, 0.1)];
        assert_eq!(choose(&splits, &[], 2.0, 3), [0, 2]);
        assert_eq!(choose(&splits, &[], 1.0, 2), [0, 1]);
        assert!(choose(&splits, &[], 1.0, 0).is_empty());
    }

    #[test]
    fn a_merge_that_pays_drops_the_splits_of_both_its_clusters_and_makes_room_for_another() {
        // The best splits are those of the merged clusters 0 and 1.
        let splits = [(0, 9.0), (1, 8.0), (2, 7.0), (3, 6.0)];
        assert_eq!(chosen(&splits, &[([0, 1], 1.0)], 0), [vec![2], vec![0, 1]]);
        assert_eq!(chosen(&splits, &[([0, 1], 1.0)], 1), [vec![2], vec![3], vec![0, 1]]);
        // Of two merges that share a cluster the better one is taken.
        assert_eq!(chosen(&splits, &[([0, 1], 2.0), ([1, 2], 1.0)], 0), [vec![2], vec![0, 1]]);
    }

    #[test]
    fn a_merge_that_costs_drops_all_splits_that_clash_with_it() {
        // Both clashing splits stand before the partner, 7 - 2 > 0.
        assert_eq!(chosen(&[(0, 9.0), (1, 8.0), (2, 7.0)], &[([0, 1], -2.0)], 0), [vec![2], vec![0, 1]]);
        // One before the partner, 8 - 2 > 0, and one after it: that one is no partner of the next merge, 6 - 3 > 0.
        let splits = [(0, 9.0), (2, 8.0), (1, 7.0), (3, 6.0)];
        let merges = [([0, 1], -2.0), ([4, 5], -3.0)];
        assert_eq!(chosen(&splits, &merges, 0), [vec![2], vec![0, 1], vec![3], vec![4, 5]]);
        // Both after it, and nothing else is left.
        let splits = [(2, 9.0), (0, 8.0), (1, 7.0)];
        assert_eq!(chosen(&splits, &merges, 0), [vec![2], vec![0, 1]]);
        // Both merges clash with the best split, 0, and with one other each.
        let splits = [(0, 9.0), (1, 8.0), (2, 7.0), (3, 6.0)];
        assert_eq!(chosen(&splits, &[([0, 1], -2.0), ([0, 2], -3.0)], 0), [vec![2], vec![0, 1]]);
    }

    #[test]
    fn a_split_that_a_merge_too_dear_passed_over_is_there_for_the_next_merge() {
        // {0, 1} could only go with split 3, 4 - 5 < 0; {4, 5} goes with split 0, 10 - 6 > 0.
        assert_eq!(chosen(&[(0, 10.0), (3, 4.0)], &[([0, 1], -5.0), ([4, 5], -6.0)], 0), [vec![0], vec![4, 5]]);
    }

    #[test]
    fn a_merge_that_clashes_with_a_split_in_the_room_is_left() {
        let splits = [(0, 9.0), (2, 8.0)];
        assert_eq!(chosen(&splits, &[([0, 1], -2.0)], 1), [vec![0]]);
        assert_eq!(chosen(&splits, &[([0, 1], -2.0), ([3, 4], -3.0)], 1), [vec![0], vec![2], vec![3, 4]]);
    }

    #[test]
    fn pairs_end_where_a_merge_costs_what_its_split_brings() {
        let splits = [(0, 5.0), (1, 3.0)];
        assert_eq!(chosen(&splits, &[([2, 3], -4.0), ([4, 5], -4.0)], 0), [vec![0], vec![2, 3]]);
        assert!(chosen(&splits, &[([2, 3], -5.0)], 0).is_empty());
        assert!(chosen(&splits, &[([2, 3], f64::NEG_INFINITY), ([4, 5], f64::NAN)], 0).is_empty());
    }
}
