//! Filters in CEL, the expression language that Kubernetes uses for its own rules.
//!
//! What an expression may cost is bounded: its text and its depth when it is compiled, and its steps, which depend on the object,
//! before it is evaluated. A step is one node of the expression; a comprehension takes those in it once for each element of the
//! longest list or map of the object.

mod cost;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::{Arc, LazyLock};

use ::cel::common::ast::Expr;
use ::cel::objects::{Key, Map, Value};
use ::cel::{Context, Env, ExecutionError, ParseErrors, Program, extensions};

use self::cost::{Used, Weight, longest};
use super::Error;
use crate::change::{Change, Content};
use crate::event::Event;

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// The deepest that parts of an expression can be in each other: who evaluates it, calls itself for each.
pub const MAX_DEPTH: usize = 64;
/// The most steps that an expression may take with one object: well below a second.
pub const MAX_STEPS: u64 = 1_000_000;

/// What an expression can look at.
const VARIABLES: [&str; 3] = ["object", "change", "event"];

/// What it can call: of CEL's own functions, and of the string functions of Kubernetes those whose results are not longer
/// than what they are given.
const FUNCTIONS: [&str; 53] = [
    "_&&_",
    "_||_",
    "!_",
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "_+_",
    "_-_",
    "-_",
    "_*_",
    "_/_",
    "_%_",
    "_?_:_",
    "_[_]",
    "@in",
    "@not_strictly_false",
    "bool",
    "bytes",
    "charAt",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "indexOf",
    "int",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "max",
    "min",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "timestamp",
    "trim",
    "uint",
    "upperAscii",
];

/// The stack for compiling, of which little is touched: the parser takes a quarter of a megabyte for each bracket, and 50 KB for
/// each term of a long sum, without optimizations, and only what it makes says how deep it is.
const STACK: usize = 256 << 20;
/// What evaluating takes of the stack at each depth, without optimizations, and besides.
const STACK_OF_DEPTH: usize = 64 << 10;
const STACK_BESIDES: usize = 256 << 10;

/// An expression, compiled.
#[derive(Clone)]
pub struct Cel {
    source: Arc<str>,
    program: Arc<Program>,
    weight: Weight,
    uses_object: bool,
    uses_event: bool,
    uses_change: bool,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is longer than [`MAX_LENGTH`].
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// It is nested deeper than [`MAX_DEPTH`].
    #[error("is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// It is not CEL.
    #[error("is not CEL: {0}")]
    Syntax(String),
    /// It looks at something that is not there.
    #[error("there is no variable {0:?}; there are object, change and event")]
    Variable(String),
    /// It calls something that is not there.
    #[error("there is no function {0:?} here")]
    Function(String),
    /// It never gives true or false.
    #[error("gives a value that is never true or false")]
    NotBoolean,
    /// Even with a small object it would take too long.
    #[error("is too costly: comprehensions are nested {0} deep, of 2 at most")]
    TooCostly(u32),
}

/// What expressions need of one Change, made when it is needed first.
#[derive(Debug, Default)]
pub struct Facts {
    object: OnceCell<Result<Looked, String>>,
}

/// An object, as expressions see it.
#[derive(Debug)]
struct Looked {
    value: Value,
    /// See [`longest`].
    longest: u64,
}

// === impl Cel ===

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // It cannot conflict with the standard library; and without it, its functions are not there.
    let added = env.add_extension(extensions::strings);
    debug_assert!(added.is_ok(), "{added:?}");
    Arc::new(env)
});

impl Cel {
    /// Compiles `source`.
    ///
    /// # Errors
    ///
    /// When it is not CEL, is too costly, or names what is not there.
    pub fn compile(source: &str) -> Result<Self, Invalid> {
        if source.len() > MAX_LENGTH {
            return Err(Invalid::TooLong);
        }
        if depth(source) > MAX_DEPTH {
            return Err(Invalid::TooDeep);
        }
        stacker::grow(STACK, || Self::compile_bounded(source))
    }

