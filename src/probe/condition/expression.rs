//! A CEL expression over an answer, made safe to read and to judge.
//!
//! Whoever writes an invariant writes this text, and it is judged inside the operator, so that neither reading nor
//! judging may cost much. CEL's parser and evaluator recurse, and a stack that overflows ends the process: what could
//! nest is counted before the parser sees it, the parser gets a stack that suffices for so much, and the depth of the
//! tree is measured before it is evaluated. Macros that loop over a list are refused, so that the work is at most one
//! step for each part of a short text; the size of a regular expression has a limit of its own.

use crate::probe::SyntaxError;
use crate::probe::sample::{Measurement, Value};
use kube_cel::cel::common::ast::operators::{EQUALS, IN, NOT_EQUALS};
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use kube_cel::cel::extractors::This;
use kube_cel::cel::parser::{ParseErrors, Parser};
use kube_cel::cel::{self, ExecutionError};
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
/// The most that a compiled regular expression may take. Bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;

// No text can name these: in CEL, a name does not begin with `@`.
const EQUAL: &str = "@equal";
const DIFFERENT: &str = "@different";
const MEMBER: &str = "@member";

/// A parsed expression.
#[derive(Clone)]
pub(super) struct Expression(Arc<IdedExpr>);

impl Expression {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut openings = text.chars().enumerate().filter(|(_, c)| "([{?".contains(*c));
        if let Some((position, _)) = openings.nth(MAX_BRACKETS) {
            let expected = format!("at most {MAX_BRACKETS} opening brackets and question marks");
            return Err(SyntaxError::new(text, position, expected));
        }
        let mut root = parse(text)?;
        adapt(&mut root, 0).map_err(|refusal| refusal.locate(text))?;
        Ok(Self(Arc::new(root)))
    }

    /// Whether it is true of a measurement; an error says why that cannot be said.
    pub(super) fn judge(&self, measurement: &Measurement) -> Result<bool, String> {
        match cel::Value::resolve(&self.0, &context(measurement)) {
            Ok(cel::Value::Bool(boolean)) => Ok(boolean),
            Ok(other) => Err(format!("the condition gave {:?}, not true or false", other.type_of())),
            Err(error) => Err(format!("the condition cannot be evaluated: {error}")),
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
            Self::Field => SyntaxError::new(text, 0, "fields of labels only (the body is a text: body.contains('…'))"),
        }
    }
}

/// Walks the tree once: refuses what is not accepted, and lets `==`, `!=` and `in` compare numbers by what they are
/// worth. The evaluator says that the double 200.0 does not equal the integer 200, which CEL does not mean and which
/// would make `value == 200` never true.
fn adapt(node: &mut IdedExpr, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Depth);
    }
    let inner = |node: &mut IdedExpr| adapt(node, depth + 1);
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
            let replacement = match call.func_name.as_str() {
                EQUALS => Some(EQUAL),
                NOT_EQUALS => Some(DIFFERENT),
                IN => Some(MEMBER),
                _ => None,
            };
            if let Some(name) = replacement {
                name.clone_into(&mut call.func_name);
            }
            call.target.as_deref_mut().into_iter().chain(&mut call.args).try_for_each(inner)
        }
    }
}

fn context(measurement: &Measurement) -> cel::Context<'static> {
    let mut context = cel::Context::default();
    context.add_function(EQUAL, |left: cel::Value, right: cel::Value| left == right);
    context.add_function(DIFFERENT, |left: cel::Value, right: cel::Value| left != right);
    context.add_function(MEMBER, |item: cel::Value, container: cel::Value| member(&item, &container));
    context.add_function("matches", |This(text): This<Arc<String>>, pattern: Arc<String>| matches(&text, &pattern));
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

fn matches(text: &str, pattern: &str) -> Result<bool, ExecutionError> {
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map(|regex| regex.is_match(text))
        .map_err(|error| ExecutionError::function_error("matches", error))
}

#[cfg(test)]
mod tests;
