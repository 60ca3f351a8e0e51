//! What somebody else's code said when it panicked.

use std::any::Any;

/// The message, if it was a text: what `panic!` makes, with and without arguments.
pub(crate) fn said(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
}
