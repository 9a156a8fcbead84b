//! What models cost. Exact: in billionths of a dollar, so that a token of the cheapest kind is a whole number.

use super::message::Usage;
use std::fmt;
use std::str::FromStr;

/// Billionths of a dollar. Displays as `$0.0123`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoDollars(pub u64);

const DOLLAR: u64 = 1_000_000_000;

impl NanoDollars {
    /// The sum.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// As a decimal number of dollars with four to nine digits after the point.
    pub fn decimal(self) -> String {
        let digits = format!("{:09}", self.0 % DOLLAR);
        let shown = digits.trim_end_matches('0').len().max(4);
        format!("{}.{}", self.0 / DOLLAR, &digits[..shown])
    }
}

impl fmt::Display for NanoDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.decimal())
    }
}

/// The text is no amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no amount of dollars: write a decimal number such as 1.00, with at most nine digits after the point")]
pub struct ParseDollarsError;

impl FromStr for NanoDollars {
    type Err = ParseDollarsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(whole) || !plain(fraction) || fraction.len() > 9 {
            return Err(ParseDollarsError);
        }
        let whole: u64 = whole.parse().map_err(|_| ParseDollarsError)?;
        let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| ParseDollarsError)?;
        whole.checked_mul(DOLLAR).and_then(|it| it.checked_add(fraction)).map(Self).ok_or(ParseDollarsError)
    }
}

/// What a token of each kind costs, in billionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    input: u64,
    output: u64,
    /// Written to the cache for 5 minutes, and for an hour.
    cache_writes: (u64, u64),
    cache_read: u64,
}

/// The price of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    /// From more than so many input tokens on, the whole request costs these.
    long: Option<(u64, Rates)>,
}

const fn rates(input: u64, output: u64, cache_writes: (u64, u64), cache_read: u64) -> Rates {
    Rates { input, output, cache_writes, cache_read }
}

const fn flat(rates: Rates) -> Price {
    Price { rates, long: None }
}

/// Prices per token; a dollar for a million tokens is 1000. A write to the cache costs 1.25 (5 minutes) or 2 (an hour)
/// times the input.
const PRICES: [(&str, Price); 5] = [
    ("claude-opus-5-5", flat(rates(4_000, 20_000, (5_000, 8_000), 200))),
    ("claude-sonnet-5-5", flat(rates(2_000, 10_000, (2_500, 4_000), 100))),
    (
        "claude-haiku-5-5",
        Price { rates: rates(100, 500, (125, 200), 10), long: Some((100_000, rates(500, 2_500, (625, 1_000), 50))) },
    ),
    ("claude-haiku-4-5", flat(rates(1_000, 5_000, (1_250, 2_000), 100))),
    HIGHEST,
];

/// What a model that is not known costs.
const HIGHEST: (&str, Price) = ("claude-fable-5-2", flat(rates(8_000, 40_000, (10_000, 16_000), 800)));

impl Price {
    /// The price of a model, also with a date behind its name or a provider before it; of an unknown one, the highest.
    pub fn of(model: &str) -> Self {
        let plain = model.rsplit(['.', '/']).next().unwrap_or(model);
        let matches = |(name, _): &&(&str, Price)| plain.strip_prefix(name).is_some_and(is_date);
        PRICES.iter().find(matches).map_or(HIGHEST.1, |(_, price)| *price)
    }

    /// What a turn cost.
    pub fn cost(&self, usage: &Usage) -> NanoDollars {
        let rates = self.rates_for(usage.total_input());
        let parts = [
            (usage.input_tokens, rates.input),
            (usage.output_tokens, rates.output),
            (usage.cache_creation_input_tokens, rates.cache_writes.0),
            (usage.cache_creation_1h_input_tokens, rates.cache_writes.1),
            (usage.cache_read_input_tokens, rates.cache_read),
        ];
        NanoDollars(parts.into_iter().fold(0, |sum, (tokens, rate)| sum.saturating_add(tokens.saturating_mul(rate))))
    }

    /// The most that a turn can cost: all input written to the cache in the dearer way, all output used.
    pub fn worst_case(&self, input_tokens: u64, output_tokens: u64) -> NanoDollars {
        let rates = self.rates_for(input_tokens);
        let input = input_tokens.saturating_mul(rates.input.max(rates.cache_writes.1));
        NanoDollars(input.saturating_add(output_tokens.saturating_mul(rates.output)))
    }

    fn rates_for(&self, input_tokens: u64) -> Rates {
        self.long.filter(|(from, _)| input_tokens > *from).map_or(self.rates, |(_, rates)| rates)
    }
}

/// Nothing, or a date such as `-20261001`.
fn is_date(rest: &str) -> bool {
    rest.is_empty()
        || rest.strip_prefix('-').is_some_and(|date| date.len() == 8 && date.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_and_shown_exactly() {
        for (text, nanodollars) in
            [("1.00", 1_000_000_000), ("0.0001", 100_000), ("20", 20_000_000_000), ("0.000000001", 1)]
        {
            assert_eq!(text.parse(), Ok(NanoDollars(nanodollars)), "{text}");
        }
        for text in ["", ".", "1.", "-1", "1e3", "0.0000000001", "99999999999999999999"] {
            assert!(text.parse::<NanoDollars>().is_err(), "{text}");
        }
        assert_eq!(NanoDollars(12_300_000).to_string(), "$0.0123");
        assert_eq!(NanoDollars(1_234_567_891).decimal(), "1.234567891");
        assert_eq!(NanoDollars(0).decimal(), "0.0000");
    }

    #[test]
    fn a_model_is_known_by_any_of_its_names_and_an_unknown_one_costs_the_most() {
        for name in [
            "claude-haiku-5-5",
            "claude-haiku-5-5-20261001",
            "anthropic.claude-haiku-5-5",
            "eu.anthropic.claude-haiku-5-5",
        ] {
            assert_eq!(Price::of(name), PRICES[2].1, "{name}");
        }
        for name in ["claude-opus-9", "claude-haiku-5-55", "gpt", "", "claude-haiku-5-5-turbo"] {
            assert_eq!(Price::of(name), HIGHEST.1, "{name}");
        }
    }

    #[test]
    fn a_summary_costs_what_the_price_list_says() {
        let usage = Usage { input_tokens: 600, output_tokens: 40, ..Usage::default() };
        assert_eq!(Price::of("claude-haiku-5-5").cost(&usage), NanoDollars(80_000));
        let long = Usage { input_tokens: 100_001, ..Usage::default() };
        assert_eq!(Price::of("claude-haiku-5-5").cost(&long), NanoDollars(50_000_500));
    }

    proptest! {
        #[test]
        fn nothing_costs_more_than_its_worst_case(
            model in prop::sample::select(PRICES.map(|(name, _)| name).to_vec()),
            input in 0..200_000_u64, write in 0..200_000_u64, hour in 0..200_000_u64, read in 0..200_000_u64,
            output in 0..128_000_u64,
        ) {
            let usage = Usage {
                input_tokens: input, output_tokens: output, cache_creation_input_tokens: write,
                cache_creation_1h_input_tokens: hour, cache_read_input_tokens: read,
            };
            let price = Price::of(model);
            prop_assert!(price.cost(&usage) <= price.worst_case(usage.total_input(), output));
        }

        #[test]
        fn what_is_shown_is_read_again(amount in 0..u64::MAX / 2) {
            prop_assert_eq!(NanoDollars(amount).decimal().parse(), Ok(NanoDollars(amount)));
        }
    }
}
