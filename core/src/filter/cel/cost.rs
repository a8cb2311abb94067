//! What an expression names and costs, by its nodes, and what an object adds to that.

use std::collections::BTreeSet;

use ::cel::IdedExpr;
use ::cel::common::ast::{EntryExpr, Expr};

/// What an expression costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Its nodes.
    pub(super) nodes: u64,
    /// How deep comprehensions are in each other.
    pub(super) loops: u32,
    /// How deep nodes are in each other.
    pub(super) depth: usize,
}

/// What an expression names from outside.
#[derive(Default)]
pub(super) struct Used<'a> {
    pub(super) variables: BTreeSet<&'a str>,
    pub(super) functions: BTreeSet<&'a str>,
}

// === impl Weight ===

impl Weight {
    /// About how many steps it takes where the longest list or map is so long.
    pub(super) fn steps(self, longest: u64) -> u64 {
        let each = longest.max(1);
        (0..self.loops).fold(self.nodes, |steps, _| steps.saturating_mul(each))
    }

    fn with(self, inner: Self) -> Self {
        let (loops, depth) = (self.loops.max(inner.loops), self.depth.max(inner.depth + 1));
        Self { nodes: self.nodes + inner.nodes, loops, depth }
    }
}

// === impl Used ===

impl<'a> Used<'a> {
    /// Takes in an expression, and weighs it. `bound`: the variables of the comprehensions around it.
    pub(super) fn look(&mut self, expression: &'a IdedExpr, bound: &mut Vec<&'a str>) -> Weight {
        let one = Weight { nodes: 1, ..Weight::default() };
        match &expression.expr {
            Expr::Ident(name) => {
                if !bound.contains(&name.as_str()) {
                    self.variables.insert(name);
                }
                one
            }
            Expr::Select(select) => one.with(self.look(&select.operand, bound)),
            Expr::Call(call) => {
                self.functions.insert(&call.func_name);
                let target = call.target.as_deref();
                let inner = target.into_iter().chain(&call.args);
                inner.fold(one, |weight, inner| weight.with(self.look(inner, bound)))
            }
            Expr::Comprehension(comprehension) => {
                let around = self.look(&comprehension.iter_range, bound);
                let around = around.with(self.look(&comprehension.accu_init, bound));
                let names = bound.len();
                bound.push(&comprehension.iter_var);
                bound.extend(comprehension.iter_var2.as_deref());
                bound.push(&comprehension.accu_var);
                let within = self.look(&comprehension.loop_cond, bound);
                let within = within.with(self.look(&comprehension.loop_step, bound));
                let result = self.look(&comprehension.result, bound);
                bound.truncate(names);
                let looped = Weight { loops: within.loops + 1, ..within };
                one.with(around).with(looped).with(result)
            }
            Expr::List(list) => {
                list.elements.iter().fold(one, |weight, inner| weight.with(self.look(inner, bound)))
            }
            Expr::Map(map) => {
                map.entries.iter().fold(one, |weight, entry| weight.with(self.entry(&entry.expr, bound)))
            }
            Expr::Struct(object) => {
                // There are no types to make values of.
                self.functions.insert(&object.type_name);
                one
            }
            Expr::Literal(_) | Expr::Unspecified => one,
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr, bound: &mut Vec<&'a str>) -> Weight {
        match entry {
            EntryExpr::MapEntry(entry) => self.look(&entry.key, bound).with(self.look(&entry.value, bound)),
            EntryExpr::StructField(field) => self.look(&field.value, bound),
        }
    }
}

/// How many elements the longest list or map in it has, or bytes its longest text if that is more than 16 times as many.
pub(super) fn longest(value: &serde_json::Value) -> u64 {
    let within =
        |values: &mut dyn Iterator<Item = &serde_json::Value>| values.map(longest).max().unwrap_or_default();
    match value {
        serde_json::Value::String(text) => text.len() as u64 / 16,
        serde_json::Value::Array(values) => within(&mut values.iter()).max(values.len() as u64),
        serde_json::Value::Object(members) => within(&mut members.values()).max(members.len() as u64),
        _ => 0,
    }
}
