//! Regular expressions that look into a text: the regex crate, linear in the text whatever the pattern is.

use regex::{Regex, RegexBuilder};

pub struct Pattern(Regex);

impl Pattern {
    pub fn compile(source: &str, limit: usize) -> Result<Pattern, String> {
        RegexBuilder::new(source).size_limit(limit).dfa_size_limit(limit).build().map(Pattern).map_err(
            |error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_string(),
                // The crate's message repeats the pattern over several lines; the last one says what is wrong.
                other => other
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_string(),
            },
        )
    }

    /// The last match's first group that took part, or the whole match when the pattern has no group.
    pub fn find_last(&self, text: &str) -> Option<(usize, usize)> {
        let found = self.0.captures_iter(text).last()?;
        let group = found.iter().skip(1).flatten().next().or(found.get(0))?;
        Some((group.start(), group.end()))
    }
}
