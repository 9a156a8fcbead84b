//! What models cost. Exact: in billionths of a dollar, so that a token of the cheapest kind is a whole number.

use super::message::Usage;
use super::model;
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

impl Rates {
    /// By the price of a token of input and of output, with the cache at its usual multiples of the input.
    const fn of(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            cache_writes: (input.saturating_mul(5).div_ceil(4), input.saturating_mul(2)),
            cache_read: input.div_ceil(10),
        }
    }
}

const fn flat(rates: Rates) -> Price {
    Price { rates, long: None }
}

/// Prices per token, as Anthropic's price list said on 2026-11-27; a dollar for a million tokens is 1000. A write to the
/// cache costs 1.25 (5 minutes) or 2 (an hour) times the input, and a read a tenth, unless the list says less.
const PRICES: [(&str, Price); 18] = [
    ("claude-opus-5-5", flat(Rates { cache_read: 200, ..Rates::of(4_000, 20_000) })),
    ("claude-opus-5", flat(Rates::of(5_000, 25_000))),
    ("claude-opus-4-8", flat(Rates::of(5_000, 25_000))),
    ("claude-opus-4-7", flat(Rates::of(5_000, 25_000))),
    ("claude-opus-4-6", flat(Rates::of(5_000, 25_000))),
    ("claude-opus-4-5", flat(Rates::of(5_000, 25_000))),
    HIGHEST,
    ("claude-sonnet-5-5", flat(Rates { cache_read: 100, ..Rates::of(2_000, 10_000) })),
    ("claude-sonnet-4-5", flat(Rates::of(3_000, 15_000))),
    ("claude-haiku-5-5", Price { rates: Rates::of(100, 500), long: Some((100_000, Rates::of(500, 2_500))) }),
    ("claude-haiku-4-5", flat(Rates::of(1_000, 5_000))),
    ("claude-fable-5-2", flat(Rates::of(8_000, 40_000))),
    ("claude-fable-5-1", flat(Rates::of(10_000, 50_000))),
    ("claude-fable-5", flat(Rates::of(10_000, 50_000))),
    ("claude-mythos-5-1", flat(Rates::of(10_000, 50_000))),
    ("claude-mythos-5", flat(Rates::of(10_000, 50_000))),
    ("claude-sonnet-4", flat(Rates::of(3_000, 15_000))),
    ("claude-opus-4", HIGHEST.1),
];

/// What a model that is not known costs.
const HIGHEST: (&str, Price) = ("claude-opus-4-1", flat(Rates::of(15_000, 75_000)));

impl Price {
    /// The price of the model that an id means; of an unknown one, the highest.
    pub fn of(model: &str) -> Self {
        let name = model::name(model);
        PRICES.iter().find(|(known, _)| *known == name).map_or(HIGHEST.1, |(_, price)| *price)
    }

    /// A price by what a million tokens cost; the cache costs its usual multiples of the input.
    pub fn per_million(input: NanoDollars, output: NanoDollars) -> Self {
        // Rounded up: never less than it is.
        flat(Rates::of(input.0.div_ceil(1_000_000), output.0.div_ceil(1_000_000)))
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

/// Prices of models: the list of this library, and what its user knows better.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    known_better: Vec<ModelPrice>,
}

impl Prices {
    /// The list, with these prices instead of its own.
    pub fn with(known_better: Vec<ModelPrice>) -> Self {
        Self { known_better }
    }

    /// The price of the model that an id means.
    pub fn of(&self, model: &str) -> Price {
        let name = model::name(model);
        let better = self.known_better.iter().rev().find(|it| it.model == model || it.model == name);
        better.map_or_else(|| Price::of(model), |it| it.price)
    }
}

/// The price of one model, as a person writes it: `MODEL=IN/OUT`, dollars for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPrice {
    model: String,
    price: Price,
}

/// The text is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no price of a model: write MODEL=IN/OUT in dollars for a million tokens, such as my-model=3.00/15.00")]
pub struct ParsePriceError;

impl FromStr for ModelPrice {
    type Err = ParsePriceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (model, price) = text.split_once('=').ok_or(ParsePriceError)?;
        let (input, output) = price.split_once('/').ok_or(ParsePriceError)?;
        let amount = |text: &str| text.trim().parse::<NanoDollars>().map_err(|_| ParsePriceError);
        let model = model.trim();
        if model.is_empty() {
            return Err(ParsePriceError);
        }
        Ok(Self { model: model.to_owned(), price: Price::per_million(amount(input)?, amount(output)?) })
    }
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
        let dollars = |name: &str| (Price::of(name).rates.input, Price::of(name).rates.output);
        for (name, expected) in [
            ("claude-haiku-5-5", (100, 500)),
            ("claude-haiku-5-5-20261001", (100, 500)),
            ("us.anthropic.claude-haiku-5-5-20261001-v1:0", (100, 500)),
            ("claude-opus-5-5@20260901", (4_000, 20_000)),
            ("claude-opus-4-8-latest", (5_000, 25_000)),
            ("anthropic/claude-opus-4-1", (15_000, 75_000)),
            ("claude-fable-5", (10_000, 50_000)),
            ("claude-fable-5-1", (10_000, 50_000)),
            ("claude-fable-5-2", (8_000, 40_000)),
            ("claude-mythos-5", (10_000, 50_000)),
            ("claude-mythos-5-1", (10_000, 50_000)),
        ] {
            assert_eq!(dollars(name), expected, "{name}");
        }
        for name in ["claude-opus-9", "claude-haiku-5-55", "gpt", "", "claude-haiku-5-5-turbo"] {
            assert_eq!(Price::of(name), HIGHEST.1, "{name}");
        }
        assert!(PRICES.iter().all(|(_, it)| it.rates.output <= HIGHEST.1.rates.output));
    }

    #[test]
    fn a_price_that_a_person_knows_better_goes_before_the_list() {
        let prices =
            Prices::with(vec!["my/model=3.00/15.00".parse().unwrap(), "claude-haiku-5-5 = 0.2/1".parse().unwrap()]);
        assert_eq!(prices.of("my/model"), flat(Rates::of(3_000, 15_000)));
        assert_eq!(prices.of("claude-haiku-5-5-20261001"), flat(Rates::of(200, 1_000)));
        assert_eq!(prices.of("claude-opus-5-5"), Price::of("claude-opus-5-5"));
        for text in ["", "a", "a=1", "a=1/", "=1/2", "a=1/x", "a=-1/2", "a=1/2/3"] {
            assert_eq!(text.parse::<ModelPrice>(), Err(ParsePriceError), "{text}");
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
