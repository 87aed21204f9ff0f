//! Structural tags to Lark.

use crate::bridge::GrammarLimits;
use crate::constraints::Problem;

pub fn to_lark(_text: &str, _limits: &GrammarLimits) -> Result<String, Problem> {
    Err(Problem::grammar("structural tags are not supported"))
}