    fn compile_bounded(source: &str) -> Result<Self, Invalid> {
        let program = ENVIRONMENT.compile(source).map_err(|errors| syntax(&errors))?;
        let mut used = Used::default();
        let weight = used.look(program.expression(), &mut Vec::new());
        if let Some(unknown) = used.variables.iter().find(|name| !VARIABLES.contains(name)) {
            return Err(Invalid::Variable((*unknown).to_owned()));
        }
        if let Some(unknown) = used.functions.iter().find(|name| !FUNCTIONS.contains(name)) {
            return Err(Invalid::Function((*unknown).to_owned()));
        }
        if weight.depth > MAX_DEPTH {
            return Err(Invalid::TooDeep);
        }
        if weight.loops > 2 {
            return Err(Invalid::TooCostly(weight.loops));
        }
        if matches!(program.expression().expr, Expr::List(_) | Expr::Map(_) | Expr::Struct(_)) {
            return Err(Invalid::NotBoolean);
        }
        let [uses_object, uses_change, uses_event] = VARIABLES.map(|name| used.variables.contains(name));
        let (source, program) = (source.into(), Arc::new(program));
        Ok(Self { source, program, weight, uses_object, uses_event, uses_change })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn holds(&self, event: &Event, change: &Change, facts: &Facts) -> Result<bool, Error> {
        let stack = STACK_BESIDES + self.weight.depth * STACK_OF_DEPTH;
        stacker::maybe_grow(stack, 2 * stack, || self.evaluate(event, change, facts))
    }

    fn evaluate(&self, event: &Event, change: &Change, facts: &Facts) -> Result<bool, Error> {
        let expression = || self.source.to_string();
        let fails = |problem: &dyn std::fmt::Display| Error::Fails {
            expression: expression(),
            problem: in_one_line(&problem.to_string()),
        };
        let mut context = Context::with_env(ENVIRONMENT.clone());
        if self.uses_object {
            let Looked { value, longest } = facts.object(event).map_err(|problem| fails(&problem))?;
            let cost = self.weight.steps(*longest);
            if cost > MAX_STEPS {
                return Err(Error::TooCostly { expression: expression(), cost, most: MAX_STEPS });
            }
            context.add_variable_from_value("object", value.clone());
        }
        if self.uses_event {
            let attributes = event.attributes().into_iter();
            let attributes =
                attributes.map(|(name, value)| (name.to_owned(), Value::from(value.into_owned())));
            context.add_variable_from_value("event", attributes.collect::<std::collections::HashMap<_, _>>());
        }
        if self.uses_change {
            context.add_variable_from_value("change", described(change));
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(Error::NotBoolean {
                expression: expression(),
                given: format!("{:?}", other.type_of()).to_lowercase(),
            }),
            Err(error) => Err(fails(&problem(&error))),
        }
    }
}

/// The first mistake; those after it follow from it.
fn syntax(errors: &ParseErrors) -> Invalid {
    let Some(error) = errors.errors.first() else { return Invalid::Syntax("no expression".to_owned()) };
    if error.msg.contains("Recursion limit") {
        return Invalid::TooDeep;
    }
    let (line, column) = error.pos;
    Invalid::Syntax(format!("line {line}, column {column}: {:.200}", in_one_line(&error.msg)))
}

/// Why an expression fails, without what is in the object: that is nobody's who may only see the Subscription.
fn problem(error: &ExecutionError) -> Cow<'static, str> {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {key:.100}").into(),
        ExecutionError::NoSuchOverload(overload) => overload.to_string().into(),
        ExecutionError::UndeclaredReference(name) => format!("there is no {name:.100} here").into(),
        ExecutionError::FunctionError { function, .. } => {
            format!("{function:.100} fails with what it is given").into()
        }
        ExecutionError::Overflow(operator, ..) => {
            format!("{operator} gives a number that is too large").into()
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero".into(),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".into(),
        ExecutionError::ValuesNotComparable(..) => "values of these types cannot be compared".into(),
        _ => "it cannot be evaluated with this object".into(),
    }
}

impl PartialEq for Cel {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Cel {}

impl std::fmt::Debug for Cel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cel").field(&self.source).finish()
    }
}

/// How deep brackets are in each other, at the most: those in texts count as well.
fn depth(source: &str) -> usize {
    let mut depth = 0_usize;
    let deep = source.bytes().map(|byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth
    });
    deep.max().unwrap_or_default()
}

/// What happened, for expressions: `change.kind`, as `changeTypes` names it, `change.reason` and `change.gap`.
fn described(change: &Change) -> Value {
    let mut kind = change.kind.as_str().to_owned();
    kind[..1].make_ascii_uppercase();
    let map = [
        ("kind", Value::from(kind)),
        ("reason", Value::from(change.reason.as_str().to_owned())),
        ("gap", Value::Bool(change.gap)),
        ("identity", Value::Bool(matches!(change.content, Content::Identity { .. }))),
    ];
    let map = map.into_iter().map(|(name, value)| (Key::from(name), value)).collect();
    Value::Map(Map { map: Arc::new(map) })
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// === impl Facts ===

impl Facts {
    fn object(&self, event: &Event) -> Result<&Looked, String> {
        let look = || {
            let value: serde_json::Value =
                serde_json::from_slice(&event.data).map_err(|error| error.to_string())?;
            let longest = longest(&value);
            let value = ::cel::to_value(&value).map_err(|error| error.to_string())?;
            Ok(Looked { value, longest })
        };
        self.object.get_or_init(look).as_ref().map_err(Clone::clone)
    }
}
