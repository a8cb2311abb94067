//! Which of the Changes of its members a Subscription hears of: filters leave out single Events, and never change who is a
//! member.
//!
//! Before: core/src/watch.rs
//! Next: core/src/event.rs

mod cel;

use std::borrow::Cow;
use std::fmt;

pub use self::cel::{Cel, Facts, Invalid, MAX_DEPTH, MAX_LENGTH, MAX_STEPS};
use crate::change::Change;
use crate::event::{ATTRIBUTES, Event};

/// What a Subscription demands of an Event: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Vec<Expression>);

/// One demand, in the words of the `CloudEvents` Subscriptions API, and CEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// The attribute has this value.
    Exact(Attribute, String),
    /// Its value begins so.
    Prefix(Attribute, String),
    /// Its value ends so.
    Suffix(Attribute, String),
    /// All of these.
    All(Vec<Expression>),
    /// At least one of these.
    Any(Vec<Expression>),
    /// Not this.
    Not(Box<Expression>),
    /// The CEL expression says so.
    Cel(Cel),
}

/// The name of an attribute that Events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute(&'static str);

/// Why a filter says nothing about an Event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The expression fails with this object, most often because a field is not there.
    #[error("{expression}: {problem}")]
    Fails {
        /// The expression.
        expression: String,
        /// Why.
        problem: String,
    },
    /// It gives something else than true or false.
    #[error("{expression}: gives {given}, and not true or false")]
    NotBoolean {
        /// The expression.
        expression: String,
        /// What it gives.
        given: String,
    },
    /// With an object of this size it takes too long.
    #[error("{expression}: takes about {cost} steps with this object, more than the {most} that are allowed")]
    TooCostly {
        /// The expression.
        expression: String,
        /// So many.
        cost: u64,
        /// At most these.
        most: u64,
    },
}

// === impl Filter ===

impl Filter {
    /// Demands all of these.
    pub fn new(expressions: Vec<Expression>) -> Self {
        Self(expressions)
    }

    /// What it demands, one by one.
    pub fn expressions(&self) -> &[Expression] {
        &self.0
    }

    /// Whether it demands nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the Subscription hears of `event`, which tells `change`. `facts` are what expressions need of the object, and
    /// are shared by all filters that look at the same Change.
    ///
    /// # Errors
    ///
    /// When an expression cannot say. What another one excludes is excluded all the same: the order does not matter.
    pub fn passes(&self, event: &Event, change: &Change, facts: &Facts) -> Result<bool, Error> {
        all(self.0.iter().map(|expression| expression.holds(event, change, facts)))
    }
}

/// As `&&` of CEL: false beats an error, which beats true.
fn all(results: impl Iterator<Item = Result<bool, Error>>) -> Result<bool, Error> {
    let mut failed = None;
    for result in results {
        match result {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(true), Err)
}

// === impl Expression ===

impl Expression {
    /// Whether it is so of `event`, which tells `change`; see [`Filter::passes`].
    ///
    /// # Errors
    ///
    /// When an expression in it cannot say, and the others do not decide.
    pub fn holds(&self, event: &Event, change: &Change, facts: &Facts) -> Result<bool, Error> {
        let compare = |attribute: &Attribute, holds: &dyn Fn(&str) -> bool| {
            Ok(event.attribute(attribute.0).is_some_and(|value: Cow<'_, str>| holds(&value)))
        };
        let each = |expressions: &[Self], negate: bool| {
            let results = expressions.iter().map(|expression| expression.holds(event, change, facts));
            all(results.map(|result| result.map(|holds| holds != negate)))
        };
        match self {
            Self::Exact(attribute, value) => compare(attribute, &|given| given == value),
            Self::Prefix(attribute, value) => compare(attribute, &|given| given.starts_with(value.as_str())),
            Self::Suffix(attribute, value) => compare(attribute, &|given| given.ends_with(value.as_str())),
            Self::All(expressions) => each(expressions, false),
            // Not all of them are false.
            Self::Any(expressions) => each(expressions, true).map(|none| !none),
            Self::Not(expression) => expression.holds(event, change, facts).map(|holds| !holds),
            Self::Cel(cel) => cel.holds(event, change, facts),
        }
    }
}

/// As people would say it: `not (subject ends with "/milk")`.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, expressions: &[Self], word: &str| {
            for (index, expression) in expressions.iter().enumerate() {
                let word = if index == 0 { "" } else { word };
                write!(f, "{word}{expression}")?;
            }
            Ok(())
        };
        match self {
            Self::Exact(attribute, value) => write!(f, "{} is {value:?}", attribute.0),
            Self::Prefix(attribute, value) => write!(f, "{} begins with {value:?}", attribute.0),
            Self::Suffix(attribute, value) => write!(f, "{} ends with {value:?}", attribute.0),
            Self::All(expressions) if expressions.len() == 1 => list(f, expressions, ""),
            Self::All(expressions) => {
                f.write_str("(")?;
                list(f, expressions, " and ")?;
                f.write_str(")")
            }
            Self::Any(expressions) => {
                f.write_str("(")?;
                list(f, expressions, " or ")?;
                f.write_str(")")
            }
            Self::Not(expression) => write!(f, "not ({expression})"),
            Self::Cel(cel) => f.write_str(cel.source()),
        }
    }
}

// === impl Attribute ===

impl Attribute {
    /// The attribute called so, unless no Event has it.
    pub fn named(name: &str) -> Option<Self> {
        ATTRIBUTES.iter().find(|attribute| **attribute == name).map(|attribute| Self(attribute))
    }
}

#[cfg(test)]
#[path = "filter/tests.rs"]
mod tests;
