//! A CEL expression over an answer, made safe to read and to judge.
//!
//! Whoever writes an invariant writes this text, and it is judged inside the operator, so that neither reading nor
//! judging may cost much. CEL's parser and evaluator recurse, and a stack that overflows ends the process: what could
//! nest is counted before the parser sees it, the parser gets a stack that suffices for so much, and the depth of the
//! tree is measured before it is evaluated. Macros that loop over a list are refused, so that the work is at most one
//! step for each part of a short text; what a step may take in a long answer (regular expressions, texts that are put
//! together) is counted, and has a limit.

mod patterns;

use crate::probe::SyntaxError;
use crate::probe::sample::{Measurement, Value};
use kube_cel::cel::common::ast::operators::{ADD, EQUALS, IN, NOT_EQUALS};
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use kube_cel::cel::extractors::This;
use kube_cel::cel::parser::{ParseErrors, Parser};
use kube_cel::cel::{self, ExecutionError};
use patterns::{MAX_PATTERNS, Pattern, TooCostly, Work};
use std::collections::HashMap;
use std::sync::Arc;

/// The names that an expression may use.
const VARIABLES: [&str; 5] = ["value", "status", "latency", "body", "labels"];
/// The most opening brackets and question marks: what makes the parser recurse. They count within quotes too, since
/// only the parser knows where a quoted text ends.
const MAX_BRACKETS: usize = 32;
/// What the parser may use. One bracket takes 170 KiB of it in a build without optimisation. Bytes.
const PARSER_STACK: usize = 32 * 1024 * 1024;
/// The deepest tree that is evaluated.
const MAX_DEPTH: usize = 32;
/// A longer body is judged where it keeps nobody waiting, whatever is asked of it. Bytes.
const SHORT_BODY: usize = 8 * 1024;
/// The function that searches by a regular expression.
const MATCHES: &str = "matches";

// No text can name these: in CEL, a name does not begin with `@`.
const EQUAL: &str = "@equal";
const DIFFERENT: &str = "@different";
const MEMBER: &str = "@member";
const SUM: &str = "@sum";

/// A parsed expression.
#[derive(Clone)]
pub(super) struct Expression {
    root: Arc<IdedExpr>,
    is_costly: bool,
}

/// Why it cannot be said whether an expression is true.
pub(super) enum Failure {
    /// It cannot be evaluated, or gives no truth value.
    Error(String),
    /// It takes more work on this answer than is given to it.
    TooCostly,
}

impl Expression {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut openings = text.chars().enumerate().filter(|(_, c)| "([{?".contains(*c));
        if let Some((position, _)) = openings.nth(MAX_BRACKETS) {
            let expected = format!("at most {MAX_BRACKETS} opening brackets and question marks");
            return Err(SyntaxError::new(text, position, expected));
        }
        let mut root = parse(text)?;
        let mut findings = Findings::default();
        adapt(&mut root, 0, &mut findings).map_err(|refusal| refusal.locate(text))?;
        Ok(Self { root: Arc::new(root), is_costly: findings.is_costly })
    }

    /// Whether to judge this measurement may take more than some microseconds.
    pub(super) fn is_costly(&self, measurement: &Measurement) -> bool {
        self.is_costly || measurement.body.len() > SHORT_BODY
    }

    /// Whether it is true of a measurement; an error says why that cannot be said.
    pub(super) fn judge(&self, measurement: &Measurement) -> Result<bool, Failure> {
        let work = Arc::new(Work::default());
        match cel::Value::resolve(&self.root, &context(measurement, &work)) {
            Ok(cel::Value::Bool(boolean)) => Ok(boolean),
            Err(_) if work.is_spent() => Err(Failure::TooCostly),
            Ok(other) => Err(Failure::Error(format!("the condition gave {:?}, not true or false", other.type_of()))),
            Err(error) => Err(Failure::Error(format!("the condition cannot be evaluated: {error}"))),
        }
    }
}

/// Parses on a thread of its own, for the sake of its stack.
fn parse(text: &str) -> Result<IdedExpr, SyntaxError> {
    let gave_up = |what: &str| SyntaxError::new(text, 0, format!("a CEL expression that can be read ({what})"));
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("condition".to_owned()).stack_size(PARSER_STACK);
        let parser = builder
            .spawn_scoped(scope, || Parser::new().parse(text))
            .map_err(|error| gave_up(&format!("no thread to read it on: {error}")))?;
        let parsed = parser.join().map_err(|_| gave_up("the parser gave up"))?;
        parsed.map_err(|errors| from_cel(text, &errors))
    })
}

/// The first error of the parser, with the position of the line and the column that it names, both from 1.
fn from_cel(text: &str, errors: &ParseErrors) -> SyntaxError {
    let (position, message) = errors.errors.first().map_or((0, ""), |error| {
        let [lines, column] = [error.pos.0, error.pos.1].map(|it| usize::try_from(it - 1).unwrap_or(0));
        let before: usize = text.split_inclusive('\n').take(lines).map(|line| line.chars().count()).sum();
        (before + column, error.msg.as_str())
    });
    let message: String = message.chars().take(200).collect();
    let expected = format!("an operator and a literal such as `< 200`, or a CEL expression ({message})");
    SyntaxError::new(text, position, expected)
}

/// Why a tree is not accepted.
enum Refusal {
    Name(String),
    Loop,
    Depth,
    Field,
    Pattern(String),
}

/// What a walk through the tree finds.
#[derive(Default)]
struct Findings {
    /// It searches by patterns, or puts texts together.
    is_costly: bool,
    /// What its patterns take. Bytes.
    patterns: usize,
}

