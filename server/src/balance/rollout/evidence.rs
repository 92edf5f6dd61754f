//! How surely a share of a sample is above a bound or above that of another sample: likelihoods of counts, nothing else.

/// The evidence that a verdict needs: the natural logarithm of how much likelier the counts are when the share is what was seen than
/// when it is what it should be. Chance alone comes so far about once in 200 samples.
const ENOUGH: f64 = 3.5;
/// Stands for a bound of nothing at all, of which no likelihood can be told.
const HARDLY_ANY: f64 = 1e-6;

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) hits: u32,
    pub(super) of: u32,
}

impl Sample {
    /// From 0 to 1.
    pub(super) fn share(self) -> f64 {
        f64::from(self.hits) / f64::from(self.of.max(1))
    }

    /// Whether its share is above this one, more than chance explains. `least` is the size at which it was first looked at.
    pub(super) fn is_above(self, most: f64, least: u32) -> bool {
        self.share() > most && self.divergence(most.max(HARDLY_ANY)) > self.enough(least)
    }

    /// Whether its share is above that of another sample, more than chance in either explains.
    pub(super) fn is_above_that_of(self, other: Self, least: u32) -> bool {
        let both = Self { hits: self.hits.saturating_add(other.hits), of: self.of.saturating_add(other.of) }.share();
        self.share() > other.share() && self.divergence(both) + other.divergence(both) > self.enough(least)
    }

    /// Each look at a growing sample is another opportunity for chance, so that it takes more the more it has grown.
    fn enough(self, least: u32) -> f64 {
        ENOUGH + 0.5 * (f64::from(self.of) / f64::from(least.max(1))).max(1.0).ln()
    }

    /// How much likelier the sample is with its own share than with this one, as a natural logarithm.
    fn divergence(self, given: f64) -> f64 {
        let part = |own: f64, given: f64| if own > 0.0 { own * (own / given).ln() } else { 0.0 };
        f64::from(self.of) * (part(self.share(), given) + part(1.0 - self.share(), 1.0 - given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_few_may_be_chance_and_many_are_not() {
        let above = |hits, of| Sample { hits, of }.is_above(0.02, 20);
        assert!([(0, 20), (1, 20), (2, 20), (3, 50), (25, 1000)].iter().all(|(hits, of)| !above(*hits, *of)));
        assert!([(3, 20), (5, 20), (10, 20), (20, 20), (45, 1000)].iter().all(|(hits, of)| above(*hits, *of)));
        assert!(Sample { hits: 20, of: 20 }.is_above(0.5, 20) && !Sample { hits: 20, of: 20 }.is_above(1.0, 20));
        assert!(Sample { hits: 1, of: 20 }.is_above(0.0, 20), "where nothing may fail, one is enough");
        assert!(!Sample { hits: 0, of: 0 }.is_above(0.0, 1));
    }

    #[test]
    fn chance_in_the_other_sample_counts_too() {
        let canary = Sample { hits: 5, of: 20 };
        let above = |hits, of| canary.is_above_that_of(Sample { hits, of }, 20);
        assert!(above(0, 20) && above(0, 1000) && above(20, 1000));
        assert!(!above(1, 20) && !above(5, 20) && !above(20, 20) && !above(15, 100));
        assert!(!Sample { hits: 20, of: 20 }.is_above_that_of(Sample { hits: 20, of: 20 }, 20));
    }

    #[test]
    fn a_sample_that_was_looked_at_often_has_to_say_more() {
        let sample = Sample { hits: 15, of: 300 };
        assert!(sample.is_above(0.02, 300) && !sample.is_above(0.02, 1));
    }
}
