//! What the best tree over each run of neighbouring spans costs.
//!
//! The least over all places to split a run at is most of the work of a search. It is done for
//! [`LANES`] runs at once that are equally long and begin next to each other: their shorter parts
//! lie beside each other too, so that the compiler makes vector instructions of it. Costs are whole
//! numbers in `f32`, for which every machine has the least of four at once; they stay below
//! [`UNKNOWN`], where that is exact.

/// Runs that are looked at together.
pub(crate) const LANES: usize = 16;

/// Above any cost.
pub(crate) const UNKNOWN: f32 = 16_777_216.0;

/// Costs of runs, by how many spans they have behind the first.
pub(crate) struct Runs {
    /// How many costs a row has: one for each first span, and some that are never known, so that
    /// [`LANES`] of them can be read from every place.
    stride: usize,
    /// The rows, the shortest runs first.
    costs: Vec<f32>,
    /// Rows in which all costs are known that are to be.
    known: usize,
}

impl Runs {
    /// For runs of so many spans, of up to `longest` behind the first. Nothing is known yet.
    pub(crate) fn new(count: usize, longest: usize) -> Runs {
        let stride = count.next_multiple_of(LANES) + LANES;
        Runs { stride, costs: vec![UNKNOWN; stride * (longest + 1)], known: 0 }
    }

    /// How many spans behind the first a run has at most.
    pub(crate) fn longest(&self) -> usize {
        self.costs.len() / self.stride - 1
    }

    /// The cost of the run of `reach` more spans than this one, if it is known.
    pub(crate) fn known(&self, from: usize, reach: usize) -> Option<u64> {
        let cost = *self.costs.get(reach * self.stride + from)?;
        (reach < self.known && cost < UNKNOWN).then(|| wide(cost))
    }

    /// What was found for the run so far; [`UNKNOWN`] if nothing was.
    pub(crate) fn at_most(&self, from: usize, reach: usize) -> f32 {
        self.costs[reach * self.stride + from]
    }

    /// Sets that.
    pub(crate) fn set(&mut self, from: usize, reach: usize, cost: f32) {
        self.costs[reach * self.stride + from] = cost;
    }

    /// The same for this run and those of its length that begin behind it.
    pub(crate) fn lanes(&mut self, from: usize, reach: usize) -> &mut [f32; LANES] {
        lanes_mut(&mut self.costs[reach * self.stride + from..])
    }

    /// From now on, runs of `reach` more spans are known, unless nothing was found for them.
    pub(crate) fn finish(&mut self, reach: usize) {
        self.known = reach + 1;
    }

    /// For this run and those of its length that begin behind it: the least sum of what is below and
    /// what is above a place to split it at. All shorter runs have to be known.
    pub(crate) fn splits(&self, from: usize, reach: usize) -> [f32; LANES] {
        let mut least = [2.0 * UNKNOWN; LANES];
        for (below, above) in self.parts(from, reach) {
            for (least, (below, above)) in
                least.iter_mut().zip(lanes(below).iter().zip(lanes(above)))
            {
                *least = less(below + above, *least);
            }
        }
        least
    }

    /// Where to split this run for both sides to cost this much in sum: the first span of what is above.
    pub(crate) fn split(&self, from: usize, reach: usize, sum: u64) -> Option<usize> {
        let (sum, mut parts) = (narrow(sum), self.parts(from, reach));
        // Nothing costs less than the least.
        let reach = parts.position(|(below, above)| below[0] + above[0] <= sum);
        reach.map(|reach| from + reach + 1)
    }

    /// For each place to split this run at: the costs from the one of what is below on, and from the
    /// one of what is above.
    fn parts(&self, from: usize, reach: usize) -> impl Iterator<Item = (&[f32], &[f32])> {
        let shorter = &self.costs[..reach * self.stride + from];
        // The run of one span and what is above, the run of two and what is above that, and so on.
        shorter[from..].chunks_exact(self.stride).zip(shorter.rchunks_exact(self.stride - 1))
    }
}

/// The first of some values. There are as many behind the last one.
pub(crate) fn lanes(values: &[f32]) -> &[f32; LANES] {
    values.first_chunk().expect("there are as many behind the last")
}

/// The same, to change.
pub(crate) fn lanes_mut(values: &mut [f32]) -> &mut [f32; LANES] {
    values.first_chunk_mut().expect("there are as many behind the last")
}

/// The lesser of two numbers: one instruction, where `min` looks for what is no number.
pub(crate) fn less(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The greater of two, likewise.
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// As a cost in a table.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^24, and above it is above any cost")]
pub(crate) fn narrow(cost: u64) -> f32 {
    cost as f32
}

/// As it was before [`narrow`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number below 2^24"
)]
pub(crate) fn wide(cost: f32) -> u64 {
    cost as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run costs of which nothing is known but that one span costs nothing.
    fn cost(weights: &[u64], least: &mut impl FnMut(usize, usize) -> u64) -> u64 {
        let splits = (1..weights.len()).map(|at| least(0, at) + least(at, weights.len()));
        splits.min().map_or(0, |least| least + weights.iter().sum::<u64>())
    }

    #[test]
    fn every_split_of_every_run_is_looked_at() {
        // More than are looked at together, and not a multiple of it.
        let weights: Vec<u64> = (0..41).map(|index| (index * index * 7 + 3) % 101 + 1).collect();
        let count = weights.len();
        let mut runs = Runs::new(count, count - 1);
        // By first span and the one behind the last.
        let mut expected = vec![vec![0; count + 1]; count];
        for from in 0..count {
            runs.set(from, 0, 0.0);
        }
        runs.finish(0);
        for reach in 1..count {
            assert_eq!(runs.known(0, reach), None);
            for from in 0..count - reach {
                let to = from + reach + 1;
                let within = &weights[from..to];
                let known = cost(within, &mut |low, high| expected[from + low][from + high]);
                expected[from][to] = known;
                let splits = wide(runs.splits(from, reach)[0]);
                assert_eq!(splits + within.iter().sum::<u64>(), known, "{from}..{to}");
                let at = runs.split(from, reach, splits).unwrap();
                assert_eq!(expected[from][at] + expected[at][to], splits, "{from}..{to}");
                runs.set(from, reach, narrow(known));
            }
            runs.finish(reach);
            for from in 0..count - reach {
                assert_eq!(runs.known(from, reach), Some(expected[from][from + reach + 1]));
            }
        }
        // Beside each other they are what they are alone.
        let lanes = runs.splits(3, 20);
        let alone: Vec<f32> = (3..3 + LANES).map(|from| runs.splits(from, 20)[0]).collect();
        assert_eq!(lanes.to_vec(), alone);
    }
}