impl Refusal {
    fn locate(self, text: &str) -> SyntaxError {
        match self {
            Self::Name(name) => {
                let position = text.find(&name).map_or(0, |at| text[..at].chars().count());
                SyntaxError::new(text, position, "value, status, latency, body or labels")
            }
            Self::Loop => SyntaxError::new(text, 0, "a condition without all, exists, exists_one, map and filter"),
            Self::Depth => SyntaxError::new(text, 0, format!("at most {MAX_DEPTH} operations within each other")),
            Self::Pattern(why) => {
                let position = text.find(MATCHES).map_or(0, |at| text[..at].chars().count());
                SyntaxError::new(text, position, format!("matches with a regular expression in quotes ({why})"))
            }
            Self::Field => SyntaxError::new(text, 0, "fields of labels only (the body is a text: body.contains('…'))"),
        }
    }
}

/// Walks the tree once: refuses what is not accepted, and lets `==`, `!=` and `in` compare numbers by what they are
/// worth. The evaluator says that the double 200.0 does not equal the integer 200, which CEL does not mean and which
/// would make `value == 200` never true.
fn adapt(node: &mut IdedExpr, depth: usize, findings: &mut Findings) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Depth);
    }
    let mut inner = |node: &mut IdedExpr| adapt(node, depth + 1, findings);
    match &mut node.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => Err(Refusal::Name(name.clone())),
        Expr::Comprehension(_) => Err(Refusal::Loop),
        // The evaluator takes a field of what has none for false.
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "labels") => Ok(()),
        Expr::Select(_) | Expr::Struct(_) => Err(Refusal::Field),
        Expr::List(list) => list.elements.iter_mut().try_for_each(inner),
        Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
            EntryExpr::StructField(_) => Err(Refusal::Field),
            EntryExpr::MapEntry(entry) => inner(&mut entry.key).and_then(|()| inner(&mut entry.value)),
        }),
        Expr::Call(call) => {
            adapt_call(call, findings)?;
            let inner = |node: &mut IdedExpr| adapt(node, depth + 1, findings);
            call.target.as_deref_mut().into_iter().chain(&mut call.args).try_for_each(inner)
        }
    }
}

fn adapt_call(call: &mut CallExpr, findings: &mut Findings) -> Result<(), Refusal> {
    let replacement = match call.func_name.as_str() {
        EQUALS => Some(EQUAL),
        NOT_EQUALS => Some(DIFFERENT),
        IN => Some(MEMBER),
        ADD => Some(SUM),
        _ => None,
    };
    findings.is_costly |= matches!(call.func_name.as_str(), ADD | MATCHES);
    if call.func_name == MATCHES {
        // A target that answers with a pattern would say how much work it makes.
        let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|it| &it.expr) else {
            return Err(Refusal::Pattern("what is computed is no pattern".to_owned()));
        };
        findings.patterns += Pattern::new(pattern.inner()).map_err(Refusal::Pattern)?.size();
        if findings.patterns > MAX_PATTERNS {
            return Err(Refusal::Pattern("all together are too large".to_owned()));
        }
    }
    if let Some(name) = replacement {
        name.clone_into(&mut call.func_name);
    }
    Ok(())
}

fn context(measurement: &Measurement, work: &Arc<Work>) -> cel::Context<'static> {
    let mut context = cel::Context::default();
    context.add_function(EQUAL, |left: cel::Value, right: cel::Value| left == right);
    context.add_function(DIFFERENT, |left: cel::Value, right: cel::Value| left != right);
    context.add_function(MEMBER, |item: cel::Value, container: cel::Value| member(&item, &container));
    let left = Arc::clone(work);
    context.add_function(MATCHES, move |This(text): This<Arc<String>>, pattern: Arc<String>| {
        patterns::matches(&text, &pattern, &left).map_err(|why| ExecutionError::function_error(MATCHES, why))
    });
    let left = Arc::clone(work);
    context.add_function(SUM, move |one: cel::Value, other: cel::Value| sum(one, other, &left));
    let value = match &measurement.value {
        Value::Number(number) => cel::Value::Float(*number),
        Value::Text(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Boolean(boolean) => cel::Value::Bool(*boolean),
    };
    context.add_variable_from_value("value", value);
    let status = measurement.status.map_or(cel::Value::Null, |status| cel::Value::Int(status.into()));
    context.add_variable_from_value("status", status);
    context.add_variable_from_value("latency", cel::Value::Float(measurement.latency.as_secs_f64() * 1000.0));
    context.add_variable_from_value("body", cel::Value::String(Arc::new(measurement.body.clone())));
    let labels: HashMap<String, String> = measurement.labels.clone().into_iter().collect();
    context.add_variable_from_value("labels", labels);
    context
}

fn member(item: &cel::Value, container: &cel::Value) -> Result<bool, ExecutionError> {
    match container {
        cel::Value::List(list) => Ok(list.contains(item)),
        cel::Value::Map(map) => Ok(map.map.keys().any(|key| cel::Value::from(key) == *item)),
        _ => Err(ExecutionError::NoSuchOverload),
    }
}

/// `+`; of texts it is a copy of both.
fn sum(one: cel::Value, other: cel::Value, work: &Work) -> Result<cel::Value, ExecutionError> {
    if let (cel::Value::String(one), cel::Value::String(other)) = (&one, &other) {
        let costs = (one.len() + other.len()) / 8;
        work.spend(costs).map_err(|TooCostly| ExecutionError::function_error("+", "too much work"))?;
    }
    one + other
}

#[cfg(test)]
mod tests;
