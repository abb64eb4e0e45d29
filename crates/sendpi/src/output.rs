//! Lines on standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line on standard output. If nobody reads it any more, there is nobody to tell, and Sendpi goes on.
pub(crate) fn say(line: impl Display) {
    let _read = writeln!(io::stdout(), "{line}");
}

/// Prints a line on standard error, as [`say`] does on standard output.
pub(crate) fn complain(line: impl Display) {
    let _read = writeln!(io::stderr(), "sendpi: {line}");
}
