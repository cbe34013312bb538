//! Which messages a reader wants, as the calls say it.

use crate::error::{Error, Result};
use crate::pg::filter::Filter;
use crate::pg::value::Value;
use pg_broker_core::route;

/// The filter that an argument holds; none for null, which wants all.
pub fn of(queue: &str, argument: Value) -> Result<Option<Filter>> {
    let Some(filter) = Filter::new(argument) else {
        return Ok(None);
    };
    match route::has_variable(&filter.text()) {
        true => Err(Error::argument_hint(
            queue,
            "filter",
            "must not have a variable",
            "Write the value into the path: format('$.body.n > %s', n)::jsonpath.",
        )),
        false => Ok(Some(filter)),
    }
}
