//! Which Events a Subscription hears of, or every mistake in that.
//!
//! Next: core/src/filter.rs

use std::collections::BTreeMap;

use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_core::event::ATTRIBUTES;
use tidings_core::filter::{Attribute, Cel, Expression, Filter};

use crate::subscription::filter::{self, Dialects, Parts};

/// The most filters in one list.
const MAX_FILTERS: usize = 16;
/// The most attributes that one filter can look at.
const MAX_ATTRIBUTES: usize = 16;
/// The longest value that an attribute is compared with, in bytes.
const MAX_VALUE: usize = 1024;

/// What is demanded of Events.
pub(super) fn check(filters: &[filter::Filter], errors: &mut FieldErrors) -> Filter {
    let path = "spec.filters";
    if filters.len() > MAX_FILTERS {
        let problem = format!("{} are more than the {MAX_FILTERS} that are possible", filters.len());
        errors.push(FieldError::new(path, problem));
    }
    let expressions = filters.iter().enumerate();
    Filter::new(
        expressions.filter_map(|(index, filter)| one(filter, &format!("{path}[{index}]"), errors)).collect(),
    )
}

fn one(filter: &dyn Dialects, path: &str, errors: &mut FieldErrors) -> Option<Expression> {
    let Parts { exact, prefix, suffix, cel, all, any, not } = filter.parts();
    let given = [
        exact.is_some(),
        prefix.is_some(),
        suffix.is_some(),
        cel.is_some(),
        all.is_some(),
        any.is_some(),
        not.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let problem = "exactly one of exact, prefix, suffix, cel, all, any and not must be given";
        errors.push(FieldError::new(path, problem));
        return None;
    }
    if let Some(values) = exact {
        return attributes(values, Expression::Exact, true, &format!("{path}.exact"), errors);
    }
    if let Some(values) = prefix {
        return attributes(values, Expression::Prefix, false, &format!("{path}.prefix"), errors);
    }
    if let Some(values) = suffix {
        return attributes(values, Expression::Suffix, false, &format!("{path}.suffix"), errors);
    }
    if let Some(source) = cel {
        return match Cel::compile(source) {
            Ok(cel) => Some(Expression::Cel(cel)),
            Err(error) => {
                errors.push(FieldError::new(format!("{path}.cel"), error.to_string()));
                None
            }
        };
    }
    if let Some(inner) = all {
        return several(&inner, &format!("{path}.all"), errors).map(Expression::All);
    }
    if let Some(inner) = any {
        return several(&inner, &format!("{path}.any"), errors).map(Expression::Any);
    }
    let inner = one(not?, &format!("{path}.not"), errors)?;
    Some(Expression::Not(Box::new(inner)))
}

fn several(filters: &[&dyn Dialects], path: &str, errors: &mut FieldErrors) -> Option<Vec<Expression>> {
    if filters.is_empty() || filters.len() > MAX_FILTERS {
        let problem = format!("there can be 1 to {MAX_FILTERS}, and are {}", filters.len());
        errors.push(FieldError::new(path, problem));
        return None;
    }
    let each = filters.iter().enumerate();
    let each: Vec<_> =
        each.map(|(index, filter)| one(*filter, &format!("{path}[{index}]"), errors)).collect();
    each.into_iter().collect()
}

/// One comparison for each attribute.
fn attributes(
    values: &BTreeMap<String, String>,
    compare: impl Fn(Attribute, String) -> Expression,
    may_be_empty: bool,
    path: &str,
    errors: &mut FieldErrors,
) -> Option<Expression> {
    if values.is_empty() || values.len() > MAX_ATTRIBUTES {
        let problem = format!("there can be 1 to {MAX_ATTRIBUTES} attributes, and are {}", values.len());
        errors.push(FieldError::new(path, problem));
        return None;
    }
    let mut expressions = Vec::new();
    for (name, value) in values {
        let path = format!("{path}.{name}");
        if value.len() > MAX_VALUE {
            errors.push(FieldError::new(&path, format!("is longer than {MAX_VALUE} bytes")));
        }
        if value.is_empty() && !may_be_empty {
            errors.push(FieldError::new(&path, "is empty, which every value begins and ends with"));
        }
        if let Some(attribute) = Attribute::named(name) {
            expressions.push(compare(attribute, value.clone()));
        } else {
            let problem = format!("no Event has this attribute; there are {}", ATTRIBUTES.join(", "));
            errors.push(FieldError::new(path, problem));
        }
    }
    Some(Expression::All(expressions))
}
