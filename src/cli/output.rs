//! What a command has to say.

use anyhow::Error;

/// What is to be printed on stdout, and the fault that ended the command after that, if one did.
#[derive(Debug)]
pub struct Output {
    /// For stdout.
    pub text: String,
    /// Why the rest was not done.
    pub fault: Option<Error>,
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self { text, fault: None }
    }
}
