//! A condition of one call on one ABI: names to numbers.

use strait_abi::{Arch, Syscall};

use super::{At, Expr, Operand, Value, When};
use crate::rules::{Condition, Op, Test, TestError, Width};
use crate::signature::{self, Argument};
use crate::text::{Problem, Span, nearest};

/// Why a condition has no meaning for a call.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{problem}")]
pub struct WhenError {
    /// Where, in the text that the condition was read from.
    pub(crate) span: Span,
    /// What.
    pub problem: Problem,
}

impl When {
    /// The condition in numbers, for `call` on `arch`.
    ///
    /// # Errors
    /// If the call has no such argument or constant, or a value does not fit what is compared.
    pub fn condition(&self, call: Syscall, arch: Arch) -> Result<Condition, WhenError> {
        Scope { call: Some(call), arch }.expr(&self.0)
    }

    /// The condition in numbers, for a call without a name: of registers only.
    ///
    /// # Errors
    /// If the condition names arguments or constants, or a value does not fit.
    pub fn register_condition(&self, arch: Arch) -> Result<Condition, WhenError> {
        Scope { call: None, arch }.expr(&self.0)
    }
}

/// Where names are looked up.
#[derive(Clone, Copy)]
struct Scope {
    /// None is a call without a name.
    call: Option<Syscall>,
    arch: Arch,
}

impl Scope {
    fn expr(self, expr: &Expr) -> Result<Condition, WhenError> {
        let all = |parts: &[Expr]| -> Result<Vec<Condition>, WhenError> {
            parts.iter().map(|part| self.expr(part)).collect()
        };
        Ok(match expr {
            Expr::All(parts) => Condition::All(all(parts)?),
            Expr::Any(parts) => Condition::Any(all(parts)?),
            Expr::Not(inner) => Condition::Not(Box::new(self.expr(inner)?)),
            Expr::Compare { operand, op, value } => {
                let argument = self.argument(operand)?;
                self.test(&argument, operand, *op, value)?
            }
            Expr::In { operand, values } => {
                let argument = self.argument(operand)?;
                let tests = values.iter().map(|value| self.test(&argument, operand, Op::Eq, value));
                Condition::Any(tests.collect::<Result<_, _>>()?)
            }
        })
    }

    /// The call, for a message.
    fn name(self) -> &'static str {
        self.call.map_or("a call by number", Syscall::name)
    }

    fn argument(self, operand: &Operand) -> Result<Argument, WhenError> {
        signature::argument(self.call, self.arch, &operand.name).ok_or_else(|| WhenError {
            span: operand.at.0,
            problem: Problem::UnknownArgument {
                name: operand.name.clone(),
                call: self.name(),
                hint: self.hint(&operand.name),
            },
        })
    }

    /// What to write in place of an argument that the call has not.
    fn hint(self, name: &str) -> String {
        if self.name() == "clone3" {
            return "its flags stand in memory, which no filter can read: answer clone3 with \
                    errno(ENOSYS), and libc uses clone"
                .to_owned();
        }
        let known = signature::argument_names(self.call, self.arch);
        if let Some(near) = nearest(name, known.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        match known.is_empty() {
            true => "its arguments have no names here: use `arg0` to `arg5`".to_owned(),
            false => format!("it has {}", known.join(", ")),
        }
    }

    fn test(
        self,
        argument: &Argument,
        operand: &Operand,
        op: Op,
        value: &Value,
    ) -> Result<Condition, WhenError> {
        let width = argument.width();
        let mask = match &operand.mask {
            None => argument.bits,
            Some(mask) => self.number(argument, operand, mask)?,
        };
        if !matches!(op, Op::Eq | Op::Ne) && matches!(value, Value::Negative(_)) {
            return Err(WhenError {
                span: operand.at.0,
                problem: Problem::SignedOrder { name: operand.name.clone() },
            });
        }
        let value = self.number(argument, operand, value)?;
        if let Some(&word) = [mask, value].iter().find(|&&word| word & !argument.bits != 0) {
            return Err(self.too_wide(argument, operand, word));
        }
        // What only looks at the low half need not load the other.
        let low_only = (mask | value) >> 32 == 0 && width == Width::W64;
        let width = if low_only { Width::W32 } else { width };
        let test = Test::new(argument.index, width, mask, op, value);
        test.map(Condition::Test).map_err(|error| match error {
            TestError::Argument { .. } => unreachable!("signatures have arguments 0 to 5"),
            TestError::Width { value } => self.too_wide(argument, operand, value),
        })
    }

    fn too_wide(self, argument: &Argument, operand: &Operand, value: u64) -> WhenError {
        let (name, call) = (operand.name.clone(), self.name());
        let bits = argument.bits.count_ones();
        let problem = Problem::TooWide { value, bits, name, call, arch: self.arch };
        WhenError { span: operand.at.0, problem }
    }

    /// A value as wide as the argument.
    fn number(
        self,
        argument: &Argument,
        operand: &Operand,
        value: &Value,
    ) -> Result<u64, WhenError> {
        match value {
            Value::Number { value, .. } => Ok(*value),
            Value::Negative(value) => {
                let complement = value.wrapping_neg();
                // The sign must be within what is compared.
                let sign = argument.bits ^ (argument.bits >> 1);
                if *value > sign {
                    return Err(self.too_wide(argument, operand, complement));
                }
                Ok(complement & argument.bits)
            }
            Value::Name { name, at } => self.constant(argument, operand, name, *at),
            Value::AnyBit(values) => values
                .iter()
                .try_fold(0, |bits, value| Ok(bits | self.number(argument, operand, value)?)),
            Value::Complement(value) => Ok(!self.number(argument, operand, value)? & argument.bits),
        }
    }

    fn constant(
        self,
        argument: &Argument,
        operand: &Operand,
        name: &str,
        at: At,
    ) -> Result<u64, WhenError> {
        argument
            .constants
            .and_then(|constants| constants.value(self.arch, name))
            .map(|value| value & argument.bits)
            .ok_or_else(|| WhenError {
                span: at.0,
                problem: Problem::UnknownConstant {
                    name: name.to_owned(),
                    argument: operand.name.clone(),
                    call: self.name(),
                    arch: self.arch,
                    nearest: signature::nearest_constant(argument, self.arch, name),
                },
            })
    }
}
