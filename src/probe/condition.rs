//! What must be true of an answer: an operator and a literal, or a CEL expression.

mod expression;

use super::SyntaxError;
use super::sample::{Blindness, BlindnessReason, Measurement, Value};
use expression::{Expression, Failure};
use std::fmt;

/// Longer expressions are refused. Characters.
const MAX_LENGTH: usize = 1024;

/// A condition, parsed. Displays as the text that it was parsed from.
#[derive(Clone)]
pub struct Condition {
    text: String,
    form: Form,
}

#[derive(Clone)]
enum Form {
    Comparison(Operator, Literal),
    Expression(Expression),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Number(f64),
    Text(String),
    Boolean(bool),
}

// Longer operators first: `<` is the beginning of `<=`.
const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Condition {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        if text.chars().count() > MAX_LENGTH {
            return Err(SyntaxError::new(text, MAX_LENGTH, format!("at most {MAX_LENGTH} characters")));
        }
        let form = match comparison(text) {
            Some(form) => form?,
            None => Form::Expression(Expression::parse(text)?),
        };
        Ok(Self { text: text.to_owned(), form })
    }

    /// Whether it is true of a measurement. An expression that fails or gives no truth value makes blind.
    pub fn judge(&self, measurement: &Measurement) -> Result<bool, Blindness> {
        match &self.form {
            Form::Comparison(operator, literal) => Ok(compare(&measurement.value, *operator, literal)),
            Form::Expression(expression) => expression.judge(measurement).map_err(|failure| match failure {
                Failure::Error(message) => Blindness::new(BlindnessReason::ConditionError, &message),
                Failure::TooCostly => Blindness::new(
                    BlindnessReason::TooCostly,
                    "the condition takes too much work on this answer; make its patterns simpler or the body shorter",
                ),
            }),
        }
    }

    /// Whether to judge this measurement may take more than some microseconds.
    pub fn is_costly(&self, measurement: &Measurement) -> bool {
        match &self.form {
            Form::Comparison(..) => false,
            Form::Expression(expression) => expression.is_costly(measurement),
        }
    }
}

/// An operator and a literal; `None` if the text does not begin with an operator.
fn comparison(text: &str) -> Option<Result<Form, SyntaxError>> {
    let start = text.chars().take_while(|c| c.is_whitespace()).count();
    let trimmed = text.trim_start();
    let (symbol, operator) = OPERATORS.into_iter().find(|(symbol, _)| trimmed.starts_with(symbol))?;
    let rest = &trimmed[symbol.len()..];
    let position = start + symbol.len() + rest.chars().take_while(|c| c.is_whitespace()).count();
    Some(
        literal(rest.trim(), operator)
            .map(|literal| Form::Comparison(operator, literal))
            .map_err(|expected| SyntaxError::new(text, position, expected)),
    )
}

fn literal(text: &str, operator: Operator) -> Result<Literal, &'static str> {
    let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
    if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
        return Ok(Literal::Number(number));
    }
    if ordered {
        return Err("a number");
    }
    match text {
        "true" => return Ok(Literal::Boolean(true)),
        "false" => return Ok(Literal::Boolean(false)),
        _ => {}
    }
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return Ok(Literal::Text(inner.to_owned()));
        }
    }
    Err("a number, a quoted string, true or false")
}

fn compare(value: &Value, operator: Operator, literal: &Literal) -> bool {
    // A number against a quoted string compares as text; anything else of two kinds is not equal.
    let ordering = match (value, literal) {
        (Value::Number(value), Literal::Number(literal)) => value.partial_cmp(literal),
        (Value::Boolean(value), Literal::Boolean(literal)) => Some(value.cmp(literal)),
        (value, Literal::Text(literal)) => Some(value.to_string().as_str().cmp(literal.as_str())),
        (Value::Number(_) | Value::Text(_) | Value::Boolean(_), Literal::Number(_) | Literal::Boolean(_)) => None,
    };
    match operator {
        Operator::Equal => ordering.is_some_and(std::cmp::Ordering::is_eq),
        Operator::NotEqual => !ordering.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Less => ordering.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => ordering.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => ordering.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => ordering.is_some_and(std::cmp::Ordering::is_ge),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn measured(value: f64) -> Measurement {
        Measurement {
            value: Value::Number(value),
            status: Some(503),
            latency: Duration::from_millis(250),
            body: r#"{"status":"unhealthy"}"#.into(),
            labels: BTreeMap::from([("pod".into(), "a".into())]),
        }
    }

    fn holds(condition: &str, value: f64) -> bool {
        Condition::parse(condition).unwrap().judge(&measured(value)).unwrap()
    }

    #[test]
    fn the_conditions_of_the_original_are_understood() {
        assert!(holds("== 200", 200.0) && !holds("== 200", 503.0));
        assert!(holds("< 200", 199.9) && !holds("< 200", 200.0));
    }

    #[test]
    fn every_operator_and_literal_means_what_it_says() {
        for (condition, value, expected) in [
            ("!= 200", 503.0, true),
            ("<=200", 200.0, true),
            (">= 200.5", 200.0, false),
            ("> -1", 0.0, true),
            ("  == 1e3 ", 1000.0, true),
            (r#"== "503""#, 503.0, true),
            ("!= '503'", 503.0, false),
            ("== true", 1.0, false),
            ("!= true", 1.0, true),
        ] {
            assert_eq!(holds(condition, value), expected, "{condition} of {value}");
        }
    }

    #[test]
    fn expressions_see_the_whole_answer() {
        for (condition, expected) in [
            ("value < 200", false),
            ("value < 1000 && status == 503", true),
            ("latency > 200", true),
            ("latency > 200.5 || status < 500", true),
            ("body.contains('unhealthy')", true),
            ("labels['pod'] == 'a'", true),
            ("status in [200, 503]", true),
        ] {
            assert_eq!(holds(condition, 503.0), expected, "{condition}");
        }
    }

    #[test]
    fn a_broken_condition_says_where_and_what_was_expected() {
        for (text, position) in [("< fast", 2), ("<", 1), ("== ", 3), ("== 'a", 3), ("value <", 7), ("valu < 3", 0)] {
            assert_eq!(Condition::parse(text).unwrap_err().position, position, "{text}");
        }
        assert!(Condition::parse(&"1 + ".repeat(600)).is_err());
    }

    #[test]
    fn an_expression_that_fails_or_gives_no_truth_value_makes_blind() {
        for text in ["labels['none'] == 'a'", "value + 1.0", "body"] {
            let blindness = Condition::parse(text).unwrap().judge(&measured(1.0)).unwrap_err();
            assert_eq!(blindness.reason, BlindnessReason::ConditionError, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in ".{0,64}") {
            if let Ok(condition) = Condition::parse(&text) {
                let _ = condition.judge(&measured(1.0));
            }
        }

        #[test]
        fn the_short_form_agrees_with_its_expression(
            // Halves of a small range: they are often equal, and not always whole.
            value in -6i32..6,
            literal in -6i32..6,
            whole in any::<bool>(),
            operator in prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]),
        ) {
            let value = f64::from(value) / 2.0;
            let short = if whole { format!("{operator} {literal}") } else { format!("{operator} {:?}", f64::from(literal) / 2.0) };
            prop_assert_eq!(holds(&short, value), holds(&format!("value {short}"), value));
        }
    }
}
